"""What no rule may do, and what is not possible now: decisions, bounded; and what chance of a look their drafts had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from orchestrator.cascade.chances import SEEN_IN_SERVICE, chances
from orchestrator.records import Action, Decision, Signal


def enforce(
    decision: Decision, *, escalation_possible: Callable[[str | None], bool], redraft_possible: bool = True,
    spot_check_possible: bool = True, signals: Mapping[str, Signal], parsed: bool,
    seen: frozenset[Action] = SEEN_IN_SERVICE,
) -> Decision:
    """`decision`, bounded by what is possible and by what no rule may do. The only way it changes is towards more care.

    A broken draft is not accepted, a redraft too many escalates, what can't escalate is handed off, and a
    spot check that may not be made is not made (its propensity is then None: no sample counts this run).
    `escalation_possible` is asked with the validator that a rule names (None: the step's own). The draft's chances
    follow from what would have become of it, so bounded, by other draws; `seen` as for `chances`.
    """
    fault = broken(signals, parsed)

    def bounds(action: Action, to: str | None) -> Iterator[tuple[Action, str]]:
        if action in ("accept", "spot_check") and fault:
            yield (action := "escalate"), f"not accepted: {fault}"
        if action == "redraft" and not redraft_possible:
            yield (action := "escalate"), "no redraft is left"
        if action == "escalate" and not escalation_possible(to):
            yield (action := "hand_off"), "it cannot be escalated"
        if action == "spot_check" and not spot_check_possible:
            yield "accept", "no spot check may be made of it"

    bounded = decision
    for action, why in bounds(decision.action, decision.to):
        bounded = _changed(bounded, action, why)
    if bounded.propensity is not None and not spot_check_possible:
        if decision.action == "accept" == bounded.action:
            bounded = _changed(bounded, "accept", "no spot check may be made of it")
        bounded = replace(bounded, propensity=None)
    found = chances(tuple(
        ([one.action, *(action for action, _ in bounds(one.action, one.to))][-1], one.chance) for one in decision.fates
    ), seen)
    return replace(
        bounded, fates=(), look=None if bounded.action == "redraft" else found.look,
        propensity=found.spot_check if bounded.action in ("accept", "spot_check") else bounded.propensity,
    )


def broken(signals: Mapping[str, Signal], parsed: bool) -> str | None:
    """Why this draft may not be accepted by any rule; None where it may."""
    if not parsed:
        return "the draft could not be read"
    for signal in signals.values():
        if not signal.ok and (signal.required or signal.name == "schema"):
            return f"signal {signal.name!r} is required and not ok" + (f" ({signal.reason})" if signal.reason else "")
    return None


def _changed(decision: Decision, action: Action, why: str) -> Decision:
    return replace(decision, action=action, explanation=f"{decision.explanation}; {why}", spot_check=False)
