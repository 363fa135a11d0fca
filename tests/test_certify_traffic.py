"""Unlabelled traffic: what it may change in a certificate, the guarantee by simulation, and that it pays."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from functools import cache

import pytest

pytest.importorskip("numpy")

from orchestrator.quality import Certificate, Record, certify
from orchestrator.quality.certification.known_coverage import _Draws, known_coverage
from orchestrator.quality.certification.sample import Sample
from orchestrator.quality.certification.traffic import Traffic

ALPHA, DELTA = 0.05, 0.10


def limit(redraws: int) -> float:
    return DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / redraws)


def drawn(n: int, generator: random.Random) -> list[Record]:
    """Scores uniform; P(wrong) = 0.3 - 0.2 s: the regret of a threshold t is 0.3 (1 - t) - 0.1 (1 - t²)."""
    scores = [generator.random() for _ in range(n)]
    return [Record(s, generator.random() >= 0.3 - 0.2 * s) for s in scores]


def regret(threshold: float | None) -> float:
    return 0.0 if threshold is None else 0.3 * (1 - threshold) - 0.1 * (1 - threshold**2)


class TwoLevels:
    """Score 1 for a share `coverage` of the tasks, 0 for the others, which are all wrong. Accepting score 1 has a
    regret just above ALPHA: whatever is certified is a violation, and nothing but the test itself prevents it."""

    def __init__(self, coverage: float, n: int, others: int, seed: int) -> None:
        self.coverage, self.n, self.others, self.generator = coverage, n, others, random.Random(seed)

    def count(self, n: int, p: float) -> int:
        return sum(self.generator.random() < p for _ in range(n))

    def draw(self) -> tuple[int, int, int]:
        accepted = self.count(self.n, self.coverage)
        spread = math.sqrt(self.others * self.coverage * (1 - self.coverage))
        unlabelled = round(self.generator.gauss(self.others * self.coverage, spread))
        return accepted, self.count(accepted, 1.001 * ALPHA / self.coverage), min(max(unlabelled, 0), self.others)

    def violations(self, redraws: int) -> float:
        @cache
        def passes(accepted: int, wrong: int, unlabelled: int) -> bool:
            records = [Record(1.0, i >= wrong) for i in range(accepted)] + [Record(0.0, False)] * (self.n - accepted)
            traffic = Traffic(self.others, [1.0] * unlabelled + [0.0] * (self.others - unlabelled))
            return known_coverage(Sample(records, "regret"), traffic, ALPHA, DELTA).threshold is not None

        return sum(passes(*self.draw()) for _ in range(redraws)) / redraws

    def plug_in_violations(self, redraws: int) -> float:
        return sum(wrong <= ALPHA * self.n for _, wrong, _ in (self.draw() for _ in range(redraws))) / redraws


@pytest.mark.parametrize("coverage", [0.06, 0.3, 0.95])
def test_at_the_worst_case_the_bound_breaks_no_more_often_than_delta(coverage: float) -> None:
    assert TwoLevels(coverage, 150, 500, 1).violations(400) <= limit(400)


def test_the_worst_case_finds_a_rule_that_breaks_its_bound() -> None:
    assert TwoLevels(0.5, 150, 500, 2).plug_in_violations(400) > 2 * limit(400)


def test_what_may_be_spent_is_spent() -> None:
    """A test that never passed would be valid too."""
    assert TwoLevels(0.5, 150, 500, 3).violations(400) > 0.7 * DELTA


def test_over_redraws_it_accepts_more_than_the_plain_rule_and_is_as_valid() -> None:
    generator, redraws, gains, violations = random.Random(4), 60, [], 0
    for _ in range(redraws):
        records = drawn(250, generator)
        traffic = [generator.random() for _ in range(2000)]
        plain = certify(records, max_regret=ALPHA).threshold
        sharper = certify(records, max_regret=ALPHA, traffic=traffic).threshold
        gains.append((1.0 if plain is None else plain) - (1.0 if sharper is None else sharper))
        violations += regret(sharper) > ALPHA
    mean = sum(gains) / redraws
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains)) / redraws
    assert mean > 2 * error
    assert violations / redraws <= limit(redraws)


def test_with_unequal_propensities_records_and_traffic_together_are_the_stream() -> None:
    """Unsure drafts are always looked at, the others now and then: what was not looked at is the traffic."""
    generator, redraws, violations = random.Random(5), 40, 0
    for _ in range(redraws):
        labelled, traffic = [], []
        for task in drawn(1200, generator):
            propensity = 1.0 if task.score < 0.3 else 0.25
            if generator.random() < propensity:
                labelled.append(Record(task.score, task.draft_ok, propensity=propensity))
            else:
                traffic.append(task.score)
        found = certify(labelled, max_regret=ALPHA, traffic=traffic, seed=generator.randrange(2**32))
        assert found.n + found.traffic == 1200
        violations += regret(found.threshold) > ALPHA
    assert violations / redraws <= limit(redraws)


@pytest.mark.parametrize(
    ("n", "others", "c", "d"), [(12, 15, 0.4, 1.1), (20, 10, 0.9, 0.7), (9, 30, 0.12, 0.0), (15, 15, 0.5, -0.1)]
)
def test_the_probability_is_the_sum_over_all_draws(n: int, others: int, c: float, d: float) -> None:
    alpha, total = 0.1, 0.0
    for k in range(n + 1):
        for a in range(k, n + 1):
            joint = math.comb(n, a) * math.comb(a, k) * alpha**k * (c - alpha) ** (a - k) * (1 - c) ** (n - a)
            for m in range(others + 1):
                share = (a + m) / (n + others)
                if k - alpha / max(share, 0.5) * (a - n * share) <= d + 1e-9:
                    total += joint * math.comb(others, m) * c**m * (1 - c) ** (others - m)
    draws = _Draws(n, others, alpha, d, c)
    assert total <= draws.probability() <= total + 2e-7
    assert draws.is_at_most(total + 2e-7)
    assert not draws.is_at_most(total - 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_strides_find_the_same_end_as_one_test_after_the_other(seed: int) -> None:
    generator = random.Random(seed)
    records = [Record(round(r.score, 2), r.draft_ok) for r in drawn(120, generator)]
    traffic = [round(generator.random(), 2) for _ in range(200)]
    everything = Sample(records, "regret"), Traffic.of(traffic)
    found = known_coverage(*everything, 0.1, DELTA)
    lowest = None
    for candidate in sorted({*traffic, *(r.score for r in records)}, reverse=True):
        if one_by_one(records, traffic, candidate) > DELTA:
            break
        lowest = candidate
    assert found.threshold == lowest
    assert found.p_value == pytest.approx(one_by_one(records, traffic, lowest or 0.0))


def one_by_one(records: list[Record], traffic: list[float], candidate: float) -> float:
    from orchestrator.quality.certification.known_coverage import _Walk

    walk = _Walk(Sample(records, "regret"), Traffic.of(traffic), 0.1, DELTA)
    step = max(i for i, s in enumerate(walk.steps) if s.level >= candidate)
    return walk.p_value(step, sum(score >= candidate for score in traffic))


def test_the_certificate_says_what_traffic_took_part_and_where_the_walk_ended() -> None:
    generator = random.Random(6)
    found = certify(drawn(300, generator), max_regret=ALPHA, traffic=[generator.random() for _ in range(5000)])
    assert found.traffic == 5000
    assert "5000 unlabelled scores" in found.computed_from
    assert "coverage known from traffic" in found.method
    passed = [t.passed for t in found.tested]
    assert passed == sorted(passed, reverse=True)
    chosen, failed = found.tested[passed.count(True) - 1], found.tested[passed.count(True)]
    assert (chosen.threshold, chosen.p_value) == (found.threshold, found.p_value)
    assert chosen.p_value <= DELTA < failed.p_value
    assert found.accepted == chosen.accepted


@pytest.mark.parametrize("n", [0, 44])
def test_too_few_records_certify_nothing_however_much_the_traffic(n: int) -> None:
    found = certify([Record(0.5, True)] * n, max_regret=ALPHA, traffic=[0.5] * 5000)
    assert (found.threshold, found.recommendation) == (None, "always_validate")
    assert "it takes 45" in found.reasons[0]


def test_without_a_loss_every_draft_is_accepted() -> None:
    found = certify([Record(0.5, True)] * 100, max_regret=ALPHA, traffic=[0.5] * 5000)
    assert (found.threshold, found.recommendation) == (0.5, "always_draft")


def test_equal_scores_of_the_traffic_are_accepted_together() -> None:
    generator = random.Random(7)
    records = [Record(float(i % 7), i % 40 > 0 or i % 7 > 2) for i in range(280)]
    found = certify(records, max_regret=ALPHA, traffic=[float(generator.randrange(7)) for _ in range(3000)])
    assert found.threshold in {float(i) for i in range(7)}


def test_tasks_of_the_traffic_without_a_score_count_and_are_never_accepted() -> None:
    generator = random.Random(8)
    records = [Record(r.score if generator.random() < 0.5 else math.nan, r.draft_ok) for r in drawn(400, generator)]
    scores = [generator.random() if generator.random() < 0.5 else math.nan for _ in range(4000)]
    found = certify(records, max_regret=ALPHA, traffic=scores)
    assert (found.traffic, found.threshold is not None) == (4000, True)
    with pytest.raises(ValueError, match="not of the records' population"):
        certify(records, max_regret=ALPHA, traffic=[s for s in scores if not math.isnan(s)])


@pytest.mark.parametrize("loss", ["regret", "selective"])
def test_traffic_of_another_population_is_refused(loss: str) -> None:
    generator = random.Random(9)
    accepted_only = [0.5 + generator.random() / 2 for _ in range(2000)]
    with pytest.raises(ValueError, match="other tasks of the same stream"):
        certify(drawn(300, generator), max_regret=ALPHA, loss=loss, traffic=accepted_only)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'high'"):
        certify(drawn(300, generator), max_regret=ALPHA, traffic=["high"])  # type: ignore[list-item]


def test_for_the_selective_error_traffic_fixes_the_start_and_no_record_is_set_aside() -> None:
    generator = random.Random(10)
    records = [Record(s := generator.random(), generator.random() < 0.7 + 0.3 * s) for _ in range(400)]
    alone = certify(records, max_regret=0.1, loss="selective")
    helped = certify(records, max_regret=0.1, loss="selective", traffic=[generator.random() for _ in range(2000)])
    assert (alone.n, alone.traffic, helped.n, helped.traffic) == (360, 0, 400, 2000)
    assert "40 set aside" in alone.computed_from
    assert "set aside" not in helped.computed_from


def test_empty_traffic_and_grades_leave_the_plain_rule() -> None:
    generator = random.Random(11)
    records = drawn(300, generator)
    assert certify(records, max_regret=ALPHA, traffic=[]) == certify(records, max_regret=ALPHA)
    graded = [Record(r.score, 0.9 if r.draft_ok else 0.1) for r in records]
    assert certify(graded, max_regret=0.2, traffic=[0.5]) == certify(graded, max_regret=0.2)


def test_the_same_input_gives_the_same_certificate() -> None:
    def once() -> Certificate:
        generator = random.Random(12)
        return certify(drawn(200, generator), max_regret=ALPHA, traffic=[generator.random() for _ in range(500)])

    assert once() == once()


def test_without_numpy_the_error_names_the_extra_and_the_plain_rule_works() -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from orchestrator.quality import Record, certify\n"
        "records = [Record(0.5, True)] * 100\n"
        "assert certify(records, max_regret=0.05).threshold == 0.5\n"
        "assert certify(records, max_regret=0.05, loss='selective', traffic=[0.5] * 9).traffic == 9\n"
        "try: certify(records, max_regret=0.05, traffic=[0.5] * 9)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "draftgate[quality]" in done.stdout
