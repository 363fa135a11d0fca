"""What a report's total is made of, read from a ledger: models, days, budgets overrun, rented GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.errors import InputError
from orchestrator.finance.attention import findings
from orchestrator.finance.breakdown import Breakdown, Charge, Idle
from orchestrator.finance.charged import build_breakdown, converted
from orchestrator.finance.convert import utc_day
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.records import Money
from orchestrator.store.tables import Budget, Price
from tests.ledger import Ledger
from tests.test_focus import EMPTY, charge

DAY = 86400.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.on_disk(tmp_path)
    made.config()
    made.run("r", success=True, source="label", ended_at=9 * DAY)
    yield made
    made.close()


def breakdown_of(ledger: Ledger, **asked: Any) -> Breakdown:
    return build_breakdown(ledger, build_report(ledger, ReportQuery(**asked), now=99 * DAY))


def test_the_model_that_answered_is_the_one_in_the_sum(ledger: Ledger) -> None:
    ledger.call("r", 5, model="asked", model_answered="answered", output_tokens=3)
    ledger.call("r", 7, model="answered", role="redo", reasoning_tokens=2)
    (one,) = breakdown_of(ledger).by_model
    assert (one.group["model"], one.calls, one.cost) == ("answered", 2, Money(nano=12))
    assert one.tokens == {"input": 14, "output": 3, "reasoning": 2}


def test_baseline_and_calibration_stand_apart(ledger: Ledger) -> None:
    ledger.call("r", 5)
    ledger.call("r", 7, role="baseline")
    (one,) = breakdown_of(ledger).by_model
    assert (one.cost, one.apart) == (Money(nano=5), Money(nano=7))


def test_days_are_utc_days_and_count_what_is_known_of_their_runs(ledger: Ledger) -> None:
    ledger.run("late", success=None, ended_at=10 * DAY - 0.5)
    ledger.call("r", 5, ended_at=9 * DAY)
    ledger.call("r", 6, ended_at=10 * DAY)
    found = breakdown_of(ledger)
    assert [(one.group["day"], one.cost) for one in found.by_day] == [
        ("1970-01-10", Money(nano=5)), ("1970-01-11", Money(nano=6))]
    (count,) = found.runs
    assert (count.day, count.runs, count.successes, count.unknown) == (utc_day(9 * DAY), 2, 1, 1)


def test_a_refused_call_is_not_unpriced_and_an_unpriced_one_is_never_zero(ledger: Ledger) -> None:
    ledger.call("r", None, model="new", bound=None)
    ledger.call("r", None, model="new", input_tokens=0, bound=None, error="RequestRefused: 400")
    (one,) = breakdown_of(ledger).by_model
    assert (one.cost, one.currency, one.unpriced, one.calls) == (None, None, 1, 2)


@pytest.mark.parametrize(("scope", "shown"), [
    ("day:p:1970-01-10", True), ("day:p:1970-02-01", False), ("hour:pipeline=p:1970-01-10T05", True),
    ("month:*:1970-01", True), ("month:*:1970-02", False), ("total:*", True), ("task:r", False),
    ("day:p:1969-12-31", False), ("month:*:1969-12", False), ("hour:*:1969-12-31T23", False),
])
def test_a_budget_that_was_overrun_is_named_in_its_period(ledger: Ledger, scope: str, shown: bool) -> None:
    ledger.add(Budget, {"scope": scope, "currency": "USD", "limit_nano": 10, "spent_nano": 12, "reserved_nano": 0,
                        "overrun_nano": 2})
    found = breakdown_of(ledger, period=parse_period(month="1970-01")).attention
    assert [(one.subject, one.amounts) for one in found if one.kind == "overrun"] == (
        [(scope, (Money(nano=2),))] if shown else [])


def test_the_prices_that_calls_were_priced_by_are_kept_with_the_charges(ledger: Ledger) -> None:
    entry = PriceEntry.model_validate({"model": "m", "per_million": {"input": "1", "output": "2"}})
    ledger.add(Price, {"version": entry.version_id, "model": "m", "body_json": entry.body_json, "created_at": 1.0})
    ledger.call("r", 7, price_version=entry.version_id, provenance="priced")
    found = breakdown_of(ledger)
    assert PriceEntry.model_validate(found.prices[entry.version_id]) == entry


def test_the_bill_of_a_rented_gpu_is_said_beside_its_use() -> None:
    local = charge(model="q", allocated=Money(nano=5_000_000))
    idle = Idle(day=local.day, model="q", price_version="v", cost=Money(nano=2_000_000))
    (one,) = findings(EMPTY, (local,), (), (idle,))
    assert one.kind == "idle"
    assert one.amounts == (Money(nano=7_000_000),)
    assert "0.007000 USD" in one.words
    assert "0.002000 USD fell" in one.words


def test_a_total_in_another_currency_needs_a_rate_for_each_day() -> None:
    known: tuple[Charge, ...] = (charge(cost=Money(nano=3_000_000)), charge(cost=Money(nano=1), role="baseline"))
    rates = PriceBook.model_validate({"book": "b", "rates": [{"from": "USD", "to": "EUR", "rate": "0.5"}]}).rates
    assert converted(Breakdown(charges=known), "EUR", rates) == Money(nano=1_500_000, currency="EUR")
    with pytest.raises(InputError, match="no rate from USD to EUR"):
        converted(Breakdown(charges=known), "EUR", ())
