"""Which tasks that ended without an answer are to be done again, by what stood in their way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from orchestrator.errors import InputError
from orchestrator.records import Outcome
from orchestrator.store.entries import Again

Reason = Literal["budget", "outage", "handed_off", "failed"]

RULES: dict[Reason, frozenset[str]] = {
    "budget": frozenset({"budget"}),
    "outage": frozenset({"drafter_outage", "validator_outage", "key_refused"}),
}
"""What a run was handed off or failed by where nothing was wrong with its task: the same task may fare better later."""
WITHOUT_ANSWER: tuple[Literal["handed_off", "failed"], ...] = ("handed_off", "failed")
REASONS: tuple[Reason, ...] = (*RULES, *WITHOUT_ANSWER)


def wanted(reasons: Iterable[Reason]) -> Again | None:
    """What to ask of the store; None where no reason is given: what has ended stands. Raises InputError for a word that
    is no reason."""
    given = frozenset(reasons)
    if unknown := sorted(given - set(REASONS)):
        raise InputError(f"{unknown[0]!r} is no reason to do a task again: give {', '.join(REASONS)}")
    if not given:
        return None
    rules = frozenset(rule for reason in given for rule in RULES.get(reason, ()))
    return Again(rules=rules, statuses=frozenset(status for status in WITHOUT_ANSWER if status in given))


def reason_of(outcome: Outcome) -> Reason | None:
    """Why it gave no answer, if that was no fault of its task, and nobody has said since that it is settled."""
    if outcome.status not in WITHOUT_ANSWER or outcome.decision is None or outcome.success:
        return None
    return next((reason for reason, rules in RULES.items() if outcome.decision.rule in rules), None)
