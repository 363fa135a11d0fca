"""How many runs succeeded: known from evidence, estimated from spot checks, or not known at all.

A run nobody looked at is estimated only if it could have been looked at: drafts accepted with the same logged
probability of a spot check form a stratum, whose checked members are a random sample of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Confidences:
    """Sums over runs of f, the fitted probability of success that was logged when the draft was accepted.

    `costs` is the sum of f times the run's cost. A logged f was fitted before its run existed: never on its outcome.
    """

    total: float = 0.0
    squares: float = 0.0
    costs: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Runs alike in what is known of their success, with the power sums of their costs (billionths).

    `success` None: unknown. `propensity`: of the stratum these runs belong to, None where they belong to none; `apart`
    keeps strata of one propensity from each other.
    `unanswered`: they were drawn for a spot check that was forbidden or not answered. `confidences` None: some of
    them have no fitted one. `bound` is the largest reserved cost among them, None where a run has none. `served`: they
    gave an answer.
    """

    runs: int
    success: bool | None
    propensity: float | None = None
    apart: str = ""
    unanswered: bool = False
    confidences: Confidences | None = None
    cost: int = 0
    cost_squares: float = 0.0
    cost_cubes: float = 0.0
    bound: int | None = None
    served: bool = True

    @property
    def stratum(self) -> tuple[float, str] | None:
        return None if self.propensity is None else (self.propensity, self.apart)


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Accepted drafts with one propensity. Of the `runs`, `checked` were looked at, `right` of those were right, and
    `unanswered` were drawn and could not be looked at. `cells` are its runs once more, by kind."""

    propensity: float
    runs: int
    checked: int
    right: int
    unanswered: int
    cells: tuple[Cell, ...] = ()
    apart: str = ""

    @property
    def unchecked(self) -> int:
        """Never drawn. Nothing but the draw tells them from those that were."""
        return self.runs - self.checked - self.unanswered

    @property
    def rate(self) -> Fraction:
        """Of the runs that were drawn. One without an answer is no success: it is a class of its own."""
        return Fraction(self.right, self.checked + self.unanswered)

    @cached_property
    def residuals(self) -> Residuals | None:
        """What spot checks found beyond the logged confidence; None where a run has none."""
        return None if any(c.confidences is None for c in self.cells) else _residuals(self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """y - f among the checked: their mean and their variance (divisor n - 1). `assumed` is the mean of f over the
    whole stratum, `assumed_unchecked` over those never drawn."""

    mean: float
    variance: float
    assumed: float
    assumed_unchecked: float


def _residuals(cells: Sequence[Cell]) -> Residuals | None:
    n = right = unchecked = 0
    total = checked = squares = 0.0
    for cell in cells:
        f = cell.confidences
        assert f is not None
        total += f.total
        if cell.success is None:
            unchecked += cell.runs
            continue
        n, checked = n + cell.runs, checked + f.total
        squares += f.squares + (cell.runs - 2.0 * f.total if cell.success else 0.0)  # of 1 - f, or of f
        right += cell.runs if cell.success else 0
    if n < 2:
        return None
    mean = (right - checked) / n
    return Residuals(
        mean=mean, variance=max(0.0, squares - n * mean**2) / (n - 1), assumed=total / (n + unchecked),
        assumed_unchecked=(total - checked) / unchecked if unchecked else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The runs of a report line. `right` and `wrong` are known without a stratum; `unreached` are unknown and no
    spot check speaks for them: none was possible, no rule samples them, or none of their stratum was checked yet."""

    right: int
    wrong: int
    strata: tuple[Stratum, ...]
    unreached: int

    @property
    def runs(self) -> int:
        return self.right + self.wrong + self.unreached + sum(s.runs for s in self.strata)

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
    def unanswered(self) -> int:
        return sum(s.unanswered for s in self.strata)

    @property
    def not_estimated(self) -> int:
        """Runs of unknown success that are in no estimate."""
        return self.unreached + self.unanswered


def tally(cells: Iterable[Cell]) -> Tally:
    """Sort runs into known, estimated and not estimated. A stratum without a checked run is not estimated."""
    plain: dict[bool | None, int] = {True: 0, False: 0, None: 0}
    sampled: dict[tuple[float, str], list[Cell]] = {}
    for cell in cells:
        if (key := cell.stratum) is None:
            plain[cell.success] += cell.runs
        else:
            sampled.setdefault(key, []).append(cell)
    strata = []
    for (propensity, apart), members in sorted(sampled.items()):
        stratum = Stratum(
            propensity=propensity, apart=apart, runs=sum(c.runs for c in members),
            checked=sum(c.runs for c in members if c.success is not None),
            right=sum(c.runs for c in members if c.success),
            unanswered=sum(c.runs for c in members if c.success is None and c.unanswered), cells=tuple(members),
        )
        if stratum.checked:
            strata.append(stratum)
        else:
            plain[None] += stratum.runs
    return Tally(right=plain[True], wrong=plain[False], strata=tuple(strata), unreached=plain[None])


def assume(cells: Sequence[Cell], success: bool) -> list[Cell]:
    """`cells`, with the success of all runs that are not estimated taken as given: for the ends of an interval.

    A run that was drawn and not answered counts as checked, so that it speaks for those like it that were not drawn.
    """
    estimated = {(s.propensity, s.apart) for s in tally(cells).strata}
    return [
        replace(cell, success=success, propensity=cell.propensity if cell.stratum in estimated else None)
        if cell.success is None and (cell.unanswered or cell.stratum not in estimated)
        else cell
        for cell in cells
    ]
