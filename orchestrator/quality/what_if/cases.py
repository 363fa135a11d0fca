"""One recorded run as estimates need it: whether its draft was right, what it cost, and with what chance that was seen.

Money is in billionths of one currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.quality.history.looks import VALIDATED
from orchestrator.quality.history.recorded import RecordedDraft
from orchestrator.quality.what_if.replay import Move
from orchestrator.records import Money, ValidateMode

Look = Literal["possible", "never", "missed"]
"""Could the validator come to see this draft? `never`: nothing that was done could have shown whether it is right;
`missed`: it was to be looked at, and was not (no answer, no money, an outage)."""

_DECIDED = frozenset({"accept", "hand_off", "decline"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`right`: was the draft, None where not seen; `unanswered` is the chance with which a look was drawn that gave no
    answer, `seen_by_chance` that with which the validator's cost was seen (None: as the truth).

    `labelled`: a label or a proof is the reference, and the validator may be wrong; `validator_right` None where nobody
    saw whether it is, `contradicted` where it was seen, gave another answer than the draft, and it is not known whether
    that is right. Elsewhere the validator is the reference.

    `broken`: no rule may accept the draft. `draft`, `verdict` (judge or repair) and `alone` (redo) are costs, the
    `_bound`s the most they could have been. `decided` says by what the draft was decided, in words."""

    propensity: float
    right: bool | None
    look: Look
    unanswered: float | None = None
    seen_by_chance: float | None = None
    labelled: bool = False
    validator_right: bool | None = True
    contradicted: bool = False
    drafted: bool = True
    broken: bool = False
    confidence: float | None = None
    draft: int | None = None
    verdict: int | None = None
    alone: int | None = None
    draft_bound: int | None = None
    validator_bound: int | None = None
    decided: str = ""

    @property
    def chance(self) -> float:
        """With which the validator came to see the task."""
        return self.propensity if self.seen_by_chance is None else self.seen_by_chance

    @property
    def alike(self) -> tuple[Any, ...]:
        """All that is the same of two cases between which only amounts and confidence differ."""
        return (
            self.propensity, self.right, self.look, self.unanswered, self.seen_by_chance, self.labelled,
            self.validator_right, self.contradicted, self.drafted, self.broken, self.decided, self.draft is None,
            self.verdict is None, self.alone is None,
        )


def case_of(
    draft: RecordedDraft, *, confidence: float | None, broken: bool, mode: ValidateMode, currency: str
) -> Case:
    """`mode` is how the step validates what it escalates; a spot check and shadow always do the task anew."""
    judged = mode != "redo" and draft.mode == "cascade" and draft.status in VALIDATED | {"handed_off", "failed"}
    judged = judged and draft.truth != "spot_check"
    labelled = draft.truth in ("label", "proof") or (draft.truth is None and draft.validator_ok is not None)
    return Case(
        propensity=draft.propensity, right=draft.draft_ok, look=_look(draft), unanswered=draft.unanswered,
        seen_by_chance=draft.look, labelled=labelled, validator_right=draft.validator_ok if labelled else True,
        contradicted=draft.contradicted,
        drafted=bool(draft.features), broken=broken, confidence=confidence,
        draft=_nano(draft.draft_cost, currency), verdict=_nano(draft.validator_cost, currency) if judged else None,
        alone=_nano(draft.alone_cost, currency), draft_bound=_nano(draft.draft_bound, currency),
        validator_bound=_nano(draft.validator_bound, currency), decided=_decided(draft),
    )


def always_draft(case: Case) -> Move:
    """Every draft is served, but for those that no rule may accept: these go to a person."""
    if not case.drafted:
        return Move(kind="unknown", rule="", why="no draft was made of it")
    return Move(kind="hand_off" if case.broken else "accept", rule="always draft")


def _look(draft: RecordedDraft) -> Look:
    if draft.propensity > 0.0 or draft.draft_ok is not None:
        return "possible"
    decided = draft.action in _DECIDED and draft.refused is None and draft.unanswered is None
    return "never" if draft.mode == "draft_only" or decided else "missed"


def _decided(draft: RecordedDraft) -> str:
    if draft.mode == "draft_only":
        return "mode draft_only"
    return f"rule {draft.rule!r} ({'accept' if draft.action == 'spot_check' else draft.action})"


def _nano(money: Money | None, currency: str) -> int | None:
    return money.nano if money is not None and money.currency == currency else None
