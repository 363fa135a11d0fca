"""`assess`: what a cascade would save, by request logs or shadow runs; measured on drafts that chose no threshold."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.errors import ConfigError, InputError
from orchestrator.pipeline import Pipeline
from orchestrator.quality.assessment.assess import assess
from orchestrator.quality.assessment.request_logs import BadLine, LoggedRequest, read_logs
from orchestrator.quality.assessment.savings import Served, measure, ratio
from orchestrator.records import Answer, Money, Request, Task
from orchestrator.scaffold import starters
from orchestrator.testing import ScriptedModel
from tests.assessments import USAGE, USER, assessed, log, pipeline, texts
from tests.calibrations import CERTIFIED, draft, drafter, said, validator
from tests.pipelines import write_pipeline


async def test_a_log_becomes_a_saving_with_an_interval_and_a_recommendation(tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(450, 150)))
    m = done.measured
    assert (done.drafted, done.drafts_right) == (600, 0.75)
    assert done.certificate.n + m.n == 600
    assert m.always == Money(nano=m.n * (100 * 3_000 + 20 * 15_000))
    assert m.cost is not None
    assert m.cost.low is not None
    assert m.cost.high is not None
    truth = 0.25 - 0.03 + (10 * 100 + 5 * 400) / 600_000  # three of a hundred may be accepted wrongly
    assert m.cost.low < truth < m.cost.high
    assert m.regret.value <= 0.05
    assert done.recommendation == "cascade"
    assert "saving of" in done.words
    assert done.words.splitlines()[-1].startswith("recommendation: cascade")
    assert "the last user message of each request became input.text" in done.words


async def test_nothing_is_written_beside_the_pipeline_and_the_validator_is_not_asked(tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    before = sorted(path.parent.rglob("*"))
    await assessed(path, log(tmp_path / "logs.jsonl", texts(450, 150)))
    assert sorted(path.parent.rglob("*")) == before


async def test_the_same_assessment_drafts_nothing_twice(tmp_path: Path) -> None:
    path, model = pipeline(tmp_path), drafter()
    logs = log(tmp_path / "logs.jsonl", texts(450, 150))
    first = await assessed(path, logs, model, sample=300)
    again = await assessed(path, logs, model, sample=300)
    assert first == again
    assert len(model.calls) == 300


async def test_a_confidence_that_does_not_tell_ends_in_always_validate(tmp_path: Path) -> None:
    def careless(request: Request) -> Answer:
        return said(draft(request).text, -0.01)

    logs = log(tmp_path / "logs.jsonl", texts(300, 300))
    done = await assessed(pipeline(tmp_path), logs, ScriptedModel(careless, name="drafter"))
    assert done.recommendation == "always_validate"
    assert done.measured.cost is not None
    assert done.measured.cost.value > 1.0


async def test_a_step_without_a_prompt_takes_the_logged_messages_as_they_are(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step=CERTIFIED)
    path.write_text(path.read_text().replace("  prompt: prompt.md\n", ""))
    model = drafter()
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(200, 0)), model)
    assert [m["role"] for m in model.calls[0].request.messages] == ["system", "user"]
    assert done.drafts_right == 1.0


async def test_a_prompt_of_several_fields_can_not_be_filled_from_a_log(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step=CERTIFIED)
    with pytest.raises(ConfigError, match="a logged request can't be turned into it"):
        await assessed(path, log(tmp_path / "logs.jsonl", ["x"]))


async def test_too_small_a_log_says_how_many_it_takes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"even without a loss it takes 76(?s:.*)drafts that agree with the answers"):
        await assessed(pipeline(tmp_path), log(tmp_path / "logs.jsonl", texts(60, 0)))


async def test_without_prices_shares_alone_are_shown(tmp_path: Path) -> None:
    logs = log(tmp_path / "logs.jsonl", texts(450, 150))
    rows = [orjson.loads(line) for line in logs.read_bytes().splitlines()]
    for row in rows:
        del row["response"]["usage"]
    logs.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    done = await assessed(pipeline(tmp_path), logs)
    assert done.measured.cost is None
    assert "600 of the logged requests have neither a cost nor usage" in done.words
    assert "shares only" in done.words
    assert done.recommendation == "cascade"


async def test_bad_lines_are_told_with_their_numbers_and_stop_nothing_unless_all_are(tmp_path: Path) -> None:
    logs = log(tmp_path / "logs.jsonl", texts(450, 150))
    logs.write_bytes(b"no\n" + logs.read_bytes() + orjson.dumps({"messages": USER, "answer": "not JSON"}) + b"\n")
    done = await assessed(pipeline(tmp_path), logs)
    assert [one.number for one in done.bad_lines] == [1, 602]
    assert "2 lines left out: 1 not JSON, 1 whose answer is not JSON (first: line 1: not JSON: " in done.words
    only = tmp_path / "bad.jsonl"
    only.write_bytes(b"no\n")
    with pytest.raises(InputError, match=r"no line that can be assessed.*line 1"):
        await assessed(tmp_path / "p/pipeline.yaml", only)


async def test_shadow_runs_feed_the_same_view(tmp_path: Path) -> None:
    path = pipeline(tmp_path, mode="shadow")
    with pytest.raises(InputError, match="holds no shadow run"):
        await assessed(path, None)
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline.load(path, store=f"sqlite:///{tmp_path / 's.db'}", clients=clients) as live:
        async for _ in live.amap(Task(input={"text": text}) for text in texts(450, 150)):
            pass
    done = await assessed(path, None)
    assert (done.source, done.drafts_right) == ("600 shadow runs", 0.75)
    assert done.recommendation == "cascade"
    assert done.measured.cost is not None


async def test_the_real_embedded_models_are_assessed_on_their_own_lines(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    home = starters()
    rows = (home / "examples/order_lines/data/held_out.jsonl").read_bytes().splitlines()[:240]
    tasks = [orjson.loads(row) for row in rows]
    logs = tmp_path / "logs.jsonl"
    logs.write_bytes(b"\n".join(
        orjson.dumps({"messages": [{"role": "user", "content": one["input"]["text"]}], "answer": one["expected"],
                      "usage": USAGE}) for one in tasks
    ))
    done = await assess(
        home / "pipelines/order_lines/pipeline.yaml", logs, store=f"sqlite:///{tmp_path / 's.db'}", max_regret=0.05
    )
    assert done.drafted == 240
    assert 0.8 < done.drafts_right < 1.0
    assert done.recommendation == "cascade"


# -- reading logs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"messages": USER, "response": "hi"}, "hi"),
        ({"messages": USER, "completion": {"choices": [{"message": {"content": "hi"}}]}}, "hi"),
        ({"messages": USER, "answer": {"label": "a"}}, '{"label": "a"}'),
        ({"messages": USER, "answer": ["a"]}, '["a"]'),
        ({"messages": [*USER, {"role": "assistant", "content": "hi"}]}, "hi"),
        ({"messages": USER, "response": {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}}, "hi"),
        ({"request": {"messages": USER}, "response": {"choices": [{"text": "hi"}]}}, "hi"),
    ],
)
def test_every_form_of_log_is_read(tmp_path: Path, row: Any, answer: str) -> None:
    (tmp_path / "l.jsonl").write_bytes(orjson.dumps(row))
    (found,) = read_logs(tmp_path / "l.jsonl")
    assert isinstance(found, LoggedRequest)
    assert (found.answer, list(found.messages)) == (answer, USER)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([1], "not list"),
        ({"messages": []}, "no `messages`"),
        ({"messages": USER}, "no answer"),
        ({"request": 3, "response": "x"}, "`request` is not"),
        ({"messages": USER, "response": {"choices": []}}, "the answer"),
        ({"messages": USER, "response": {"choices": [{"message": {"content": None, "tool_calls": []}}]}}, "no text"),
        ({"messages": USER, "answer": {"choices": [{"message": {"content": "h"}, "finish_reason": "length"}]}}, "cut"),
        ({"messages": [{"content": "x"}], "answer": "y"}, "no `messages`"),
    ],
)
def test_a_line_that_is_no_answered_request_is_told_with_its_number(tmp_path: Path, row: Any, why: str) -> None:
    (tmp_path / "l.jsonl").write_bytes(b"\n" + orjson.dumps(row))
    (found,) = read_logs(tmp_path / "l.jsonl")
    assert isinstance(found, BadLine)
    assert found.number == 2
    assert why in found.why


def test_usage_is_read_in_classes_that_sum_to_the_bill(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 30},
             "completion_tokens_details": {"reasoning_tokens": 20}}
    (tmp_path / "l.jsonl").write_bytes(orjson.dumps({"messages": USER, "answer": "x", "usage": usage, "cost": 0.5}))
    (found,) = read_logs(tmp_path / "l.jsonl")
    assert isinstance(found, LoggedRequest)
    assert found.usage is not None
    assert (found.usage.input, found.usage.cache_read, found.usage.output, found.usage.reasoning) == (70, 30, 30, 20)
    assert found.cost == Money(nano=500_000_000)


# -- the saving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "share", "spread"), [(60, 0.1, 0.05), (60, 0.5, 0.7), (200, 0.3, 1.0)])
def test_the_interval_of_the_cost_covers_the_truth_at_least_as_often_as_it_says(
    n: int, share: float, spread: float
) -> None:
    draw, covered, shown = random.Random(7), 0, 0
    for _ in range(400):
        bills = [math.exp(spread * draw.gauss(0.0, 1.0)) for _ in range(n)]
        paid = [draw.random() < share for _ in range(n)]
        found = ratio(bills, paid, [0.02 * bill for bill in bills])
        if found.low is not None and found.high is not None:
            shown += 1
            covered += found.low <= share + 0.02 <= found.high
    assert covered >= 0.94 * shown
    assert shown > 300


def test_a_bill_of_one_giant_request_gets_no_interval() -> None:
    assert ratio([1.0] * 50 + [1e6], [True] * 51).low is None


def test_costs_in_two_currencies_are_not_added() -> None:
    usd, eur = Money(nano=5), Money(nano=5, currency="EUR")
    served = [Served(accepted=True, regretted=False, draft_cost=usd, validator_cost=eur)] * 20
    assert measure(served).bill is None
