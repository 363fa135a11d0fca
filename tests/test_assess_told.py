"""What `assess` says of its own figures: lines left out, drafts made before, what more requests could bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.errors import InputError
from orchestrator.quality.assessment.recommendation import could_accept
from orchestrator.quality.assessment.request_logs import BadLine, LoggedRequest, read_logs
from orchestrator.quality.records import Loss, Record
from orchestrator.records import Answer, Request
from orchestrator.testing import ScriptedModel
from tests.assessments import USER, assessed, log, pipeline, texts
from tests.calibrations import draft, drafter, said
from tests.pipelines import write_pipeline

OVERLOADED = {"error": {"type": "overloaded_error", "message": "overloaded"}}


def read(path: Path, row: Any) -> LoggedRequest | BadLine:
    path.write_bytes(orjson.dumps(row))
    (found,) = read_logs(path)
    return found


def more(logs: Path, *rows: Any) -> Path:
    logs.write_bytes(logs.read_bytes() + b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return logs


def cut(reason: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": '{"label":'}
    return {"messages": USER, "response": {"choices": [{"message": message, "finish_reason": reason}]}}


# -- lines that are left out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [
    {"messages": USER, "response": OVERLOADED},
    {"request": {"messages": USER}, "response": {"type": "error", "request_id": "r_1", **OVERLOADED}},
    {"messages": USER, "response": {"object": "error", "message": "overloaded", "code": 529}},
    {"messages": USER, "completion": {"error": "overloaded"}},
    {"messages": USER, "response": None, **OVERLOADED},
])
def test_a_response_that_is_an_error_is_no_answer(tmp_path: Path, row: Any) -> None:
    found = read(tmp_path / "l.jsonl", row)
    assert found == BadLine(
        1, "the response is an error, and no answer: 'overloaded'", "with an error as response"
    )


@pytest.mark.parametrize("row", [
    {"messages": USER, "answer": {"error": "E42"}},
    {"messages": USER, "response": {"error": "E42", "label": "a"}},
    {"messages": USER, "response": {"error": None, "type": "x"}},
    {"messages": USER, "response": '{"error": "E42"}', "error": None},
])
def test_a_value_may_have_an_error_of_its_own(tmp_path: Path, row: Any) -> None:
    assert isinstance(read(tmp_path / "l.jsonl", row), LoggedRequest)


async def test_lines_left_out_are_counted_by_reason_with_the_first_of_them(tmp_path: Path) -> None:
    logs = more(
        log(tmp_path / "logs.jsonl", texts(450, 150)), cut("length"), {"messages": USER, "response": OVERLOADED},
        {"messages": USER, "answer": {"label": "z"}}, {"messages": USER, "answer": "it is a"}, cut("length"),
    )
    done = await assessed(pipeline(tmp_path), logs)
    assert "4 lines left out: 2 cut short, 1 with an error as response, 1 whose answer is not JSON (first: line 601: " \
        "the answer was cut short (length))" in done.words.splitlines()
    assert done.lines_left_out == {
        "cut short": 2, "with an error as response": 1, "whose answer is not JSON": 1,
        "whose answer breaks the output schema": 1,
    }
    assert [one.number for one in done.bad_lines] == [601, 602, 603, 604, 605]
    assert done.drafted == 600


async def test_a_message_in_parts_of_text_is_read_and_one_with_an_image_is_left_out_by_its_name(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    parts = [[text("sure"), text("900")], [text("sure 901"), image], [image], [], [{"type": "text"}], [text(" ")], None]
    logs = more(log(tmp_path / "logs.jsonl", texts(450, 150)), *(
        {"request": {"messages": [{"role": "user", "content": content}]}, "response": '{"label":"a"}'}
        for content in parts
    ))
    model = drafter()
    done = await assessed(pipeline(tmp_path), logs, model)
    assert done.drafted == 601
    assert "sure\n900" in {str(call.request.messages[-1]["content"]).strip() for call in model.calls}
    assert done.lines_left_out == {"without a user message of plain text": 6}
    assert "6 lines left out: 6 without a user message of plain text (first: line 602: there is no user message of " \
        "plain text)" in done.words.splitlines()


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


async def test_an_answer_that_breaks_the_output_schema_can_equal_no_draft_and_is_left_out(tmp_path: Path) -> None:
    logs = more(log(tmp_path / "logs.jsonl", texts(450, 150)), *({"messages": USER, "answer": {"label": "z"}},) * 3)
    done = await assessed(pipeline(tmp_path), logs)
    (told,) = [line for line in done.words.splitlines() if "schema" in line]
    assert told.startswith("3 answers left out break the step's output schema (line 601: \"z\" is not one of ")
    assert (done.drafted, done.drafts_right) == (600, 0.75)


async def test_the_users_own_compare_may_read_an_answer_otherwise(tmp_path: Path) -> None:
    """As `calibrate` takes such labels."""
    compare = f"{__name__}:same_but_for_case"
    path = pipeline(tmp_path, step={"compare": compare}, allow_imports=[__name__])
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(450, 150), answer='{"label":"A"}'))
    assert done.drafts_right == 0.75
    assert done.lines_left_out == {}


def same_but_for_case(a: Any, b: Any) -> bool:
    return str(a["label"]).lower() == str(b["label"]).lower()


async def test_where_all_lines_are_left_out_the_error_says_why(tmp_path: Path) -> None:
    logs = log(tmp_path / "logs.jsonl", ["x", "y"], answer='{"label":"z"}')
    with pytest.raises(InputError, match=r"can be assessed; 2 answers left out break .*\(line 1: \"z\" is"):
        await assessed(pipeline(tmp_path), logs)


# -- drafts that were there before -------------------------------------------------------------------------------------


async def test_drafts_kept_from_before_are_told_and_another_revision_makes_new_ones(tmp_path: Path) -> None:
    path, logs = pipeline(tmp_path), log(tmp_path / "logs.jsonl", texts(450, 150))
    first = await assessed(path, logs, sample=300)
    assert first.kept == 0
    assert "kept from before" not in first.words
    model = drafter()
    done = await assessed(path, logs, model, sample=500)
    assert (done.drafted, done.kept, len(model.calls)) == (500, 300, 200)
    assert done.words.splitlines()[0].endswith(
        "500 drafts compared with the answers that were given, 300 of them kept from before"
    )
    assert "give the model another `revision:`" in done.words

    write_pipeline(path.parent, step={"confidence": {"from": "logprob.mean", "certificate": "c.json"}},
                   task="task.json", drafter={"revision": "2"})
    anew = drafter()
    assert (await assessed(path, logs, anew, sample=300)).kept == 0
    assert len(anew.calls) == 300


# -- what more requests could bring ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "share"), [("regret", 0.93), ("selective", 0.53)])
def test_the_outlook_is_the_lowest_threshold_within_the_bound_by_hindsight(loss: Loss, share: float) -> None:
    """Wrong are the sixth surest draft and the 54th, 64th, 74th, 84th and 94th of 100."""
    records = [
        Record(score=1.0 - i / 100, draft_ok=not (i == 5 or (i >= 50 and i % 10 == 3))) for i in range(100)
    ]
    assert could_accept(records, loss, 0.05 if loss == "regret" else 0.03) == share


def test_without_a_score_there_is_no_outlook() -> None:
    assert could_accept([], "regret", 0.1) == 0.0
    assert could_accept([Record(score=float("nan"), draft_ok=True)] * 9, "regret", 0.1) == 0.0


async def test_where_few_are_accepted_an_outlook_says_what_more_requests_could_bring(tmp_path: Path) -> None:
    """Of the surest drafts one in fifty is wrong: too many for so few requests."""
    def careless(request: Request) -> Answer:
        text = str(request.messages[-1]["content"])
        wrong = text.startswith("sure") and int(text.split()[1]) % 50 == 7
        return said('{"label":"b"}', -0.001) if wrong else draft(request)

    logs = log(tmp_path / "logs.jsonl", texts(300, 100))
    done = await assessed(pipeline(tmp_path), logs, ScriptedModel(careless, name="drafter"))
    assert done.certificate.coverage < 0.5
    assert done.could_accept > 0.7
    assert (
        f"it accepts {done.certificate.coverage:.1%} of those {done.certificate.n}: with many more requests about "
        f"{done.could_accept:.0%} could be accepted (by hindsight on these: an outlook, no guarantee)"
    ) in done.words


async def test_where_the_threshold_accepts_what_it_can_no_outlook_is_given(tmp_path: Path) -> None:
    done = await assessed(pipeline(tmp_path), log(tmp_path / "logs.jsonl", texts(450, 150)))
    assert "an outlook" not in done.words
