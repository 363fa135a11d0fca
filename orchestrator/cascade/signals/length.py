"""`length`: the answer's characters and output tokens lie within limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting

Count = Annotated[int, Field(ge=0)]


class LengthOptions(Options):
    """Inclusive limits; without any, it only measures. Tokens are output tokens as the server counted them."""

    min_chars: Count | None = None
    max_chars: Count | None = None
    min_tokens: Count | None = None
    max_tokens: Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> LengthOptions:
        for low, high in ((self.min_chars, self.max_chars), (self.min_tokens, self.max_tokens)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"nothing is at least {low} and at most {high} long")
        return self


def _compile(options: LengthOptions, setting: Setting) -> Compiled:
    limits = (
        ("chars", options.min_chars, options.max_chars),
        ("tokens", options.min_tokens, options.max_tokens),
    )

    def measure(look: Look) -> Reading:
        value = {"chars": len(look.draft.text), "tokens": look.draft.answer.usage.output}
        for unit, low, high in limits:
            if low is not None and value[unit] < low:
                return Reading(value, False, f"{value[unit]} {unit}, fewer than {low}")
            if high is not None and value[unit] > high:
                return Reading(value, False, f"{value[unit]} {unit}, more than {high}")
        return Reading(value)

    return Compiled(now=measure, required=any(limit is not None for pair in limits for limit in pair[1:]))


KIND = Kind(LengthOptions, _compile)
