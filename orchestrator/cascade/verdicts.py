"""What is asked of the validator, and how its verdict is read: by its schema alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.cascade.draft import unfenced
from orchestrator.cascade.model import Model
from orchestrator.cascade.prompts import validator_messages
from orchestrator.cascade.run import Run
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.records import Answer, Request, Role

VERDICT_KEYS = frozenset({"verdict", "reasons", "value"})
ASKED_AGAIN = 1
"""How often an unreadable verdict is asked for once more, before it counts as rejected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A verdict as the validator wrote it, read by its schema alone."""

    verdict: str
    reasons: tuple[str, ...]
    value: Any
    answer: Answer


async def ask_for_verdict(
    run: Run, step: Step, rt: Runtime, model: Model, role: Role, request: Request, kinds: tuple[str, ...]
) -> Said | str:
    """The verdict; where it is unreadable even when asked for once more, why the last one was."""
    said: Said | str = ""
    for sample in range(ASKED_AGAIN + 1):
        asked = model.request(request.messages, request.schema, sample)
        answered = await rt.calls.ask(
            run, step.id, role, model, asked, cacheable=lambda a: isinstance(read_verdict(a, kinds), Said),
        )
        said = read_verdict(answered.answer, kinds)
        if isinstance(said, Said):
            break
    return said


def read_verdict(answer: Answer, kinds: tuple[str, ...]) -> Said | str:
    """The verdict in `answer`, if it is one object of the schema's keys and of the `kinds` asked for; else why not."""
    if answer.finish_reason != "stop":
        return f"the answer ended by {answer.finish_reason!r}"
    try:
        found = orjson.loads(unfenced(answer.text))
    except orjson.JSONDecodeError:
        return "it is not JSON"
    if not isinstance(found, dict):
        return f"it is no object but {type(found).__name__}"
    if found.get("verdict") not in kinds:
        return f"its `verdict` is none of {', '.join(kinds)}"
    if not set(found) <= VERDICT_KEYS:
        return f"it has keys besides {', '.join(sorted(VERDICT_KEYS))}"
    listed = found.get("reasons")
    reasons = tuple(str(r)[:500] for r in listed[:20]) if isinstance(listed, list) else ()
    return Said(verdict=found["verdict"], reasons=reasons, value=found.get("value"), answer=answer)


def verdict_request(
    run: Run, step: Step, rt: Runtime, model: Model, instructions: str, schema: dict[str, Any]
) -> Request:
    """The task's messages, the instructions, and the draft as fenced data."""
    draft = run.work.draft
    assert draft is not None, "judge and repair need a draft"
    said = draft.value if draft.parsed else draft.text
    messages = validator_messages(step.renderer.messages(run.view()), said, instructions, rt.store.secret)
    return model.request(messages, schema)


def redo_request(step: Step, model: Model, view: Mapping[str, Any], sample: int = 0) -> Request:
    """The step's task, asked of the validator as if there were no draft: by redo, spot checks and baselines."""
    return model.request(step.renderer.messages(view), step.loaded.output_schema, sample)
