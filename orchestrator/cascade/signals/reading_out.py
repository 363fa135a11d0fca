"""What is read from measured signals: the confidence, the numbers kept for fitting, and their form beside an answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import orjson

from orchestrator.cascade.signals.measure import at_path
from orchestrator.records import Draft, Json, Signal, Task, TokenLogprobs


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


def features(draft: Draft, signals: Mapping[str, Signal], task: Task) -> dict[str, float]:
    """Numbers of a draft to fit a confidence on later: lengths, log-probabilities, checks; no content."""
    text = [part for part in task.input.values() if isinstance(part, str)]
    joined = "".join(text)
    found: dict[str, float] = {
        "chars": len(draft.text), "tokens": draft.answer.usage.output, "stopped": draft.answer.finish_reason == "stop",
        "task_chars": len(joined), "task_digits": sum(map(str.isdigit, joined)) / max(len(joined), 1),
        "task_ascii": len(joined.encode("ascii", "ignore")) / max(len(joined), 1),
    }
    found |= _logprobs("lp", draft.answer.logprobs) | _logprobs("span", draft.answer.value_logprobs)
    for name, signal in signals.items():
        found[f"{name}.ok"] = signal.ok
        if isinstance(signal.value, (int, float)) and not isinstance(signal.value, bool):
            found[name] = signal.value
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _logprobs(prefix: str, of: TokenLogprobs | None) -> dict[str, float]:
    if of is None:
        return {}
    numbers = {
        "n": of.n, "mean": of.mean, "total": of.total, "q0": of.q0, "q10": of.q10, "q25": of.q25, "q50": of.q50,
        "margin_mean": of.margin_mean, "margin_min": of.margin_min,
    }
    return {f"{prefix}_{name}": value for name, value in numbers.items() if value is not None}


def signals_to_json(signals: Mapping[str, Signal]) -> bytes:
    """Compact JSON, in their order. A log-probability may be -Infinity: JSON proper can't say so, Python's can."""
    return json.dumps(
        [(s.name, s.value, s.ok, s.reason, round(s.time_ms, 3), s.required, s.proof) for s in signals.values()],
        separators=(",", ":"),
        default=_plain,
    ).encode()


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


def _plain(value: Json) -> str:
    """What a user's callable put into a map that is no JSON: its type is all that is kept of it."""
    return f"<{type(value).__name__}>"
