"""How many runs succeeded: known from evidence, estimated from spot checks, or not known at all.

A run nobody looked at is estimated only if it could have been looked at: drafts accepted with the same logged
probability of a spot check form a stratum, whose checked members are a random sample of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.intervals import Interval, clopper_pearson


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Runs alike in what is known of their success, with the power sums of their costs (billionths).

    `success` None: unknown. `propensity`: of the stratum these runs belong to, None where they belong to none.
    `bound` is the largest reserved cost among them, None where a run has none.
    """

    runs: int
    success: bool | None
    propensity: float | None = None
    cost: int = 0
    cost_squares: float = 0.0
    cost_cubes: float = 0.0
    bound: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Accepted drafts with one propensity: `checked` of the `runs` were looked at, and `right` of those were right."""

    propensity: float
    runs: int
    checked: int
    right: int

    @property
    def unchecked(self) -> int:
        return self.runs - self.checked

    @property
    def rate(self) -> Fraction:
        return Fraction(self.right, self.checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The runs of a report line. `right` and `wrong` are known without a stratum; `not_estimated` are unknown and
    stay so: their spot check was forbidden or unanswered, or no rule samples them, or none was checked yet."""

    right: int
    wrong: int
    strata: tuple[Stratum, ...]
    not_estimated: int

    @property
    def runs(self) -> int:
        return self.right + self.wrong + self.not_estimated + sum(s.runs for s in self.strata)

    @property
    def known_right(self) -> int:
        return self.right + sum(s.right for s in self.strata)

    @property
    def known_wrong(self) -> int:
        return self.wrong + sum(s.checked - s.right for s in self.strata)

    @property
    def unchecked(self) -> int:
        return sum(s.unchecked for s in self.strata)

    @property
    def estimated_right(self) -> Fraction:
        """Successes expected among the unchecked: each stratum at the rate of its checked members."""
        return sum((s.unchecked * s.rate for s in self.strata), Fraction(0))

    @property
    def successes(self) -> Fraction:
        """Known and estimated ones; what is not estimated counts as none."""
        return self.known_right + self.estimated_right

    def estimated_interval(self, confidence: float = 0.95) -> Interval:
        """Successes among the unchecked: exact in each stratum, combined by Bonferroni."""
        rates = self._rates(1.0 - confidence)
        return Interval(
            sum(s.unchecked * rate.low for s, rate in zip(self.strata, rates, strict=True)),
            sum(s.unchecked * rate.high for s, rate in zip(self.strata, rates, strict=True)),
        )

    def share(self, confidence: float) -> Interval:
        """The success rate, in the long run. Exact where all is known.

        With strata: P(known right) + sum of P(stratum) x P(right | stratum), each part exact, by Bonferroni. What is
        not estimated is wrong for the lower end and right for the upper one.
        """
        parts = 1 + 2 * len(self.strata)
        error = (1.0 - confidence) / parts
        low = clopper_pearson(self.right, self.runs, 1.0 - error).low
        high = clopper_pearson(self.right + self.not_estimated, self.runs, 1.0 - error).high
        for stratum, rate in zip(self.strata, self._rates(error * len(self.strata)), strict=True):
            weight = clopper_pearson(stratum.runs, self.runs, 1.0 - error)
            low, high = low + weight.low * rate.low, high + weight.high * rate.high
        return Interval(low, min(high, 1.0))

    def _rates(self, error: float) -> list[Interval]:
        each = error / max(1, len(self.strata))
        return [clopper_pearson(s.right, s.checked, 1.0 - each) for s in self.strata]


def tally(cells: Iterable[Cell]) -> Tally:
    """Sort runs into known, estimated and not estimated. A stratum without a checked run is not estimated."""
    plain = {True: 0, False: 0, None: 0}
    sampled: dict[float, dict[bool | None, int]] = {}
    for cell in cells:
        counts = plain if cell.propensity is None else sampled.setdefault(cell.propensity, dict.fromkeys(plain, 0))
        counts[cell.success] += cell.runs
    strata = []
    for propensity, counts in sorted(sampled.items()):
        if checked := counts[True] + counts[False]:
            strata.append(
                Stratum(propensity=propensity, runs=checked + counts[None], checked=checked, right=counts[True])
            )
        else:
            plain[None] += counts[None]
    return Tally(right=plain[True], wrong=plain[False], strata=tuple(strata), not_estimated=plain[None])
