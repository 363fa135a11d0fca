"""The measured baseline: who judges it, what is saved against it, and what is not claimed."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.errors import InputError
from orchestrator.finance.paired import UNJUDGED
from orchestrator.finance.records import Judged, Line, ReportQuery, Savings
from orchestrator.finance.report import build_report
from orchestrator.records import Money
from orchestrator.store.baseline_tables import BaselineRow
from orchestrator.testing import ScriptedModel
from tests.ledger import Ledger
from tests.pipelines import write_pipeline

A, B = {"label": "a"}, {"label": "b"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.on_disk(tmp_path)
    made.config()
    yield made
    made.close()


def measure(ledger: Ledger, run_id: str, cost: int = 1_000, **row: Any) -> None:
    """The baseline's row and call, as the cascade leaves them."""
    ledger.call(run_id, cost, role="baseline", bound=2_000)
    ledger.add(BaselineRow, {
        "run_id": run_id, "pipeline": "p", "share": 0.01, "served": True, "required": None, "same": None, "judge": None,
        "right": None, "ended_at": 100.0, **row,
    })


def line_of(ledger: Ledger, **asked: Any) -> Line:
    (line,) = build_report(ledger, ReportQuery(**asked), now=1e6).lines
    return line


def savings(ledger: Ledger, **asked: Any) -> Savings:
    (found,) = line_of(ledger, **asked).savings
    return found


def judged(ledger: Ledger, **asked: Any) -> Judged:
    found = savings(ledger, **asked).judged
    assert found is not None
    return found


