"""The frontier of thresholds, what it is made of, and its picture."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.quality.what_if.cases import Case, always_draft
from orchestrator.quality.what_if.cost_ratio import cost_ratio
from orchestrator.quality.what_if.frontier import Frontier, frontier, upper_hull
from orchestrator.quality.what_if.groups import KeptRuns, grouped
from orchestrator.quality.what_if.linear_costs import Costing
from orchestrator.quality.what_if.mean_shape import student_quantile
from orchestrator.quality.what_if.picture import svg
from orchestrator.quality.what_if.pools import Need
from orchestrator.quality.what_if.replay import ALWAYS_VALIDATE, Move
from orchestrator.quality.what_if.simulate import Simulation
from orchestrator.quality.what_if.what_if import figures, unsupported

ACCEPT, ESCALATE = Move(kind="accept", rule="otherwise"), Move(kind="escalate", rule="not_sure")


def case(confidence: float, right: bool | None, *, propensity: float = 1.0, alone: int | None = 100_000) -> Case:
    return Case(
        propensity=propensity, right=right, look="possible" if propensity else "never", confidence=confidence,
        draft=10_000, alone=alone, draft_bound=20_000, validator_bound=500_000, decided="rule 'otherwise' (accept)",
    )


def known(n: int = 200) -> list[Case]:
    """Full records: the surer, the more often right; validations cost from 50 to 150 thousand billionths."""
    generator = random.Random(4)
    return [
        case(s := generator.random(), generator.random() < s, alone=50_000 + generator.randrange(100_000))
        for _ in range(n)
    ]


def at(cases: Sequence[Case], threshold: float) -> list[Move]:
    return [ACCEPT if (one.confidence or 0.0) >= threshold else ESCALATE for one in cases]


def whole(cases: Sequence[Case]) -> Frontier:
    kept = KeptRuns()
    for one in cases:
        kept.add(one, (ACCEPT, ESCALATE))
    return frontier(kept, surest=0, doubtful=1)


def test_every_threshold_is_there_with_the_figures_of_its_own_policy() -> None:
    cases = known(60)
    found = whole(cases)
    assert [one.threshold for one in found.points] == sorted(one.confidence or 0.0 for one in cases)
    middle = found.points[30]
    assert middle.figures == figures(middle.figures.name, grouped(cases, at(cases, middle.threshold)))
    assert middle.figures.quality.value == pytest.approx(
        sum(one.right or (one.confidence or 0.0) < middle.threshold for one in cases) / 60
    )
    assert found.points[0].figures.accepted == 1.0
    assert found.points[-1].figures.accepted == pytest.approx(1 / 60)


def test_many_thresholds_are_thinned_evenly_with_both_ends() -> None:
    cases = known(900)
    found = whole(cases)
    assert (len(found.points), found.distinct) == (200, 900)
    assert found.points[0].threshold == min(one.confidence or 0.0 for one in cases)
    assert found.points[-1].threshold == max(one.confidence or 0.0 for one in cases)
    shown = found.shown()
    assert (len(shown), shown[0], shown[-1]) == (20, found.points[0], found.points[-1])


def test_thresholds_that_accept_what_can_never_be_seen_are_left_out() -> None:
    cases = [case(0.2, True), case(0.4, None, propensity=0.0), case(0.6, False), case(0.8, True)]
    found = whole(cases)
    assert ([one.threshold for one in found.points], found.left_out) == ([0.6, 0.8], 2)
    assert unsupported(grouped(cases, at(cases, 0.4))) == {"rule 'otherwise' (accept)": 1}
    assert not unsupported(grouped(cases, at(cases, 0.6)))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30))
def test_no_point_and_no_mix_of_two_lies_above_the_hull(raw: list[tuple[int, int]]) -> None:
    points = [(float(cost), float(quality)) for cost, quality in raw]
    hull = sorted(points[i] for i in upper_hull(points))
    assert hull == sorted(hull, key=lambda p: p[1])  # dearer is better, or it is not on it
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(hull)]
    assert slopes == sorted(slopes, reverse=True)
    for cost, quality in points:
        assert quality <= _height(hull, cost) + 1e-9


def _height(hull: Sequence[tuple[float, float]], cost: float) -> float:
    if cost <= hull[0][0]:
        return hull[0][1] if cost == hull[0][0] else -math.inf
    for (x0, y0), (x1, y1) in pairwise(hull):
        if cost <= x1:
            return y0 + (y1 - y0) * (cost - x0) / (x1 - x0)
    return hull[-1][1]


def test_a_point_without_figures_is_on_no_hull() -> None:
    assert upper_hull([None, (1.0, 0.5), None, (2.0, 0.4)]) == {1}


# -- what a threshold is worth -----------------------------------------------------------------------------------------


def test_where_all_is_known_the_cost_is_the_mean_of_what_was_paid() -> None:
    cases = known()
    found = figures("", grouped(cases, at(cases, 0.5)))
    paid = [10_000 + ((one.alone or 0) if (one.confidence or 0.0) < 0.5 else 0) for one in cases]
    assert found.cost.value == pytest.approx(sum(paid) / len(paid) * 1e-9)
    always = sum(one.alone or 0 for one in cases) / len(cases)
    assert found.ratio.value == pytest.approx(sum(paid) / len(paid) / always)


def test_what_was_not_paid_for_counts_as_the_mean_of_its_own_cell() -> None:
    """Escalated ones cost 100 each, the accepted that were looked at 300: they stand for those that were not."""
    seen = [case(0.1, False, alone=100) for _ in range(50)]
    looked = [case(0.9, True, propensity=0.2, alone=300) for _ in range(20)]
    others = [case(0.9, None, propensity=0.2, alone=None) for _ in range(80)]
    cases = [*seen, *looked, *others]
    found = figures("", grouped(cases, [ESCALATE] * 150))
    assert found.cost.value == pytest.approx((10_000 + (50 * 100 + 100 * 300) / 150) * 1e-9)
    assert found.extrapolated == 0


def test_a_cell_of_which_nothing_was_seen_by_chance_has_no_narrow_interval() -> None:
    """Its estimate is that of the others, which are another kind of task."""
    seen = [case(0.1, False, alone=100_000) for _ in range(150)]
    others = [case(0.9, None, propensity=0.02, alone=None) for _ in range(50)]
    found = figures("", grouped([*seen, *others], [ESCALATE] * 200)).cost
    assert found.value == pytest.approx((10_000 + 100_000) * 1e-9)
    assert found.high is not None
    assert found.high > (10_000 + 0.75 * 100_000 + 0.25 * 500_000) * 1e-9
    never = [case(0.9, None, propensity=0.0, alone=None) for _ in range(50)]
    extrapolated = figures("", grouped([*seen, *never], [ESCALATE] * 200))
    assert extrapolated.extrapolated == 50  # said aloud instead


def test_a_spot_check_of_the_proposed_policy_is_paid_for_with_its_probability() -> None:
    cases = known(50)
    plain = figures("", grouped(cases, [ACCEPT] * 50)).cost.value
    looking = figures("", grouped(cases, [Move(kind="accept", rule="otherwise", check=0.1)] * 50)).cost.value
    assert plain is not None
    assert looking is not None
    assert looking - plain == pytest.approx(0.1 * sum(one.alone or 0 for one in cases) / 50 * 1e-9)


def test_an_unpriced_validator_leaves_the_cost_unknown_and_the_quality_known() -> None:
    cases = [case(0.5, True, alone=None) for _ in range(30)]
    found = figures("", grouped(cases, [ESCALATE] * 30))
    assert (found.cost.value, found.cost.note) == (None, "no validation has a known cost")
    assert found.quality.value == 1.0


def test_a_few_dear_ones_leave_no_narrow_interval() -> None:
    steady = [case(0.5, True, alone=100_000 + i) for i in range(300)]
    wild = [case(0.5, True, alone=100_000 if i else 40_000_000) for i in range(300)]
    narrow, wide = (figures("", grouped(cases, [ESCALATE] * 300)).cost for cases in (steady, wild))
    assert narrow.low is not None
    assert narrow.high is not None
    assert narrow.high / narrow.low < 1.01
    assert wide.low is not None
    assert wide.high is not None
    assert wide.high / wide.low > 5.0


def test_a_broken_draft_is_not_served_even_where_all_are() -> None:
    cases = [case(0.5, True), Case(propensity=1.0, right=False, look="possible", broken=True),
             Case(propensity=0.0, right=None, look="missed", drafted=False)]
    assert [always_draft(one).kind for one in cases] == ["accept", "hand_off", "unknown"]


def test_a_ratio_of_two_like_costs_is_one_and_surely_so() -> None:
    cases = known()
    groups = grouped(cases, [ESCALATE] * len(cases))
    needs = [Need(alone=1.0)] * len(groups)
    both = [Costing(groups, needs, [1.0] * len(groups), {1.0: 1.0}, 0.95) for _ in range(2)]
    found = cost_ratio(both[0], both[1], 0.95)
    assert found.value == 1.0
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (1.0, 1.0)


@pytest.mark.parametrize(("freedom", "t"), [(4.0, 2.7764), (9.0, 2.2622), (30.0, 2.0423), (math.inf, 1.95996)])
def test_students_quantile_is_the_tabled_one(freedom: float, t: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(t, rel=0.005)


# -- the picture -------------------------------------------------------------------------------------------------------

_SVG = "{http://www.w3.org/2000/svg}"


def simulation(cases: Sequence[Case], name: str = "labels") -> Simulation:
    moves = {"present": at(cases, 0.5), "proposed": at(cases, 0.3), "always draft": [ACCEPT] * len(cases),
             "always validate": [ALWAYS_VALIDATE] * len(cases)}
    return Simulation(
        pipeline=name, step="label", runs=len(cases), first_at=0.0, last_at=1.0, currency="USD", reference={},
        policies=tuple(figures(kind, grouped(cases, made)) for kind, made in moves.items()), not_told={},
        frontier=whole(cases), threshold=0.3, notes=(),
    )


def test_the_picture_marks_every_policy_with_a_shape_bars_and_a_legend() -> None:
    root = ElementTree.fromstring(svg(simulation(known(100))))
    words = [node.text or "" for node in root.iter(f"{_SVG}text")]
    for expected in ("present", "proposed", "always draft", "always validate", "upper hull of the thresholds",
                     "USD per 1,000 tasks", "answered right", "labels / label: cost against quality"):
        assert expected in words
    bars = [node for node in root.iter(f"{_SVG}line") if "bar" in (node.get("class") or "")]
    assert {node.get("class") for node in bars} == {"bar present", "bar proposed", "bar draft", "bar validate"}
    assert len(list(root.iter(f"{_SVG}polyline"))) == 1
    assert sum(node.get("class") == "point" for node in root.iter(f"{_SVG}circle")) == 101


def test_everything_drawn_lies_within_the_frame() -> None:
    root = ElementTree.fromstring(svg(simulation(known(100))))
    for node in root.iter(f"{_SVG}circle"):
        assert 84 <= float(node.get("cx") or 0) <= 792
    for node in root.iter(f"{_SVG}line"):
        if "bar" in (node.get("class") or ""):
            assert 78 <= float(node.get("y1") or 0) <= 432
            assert 78 <= float(node.get("y2") or 0) <= 432


def test_a_bar_without_end_stretches_no_picture_and_ends_in_an_arrow() -> None:
    seen = [case(0.1 * (i % 10), True, alone=100_000 if i % 40 == 0 else None) for i in range(100)]
    found = simulation(seen)
    always = next(one for one in found.policies if one.name == "always validate")
    assert always.cost.value is not None
    assert always.cost.high is not None
    assert always.cost.high > 3.0 * always.cost.value
    root = ElementTree.fromstring(svg(found))
    ends = [float(node.get("x2") or 0) for node in root.iter(f"{_SVG}line") if node.get("class") == "bar validate"]
    assert max(ends) <= 792
    tips = [node.get("points") or "" for node in root.iter(f"{_SVG}polygon") if node.get("class") == "validate"]
    assert [tip.startswith("792.0,") for tip in tips] == [True]


def test_names_are_escaped_and_unknown_figures_are_named_not_drawn() -> None:
    cases = [case(0.1 * (i % 10), None if i % 10 >= 5 else True, propensity=float(i % 10 < 5)) for i in range(100)]
    found = simulation(cases, name='a<b & "c"')
    text = svg(found)
    root = ElementTree.fromstring(text)
    assert "a&lt;b &amp;" in text
    assert root.get("viewBox")
