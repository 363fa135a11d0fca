"""The numbers kept of every draft, to fit a confidence on: lengths, log-probabilities, checks, and which of a closed
list of answers it gave. No text.

They are kept in the order of `config.feature_names`; None stands for what could not be measured, or is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

import orjson

from orchestrator.config.closed_answers import ClosedAnswer
from orchestrator.config.feature_names import LOGPROB_FEATURES
from orchestrator.records import Draft, Json, Signal, Task, TokenLogprobs

_of_logprobs = attrgetter(*LOGPROB_FEATURES)
_NO_LOGPROBS = (None,) * len(LOGPROB_FEATURES)
_DIGITS = dict.fromkeys(map(ord, "0123456789"))


def task_features(task: Task) -> tuple[float, float, float]:
    """What a gate sees: characters of text, and the shares of digits and of ASCII among them, rounded as kept."""
    text = "".join(_texts(task.input))
    if not text:
        return 0.0, 0.0, 0.0
    n = len(text)
    plain = n if text.isascii() else len(text.encode("ascii", "ignore"))
    return float(n), _rounded((n - len(text.translate(_DIGITS))) / n), _rounded(plain / n)


def draft_features(
    draft: Draft, signals: Mapping[str, Signal], task: Task, names: Sequence[str],
    answers: Sequence[ClosedAnswer] = (),
) -> dict[str, float | None]:
    """By name, in the order of `names`, the last of which are those of `answers`. Each is rounded as it is kept: what
    was fitted on is what is applied."""
    answer = draft.answer
    values: list[float | None] = [
        *task_features(task), len(draft.text), answer.usage.output, answer.finish_reason == "stop",
        *_numbers(answer.logprobs), *_numbers(answer.value_logprobs),
    ]
    for name in names[len(values): len(names) - len(answers)]:
        signal, _, part = name.rpartition(".")
        values.append(signals[signal].ok if part == "ok" and signal in signals else _number(signals.get(name)))
    values += [one.place(draft.value) for one in answers]
    return dict(zip(names, map(_kept, values), strict=True))


def features_to_json(values: Iterable[float | None]) -> bytes:
    """The numbers alone, as a compact JSON array; whole ones without a fraction."""
    return orjson.dumps([int(v) if v is not None and v.is_integer() else v for v in values])


def features_from_json(body: bytes | str, names: Sequence[str]) -> dict[str, float | None]:
    """The inverse of `features_to_json`, by name; empty where there was no draft. Raises ValueError where there are
    not as many as names."""
    found = orjson.loads(body)
    return dict(zip(names, found, strict=True)) if found else {}


def _texts(given: Mapping[str, Json]) -> Iterator[str]:
    """The strings of a task, and what its chat messages say."""
    for part in given.values():
        if isinstance(part, str):
            yield part
    for message in given.get("messages") or ():
        said = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(said, str):
            yield said


def _numbers(of: TokenLogprobs | None) -> Sequence[float | None]:
    return _NO_LOGPROBS if of is None else _of_logprobs(of)


def _number(signal: Signal | None) -> float | None:
    value = signal.value if signal is not None else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _kept(value: float | None) -> float | None:
    """Five significant digits."""
    if value is None or not math.isfinite(value):
        return None
    return _rounded(value)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
