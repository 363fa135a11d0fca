"""What was said in a run, as far as it is kept: the task, drafts, answers, the value; and what its numbers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select

from orchestrator.config.closed_answers import closed_answers
from orchestrator.config.feature_names import ANSWER_PREFIX, compared_names
from orchestrator.config.pipeline import ContentConfig, StepConfig
from orchestrator.records import Features
from orchestrator.store.answers import unpack
from orchestrator.store.outcomes import contents_of
from orchestrator.store.retention import ERASED
from orchestrator.store.statements import table
from orchestrator.store.tables import AnswerRow

_answer = table(AnswerRow)


def said(connection: Connection, run: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """`contents` by kind (task, draft:STEP, value, …), the text of `answers` by call id where it waits to be read again
    (a cache, an open hand-off or spot check), and why no content is kept where there is none."""
    contents = contents_of(connection, [run["run_id"]]).get(run["run_id"], {})
    rows = connection.execute(select(_answer.c.call_id, _answer.c.answer).where(_answer.c.run_id == run["run_id"]))
    return {
        "contents": contents, "answers": {row.call_id: unpack(row.answer).text for row in rows},
        "not_kept": None if contents else _why_gone(run, body),
    }


def _why_gone(run: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    if run["task_digest"] == ERASED:
        return "erased by `orchestrator forget`"
    written = (body.get("pipeline") or {}).get("content") or {}
    keep = written.get("keep")
    if keep == "none":
        return "the pipeline says `content: {keep: none}`"
    days = ContentConfig().keep
    return f"`content: {{keep: {keep or f'{float(days) / 86400:g}d'}}}` is over"


class Meanings:
    """What the numbers of a run's drafts mean, from the configuration it ran under."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._features, self._files = body.get("features") or {}, body.get("steps") or {}
        self._written = {one["id"]: one for one in (body.get("pipeline") or {}).get("steps") or ()}

    def of(self, step: str, numbers: Sequence[float | None]) -> dict[str, Any]:
        """`features` as they are kept; `measured`, the same by the names that rules write; `answered`: what was
        answered where the schema allows a closed list only; and what is `compared` with the threshold."""
        features = dict(zip(self._features.get(step, ()), numbers, strict=False))
        compared = self._compared(step)
        return {
            "features": features, "compared": ((self._written.get(step) or {}).get("confidence") or {}).get("from"),
            "measured": {compared.get(name, name): value for name, value in features.items()},
            "answered": self._answered(step, features),
        }

    def _compared(self, step: str) -> Mapping[str, str]:
        try:
            return compared_names(StepConfig.model_validate(self._written[step]))
        except (KeyError, ValidationError):  # of another version, or none was kept
            return {}

    def _answered(self, step: str, features: Features) -> dict[str, Any]:
        found = {}
        for one in closed_answers((self._files.get(step) or {}).get("output")):
            place, values = features.get(one.name), [value for _, value in one.places]
            if place is not None and 0 <= place < len(values):
                field = one.name.removeprefix(ANSWER_PREFIX)
                found[field] = {"value": values[int(place)], "place": int(place), "of": len(values)}
        return found


def body_of(written: str | None) -> dict[str, Any]:
    """The stored configuration; empty where there is none."""
    return dict(json.loads(written)) if written else {}
