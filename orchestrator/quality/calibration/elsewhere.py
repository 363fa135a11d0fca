"""Tasks that never come to the threshold, since another rule decides them: a certificate does not speak of them, but
the cost of the whole step has them in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.quality.calibration.evidence import Known
from orchestrator.quality.records import Certificate


class Decided(NamedTuple):
    """What a rule made of a task that never comes to the threshold, and whether a draft was paid for by then."""

    action: str
    rule: str
    drafted: bool = True


Elsewhere = Mapping[Decided, int]
"""How many tasks which rule decided, and how."""
_DONE = {
    "escalate": "escalated", "accept": "accepted", "spot_check": "accepted", "hand_off": "handed off",
    "decline": "declined",
}
MOST = 4
"""Rules named; the rest are counted."""


def counted(decisions: Iterable[Decided | None]) -> Elsewhere:
    """Tasks counted by what became of them; a step that was skipped decided nothing (None)."""
    return Counter(one for one in decisions if one is not None)


def elsewhere_words(elsewhere: Elsewhere) -> str:
    """Which rules decided the others, the busiest first; empty where there are none."""
    if not elsewhere:
        return ""
    ranked = sorted(elsewhere.items(), key=lambda one: (-one[1], one[0]))
    named = [
        f"{n} {_DONE.get(one.action, one.action)}{f' by {one.rule}' if one.rule else ''}" for one, n in ranked[:MOST]
    ]
    if rest := sum(n for _, n in ranked[MOST:]):
        named.append(f"{rest} by other rules")
    return f"the other {sum(elsewhere.values())} never come to it: {', '.join(named)}"


def whole_cost(certificate: Certificate, known: Sequence[Known], reached: int, elsewhere: Elsewhere) -> float | None:
    """The cost of the step over always validating, with the tasks in it that other rules decide, each priced like the
    mean of those that came to the threshold: its draft where it is drafted, an escalation of one where that is sent on,
    and what always validating costs where it goes to the validator undrafted. None where a cost is not known, or where
    it is the certificate's own."""
    ratio, drafts = certificate.cost_ratio, _drafts(known)
    if ratio is None or drafts is None or not elsewhere or not certificate.drafts_first or not certificate.n:
        return None
    validated = 1.0 - certificate.accepted / certificate.n
    escalation = max(0.0, ratio - drafts) / validated if validated else 1.0
    others = math.fsum(
        n * (drafts * one.drafted + (one.action == "escalate") * (escalation if one.drafted else 1.0))
        for one, n in elsewhere.items()
    )
    return (reached * ratio + others) / (reached + sum(elsewhere.values()))


def _drafts(known: Sequence[Known]) -> float | None:
    """What drafting costs over validating; None where one of them is unknown or they can't be compared."""
    drafts = [one.draft_cost for one in known if one.draft_cost is not None]
    validations = [one.validator_cost for one in known if one.validator_cost is not None]
    if not len(drafts) == len(validations) == len(known):
        return None
    if len({one.currency for one in (*drafts, *validations)}) != 1:
        return None
    always = math.fsum(one.nano for one in validations)
    return math.fsum(one.nano for one in drafts) / always if always else None
