"""`logprob`: how sure the drafter was, from its tokens' log-probabilities (natural log, 0 is certain).

The value is a map: mean, min, q10, q25, q50, margin_mean, margin_min over the whole answer, and the same under
`span` over the tokens of field values alone (not braces, keys, punctuation). With a limit it is a check.
"""

from __future__ import annotations

import math

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.records import TokenLogprobs


class LogprobOptions(Options):
    """Each `min_*` is the least value that is ok; `span_*` limits are of the value span."""

    min_mean: float | None = None
    min_min: float | None = None
    min_q10: float | None = None
    min_margin_min: float | None = None
    span_min_mean: float | None = None
    span_min_min: float | None = None


def _compile(options: LogprobOptions, setting: Setting) -> Compiled:
    limits = [
        (name.removeprefix("span_").removeprefix("min_"), name.startswith("span_"), limit)
        for name in ("min_mean", "min_min", "min_q10", "min_margin_min", "span_min_mean", "span_min_min")
        if (limit := getattr(options, name)) is not None
    ]

    def measure(look: Look) -> Reading:
        whole, span = look.draft.answer.logprobs, look.draft.answer.value_logprobs
        if whole is None:
            return Reading(None, False, "the answer came without log-probabilities")
        value = {**_numbers(whole), "span": _numbers(span) if span is not None else None}
        for name, of_span, limit in limits:
            reason = _too_low(f"span.{name}" if of_span else name, (value["span"] if of_span else value), name, limit)
            if reason:
                return Reading(value, False, reason)
        return Reading(value)

    return Compiled(now=measure, required=bool(limits), needs_logprobs=True)


def _numbers(of: TokenLogprobs) -> dict[str, float | None]:
    return {
        "mean": of.mean, "min": of.q0, "q10": of.q10, "q25": of.q25, "q50": of.q50,
        "margin_mean": of.margin_mean, "margin_min": of.margin_min,
    }


def _too_low(shown: str, numbers: object, name: str, limit: float) -> str:
    found = numbers.get(name) if isinstance(numbers, dict) else None
    if found is None or math.isnan(found):
        return f"{shown} is not known, and must be at least {limit:g}"
    return "" if found >= limit else f"{shown} is {found:.4g}, below {limit:g}"


KIND = Kind(LogprobOptions, _compile)
