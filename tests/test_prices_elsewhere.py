"""What goes wrong elsewhere (seen in public code and issue threads), each tried here on the real way of a call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Outcome, Pipeline, Task
from orchestrator.cascade.given import run_of
from orchestrator.cascade.keys import FORMAT_OVERHEAD, TOKENS_OVERHEAD, asked_tier, upper_bound
from orchestrator.cascade.pricing import Pricing
from orchestrator.cascade.reservation import Budgets
from orchestrator.config.pipeline import ModelConfig
from orchestrator.config.prices import PriceBook
from orchestrator.errors import CallTimedOut, UnpricedCall
from orchestrator.models.faults import from_status
from orchestrator.models.usage import normalise
from orchestrator.records import Answer, Call, Money, Request, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.loopback import Loopback
from tests.pipelines import PRICES, dump, write_pipeline
from tests.stores import budget_of, calls_of, claim, intent, line, settlement, usd

DRAFTER = PriceBook.model_validate(PRICES).prices[0]


async def served(
    folder: Path, plan: Sequence[str], text: str = "x", prices: dict[str, Any] = PRICES, **drafter: Any
) -> Outcome:
    """One task by a drafter over real connections; what it was billed stands in `calls`."""
    async with Loopback(plan=plan, models=("drafter", "validator")) as server:
        model = {"endpoints": [server.url], "retries": 2, **drafter}
        path = write_pipeline(folder / "p", drafter=model, validator={"endpoints": [server.url]})
        dump(folder / "p" / "prices.yaml", prices)
        async with Pipeline.load(path, store="memory:") as pipeline:
            return await pipeline.arun(Task(id="t", input={"text": text}))


async def answered(folder: Path, usage: Usage, **told: Any) -> Call:
    """The call of a drafter that told this usage."""
    answer = Answer(text='{"label":"a"}', finish_reason="stop", usage=usage, model=told.pop("model", "drafter"), **told)
    drafter, validator = ScriptedModel(lambda _: answer, name="drafter"), ScriptedModel(lambda _: {"label": "a"})
    clients = {"drafter": drafter, "validator": validator}
    async with Pipeline.load(write_pipeline(folder / "p"), store="memory:", clients=clients) as pipeline:
        return (await pipeline.arun(Task(id="t", input={"text": "x"}))).calls[0]


async def test_tokens_are_the_providers_and_never_words_times_a_factor(tmp_path: Path) -> None:
    draft = (await served(tmp_path, ["ok"], text="one two three " * 50)).calls[0]
    assert draft.usage is not None
    assert draft.provenance == "priced"
    assert draft.cost == DRAFTER.cost(draft.usage)
    assert draft.usage.output == 12  # pieces the server counted; the answer is one word


async def test_where_a_provider_tells_no_usage_it_is_inferred_and_marked(tmp_path: Path) -> None:
    draft = (await served(tmp_path, ["no-usage"])).calls[0]
    assert draft.usage is not None
    assert draft.usage.estimated
    assert (draft.provenance, draft.cost) == ("estimated", DRAFTER.cost(draft.usage))


@pytest.mark.parametrize("name", ["drafter-mini", "drafte", "Drafter", "drafter-2026-01-01"])
async def test_a_model_of_a_longer_shorter_or_dated_name_is_not_priced_by_its_prefix(tmp_path: Path, name: str) -> None:
    draft = await answered(tmp_path, Usage(input=10, output=1), model=name)
    assert (draft.cost, draft.provenance) == (None, "unpriced")


async def test_an_unknown_model_costs_neither_nothing_nor_what_a_frontier_model_does(tmp_path: Path) -> None:
    outcome = await served(tmp_path, ["other-model"])
    assert outcome.calls[0].cost is None
    assert outcome.cost_usd is None  # unknown is null for the whole task, not the sum of the rest


@pytest.mark.parametrize("names", [
    ("prompt_tokens_details.cached_tokens",), ("cache_read_input_tokens",), ("prompt_cache_hit_tokens",),
    ("cached_tokens",), ("prompt_tokens_details.cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens",
                         "cached_tokens"),
])
def test_nested_cached_tokens_are_counted_once_under_whatever_names(names: tuple[str, ...]) -> None:
    told: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}}
    for name in names:
        outer, _, inner = name.partition(".")
        told[outer] = {inner: 64} if inner else 64
    assert normalise(told) == Usage(input=36, cache_read=64, output=1)


@pytest.mark.parametrize("kind", ["openai", "vllm"])
async def test_usage_is_not_lost_when_a_stream_is_cut(tmp_path: Path, kind: str) -> None:
    outcome = await served(tmp_path, ["cut-stream", "ok"], use=f"{kind}:drafter", stream=True)
    cut, retried = outcome.calls[:2]
    assert cut.usage is not None
    assert (cut.provenance, cut.cost) == ("estimated", DRAFTER.cost(cut.usage))
    assert cut.usage.total > 0
    assert (retried.attempt, retried.provenance) == (2, "priced")


async def test_a_call_that_timed_out_may_be_billed_and_so_it_is_never_free(tmp_path: Path) -> None:
    outcome = await served(tmp_path, ["hang", "ok"], timeout="3s")  # the other answer comes within that
    assert [(call.state, call.cost is None) for call in outcome.calls[:2]] == [("unsettled", True), ("settled", False)]


async def test_a_gateway_that_gave_up_waiting_leaves_a_bill_that_may_come(tmp_path: Path) -> None:
    assert isinstance(from_status(504, {}, b"", "http://x"), CallTimedOut)
    outcome = await served(tmp_path, ["503", "ok"])
    assert outcome.calls[0].cost == usd(0)  # the provider itself refused


async def test_an_answer_that_can_not_be_used_is_paid_for_all_the_same(tmp_path: Path) -> None:
    empty = (await served(tmp_path, ["empty-choices", "ok"])).calls[0]
    assert empty.usage is not None
    assert (empty.provenance, empty.cost) == ("priced", DRAFTER.cost(empty.usage))


@pytest.mark.parametrize("wrong", [{"usage": Usage(input=-5, output=1)}, {"cost": usd(-1)}])
async def test_negative_tokens_are_no_bill(tmp_path: Path, wrong: dict[str, Any]) -> None:
    call = await answered(tmp_path, **{"usage": Usage(input=1, output=1), **wrong})
    assert (call.state, call.cost) == ("unsettled", None)
    assert "BadAnswer: model 'drafter' told" in str(call.error)


async def test_a_batch_is_charged_once_however_often_its_result_is_delivered(store: Store) -> None:
    entry = PriceBook.model_validate({"book": "b", "prices": [
        {"model": "m", "per_million": {"input": 2, "output": 8}, "tiers": {"batch": {"input": 1, "output": 4}}},
    ]}).prices[0]
    usage = Usage(input=1000, output=100)
    cost = entry.cost(usage, "batch")
    assert cost.nano == 1000 * 1000 + 100 * 4000  # half of the standard price, once
    await store.claim([claim()])
    await store.intend(intent(bound=usd(9_000_000), budgets=(line(10_000_000),)))
    for _ in range(3):
        await store.settle(settlement(usage=usage, tier="batch", cost=cost, costs=entry.costs(usage, "batch")))
    [call] = calls_of(store, "r1")
    assert call.cost == cost
    budget = budget_of(store, line(1).scope)
    assert budget is not None
    assert (budget.spent, budget.reserved) == (cost, usd(0))


@pytest.mark.parametrize("tier", ["batch", "flex", "priority", "other"])
async def test_a_tier_without_a_price_of_its_own_is_unknown_and_not_standard(tmp_path: Path, tier: Any) -> None:
    draft = await answered(tmp_path, Usage(input=10, output=1), tier=tier)
    assert (draft.cost, draft.provenance) == (None, "unpriced")


# -- the bound that budgets reserve -----------------------------------------------------------------------------------

CONFIG = ModelConfig.model_validate({"use": "openai:m", "location": "remote"})


def asking(content: Any, **more: Any) -> Request:
    return Request(messages=[{"role": "user", "content": content}], max_tokens=100, **more)


@pytest.mark.parametrize("part", [
    {"type": "image_url", "image_url": {"url": "https://example.org/map.png"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "file", "file": {"file_id": "file-1"}}, "text",
])
def test_what_is_no_text_has_no_bound(part: Any) -> None:
    assert upper_bound(asking([{"type": "text", "text": "what is this?"}, part]), CONFIG) is None


async def test_an_image_is_refused_under_a_budget(tmp_path: Path) -> None:
    """No prompt template makes one today; a hook or a later door may."""
    clients = {"drafter": ScriptedModel([], name="drafter"), "validator": ScriptedModel([])}
    path = write_pipeline(tmp_path / "p", budget={"per_day": "1 USD"})
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        rt = await pipeline.runtime()
        model, book, now = rt.steps[0].drafter, rt.loaded.book, datetime.now(UTC).timestamp()
        run, budgets = run_of(Task(id="t", input={"text": "x"}), now), Budgets("labels", rt.config.budget)
    request = asking([{"type": "image_url", "image_url": {"url": "https://example.org/map.png"}}])
    pricing = Pricing(book)
    bound = pricing.bound(model, request, upper_bound(request, model.config), now)
    assert bound is None
    with pytest.raises(UnpricedCall, match="can't be bounded"):
        budgets.lines(run, model, bound, now)
    text = asking("plain")
    assert isinstance(pricing.bound(model, text, upper_bound(text, model.config), now), Money)


def test_the_bound_counts_all_that_is_sent_and_every_answer_asked_for() -> None:
    plain = upper_bound(asking("é" * 10), CONFIG)
    assert plain is not None
    assert plain.input >= 20 + TOKENS_OVERHEAD
    assert plain.output == 100
    with_tools = upper_bound(asking("é" * 10, extra={"tools": ["x" * 500], "n": 3, "max_tokens": 200}), CONFIG)
    assert with_tools is not None
    assert with_tools.input >= plain.input + 500 + FORMAT_OVERHEAD - TOKENS_OVERHEAD
    assert with_tools.output == 3 * 200
    assert upper_bound(asking("x", extra={"max_tokens": None}), CONFIG) is None


def test_the_tier_asked_for_is_bounded_too() -> None:
    assert asked_tier(asking("x"), CONFIG) is None
    assert asked_tier(asking("x", extra={"service_tier": "auto"}), CONFIG) is None
    asks = CONFIG.model_copy(update={"extra_body": {"service_tier": "priority"}})
    assert asked_tier(asking("x"), asks) == "priority"
    assert DRAFTER.bound(Usage(input=1), "priority") is None  # no price for it: refused under a budget
