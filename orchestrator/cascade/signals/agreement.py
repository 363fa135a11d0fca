"""`agreement`: the share of further samples that are the same as the draft, by the step's `compare`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.config.quantities import Share


class AgreementOptions(Options):
    """`k` drafts in all: the one to be decided on, and k - 1 to compare it with. `min` makes it a check."""

    k: Annotated[int, Field(ge=2, le=20)] = 3
    min: Share | None = None


def _compile(options: AgreementOptions, setting: Setting) -> Compiled:
    same = setting.compare.same
    others_wanted = options.k - 1

    def measure(look: Look) -> Reading:
        draft = look.draft
        others = [s for s in look.samples if s is not draft and s.sample != draft.sample]
        if len(others) < others_wanted:
            return Reading(None, False, f"{len(others)} of {others_wanted} further samples are there")
        if not draft.parsed:
            return Reading(0.0, False, "the draft has no value")
        share = sum(other.parsed and same(draft.value, other.value) for other in others) / len(others)
        if options.min is not None and share < options.min:
            return Reading(share, False, f"{share:.3g} of the samples agree, fewer than {options.min:g}")
        return Reading(share)

    return Compiled(
        now=measure, required=options.min is not None, samples=options.k, meaning=setting.compare.fingerprint
    )


KIND = Kind(AgreementOptions, _compile)
