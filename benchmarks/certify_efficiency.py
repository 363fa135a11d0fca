"""How much of the saving known in hindsight does a certified threshold keep? Every rule on the same redraws.

    python benchmarks/certify_efficiency.py [--data FOLDER] [--redraws 400] [--n 500] [--loss regret] [--processes 2]

Saving = 1 - cost of the cascade over always validating, the draft included; 0 where nothing is certified or it does
not pay. Efficiency = mean saving over the mean best saving of the raw score in hindsight. The pool is split some times:
one part for fitting a confidence, the rest is the population. From that, n labelled tasks are drawn with replacement:

    textbook         fixed sequence of 50 quantiles, a fifth of the records spent on fixing them
    textbook, free   the same, its quantiles at no cost (regret only)
    dense            every score, exact binomial, written from its definition in threshold_rules.py (regret only)
    certify          ours, raw score
    + traffic        ours, given scores of unlabelled tasks
    fitted           ours on a confidence fitted on 0.4 n other labelled tasks
    fitted, n in all the same model, certified on the last 0.6 n of the records: n labels in all
    fitted + traffic both
    ceiling          dense, randomised to spend delta exactly (regret only)

For the selective error it prints what is in reach at all: how often the most powerful test passes, at the threshold
within the tolerance where it does so most often, named beforehand. A rule that has to find its threshold too can hardly
do better; where that is at most 2 delta, which is little more than chance, the pool is not judged against the textbook.

Exits with 1 where `certify` is below dense or not above the textbook, or `fitted` not above `certify`. Where a score
has no more distinct values than the textbook has quantiles, both rules have the same thresholds to choose from, and
only a textbook that is better by three standard errors counts. Where the features tell nothing more (the best saving of
the fitted confidence is not above that of the raw score), `fitted` must not be worse by three standard errors.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import threshold_rules as rules
from fitted import fitted_scores
from numpy.typing import NDArray
from pools import Floats, Pool, Population, add_options, pools, print_head, print_pools

from orchestrator.quality import certify

FIT_SHARE = 0.4
TASKS = 1500
"""The population of a redraw is at most so many tasks of its pool: a fitted confidence is evaluated on all of them."""
TRAFFIC = "+ traffic"
Threshold = Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class Redraw:
    """What each rule came to on one redraw: its true saving, and whether it broke the bound."""

    savings: dict[str, float]
    violations: dict[str, bool]
    hindsight: float
    hindsight_fitted: float
    reach: float
    kept_raw: bool


class Drawn:
    """n labelled tasks drawn from a population, the scores of unlabelled ones, and the rules on them."""

    def __init__(
        self, tasks: Population, labelled: NDArray[np.int64], unlabelled: NDArray[np.int64], tolerance: float,
        asked: argparse.Namespace, draw: np.random.Generator,
    ) -> None:
        self.tasks, self.tolerance, self.asked, self.draw = tasks, tolerance, asked, draw
        self.sample, self.traffic = tasks.part(labelled), tasks.scores[unlabelled].tolist()
        self.losses = self.sample.regret if asked.loss == "regret" else self.sample.error

    def baselines(self) -> dict[str, Threshold]:
        args = (self.sample.scores, self.losses, self.tolerance, 1.0 - self.asked.confidence)
        if self.asked.loss == "selective":
            return {"textbook": lambda: rules.textbook_selective(*args, self.draw)}
        found: dict[str, Threshold] = {
            "textbook": lambda: rules.textbook(*args, self.draw), "textbook, free": lambda: rules.textbook_free(*args),
            "dense": lambda: rules.dense(*args),
        }
        if np.isin(self.losses, (0.0, 1.0)).all():
            found["ceiling"] = lambda: rules.randomised(*args, self.draw)
        return found

    def certified(self, seed: int, *, traffic: bool = False, last: float = 1.0) -> float | None:
        """By ours, on the last share of the records. What is set aside is drawn by `seed`."""
        records = self.sample.records()[round(len(self.sample) * (1.0 - last)) :]
        more = {"traffic": self.traffic} if traffic else {}
        return certify(
            records, max_regret=self.tolerance, confidence=self.asked.confidence, loss=self.asked.loss,
            seed=seed, **more,
        ).threshold


@dataclass(frozen=True, slots=True)
class Split:
    """The population of some redraws, under the raw score and, where the pool has features, under a fitted one."""

    tasks: Population
    scored: Population | None

    @property
    def kept_raw(self) -> bool:
        """The fit was no better on held-out folds, so that the raw signal was kept."""
        return self.scored is not None and np.array_equal(self.scored.scores, self.tasks.scores, equal_nan=True)


def split(pool: Pool, number: int, asked: argparse.Namespace) -> Split:
    draw = np.random.default_rng([asked.seed, number, *pool.name.encode()])
    fitting = round(FIT_SHARE * asked.n) if pool.has_features else 0
    order = draw.permutation(len(pool.items))[: fitting + TASKS]
    fit_on, rest = order[:fitting], order[fitting:]
    if not fitting:
        return Split(pool.population.part(rest), None)
    scores = fitted_scores(pool.items, fit_on, rest, seed=number)
    return Split(pool.population.part(rest), pool.population.part(rest, scores))


def redraws(pool: Pool, number: int, asked: argparse.Namespace) -> list[Redraw]:
    """The redraws of one split."""
    of, draw = split(pool, number, asked), np.random.default_rng([asked.seed, number, 1, *pool.name.encode()])
    tolerance = pool.tolerance[asked.loss]
    most = reach(of.tasks, tolerance, asked)
    return [redraw(of, tolerance, most, asked, draw) for _ in range(asked.redraws // asked.splits)]


def reach(tasks: Population, tolerance: float, asked: argparse.Namespace) -> float:
    """The power of the best test at the best threshold within the tolerance; NaN for a regret and for grades."""
    if asked.loss == "regret" or not np.isin(tasks.error, (0.0, 1.0)).all():
        return math.nan
    thresholds = np.unique(tasks.scores[~np.isnan(tasks.scores)])
    found = [0.0]
    for threshold in thresholds[:: max(1, len(thresholds) // 100)]:
        risk, accepted = tasks.risk(threshold, "selective"), round(asked.n * tasks.accepted(threshold) / len(tasks))
        if risk <= tolerance and accepted:
            found.append(rules.power(risk, accepted, tolerance, 1.0 - asked.confidence))
    return max(found)


def redraw(
    of: Split, tolerance: float, most: float, asked: argparse.Namespace, draw: np.random.Generator
) -> Redraw:
    tasks, scored, n = of.tasks, of.scored, len(of.tasks)
    labelled, unlabelled = draw.integers(n, size=asked.n), draw.integers(n, size=asked.traffic)
    raw = Drawn(tasks, labelled, unlabelled, tolerance, asked, draw)
    found = {name: (tasks, rule()) for name, rule in raw.baselines().items()}
    alone, beside = int(draw.integers(1 << 30)), int(draw.integers(1 << 30))
    found["certify"] = (tasks, raw.certified(alone))
    found[TRAFFIC] = (tasks, raw.certified(beside, traffic=True))
    if scored is not None:
        fitted = Drawn(scored, labelled, unlabelled, tolerance, asked, draw)
        # by the same seeds, so that only the scores make a difference
        found["fitted"] = (scored, fitted.certified(alone))
        found["fitted, n in all"] = (scored, fitted.certified(alone, last=1.0 - FIT_SHARE))
        found[f"fitted {TRAFFIC}"] = (scored, fitted.certified(beside, traffic=True))
    return Redraw(
        savings={name: max(0.0, under.saving(threshold)) for name, (under, threshold) in found.items()},
        violations={
            name: under.risk(threshold, asked.loss) > tolerance + 1e-12 for name, (under, threshold) in found.items()
        },
        hindsight=tasks.hindsight(tolerance, asked.loss),
        hindsight_fitted=0.0 if scored is None else scored.hindsight(tolerance, asked.loss), reach=most,
        kept_raw=of.kept_raw,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One rule over all redraws: means, and how far `certify` is from it, with the paired standard error."""

    violations: float
    saving: float
    efficiency: float
    difference: float
    error: float


