"""Has a certificate stopped being true? Evidence from spot checks, valid however often it is looked at.

An e-process is a bet against "the certificate holds": its expected value is at most 1 at any time while that is
true, so that it ever reaches 1/delta with probability at most delta (Ville 1939). Formulas and proofs: docs/drift.md.
Pure: standard library only, no I/O, no clock. Everything follows from counts by stretch, so that no state can be lost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CHECKS_A_START = 100
"""How many checks are drawn before another bet is begun: a change is found from the last beginning before it."""
BETS = 7
"""Bets on regret, each a quarter of the one before: from 9/10 of what may be staked down to one for rare checks."""
GAP_BETS = 4
_BOLDEST = 0.9
_STEP = 0.25
_ZETA = 4.595111825787
"""The sum of k**-1.25 over all k >= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Tasks that came to the certified rule after one beginning of a bet and up to the next, and could have been
    checked, accepted or not: up to the moment that finds CHECKS_A_START checks drawn, so that what is in it is decided
    by what came before.

    `drawn` counts the spot checks of their accepted drafts, answered or not. `wrong` counts those found wrong, by the
    probability they were drawn with. `gaps` are confidence - (1 if found right else 0) of the answered ones.
    """

    tasks: int
    drawn: int = 0
    wrong: Mapping[float, int] = field(default_factory=dict)
    gaps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EValues:
    """Natural logarithms of e-values: against `regret`, against `calibration` (None where that is not watched).

    `total` is that of their mean, an e-value against "both hold". `since` is the index of the stretch from which on the
    stronger of the two gained most: where a change is likeliest to lie.
    """

    regret: float
    calibration: float | None
    since: int

    @property
    def total(self) -> float:
        return self.regret if self.calibration is None else _log_mean((self.regret, self.calibration))

    def trips(self, false_alarm: float) -> bool:
        """Whether to raise the alarm. If both hold, that ever happens with probability `false_alarm` at most."""
        return self.total >= -math.log(false_alarm)


def evidence(stretches: Sequence[Stretch], *, max_regret: float, calibration_error: float | None = None) -> EValues:
    """The evidence of these `stretches`, in order of time from the certificate's first use, against

    - regret: of the tasks that come to the rule, on average at most `max_regret` have a wrong draft accepted;
    - calibration: confidence and the share found right differ by at most `calibration_error` on average.

    Raises ValueError for a tolerance outside (0, 1).
    """
    for name, value in (("max_regret", max_regret), ("calibration_error", calibration_error)):
        if value is not None and not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value!r}: give a number between 0 and 1")
    regret = _against_regret(stretches, max_regret)
    calibration = None if calibration_error is None else _against_calibration(stretches, calibration_error)
    against = (_mixed(regret), None if calibration is None else _mixed(calibration))
    stronger = regret if against[1] is None or calibration is None or against[0] >= against[1] else calibration
    gained = [math.log(_weight(place)) + one for place, one in enumerate(stronger)]
    since = max(range(len(gained)), key=gained.__getitem__, default=0)
    return EValues(regret=against[0], calibration=against[1], since=since)


def _against_regret(stretches: Sequence[Stretch], tolerance: float) -> list[float]:
    """For the bet that each stretch begins: log of the mean over stakes b of prod (1 + b (x - tolerance)), where x is
    1/propensity for a draft that was accepted, checked and found wrong, and 0 for every other task."""
    bets = [_BOLDEST / tolerance * _STEP**k for k in range(BETS)]
    tasks, wrong = 0, Counter[float]()
    found: list[float] = []
    for stretch in reversed(stretches):
        tasks += stretch.tasks
        wrong.update(stretch.wrong)
        found.append(_log_mean([_wealth(bet, tasks, wrong, tolerance) for bet in bets]))
    return found[::-1]


def _wealth(bet: float, tasks: int, wrong: Mapping[float, int], tolerance: float) -> float:
    lost = math.log1p(-bet * tolerance)
    won = (k * (math.log1p(bet * (1.0 / propensity - tolerance)) - lost) for propensity, k in wrong.items())
    return math.fsum((tasks * lost, *won))


def _against_calibration(stretches: Sequence[Stretch], tolerance: float) -> list[float]:
    """The same with prod (1 + b (+-gap - tolerance)) over the answered checks, as many bets on either side."""
    bets = [_BOLDEST / (1.0 + tolerance) * _STEP**k for k in range(GAP_BETS)]
    sides = [(bet, sign) for bet in bets for sign in (1.0, -1.0)]
    wealth = [0.0] * len(sides)
    found: list[float] = []
    for stretch in reversed(stretches):
        for gap in stretch.gaps:
            for i, (bet, sign) in enumerate(sides):
                wealth[i] += math.log1p(bet * (sign * gap - tolerance))
        found.append(_log_mean(wealth))
    return found[::-1]


def _weight(place: int) -> float:
    """The prior weight of the start at this place: half for the first; the rest falls slowly, and all sum to 1."""
    return (0.5 if place == 0 else 0.0) + 0.5 * math.pow(place + 1, -1.25) / _ZETA


def _mixed(logs: Sequence[float]) -> float:
    """log of the weighted sum; starts that are still to come have won and lost nothing."""
    weights = [_weight(place) for place in range(len(logs))]
    to_come = math.log(max(1.0 - math.fsum(weights), 1e-300))
    return _log_sum([to_come, *(math.log(w) + one for w, one in zip(weights, logs, strict=True))])


def _log_mean(logs: Sequence[float]) -> float:
    return _log_sum(logs) - math.log(len(logs))


def _log_sum(logs: Sequence[float]) -> float:
    most = max(logs)
    return most + math.log(math.fsum(math.exp(one - most) for one in logs))
