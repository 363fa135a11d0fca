"""`orchestrator budget`, `budget:` of a pipeline file, and what a pipeline under a budget does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.check import check_pipeline
from orchestrator.cli import run_command
from orchestrator.config.budget import BudgetConfig, Who
from orchestrator.errors import ConfigError
from orchestrator.records import Answer, Request, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline
from tests.stores import claim, config, intent, settlement, usd

A = Answer(text='{"label":"a"}', finish_reason="stop", usage=Usage(input=10, output=5), model="drafter")
"""Costs 3,000 billionths."""
ACCEPTS: dict[str, Any] = {"policy": "p", "before": [], "after": [], "otherwise": "accept"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store that has seen tenant acme of pipeline p, in cost centre CC."""
    place = f"sqlite:///{tmp_path}/s.db"

    async def fill() -> None:
        store = await Store.open(place)
        await store.record_config(config())
        await store.claim([claim("r1", tenant="acme")])
        await store.intend(intent("k1", bound=usd(500_000_000)))
        await store.settle(settlement("k1", cost=usd(250_000_000), ended_at=store._clock()))
        await store.aclose()

    asyncio.run(fill())
    return place


def shown(capsys: pytest.CaptureFixture[str], url: str, *options: str) -> Any:
    capsys.readouterr()
    assert run_command(["budget", "show", "--json", "--store", url, *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_budget_is_set_shown_and_removed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["budget", "set", "tenant:acme", "--per-month", "2 USD", "--total", "9USD", "--soft", "10%"]
    assert run_command([*command, "--store", url]) == 0
    month, total = shown(capsys, url)
    assert (month["who"], month["span"], month["source"]) == ("tenant:acme", "month", "store")
    assert [month[k]["amount"] for k in ("limit", "soft", "spent", "reserved", "left", "overrun")] == \
        ["2", "0.2", "0.25", "0", "1.75", "0"]
    assert month["state"] == "past soft limit"
    assert month["resets_at"].endswith("-01T00:00:00Z")
    assert (total["resets_at"], total["bucket"], total["state"]) == (None, "", "open")
    assert run_command(["budget", "show", "--store", url]) == 0
    table = capsys.readouterr().out
    assert "tenant:acme" in table
    assert "past soft limit" in table
    assert run_command(["budget", "remove", "tenant:acme", "--total", "--store", url]) == 0
    assert [one["span"] for one in shown(capsys, url)] == ["month"]
    assert run_command(["budget", "remove", "tenant:acme", "--store", url]) == 0
    assert shown(capsys, url) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "tenant:acme", "--per-day", "-5USD"], "-5USD"),
        (["set", "tenant:acme", "--per-day", "5 XYZ"], "'XYZ' is no currency"),
        (["set", "tenant:acme", "--per-day", "5"], "'5' is not an amount of money"),
        (["set", "tenant:acme", "--per-day", "5 USD", "--soft", "120%"], "'120%' is not a share: write a"),
        (["set", "tenant:acme", "--per-day", "5 USD", "--soft", "0%"], "above 0% and below 100%"),
        (["set", "tenant:acme", "--per-day", "5 USD", "--soft", "80"], "'80' is not a share: write 80% or 0.8"),
        (["set", "tenant:acme"], "give a limit"),
        (["set", "tenat:acme", "--per-day", "5 USD"], "'tenat:acme' is not all, pipeline:NAME"),
        (["set", "tenant:amce", "--per-day", "5 USD"], "did you mean 'acme'?"),
        (["set", "cost_center:CD", "--per-day", "5 USD"], "seen no cost center 'CD'"),
        (["remove", "tenant:acme"], "'tenant:acme' has no such limit"),
    ],
)
def test_wrong_input_is_named_and_changes_nothing(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run_command(["budget", *arguments, "--store", url]) == 2
    assert words in capsys.readouterr().err
    assert shown(capsys, url) == []


def test_a_budget_may_be_set_before_its_first_call_if_that_is_said(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["budget", "set", "tenant:yet to come", "--per-day", "0 USD", "--new", "--store", url]) == 0
    (found,) = shown(capsys, url)
    assert (found["who"], found["spent"]["amount"], found["state"]) == ("tenant:yet to come", "0", "spent")


# -- the pipeline's file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"per_day": "5 USD", "tenants": {"per_month": "5 EUR"}}, "`per_day:` and `tenants.per_month:` are in two"),
        ({"per_hour": "5 USD", "per_task": "5 EUR"}, "`per_hour:` and `per_task:` are in two currencies"),
        ({"per_task": "5 USD", "soft": "80%"}, "`soft:` warns of a limit by the hour"),
        ({"soft": "80%"}, "`soft:` warns"),
        ({"per_day": "5 USD", "soft": "80"}, "'80' is not a share: write 80% or 0.8"),
        ({"per_day": "-5 USD"}, "'-5 USD' is not an amount"),
        ({"per_day": "5 QQQ"}, "'QQQ' is no currency"),
        ({"per_week": "5 USD"}, "per_week"),
    ],
)
def test_a_wrong_budget_of_a_file_is_refused_when_it_is_loaded(
    tmp_path: Path, budget: dict[str, Any], words: str
) -> None:
    path = write_pipeline(tmp_path / "p", budget=budget)
    with pytest.raises(ConfigError, match=words.replace("`", ".")):
        Pipeline.load(path, store="memory:")