def test_nothing_is_saved_against_an_unmeasured_baseline(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label")
    ledger.call("r", 100)
    assert line_of(ledger).savings == ()


def test_costs_are_compared_on_the_same_tasks_spot_checks_included(ledger: Ledger) -> None:
    for i, (cost, alone) in enumerate([(100, 1_000), (1_200, 1_100), (150, 900)]):
        ledger.run(f"r{i}")
        ledger.call(f"r{i}", cost - 50)
        ledger.call(f"r{i}", 50, role="spot_check")
        measure(ledger, f"r{i}", alone)
    ledger.run("other")
    ledger.call("other", 77_777)
    found = savings(ledger)
    assert (found.pairs, found.cascade.nano, found.baseline.nano) == (3, 1_450, 3_000)
    assert found.per_run == Decimal("5.16667E-7")
    assert found.share == 1 - Decimal(1_450) / Decimal(3_000)
    assert found.method == "bounded"


def test_where_nothing_but_the_validator_judges_costs_only_are_compared(ledger: Ledger) -> None:
    for i, source in enumerate(("validator", "spot_check", "unknown")):
        ledger.run(f"r{i}", success=None if source == "unknown" else True, source=source)
        ledger.call(f"r{i}", 100)
        measure(ledger, f"r{i}", same=True)
    found = savings(ledger)
    assert (found.pairs, found.judged, found.note) == (3, None, UNJUDGED)


@pytest.mark.parametrize(("run", "said", "row", "expected"), [
    ({"success": True, "source": "label"}, None, {"judge": "label", "right": False}, ("label", True, False)),
    ({"success": True, "source": "proof"}, None, {"judge": "proof", "right": True}, ("proof", True, True)),
    ({"success": True, "source": "validator"}, None, {"judge": "proof", "right": True}, None),
    ({"success": True, "source": "validator"}, False, {"same": True}, ("feedback", False, False)),
    ({"success": True, "source": "validator"}, True, {"same": False}, ("feedback", True, False)),
    ({"success": True, "source": "validator"}, False, {"same": False}, ("feedback", False, None)),
    ({"success": True, "source": "label"}, False, {"same": False, "judge": "label", "right": True},
     ("feedback", False, True)),
    ({"success": True, "source": "label"}, None, {"judge": "label", "right": None, "served": False},
     ("label", True, False)),
    ({"success": True, "source": "label"}, None, {"judge": "label", "right": True, "required": False},
     ("label", True, False)),
    ({"success": False, "source": "status", "status": "handed_off"}, None, {"judge": "label", "right": True},
     ("label", False, True)),
])
def test_a_pair_is_judged_by_label_proof_or_feedback_and_never_by_the_validator(
    ledger: Ledger, run: dict[str, Any], said: bool | None, row: dict[str, Any],
    expected: tuple[str, bool, bool | None] | None,
) -> None:
    ledger.run("r", **run)
    ledger.call("r", 100)
    measure(ledger, "r", **row)
    if said is not None:
        ledger.feedback("r", said)
    found = savings(ledger).judged
    if expected is None:
        assert found is None
        return
    judge, right, alone = expected
    assert found is not None
    assert found.by == {judge: 1}
    assert found.cascade.successes == int(right)
    assert (found.baseline.successes, found.baseline.unknown) == (int(alone is True), int(alone is None))
    assert (found.difference is None) is (alone is None)


def test_a_baseline_of_unknown_success_is_taken_for_right_and_for_wrong_at_the_ends(ledger: Ledger) -> None:
    for i in range(40):
        ledger.run(f"r{i}", success=True, source="validator")
        ledger.call(f"r{i}", 100)
        measure(ledger, f"r{i}", same=i >= 10)
        ledger.feedback(f"r{i}", i >= 10)
    found = judged(ledger)
    assert (found.cascade.successes, found.baseline.successes, found.baseline.unknown) == (30, 30, 10)
    assert found.low < -10 / 40 < 0.0 < found.high
    assert found.baseline.per_success.qualifier == "at most"


def test_a_pair_of_unknown_cost_or_of_two_currencies_is_left_out_and_counted(ledger: Ledger) -> None:
    for name in ("known", "unpriced", "unanswered", "mixed"):
        ledger.run(name, success=True, source="label")
        measure(ledger, name, judge="label", right=True)
    ledger.call("known", 100)
    ledger.call("unpriced", None)
    ledger.call("unanswered", None, state="unsettled")
    ledger.call("mixed", 100, currency="EUR")
    found = savings(ledger)
    assert (found.currency, found.pairs, found.left_out) == ("USD", 1, 3)


def test_a_cache_hit_is_no_pair(ledger: Ledger) -> None:
    ledger.run("source", success=True, source="label")
    ledger.run("hit", from_cache=True, source_run_id="source", saved_nano=5, saved_currency="USD")
    for name in ("source", "hit"):
        ledger.call(name, 100)
        measure(ledger, name, judge="label", right=True)
    assert savings(ledger).pairs == 1


def test_the_price_of_a_wrong_answer_is_laid_on_both_sides(ledger: Ledger) -> None:
    for i in range(40):
        ledger.run(f"r{i}", success=i >= 8, source="label")
        ledger.call(f"r{i}", 1_000_000)
        measure(ledger, f"r{i}", cost=3_000_000, judge="label", right=i >= 2)
    price = Money(nano=10_000_000)
    found = judged(ledger, error_price=price)
    for side, errors, cost in ((found.cascade, 8, 40), (found.baseline, 2, 120)):
        assert side.with_errors is not None
        assert side.with_errors.known == errors
        assert side.with_errors.per_success.value == round(Decimal(cost + 10 * errors) / (40 - errors) / 1000, 12)
    spend = line_of(ledger, error_price=price).spend[0]
    assert spend.with_errors is not None
    assert spend.with_errors.per_success.value == Decimal("0.00375")
    with pytest.raises(InputError, match="--error-price is in 'EUR', and money was spent in USD"):
        line_of(ledger, error_price=Money(nano=1, currency="EUR"))


def test_a_task_nobody_answered_is_no_wrong_answer(ledger: Ledger) -> None:
    for i in range(40):
        status = "handed_off" if i < 5 else "accepted"
        ledger.run(f"r{i}", success=i >= 8, source="status" if i < 5 else "label", status=status)
        ledger.call(f"r{i}", 1_000_000)
    ledger.feedback("r0", True)  # a person put it right: a success that no error stands for
    spend = line_of(ledger, error_price=Money(nano=10_000_000)).spend[0]
    assert spend.with_errors is not None
    assert spend.with_errors.known == 3
    assert spend.with_errors.per_success.value == round(Decimal(40 + 30) / 33 / 1000, 12)


def test_errors_that_spot_checks_let_expect_are_priced_too(ledger: Ledger) -> None:
    for i in range(80):
        ledger.run(f"r{i}", propensity=0.5)
        ledger.call(f"r{i}", 1_000_000)
        if i < 40:
            ledger.spot_check(f"r{i}", right=i >= 4, propensity=0.5)
    spend = line_of(ledger, error_price=Money(nano=10_000_000)).spend[0]
    found = spend.with_errors
    assert found is not None
    assert (found.known, found.expected, found.unknown) == (4, 4.0, 0)
    assert found.per_success.value == round(Decimal(80 + 80) / 72 / 1000, 12)
    low, high = found.per_success.own_low, found.per_success.own_high
    assert low is not None
    assert high is not None
    assert low < found.per_success.value < high


def some_pairs(ledger: Ledger) -> None:
    ledger.config()
    for i in range(30):
        judge = {"judge": "label", "right": i % 4 > 0} if i % 3 else {"same": i % 2 == 0}
        ledger.run(f"r{i}", success=i % 5 > 0, source="label" if i % 3 else "validator")
        ledger.call(f"r{i}", 1_000 + i)
        measure(ledger, f"r{i}", 2_000 + 3 * i, **judge)
        if i % 6 == 0:
            ledger.feedback(f"r{i}", i % 12 == 0)


def test_postgresql_gives_the_same_savings(tmp_path: Path, postgres_url: str) -> None:
    found = []
    for made in (Ledger.on_disk(tmp_path), Ledger(postgres_url.replace("postgresql://", "postgresql+psycopg://"))):
        some_pairs(made)
        found.append(savings(made, error_price=Money(nano=500)))
        made.close()
    assert found[0] == found[1]
    assert found[0].judged is not None
    assert found[0].judged.by == {"label": 20, "feedback": 5}


def test_the_cost_by_step_and_by_model_sums_to_the_total_and_success_is_not_split(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label")
    for step, model, cost in (("a", "m", 5), ("a", "n", 7), ("b", "n", 11)):
        ledger.call("r", cost, step=step, model=model)
    measure(ledger, "r", 99)
    (spend,) = line_of(ledger).spend
    assert {name: money.nano for name, money in spend.by_step.items()} == {"a": 12, "b": 11}
    assert {name: money.nano for name, money in spend.by_model.items()} == {"m": 5, "n": 18}
    assert spend.total == Money(nano=23)
    with pytest.raises(InputError, match="it is of calls, and success belongs to whole runs"):
        line_of(ledger, by=("model",))


# -- measured by the cascade -----------------------------------------------------------------------------------------


async def measured(folder: Path, answers: Any, task: Task, **settings: Any) -> Any:
    """The baseline's row of one task, whose draft is A."""
    import sqlite3

    accept = {"policy": "p", "after": [{"name": "all", "then": "accept"}], "otherwise": "accept"}
    path = write_pipeline(folder / "p", baseline=1.0, policy=accept, **settings)
    clients = {"drafter": ScriptedModel(lambda _: A, name="drafter"),
               "validator": ScriptedModel(answers, name="validator")}
    async with Pipeline.load(path, store=f"sqlite:///{folder}/s.db", clients=clients) as pipeline:
        await pipeline.arun(task)
    with sqlite3.connect(folder / "s.db") as connection:
        return connection.execute('SELECT served, same, judge, "right", share FROM baseline').fetchall()


@pytest.mark.parametrize(("answer", "expected", "row"), [
    (A, A, (1, 1, "label", 1, 1.0)), (B, A, (1, 0, "label", 0, 1.0)), (B, None, (1, 0, None, None, 1.0)),
    ("no JSON at all", A, (0, None, "label", None, 1.0)),
])
async def test_what_the_validator_answers_alone_is_compared_and_not_kept(
    tmp_path: Path, answer: Any, expected: Any, row: tuple[Any, ...]
) -> None:
    task = Task(id="t", input={"text": "x"}, expected=expected)
    assert await measured(tmp_path, lambda _: answer, task) == [row]


async def test_a_validator_that_is_out_measures_nothing(tmp_path: Path) -> None:
    from orchestrator.errors import ServerFailed

    task = Task(id="t", input={"text": "x"}, expected=A)
    assert await measured(tmp_path, lambda _: ServerFailed("it broke"), task, validator={"retries": 0}) == []
