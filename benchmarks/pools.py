"""Pools of tasks whose truth is known: what every benchmark of certification draws from.

A pool is a finite population. Calibration sets are drawn from it with replacement, so that the risk of any threshold on
the population is exact, not estimated. Public records are read from the folder named by --data (or
ORCHESTRATOR_DATA); nothing of them is copied. The pools themselves: public_pools.py, synthetic_pools.py.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.quality import Record
from orchestrator.quality.records import Loss

Floats = NDArray[np.float64]
DEFAULT_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
RECORDED = ("banking77", "clinc150")
"""Pools that a benchmark of this folder records; each has an option of its name."""
LOSSES: tuple[Loss, ...] = ("regret", "selective")


@dataclass(frozen=True, slots=True)
class Item:
    """One task of a population. Costs in USD; `features` are known with the draft, `covariate` (0 to 1) before it."""

    score: float
    draft_ok: bool | float
    validator_ok: bool | float
    draft_cost: float
    validator_cost: float
    features: Mapping[str, float | None] = field(default_factory=dict)
    covariate: float = 0.0


class Population:
    """Tasks under one score, with the exact risk and saving of every threshold. All columns are arrays of one length.

    draft, validator: right (1), wrong (0) or a grade. A score of NaN is never accepted.
    """

    def __init__(
        self, scores: Floats, draft: Floats, validator: Floats, draft_cost: Floats, validator_cost: Floats,
        covariate: Floats,
    ) -> None:
        self.scores, self.draft, self.validator = scores, draft, validator
        self.draft_cost, self.validator_cost, self.covariate = draft_cost, validator_cost, covariate
        self.regret, self.error = np.maximum(0.0, validator - draft), 1.0 - draft
        known = np.where(np.isnan(scores), -np.inf, scores)
        order = np.argsort(-known, kind="stable")
        self._descending = -known[order]
        self._regret, self._error = _from_zero(self.regret[order]), _from_zero(self.error[order])
        self._spared, self._drafted = _from_zero(validator_cost[order]), _from_zero(draft_cost[order])

    def __len__(self) -> int:
        return len(self.scores)

    def part(self, indices: NDArray[np.int64], scores: Floats | None = None) -> Population:
        """The tasks at `indices` (one may come twice), under the same scores or under `scores`, one for each index."""
        return Population(
            self.scores[indices] if scores is None else scores, self.draft[indices], self.validator[indices],
            self.draft_cost[indices], self.validator_cost[indices], self.covariate[indices],
        )

    def records(self, propensity: Floats | None = None) -> list[Record]:
        """One record a task, each with the probability that its label is seen (1 where not given)."""
        seen = np.ones(len(self)) if propensity is None else propensity
        columns = (self.scores, self.draft, self.validator, self.draft_cost, self.validator_cost, seen)
        return [Record(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def accepted(self, threshold: float | None) -> int:
        """How many tasks score at least `threshold`; None accepts nothing."""
        if threshold is None:
            return 0
        return int(np.searchsorted(self._descending, -threshold, side="right"))

    def risk(self, threshold: float | None, loss: str) -> float:
        """The true regret of the threshold (per task), or its selective error (per accepted draft; 0 of none)."""
        k = self.accepted(threshold)
        if loss == "regret":
            return float(self._regret[k]) / len(self)
        return float(self._error[k]) / k if k else 0.0

    def risks(self, loss: str) -> Floats:
        """The true risk of every threshold there is, from the surest down."""
        ends = self._ends()
        return self._regret[ends] / len(self) if loss == "regret" else self._error[ends] / ends

    def gated_saving(self, threshold: float | None) -> float:
        """The same of a gate: what scores below the threshold goes straight to the validator, without a draft."""
        if threshold is None:
            return 0.0
        k = self.accepted(threshold)
        return float(self._spared[k] - self._drafted[k]) / float(self.validator_cost.sum())

    def saving(self, threshold: float | None) -> float:
        """1 - cost of the cascade over always validating; every draft is paid. None is no cascade: 0."""
        if threshold is None:
            return 0.0
        return float(self._spared[self.accepted(threshold)] - self.draft_cost.sum()) / float(self.validator_cost.sum())

    def hindsight(self, tolerance: float, loss: str) -> float:
        """The largest saving of any threshold whose true risk is within the tolerance; 0 where none pays."""
        savings = (self._spared[self._ends()] - self.draft_cost.sum()) / self.validator_cost.sum()
        return max(0.0, float(np.max(savings[self.risks(loss) <= tolerance], initial=0.0)))

    def _ends(self) -> NDArray[np.int64]:
        """How many tasks are accepted at each distinct score, ascending."""
        ends = np.flatnonzero(np.diff(self._descending, append=np.nan)) + 1
        return ends[np.isfinite(self._descending[ends - 1])]


@dataclass(frozen=True)
class Pool:
    """A named population, what it is, and the tolerance asked of it for each loss."""

    name: str
    about: str
    items: tuple[Item, ...]
    tolerance: Mapping[str, float]

    @cached_property
    def population(self) -> Population:
        return population(self.items)

    @property
    def has_features(self) -> bool:
        return bool(self.items[0].features)


def population(items: Sequence[Item]) -> Population:
    columns = ((i.score, i.draft_ok, i.validator_ok, i.draft_cost, i.validator_cost, i.covariate) for i in items)
    return Population(*np.array(list(columns), dtype=float).T)


def pool(name: str, about: str, items: Sequence[Item], **tolerance: float) -> Pool:
    """A pool whose tolerances, where not given, are those at which a cascade matters.

    regret: half of the regret of accepting everything. selective: the error among the surest half of the drafts.
    """
    whole = population(items)
    half = float(np.median(whole.scores[np.isfinite(whole.scores)]))
    usual = {"regret": float(whole.regret.mean()) / 2.0, "selective": whole.risk(half, "selective")}
    return Pool(name, about, tuple(items), usual | tolerance)


Propensity = Callable[[Population], Floats]


def by_escalation(tasks: Population) -> Floats:
    """As in service: the unsure half escalates and is labelled; of the rest, spot checks see a part by covariate."""
    unsure = tasks.scores < np.nanmedian(tasks.scores)
    return np.where(unsure, 1.0, np.where(tasks.covariate < 0.5, 0.25, 0.5))


def smooth(tasks: Population) -> Floats:
    """Continuous in score and covariate, from 0.2 to 1; the unsure and the odd are seen more often."""
    return 1.0 - 0.4 * ranks(tasks.scores) - 0.4 * (1.0 - tasks.covariate)


def ranks(values: Sequence[float] | Floats) -> Floats:
    """Mid-ranks scaled to [0, 1]; equal values share one."""
    array = np.asarray(values, dtype=float)
    ordered = np.sort(array)
    middle = (np.searchsorted(ordered, array, "left") + np.searchsorted(ordered, array, "right")) / 2.0
    return np.asarray(middle / len(array), dtype=float)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ORCHESTRATOR_DATA", DEFAULT_DATA)),
                        help="folder with routellm/ and anytime_gsm8k/ (default: %(default)s)")
    for name in RECORDED:
        parser.add_argument(f"--{name}", type=Path, help=f"JSONL recorded by `python -m benchmarks.{name}`")
    parser.add_argument("--pools", help="only these, by name, separated by commas")
    parser.add_argument("--seed", type=int, default=0)


def pools(asked: argparse.Namespace) -> list[Pool]:
    """Public pools first, then synthetic ones. What is absent is skipped, and said so."""
    import public_pools
    import synthetic_pools

    wanted = set(asked.pools.split(",")) if asked.pools else None
    found: list[Pool] = []
    for name, load in public_pools.loaders(asked.data, {one: getattr(asked, one) for one in RECORDED}).items():
        if wanted is None or name in wanted:
            try:
                found.append(load())
            except FileNotFoundError as absent:
                print(f"skipped {name}: {absent}")
    found += [made for made in synthetic_pools.made(asked.seed) if wanted is None or made.name in wanted]
    if unknown := (wanted or set()) - {one.name for one in found}:
        raise SystemExit(f"no pool {', '.join(sorted(unknown))!r}: absent or misspelt")
    return found


def print_head(asked: argparse.Namespace) -> None:
    """The machine, the versions and every option, so that the figures below can be had again."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scikit-learn"))
    print(f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}; {versions}")
    options = {k: v for k, v in vars(asked).items() if k not in ("data", *RECORDED, "peer") and v is not None}
    print(f"{Path(sys.argv[0]).name}: {', '.join(f'{k} {v}' for k, v in options.items())}\n", flush=True)


def print_pools(found: Sequence[Pool]) -> None:
    print(f"{'':<16}{'':>7}{'right: draft,':>15}{'':>9}{'max':>8}{'max':>11}{'cost: draft':>13}\n"
          f"{'pool':<16}{'tasks':>7}{'validator':>15}{'regret':>9}{'regret':>8}{'selective':>11}{'/ validator':>13}")
    for one in found:
        p = one.population
        ratio = p.draft_cost.sum() / p.validator_cost.sum()
        print(f"{one.name:<16}{len(p):>7}{p.draft.mean():>8.3f}{p.validator.mean():>7.3f}{p.regret.mean():>9.3f}"
              f"{one.tolerance['regret']:>8.3f}{one.tolerance['selective']:>11.3f}{ratio:>13.3f}  {one.about}")
    print(flush=True)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def standard_error(share: float, draws: int) -> float:
    return math.sqrt(share * (1.0 - share) / draws)


def _from_zero(values: Floats) -> Floats:
    """Cumulative sums, with that of nothing first."""
    return np.concatenate([[0.0], np.cumsum(values)])