def column(name: str, splits: Sequence[Sequence[Redraw]]) -> Column:
    """The standard error is over splits: redraws of one split share its population and its fit."""
    savings, ours = (np.array([[r.savings[rule] for r in of] for of in splits]) for rule in (name, "certify"))
    best = float(np.mean([r.hindsight for of in splits for r in of]))
    differences: Floats = (savings - ours).mean(axis=1) / best
    return Column(
        violations=float(np.mean([r.violations[name] for of in splits for r in of])), saving=float(savings.mean()),
        efficiency=float(savings.mean()) / best, difference=float(differences.mean()),
        error=float(differences.std(ddof=1)) / math.sqrt(len(splits)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How much of the saving known in hindsight is certified?")
    add_options(parser)
    parser.add_argument("--redraws", type=int, default=400)
    parser.add_argument("--splits", type=int, default=40, help="the redraws are shared out to (default: %(default)s)")
    parser.add_argument("--n", type=int, default=500, help="labelled records (default: %(default)s)")
    parser.add_argument("--traffic", type=int, default=2500, help="unlabelled scores (default: %(default)s)")
    parser.add_argument("--loss", choices=("regret", "selective"), default="regret")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    print_head(asked)
    found = [pool for pool in pools(asked) if pool.population.hindsight(pool.tolerance[asked.loss], asked.loss) > 0.0]
    print_pools(found)
    print(f"{'pool':<16}{'rule':<18}{'violations':>11}{'saving':>8}{'efficiency':>11}{'- certify':>13}   std. error")
    failed: list[str] = []
    with get_context("fork").Pool(asked.processes) as workers:
        for pool in found:
            work = [(pool, number, asked) for number in range(asked.splits)]
            done = workers.starmap(redraws, work, chunksize=math.ceil(asked.splits / 4))
            failed += print_pool(pool, done, 1.0 - asked.confidence)
    print("\n".join(failed) if failed else "every comparison holds")
    sys.exit(1 if failed else 0)


def print_pool(pool: Pool, splits: Sequence[Sequence[Redraw]], delta: float) -> list[str]:
    """Prints the rules of one pool; returns the comparisons that do not hold."""
    columns = {name: column(name, splits) for name in splits[0][0].savings}
    for name, c in columns.items():
        print(f"{pool.name:<16}{name:<18}{c.violations:>11.3f}{c.saving:>8.3f}{c.efficiency:>11.3f}"
              f"{c.difference:>+13.4f}   {c.error:.4f}")
    each = [r for of in splits for r in of]
    raw, best = (float(np.mean([getattr(r, name) for r in each])) for name in ("hindsight", "hindsight_fitted"))
    kept = sum(of[0].kept_raw for of in splits)
    fitted = f", with the fitted confidence {best:.3f} (the fit kept the raw signal in {kept} of {len(splits)} splits)"
    print(f"{'':<16}best in hindsight: saves {raw:.3f}{fitted if best else ''}")
    most = float(np.mean([r.reach for r in each]))
    beyond = most <= 2.0 * delta
    if not math.isnan(most):
        print(f"{'':<16}in reach: the most powerful test, at its best threshold named beforehand, passes with "
              f"probability {most:.2f}{': not judged against the textbook' if beyond else ''}")
    print(flush=True)
    few_scores = len(np.unique(pool.population.scores)) <= rules.QUANTILES
    slack = 3.0 * columns["textbook"].error if few_scores else 0.0
    expected = {
        "certify >= dense": "dense" not in columns or columns["dense"].difference <= 1e-12,
        "certify > textbook": beyond or columns["textbook"].difference < slack,
        "fitted > certify": best <= raw or columns["fitted"].difference > 0.0,
        "fitted >= certify": "fitted" not in columns or columns["fitted"].difference >= -3.0 * columns["fitted"].error,
    }
    return [f"{pool.name}: {what} does not hold" for what, holds in expected.items() if not holds]


if __name__ == "__main__":
    main()
