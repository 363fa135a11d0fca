"""Walks down the thresholds, each to the first candidate that fails: why they are valid is in docs/certificates.md."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

from orchestrator.quality.certification.p_values import p_value_of_bets, p_value_of_count, p_value_of_sum
from orchestrator.quality.certification.sample import SHOWN_EACH_SIDE, Found, Sample
from orchestrator.quality.certification.traffic import Traffic
from orchestrator.quality.records import Tested

START_SHARE = 0.25
"""Of the tasks, accepted where the walk for the selective error starts: among fewer one unlucky error ends it, more may
reach into the errors. Measured in docs/decision_benchmarks.md."""
EARLIER_START = 10.0
"""With many records a walk can start earlier too: where so many times as many are accepted as the fewest that pass."""
QUANTILES = 50
FIRST_STRIDES = 8


def every_score(sample: Sample, tolerance: float, delta: float) -> Found:
    """Regret: the p-value only grows as the threshold falls, so that the end of the walk is found by bisection."""

    def p_value(i: int) -> float:
        lost = sample.lost(sample.accepted[i])
        if sample.binary:
            return p_value_of_count(int(lost), sample.n, tolerance)
        return p_value_of_sum(lost, sample.n, tolerance)

    end = bisect_left(range(len(sample.levels)), True, key=lambda i: p_value(i) > delta)
    test = "exact binomial" if sample.binary else "Hoeffding-Bentkus"
    return _found(sample, sample.levels, end, p_value, f"{test}, every score")


def fixed_starts(sample: Sample, others: Traffic, tolerance: float, delta: float) -> Found:
    """Selective error: every distinct score below a start that is fixed by `others`, scores without a label.

    Of two starts each may spend half, and the lower one all of delta if the walk from the upper one comes down to it
    (fallback procedure, Wiens 2003). With grades, whose test takes long, the candidates are quantiles of `others`.
    """
    starts = _starts(others, sample, tolerance, delta)
    below = sample.levels if sample.binary else _quantiles(others.levels)
    found, spend = Found(threshold=None, p_value=None, method="no start", tested=()), 0.0
    for start, following in zip(starts, [*starts[1:], -math.inf], strict=True):
        spend += delta / len(starts)
        candidates = [start, *(level for level in below if following < level < start)]
        walked = _walk_accepted(sample, candidates, tolerance, spend)
        if walked.threshold is not None or found.threshold is None:
            found = walked
        if walked.threshold != candidates[-1]:
            spend = 0.0
    return found


def _walk_accepted(sample: Sample, candidates: Sequence[float], tolerance: float, delta: float) -> Found:
    """Each candidate is tested on the records that it accepts."""

    def p_value(i: int) -> float:
        accepted = sample.accepted_at(candidates[i])
        if sample.binary:
            return p_value_of_count(int(sample.lost(accepted)), accepted, tolerance)
        return p_value_of_bets(sample.accepted_losses(accepted), tolerance, delta)

    def all_pass(first: int, last: int) -> bool:
        fewest, most = sample.accepted_at(candidates[first]), sample.accepted_at(candidates[last])
        return p_value_of_count(int(sample.lost(most)), fewest, tolerance) <= delta

    if sample.binary:
        end = first_failure(len(candidates), all_pass)
        return _found(sample, candidates, end, p_value, "exact binomial, every score below a fixed start")
    end = next((i for i in range(len(candidates)) if p_value(i) > delta), len(candidates))
    return _found(sample, candidates, end, p_value, "betting, quantiles below a fixed start")


def records_needed_for(tolerance: float, delta: float) -> float:
    """n with (1 - tolerance)**n = delta: on fewer records nothing can pass, even without a loss."""
    return math.log(delta) / math.log1p(-tolerance)


def first_failure(count: int, all_pass: Callable[[int, int], bool]) -> int:
    """The place of the first of `count` candidates that fails.

    `all_pass(first, last)` says that no candidate of a stride fails; False where one may, exact for a stride of one.
    """
    place, stride = 0, max(1, count // FIRST_STRIDES)
    while place < count:
        last = min(count, place + stride) - 1
        if all_pass(place, last):
            place, stride = last + 1, stride * 2
        elif last == place:
            break
        else:
            stride = (last - place + 1) // 2
    return place


def _starts(others: Traffic, sample: Sample, tolerance: float, delta: float) -> list[float]:
    """One or two thresholds, descending; none without a score or a record. The fewest that pass are those that do so
    without an error; two standard deviations more are expected at a start. With grades there is one: bets are laid for
    what may be spent, which at a second start the data would decide."""
    n = sample.n
    if not others.levels or not n:
        return []
    needed = records_needed_for(tolerance, delta)
    shares = [max(START_SHARE, (needed + 2.0 * math.sqrt(needed)) / n)]
    if sample.binary and EARLIER_START * needed / n < START_SHARE / 2.0:
        shares.insert(0, EARLIER_START * needed / n)
    ranks = (min(math.ceil(share * others.n), len(others.levels)) for share in shares)
    return [*dict.fromkeys(others.levels[rank - 1] for rank in ranks)]


def _quantiles(levels: Sequence[float]) -> list[float]:
    ranks = {math.ceil(len(levels) * j / QUANTILES) for j in range(1, QUANTILES + 1)}
    return sorted({levels[rank - 1] for rank in ranks}, reverse=True)


def _found(
    sample: Sample, candidates: Sequence[float], end: int, p_value: Callable[[int], float], method: str
) -> Found:
    """The walk over `candidates` passed those before `end`; a few on either side are shown."""
    shown = range(max(0, end - 1 - SHOWN_EACH_SIDE), min(len(candidates), end + SHOWN_EACH_SIDE))
    tested = []
    for i in shown:
        accepted = sample.accepted_at(candidates[i])
        tested.append(Tested(
            threshold=candidates[i], accepted=accepted, loss=sample.lost(accepted), p_value=p_value(i), passed=i < end,
        ))
    last = candidates[end - 1] if end else None
    return Found(threshold=last, p_value=p_value(end - 1) if end else None, method=method, tested=tuple(tested))
