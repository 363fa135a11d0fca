"""A drafter of our own: naive Bayes behind the ModelClient protocol, trained at load on the tickets beside it.

    use: python:examples.support_tickets.classifier:load

Its answer is JSON, and its token log-probabilities are the classifier's own: P(kind), P(urgency), P(line).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import RequestRefused
from orchestrator.models.client import Probe
from orchestrator.models.logprobs import summarise, value_span
from orchestrator.records import Answer, Location, Request, Usage

LABELLED = Path(__file__).with_name("labelled.jsonl")
ENDPOINT = "in-process"


def load(config: ModelConfig) -> TicketClassifier:
    """What `use: python:…` calls: a ModelClient made of the model's settings."""
    return TicketClassifier([json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()])


def words(text: str) -> set[str]:
    """Beginnings of words, digits all alike: `ordered`, `ordering` and `12.50`, `99.95` are the same."""
    return {word[:5] for word in re.findall(r"\w+|[^\w\s]", re.sub(r"\d", "0", text.lower()))}


class NaiveBayes:
    """P(label | words of a text), each word counted once a text, add-one smoothing; words of one text only are dropped.

    Manning, Raghavan, Schütze: Introduction to Information Retrieval, chapter 13.
    """

    def __init__(self, texts: Sequence[tuple[str, str]]) -> None:
        seen = Counter(word for text, _ in texts for word in words(text))
        self._known = {word for word, count in seen.items() if count > 1}
        self._texts = Counter(label for _, label in texts)
        self._words: dict[str, Counter[str]] = {label: Counter() for label in self._texts}
        for text, label in texts:
            self._words[label].update(words(text) & self._known)

    def log_probabilities(self, text: str) -> dict[str, float]:
        """Natural logs, normalised over the labels."""
        found = words(text) & self._known
        return normalised({label: self._joint(label, found) for label in self._texts})

    def _joint(self, label: str, found: set[str]) -> float:
        counts, total = self._words[label], self._words[label].total() + len(self._known)
        return math.log(self._texts[label]) + math.fsum(math.log((counts[w] + 1) / total) for w in found)


def normalised(logs: dict[str, float]) -> dict[str, float]:
    top = max(logs.values())
    whole = top + math.log(math.fsum(math.exp(value - top) for value in logs.values()))
    return {key: value - whole for key, value in logs.items()}


class TicketClassifier:
    """A ModelClient. The last message of a request is the ticket; the answer is {kind, urgency, line}."""

    name = "ticket-classifier"
    location: Location = "local"
    addresses: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = (ENDPOINT,)

    def __init__(self, tickets: Sequence[dict[str, str]]) -> None:
        self.revision: str | None = hashlib.blake2b(
            LABELLED.read_bytes() + Path(__file__).read_bytes(), digest_size=8
        ).hexdigest()
        self._kind = NaiveBayes([(t["text"], t["kind"]) for t in tickets])
        self._urgency = NaiveBayes([(t["text"], t["urgency"]) for t in tickets])
        self._line = NaiveBayes([
            (line, "order" if line == t["line"] else "talk") for t in tickets for line in lines(t["text"])
        ])

    async def complete(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> Answer:
        started = time.perf_counter()
        ticket = request.messages[-1]["content"]
        if not isinstance(ticket, str) or not lines(ticket):
            raise RequestRefused(f"the ticket is {ticket!r}: a text is needed", sent=False)
        tokens, logs = self._written(ticket)
        text = "".join(tokens)
        span = value_span(text, tokens)
        return Answer(
            text=text, finish_reason="stop", model=self.name, endpoint=endpoint,
            usage=Usage(input=len(ticket.split()), output=len(tokens)),
            logprobs=summarise(tokens, logs),
            value_logprobs=summarise([tokens[i] for i in span], [logs[i] for i in span]),
            latency_ms=(time.perf_counter() - started) * 1000,
        )

    def _written(self, ticket: str) -> tuple[list[str], list[float]]:
        """The answer as tokens, and how sure each is; what has only one way to go on is certain: 0."""
        kind, kind_log = best(self._kind.log_probabilities(ticket))
        urgency, urgency_log = best(self._urgency.log_probabilities(ticket))
        line, line_log = self._order_line(ticket) if kind == "order" else (None, 0.0)
        parts = [
            ('{"kind":', 0.0), (json.dumps(kind), kind_log), (',"urgency":', 0.0), (json.dumps(urgency), urgency_log),
            (',"line":', 0.0), (json.dumps(line, ensure_ascii=False), line_log), ("}", 0.0),
        ]
        return [token for token, _ in parts], [log for _, log in parts]

    def _order_line(self, ticket: str) -> tuple[str, float]:
        """The line that looks most like an order, and its probability given that one of them is."""
        odds = {}
        for line in lines(ticket):
            logs = self._line.log_probabilities(line)
            odds[line] = logs["order"] - logs["talk"]
        return best(normalised(odds))

    async def probe(self) -> tuple[Probe, ...]:
        return (Probe(endpoint=ENDPOINT, ok=True, models=(self.name,), logprobs=True, protocol="python"),)

    async def aclose(self) -> None:
        pass


def lines(ticket: str) -> list[str]:
    return [line.strip() for line in ticket.splitlines() if line.strip()]


def best(logs: dict[str, float]) -> tuple[str, float]:
    return max(logs.items(), key=lambda item: item[1])
