"""Generation in this process: a batch of prompts in, tokens with their log-probabilities out. Blocking.

A row never depends on its neighbours. Prompts are padded on the right, which the runtime masks exactly: the logits of
a row are bit for bit those of the row alone (fp32, measured and tested). The token is drawn here or by the runtime's
arg-max, never by its sampler, whose seed belongs to the whole batch. A JSON Schema is enforced by the runtime's
grammar (llguidance); the log-probabilities are the model's own, before temperature and grammar, as vLLM's are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jsonschema_rs
import numpy as np

from orchestrator.records import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

MAX_ROWS = 32
"""The runtime's own limit of a batch."""

CACHE_BYTES = 1 << 30
"""Most memory the keys and values of one batch may take; they are allocated in full at its start."""

SMALL_BYTES = 64 << 20
"""Weights below this are fastest on one thread (measured: 0.7 M and 2.6 M parameters, two cores)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What one row of a batch needs. `schema` is JSON text; `temperature` 0 is greedy."""

    tokens: NDArray[np.int32]
    max_tokens: int
    temperature: float = 0.0
    seed: tuple[int, int] = (0, 0)
    schema: str | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(slots=True, kw_only=True)
class Generated:
    """A row's tokens so far, `count` of them. Only the end mark has no entry in the lists (vLLM measures none either,
    so that a confidence means the same on both). `pieces` join to the text; `seconds` holds the best log-probability
    of any token but the chosen one."""

    count: int = 0
    pieces: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Engine:
    """One loaded model. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime_genai as og

        self._og = og
        settings = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        config = og.Config(str(folder))
        config.overlay(json.dumps(_session_options(folder, settings["decoder"].get("session_options", {}))))
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._tokenizer.update_options(add_special_tokens="false")  # the chat template writes its own
        self.context_length = int(settings["context_length"])
        self._pad = int(settings.get("pad_token_id") or 0)
        self._ends = frozenset(int(one) for one in self._tokenizer.eos_token_ids)
        self._folder, self._grammars = folder, dict[str, bool]()
        self._row_bytes = _cache_bytes_per_token(settings["decoder"])

    def prompt(self, text: str, request: Request, *, schema: str | None, seed: tuple[int, int]) -> Prompt:
        return Prompt(
            tokens=self._tokenizer.encode(text), max_tokens=request.max_tokens, temperature=request.temperature,
            seed=seed, schema=schema if schema and self._enforceable(schema) else None, stop=request.stop,
            logprobs=request.logprobs,
        )

    def _enforceable(self, schema: str) -> bool:
        """Whether the grammar knows every keyword of `schema` (it has no `not`, no `uniqueItems`); asked once each."""
        if (known := self._grammars.get(schema)) is None:
            try:
                self._generator(1, 1, schema)
            except RuntimeError as error:
                _log.warning("a schema is only checked, not enforced, on %s: %s", self._folder.name, error)
                known = False
            else:
                known = True
            self._grammars[schema] = known
        return known

    def fits(self, batch: Sequence[Prompt], one: Prompt) -> bool:
        """Whether `one` can join `batch`: the longest row has to stay within context and memory."""
        if not batch:
            return True
        length = _length([*batch, one])
        memory = length * (len(batch) + 1) * self._row_bytes
        return len(batch) < MAX_ROWS and length <= self.context_length and memory <= CACHE_BYTES

    def generate(self, batch: Sequence[Prompt], given_up: Callable[[int], bool]) -> list[Generated]:
        """Run `batch` until every row ended or was given up (asked by index before each token).

        Rows run free first. One that matches its schema is what the grammar would have given: each of its tokens won
        while allowed. One that does not runs again, alone, under the grammar: in a batch the runtime (0.18) fails as
        soon as one guided row ends before another.
        """
        rows = self._run(batch, given_up, None)
        for i, prompt in enumerate(batch):
            if prompt.schema is None or given_up(i) or conforms(rows[i].text, prompt.schema):
                continue
            guided = self._run([prompt], lambda _, i=i: given_up(i), prompt.schema)  # type: ignore[misc]
            rows[i] = guided[0]
        return rows

    def _run(self, batch: Sequence[Prompt], given_up: Callable[[int], bool], schema: str | None) -> list[Generated]:
        rows = [_Row(prompt, self._tokenizer.create_stream(), self._ends) for prompt in batch]
        generator = self._prefilled(batch, schema)
        measured = any(prompt.logprobs for prompt in batch)
        sampled = any(prompt.temperature > 0.0 for prompt in batch)
        while any(not row.ended and not given_up(i) for i, row in enumerate(rows)):
            logits = generator.get_logits().reshape(len(rows), -1)
            if sampled:
                generator.set_logits(np.stack([row.drawn(logits[i]) for i, row in enumerate(rows)]))
            generator.generate_next_token()
            tokens = generator.get_next_tokens()
            measures = _measure(logits, tokens) if measured else None
            for i, row in enumerate(rows):
                row.take(int(tokens[i]), measures, i)
        return [row.out for row in rows]

    def _prefilled(self, batch: Sequence[Prompt], schema: str | None) -> Any:
        generator = self._generator(len(batch), _length(batch), schema)
        width = max(len(prompt.tokens) for prompt in batch)
        padded = np.full((len(batch), width), self._pad, dtype=np.int32)
        for row, prompt in zip(padded, batch, strict=True):
            row[: len(prompt.tokens)] = prompt.tokens
        generator.append_tokens(padded)
        return generator

    def _generator(self, rows: int, length: int, schema: str | None) -> Any:
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(batch_size=rows, max_length=length, do_sample=False)
        if schema is not None:
            params.set_guidance("json_schema", schema)
        return self._og.Generator(self._model, params)


class _Row:
    """One row of a running batch."""

    def __init__(self, prompt: Prompt, stream: Any, ends: frozenset[int]) -> None:
        self.out = Generated()
        self._prompt, self._stream, self._ends = prompt, stream, ends
        self._random = np.random.default_rng(prompt.seed) if prompt.temperature > 0.0 else None

    @property
    def ended(self) -> bool:
        return self.out.finish_reason != ""

    def drawn(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits whose arg-max is a draw from softmax(logits / temperature): the Gumbel-max trick (Gumbel 1954;
        Maddison et al., 1411.0030). It stays a fair draw from what a grammar masks afterwards."""
        if self._random is None:
            return logits
        noise = self._random.gumbel(size=logits.shape)
        return (logits / self._prompt.temperature + noise).astype(np.float32)

    def take(self, token: int, measures: _Measures | None, index: int) -> None:
        if self.ended:
            return
        out = self.out
        out.count += 1
        if token in self._ends:
            out.finish_reason = "stop"
            return
        out.pieces.append(self._stream.decode(token))
        if measures is not None:
            out.logprobs.append(float(measures.chosen[index]))
            out.seconds.append(float(measures.second[index]))
        if self._prompt.stop and (cut := _first(out.text, self._prompt.stop)) is not None:
            out.pieces[:] = _clipped(out.pieces, cut)
            out.finish_reason = "stop"
        elif out.count >= self._prompt.max_tokens:
            out.finish_reason = "length"