def test_a_budget_in_a_currency_that_the_prices_do_not_have_is_told_by_check(tmp_path: Path) -> None:
    report = check_pipeline(write_pipeline(tmp_path / "p", budget={"per_day": "5 EUR"}))
    words = [finding.message for finding in report.findings if finding.level == "error"]
    assert words == [f"{name!r} is priced in USD: under a `budget:` in EUR every call of it is refused"
                     for name in ("drafter", "validator")]


def both(answer: Callable[[Request], Any]) -> dict[str, ScriptedModel]:
    return {"drafter": ScriptedModel(answer, name="drafter"), "validator": ScriptedModel([], name="validator")}


async def test_a_pipeline_reserves_in_every_span_of_its_file_and_for_each_tenant(tmp_path: Path) -> None:
    budget = {"per_hour": "1 USD", "per_day": "2 USD", "per_month": "3 USD", "total": "4 USD", "per_task": "1 USD",
              "soft": "50%", "tenants": {"per_day": "0.5 USD"}}
    path = write_pipeline(tmp_path / "p", policy=ACCEPTS, budget=budget)
    store = await Store.open(f"sqlite:///{tmp_path}/s.db")
    async with Pipeline.load(path, store=store, clients=both(lambda _: A)) as pipeline:
        for tenant in ("a", "b c", "b c"):
            await pipeline.arun(Task(input={"text": tenant}, meta={"tenant": tenant}))
        found = {(one.who, one.span): (one.limit.amount, one.spent.nano) for one in await store.budgets()}
    await store.aclose()
    assert found == {
        ("pipeline:labels", "hour"): (1, 9_000), ("pipeline:labels", "day"): (2, 9_000),
        ("pipeline:labels", "month"): (3, 9_000), ("pipeline:labels", "total"): (4, 9_000),
        ("pipeline:labels tenant:a", "day"): (found["pipeline:labels tenant:a", "day"][0], 3_000),
        ("pipeline:labels tenant:b c", "day"): (found["pipeline:labels tenant:a", "day"][0], 6_000),
    }
    assert float(found["pipeline:labels tenant:a", "day"][0]) == 0.5


@pytest.mark.parametrize(("when_spent", "status"), [("hand_off", "handed_off"), ("fail", "failed")])
async def test_a_limit_of_the_store_stops_a_running_pipeline_as_when_spent_says(
    tmp_path: Path, when_spent: str, status: str
) -> None:
    clients = both(lambda _: A)
    path = write_pipeline(
        tmp_path / "p", policy=ACCEPTS, budget={"when_spent": when_spent}, cost_center="CC 9"
    )
    store = await Store.open(f"sqlite:///{tmp_path}/s.db")
    other = await Store.open(f"sqlite:///{tmp_path}/s.db")
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        first = await pipeline.arun(Task(input={"text": "1"}, meta={"tenant": "acme"}))
        await other.set_budget(Who("cost_center", "CC 9"), [("day", usd(10), None)])
        second = await pipeline.arun(Task(input={"text": "2"}, meta={"tenant": "acme"}))
        await other.remove_budget(Who("cost_center", "CC 9"), ["day"])
        third = await pipeline.arun(Task(input={"text": "3"}, meta={"tenant": "acme"}))
    assert [first.status, second.status, third.status] == ["accepted", status, "accepted"]
    assert second.decision is not None
    for words in ("day:cost_center=CC%209:", "limit 0.00000001 USD", "spent 0.000003 USD", "reserved 0 USD",
                  "it resets at"):
        assert words in second.decision.explanation
    assert len(clients["drafter"].calls) == 2
    await store.aclose()
    await other.aclose()


async def test_calls_wait_for_room_that_reservations_hold_and_are_refused_where_it_is_spent(tmp_path: Path) -> None:
    """Each call reserves about thirty times what it costs. The limit has room for two reservations, and for the costs
    of more than thirty calls: so many are answered, at most two at once."""
    flying, most = 0, 0

    class Watched(ScriptedModel):
        async def complete(self, request: Request, **given: Any) -> Answer:
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            for _ in range(5):
                await asyncio.sleep(0)
            flying -= 1
            return await super().complete(request, **given)

    clients = {"drafter": Watched(lambda _: A, name="drafter"), "validator": ScriptedModel([], name="validator")}
    path = write_pipeline(tmp_path / "p", policy=ACCEPTS, budget={"per_month": "0.0002 USD"})
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        tasks = [Task(id=str(i), input={"text": "x"}) for i in range(80)]
        outcomes = [outcome async for outcome in pipeline.amap(tasks, concurrency=16)]
        (budget,) = await (await pipeline.astore()).budgets()
    accepted = sum(outcome.status == "accepted" for outcome in outcomes)
    assert most <= 2
    assert 30 <= accepted < 80
    assert {outcome.status for outcome in outcomes} == {"accepted", "handed_off"}
    assert (budget.spent, budget.reserved) == (usd(3_000 * accepted), usd(0))


async def test_check_warns_of_a_budget_that_is_spent(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=ACCEPTS, budget={"per_day": "0.0002 USD", "soft": "1%"})
    url = f"sqlite:///{tmp_path}/s.db"
    async with Pipeline.load(path, store=url, clients=both(lambda _: A)) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "1"}))
    assert outcome.status == "accepted"
    found = [f for f in check_pipeline(path, store=url).findings if f.where == "budget pipeline:labels"]
    assert len(found) == 1
    assert found[0].message.startswith("past soft limit: 0.000003 USD of 0.0002 USD by the day; it resets at")


def test_a_budget_without_limits_limits_nothing() -> None:
    assert not BudgetConfig().limited
    assert BudgetConfig.model_validate({"tenants": {"total": "1 EUR"}}).currency == "EUR"
