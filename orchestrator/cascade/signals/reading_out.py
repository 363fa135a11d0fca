"""What is read from measured signals: the confidence, and their form beside an answer."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping

import orjson

from orchestrator.cascade.signals.measure import at_path
from orchestrator.records import Json, Signal

_SCALARS = frozenset({str, int, float, bool, type(None)})


def confidence_of(signals: Mapping[str, Signal], path: str) -> float | None:
    """The number at `path`: a signal (`agreement`), or a part of its value (`logprob.mean`, `logprob.span.min`).

    None where it is not there, no number, or NaN: unknown, and then no rule on it can be evaluated.
    """
    name, *rest = path.split(".")
    signal = signals.get(name)
    found = at_path(signal.value, rest) if signal is not None else None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or math.isnan(found):
        return None
    return float(found)


def signals_to_json(signals: Mapping[str, Signal]) -> bytes:
    """Compact JSON, in their order. A log-probability may be -Infinity: JSON proper can't say so, Python's can. That is
    ten times as slow, and only asked where there is a null (what else is no number) or something that is no JSON."""
    rows = [(s.name, s.value, s.ok, s.reason, round(s.time_ms, 3), s.required, s.proof) for s in signals.values()]
    body = b"null"
    with contextlib.suppress(TypeError, RecursionError):  # a key that is no text, a number of more than 64 bits
        if all(_is_json(s.value) for s in signals.values()):  # orjson would write what an Enum and a UUID hold
            body = orjson.dumps(rows)
    return json.dumps(rows, separators=(",", ":"), default=_plain).encode() if b"null" in body else body


def signals_from_json(body: bytes) -> dict[str, Signal]:
    """The inverse of `signals_to_json`."""
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError:
        rows = json.loads(body)
    return {
        name: Signal(name=name, value=value, ok=ok, reason=reason, time_ms=time_ms, required=required, proof=proof)
        for name, value, ok, reason, time_ms, required, proof in rows
    }


def _is_json(value: Json) -> bool:
    """By exact types: what is derived from them, and all else, is left to `_plain`."""
    kind = type(value)
    if kind is dict:
        return all(map(_is_json, value.values()))
    return kind in _SCALARS or (kind in (list, tuple) and all(map(_is_json, value)))


def _plain(value: Json) -> str:
    """What a user's callable put into a map that is no JSON: its type is all that is kept of it."""
    return f"<{type(value).__name__}>"