@dataclass(frozen=True, slots=True)
class _Measures:
    chosen: NDArray[np.float32]
    second: NDArray[np.float32]


def _measure(logits: NDArray[np.float32], tokens: NDArray[np.int32]) -> _Measures:
    """Log-probability of the chosen token of each row, and of the best other one."""
    rows = np.arange(len(tokens))
    top = logits.max(axis=1)
    log_total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    chosen = logits[rows, tokens]
    others = logits.copy()
    others[rows, tokens] = -np.inf
    return _Measures(chosen - log_total, others.max(axis=1) - log_total)


def _length(batch: Sequence[Prompt]) -> int:
    """Positions a batch takes: the runtime counts from the padded end of the longest prompt."""
    return max(len(prompt.tokens) for prompt in batch) + max(prompt.max_tokens for prompt in batch)


def conforms(text: str, schema: str) -> bool:
    """Whether `text` is JSON that `schema` (JSON text) accepts."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return _validator(schema).is_valid(value)


@lru_cache(maxsize=64)
def _validator(schema: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(json.loads(schema), retriever=_fetch_nothing)


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"{uri!r}: a remote $ref is not followed")


def _first(text: str, stops: tuple[str, ...]) -> int | None:
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(found) if found else None


def _clipped(pieces: list[str], length: int) -> Iterator[str]:
    for piece in pieces:
        yield piece[:length]
        length = max(0, length - len(piece))


def _session_options(folder: Path, own: dict[str, Any]) -> dict[str, Any]:
    """One thread for small weights, the runtime's choice for others, what the folder says before both. Threads that
    wait sleep: spinning ones would take the core from the rest of the process."""
    options: dict[str, Any] = {"session.intra_op.allow_spinning": "0"}
    if sum(path.stat().st_size for path in folder.glob("*.onnx*")) < SMALL_BYTES:
        options["intra_op_num_threads"] = 1
    return {"model": {"decoder": {"session_options": {k: v for k, v in options.items() if k not in own}}}}


def _cache_bytes_per_token(decoder: dict[str, Any]) -> int:
    """Keys and values of one position in fp32."""
    return int(2 * 4 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"])
