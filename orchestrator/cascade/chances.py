"""With what probability the validator comes to see a draft.

**The propensity of a draft is the probability, over all draws of its policy, given the task, the draft, its signals and
its confidence, that the validator comes to see it: by a spot check or by an escalation, whichever stands first.**
It is exact, for every rule's test is known where the draft is decided, whatever was drawn. A draft that is drawn again
leaves no record but that of the one that replaces it: the probability is given that it is not.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from orchestrator.records import Action

SEEN_IN_SERVICE: frozenset[Action] = frozenset({"spot_check", "escalate"})
SEEN_IN_SHADOW: frozenset[Action] = frozenset({"accept", "spot_check", "escalate"})
NEVER_SEEN: frozenset[Action] = frozenset()


class Chances(NamedTuple):
    """`look`: that the validator comes to see the draft, None where it is always drawn again. `spot_check`: that it is
    checked, given that it is accepted; None where no rule that comes to it would check it."""

    look: float | None
    spot_check: float | None


@lru_cache(maxsize=4096)
def chances(fates: tuple[tuple[Action, float], ...], seen: frozenset[Action] = SEEN_IN_SERVICE) -> Chances:
    """Of a draft that comes to rules with these actions, each with the probability of its draw, the last one with 1.0.

    `seen` are the actions after which the validator sees a draft. Reckoned in fractions and rounded once: drafts with
    the same rules before them have the same number, and a single rule's is the one that was written.
    """
    mass: dict[Action, Fraction] = {}
    left = Fraction(1)
    for action, chance in fates:
        taken = left * Fraction(chance)
        mass[action] = mass.get(action, Fraction(0)) + taken
        left -= taken
    stands = 1 - mass.pop("redraft", Fraction(0))
    looked = sum((share for action, share in mass.items() if action in seen), Fraction(0))
    checked = mass.get("spot_check", Fraction(0))
    accepted = checked + mass.get("accept", Fraction(0))
    return Chances(float(looked / stands) if stands else None, float(checked / accepted) if checked else None)
