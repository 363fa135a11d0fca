"""The embedded runtime, on the weights the example ships."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import CallTimedOut, ConfigError, ContextOverflow, RequestRefused
from orchestrator.models.client import ModelClient
from orchestrator.models.embedded import EmbeddedModel, to_answer
from orchestrator.models.embedded_engine import Generated, conforms
from orchestrator.models.embedded_worker import Done
from orchestrator.records import Answer, Request
from tests.live_drafter import EXAMPLE, PIPELINE, draft_request

FOLDER = EXAMPLE / "models" / "drafter"
LINES = [json.loads(line) for line in (EXAMPLE / "data" / "held_out.jsonl").read_text().splitlines()[:48]]


def config(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"use": f"embedded:{FOLDER}", "location": "local", **changes})


@pytest.fixture
async def model() -> AsyncIterator[EmbeddedModel]:
    client = EmbeddedModel(str(FOLDER), config=config())
    yield client
    await client.aclose()


def ask(model: EmbeddedModel, request: Request, timeout_s: float = 120.0) -> Awaitable[Answer]:
    return model.complete(request, call_id="c", endpoint="in-process", timeout_s=timeout_s)


async def in_batches(model: EmbeddedModel, requests: Sequence[Request]) -> list[Answer]:
    return await asyncio.gather(*(ask(model, request) for request in requests))


def said(answer: Answer) -> tuple[object, ...]:
    return answer.text, answer.finish_reason, answer.usage, answer.logprobs, answer.value_logprobs


def output_schema(**changes: Any) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((PIPELINE / "output.json").read_text())
    schema["properties"].update(changes)
    return schema


async def test_it_is_a_model_client_that_connects_nowhere(model: EmbeddedModel) -> None:
    assert isinstance(model, ModelClient)
    assert (model.name, model.location, model.addresses, model.endpoints) == ("drafter", "local", (), ("in-process",))
    (probe,) = await model.probe()
    assert probe.ok
    assert probe.logprobs
    assert "onnxruntime-genai" in probe.protocol


async def test_most_held_out_lines_are_drafted_right_and_confidence_tells_which(model: EmbeddedModel) -> None:
    answers = await in_batches(model, [draft_request(line) for line in LINES])
    right = [json.loads(a.text) == line["expected"] for a, line in zip(answers, LINES, strict=True)]
    assert sum(right) >= 0.7 * len(LINES)
    least = [a.logprobs.q0 for a in answers if a.logprobs]
    wrong_ones = [q for q, ok in zip(least, right, strict=True) if not ok]
    right_ones = [q for q, ok in zip(least, right, strict=True) if ok]
    assert sum(wrong_ones) / len(wrong_ones) < sum(right_ones) / len(right_ones)


async def test_usage_counts_the_end_mark_and_logprobs_do_not(model: EmbeddedModel) -> None:
    answer = await ask(model, draft_request(LINES[0]))
    assert answer.finish_reason == "stop"
    assert answer.logprobs is not None
    assert answer.value_logprobs is not None
    assert answer.usage.output == answer.logprobs.n + 1
    assert answer.value_logprobs.n < answer.logprobs.n
    assert answer.logprobs.margin_min is not None
    assert answer.logprobs.margin_min >= 0  # greedy: the likeliest token was chosen
    assert answer.latency_ms > 0


async def test_a_greedy_answer_is_the_same_alone_and_in_any_company(model: EmbeddedModel) -> None:
    requests = [draft_request(line) for line in LINES]
    alone = [await ask(model, request) for request in requests[:12]]
    together = await in_batches(model, requests)
    reversed_order = await in_batches(model, requests[:20][::-1])
    assert [said(a) for a in together[:12]] == [said(a) for a in alone]
    assert [said(a) for a in reversed_order[::-1]][:12] == [said(a) for a in alone]


async def test_a_draw_depends_on_its_seed_and_sample_only(model: EmbeddedModel) -> None:
    def drawn(i: int, sample: int = 0) -> Request:
        return draft_request(LINES[i], temperature=1.5, seed=11, sample=sample)

    alone = [await ask(model, drawn(i)) for i in range(6)]
    mixed = await in_batches(model, [drawn(i) for i in range(6)] + [draft_request(line) for line in LINES[:20]])
    assert [said(a) for a in mixed[:6]] == [said(a) for a in alone]
    others = await in_batches(model, [drawn(i, sample=1) for i in range(6)])
    assert [a.text for a in others] != [a.text for a in alone]


async def test_a_cold_draw_is_the_greedy_answer(model: EmbeddedModel) -> None:
    greedy, cold = await in_batches(model, [draft_request(LINES[0]), draft_request(LINES[0], temperature=0.001)])
    assert said(cold) == said(greedy)


async def test_a_schema_the_free_answer_matches_changes_nothing(model: EmbeddedModel) -> None:
    free, guided = await in_batches(model, [draft_request(LINES[0]), draft_request(LINES[0], schema=output_schema())])
    assert said(guided) == said(free)


async def test_a_schema_the_free_answer_breaks_is_enforced_for_that_row_alone(model: EmbeddedModel) -> None:
    swedish = output_schema(currency={"enum": ["SEK"]})
    requests = [draft_request(line, schema=swedish if i % 2 else output_schema()) for i, line in enumerate(LINES[:8])]
    free = await in_batches(model, [draft_request(line) for line in LINES[:8]])
    answers = await in_batches(model, requests)
    assert [said(a) for a in answers[::2]] == [said(a) for a in free[::2]]
    assert {json.loads(a.text)["currency"] for a in answers[1::2]} == {"SEK"}
    again = await ask(model, requests[1])
    assert said(again) == said(answers[1])


async def test_structured_false_leaves_the_answer_free(model: EmbeddedModel) -> None:
    loose = EmbeddedModel(str(FOLDER), config=config(structured=False))
    answer = await ask(loose, draft_request(LINES[0], schema=output_schema(currency={"enum": ["SEK"]})))
    await loose.aclose()
    assert json.loads(answer.text)["currency"] != "SEK"


async def test_a_schema_the_grammar_does_not_know_is_said_to_be_only_checked(
    model: EmbeddedModel, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = output_schema(currency={"not": {"const": "USD"}})
    answer = await ask(model, draft_request(LINES[0], schema=unknown))
    assert json.loads(answer.text)["currency"] == "USD"
    assert "only checked, not enforced" in caplog.text


async def test_max_tokens_and_stop_end_an_answer(model: EmbeddedModel) -> None:
    changes: list[dict[str, Any]] = [{}, {"max_tokens": 5}, {"stop": (',"qty"',)}]
    whole, short, stopped = await in_batches(model, [draft_request(LINES[0], **change) for change in changes])
    assert (short.finish_reason, short.usage.output) == ("length", 5)
    assert whole.text.startswith(short.text)
    assert (stopped.finish_reason, stopped.text) == ("stop", whole.text.partition(',"qty"')[0])


async def test_a_request_longer_than_the_context_is_an_overflow_that_never_ran(model: EmbeddedModel) -> None:
    with pytest.raises(ContextOverflow, match="context of") as caught:
        await ask(model, draft_request({"input": {"text": "7 " * 3000}}))
    assert not caught.value.sent


async def test_a_long_neighbour_takes_no_room_from_a_row(model: EmbeddedModel) -> None:
    """Rows of a batch share one length: prompt of the longest and max_tokens of the greediest have to fit together."""
    long = draft_request({"input": {"text": "7 " * 300}}, max_tokens=8)
    greedy = draft_request(LINES[0], max_tokens=900)
    alone = await ask(model, greedy)
    _, together = await in_batches(model, [long, greedy])
    assert said(together) == said(alone)


async def test_a_call_that_takes_too_long_is_timed_out_and_leaves_the_model_usable(model: EmbeddedModel) -> None:
    with pytest.raises(CallTimedOut):
        await ask(model, draft_request(LINES[0]), timeout_s=0.0)
    assert (await ask(model, draft_request(LINES[0]))).finish_reason == "stop"


async def test_a_cancelled_call_does_not_disturb_its_batch(model: EmbeddedModel) -> None:
    kept, dropped = (asyncio.ensure_future(ask(model, draft_request(LINES[i]))) for i in (0, 1))
    await asyncio.sleep(0)
    dropped.cancel()
    assert (await kept).finish_reason == "stop"
    with pytest.raises(asyncio.CancelledError):
        await dropped


async def test_closing_cancels_what_waits_and_a_later_call_starts_anew(model: EmbeddedModel) -> None:
    waiting = [asyncio.ensure_future(ask(model, draft_request(line))) for line in LINES]
    await asyncio.sleep(0)
    await model.aclose()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    assert all(isinstance(result, asyncio.CancelledError | Answer) for result in results)
    assert (await ask(model, draft_request(LINES[0]))).finish_reason == "stop"


async def test_messages_the_template_refuses_are_refused_unsent(model: EmbeddedModel) -> None:
    with pytest.raises(RequestRefused, match="template") as caught:
        await ask(model, Request(messages=[{"content": "no role"}]))
    assert not caught.value.sent


def test_the_revision_follows_the_weights(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "drafter")
    same = EmbeddedModel(str(copy), config=config()).revision
    assert same == EmbeddedModel(str(FOLDER), config=config()).revision
    with (copy / "model.onnx.data").open("r+b") as weights:
        weights.write(b"\1")
    assert EmbeddedModel(str(copy), config=config()).revision != same
    assert EmbeddedModel(str(copy), config=config(revision="pinned")).revision == "pinned"


async def test_weights_that_do_not_load_are_refused_to_every_caller(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "broken")
    (copy / "model.onnx").write_bytes(b"not a model")
    model = EmbeddedModel(str(copy), config=config())
    for _ in range(2):
        with pytest.raises(RequestRefused, match="can't be loaded"):
            await ask(model, draft_request(LINES[0]))
    await model.aclose()


@pytest.mark.parametrize(("made", "said"), [(False, "is not a folder"), (True, "holds no genai_config.json")])
def test_a_folder_without_a_model_is_a_config_error(tmp_path: Path, made: bool, said: str) -> None:
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    with pytest.raises(ConfigError, match=said):
        EmbeddedModel(str(folder), config=config())


def test_a_missing_extra_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="onnxruntime-genai") as caught:
        EmbeddedModel(str(FOLDER), config=config())
    assert "draftgate[embedded]" in caught.value.hint


@pytest.mark.parametrize(
    ("pieces", "finish", "text", "reasoning"),
    [
        (["<think>", "hm", "</think>", "\n\n", "{}"], "stop", "{}", 3),
        (["hm", "</think>", "{}"], "stop", "{}", 2),  # templates that open the thought themselves
        (["<think>", "hm", "hm"], "length", "", 3),
        (["{", "}"], "stop", "{}", 0),
    ],
)
def test_a_thought_is_billed_as_reasoning_and_is_no_part_of_the_answer(
    pieces: list[str], finish: str, text: str, reasoning: int
) -> None:
    ended = int(finish == "stop")  # the end mark counts as a token
    made = Generated(
        count=len(pieces) + ended, pieces=pieces, logprobs=[-0.5] * len(pieces), seconds=[-1.0] * len(pieces),
        finish_reason=finish,
    )
    request = Request(messages=[], thinking="high", logprobs=True)
    answer = to_answer(Done(made, 7), request, "m", latency_ms=1.0)
    assert (answer.text, answer.usage.reasoning) == (text, reasoning)
    assert answer.usage.output == len(pieces) + ended - reasoning
    assert answer.usage.total == 7 + len(pieces) + ended
    assert (answer.logprobs.n if answer.logprobs else 0) == len(pieces) - reasoning


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats(allow_nan=False) | st.lists(st.text())))
def test_an_object_conforms_where_the_schema_takes_it_and_never_when_cut(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert conforms(text, '{"type": "object"}')
    assert not conforms(text, '{"type": "array"}')
    assert not conforms(text[:-1], "{}")


def test_a_remote_reference_in_a_schema_is_never_fetched() -> None:
    with pytest.raises(Exception, match="not followed"):
        conforms("1", '{"$ref": "http://127.0.0.1:9/schema.json"}')
