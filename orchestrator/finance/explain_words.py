"""What was said in a run, for people: one line each, cut where it is long."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 300
"""Characters of a text that are shown, unless all of it is asked for."""
_MOVES = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What ends a line, commands a terminal, or turns the direction of writing."""


class Quoted:
    """Quotes what was said in a run, to `most` characters each; None: whole."""

    def __init__(self, said: Mapping[str, Any], most: int | None) -> None:
        self._contents, self._answers, self._most = said["contents"], said["answers"], most
        self._not_kept = said["not_kept"]

    def task(self) -> Iterator[str]:
        task = self._contents.get("task")
        if task is not None:
            yield f"  id: {self._text(task.get('id'))}"
            yield f"  input: {self._text(task.get('input'))}"
            if task.get("meta"):
                yield f"  meta: {self._text(task['meta'])}"
        elif self._not_kept:
            yield f"  what was said is not kept: {self._not_kept}"
        else:
            yield "  its input is not kept"

    def of_step(self, step: str, status: str) -> Iterator[str]:
        """Its draft and its value; an accepted draft is the value. Of a pipeline's only step that is `value`."""
        draft, value = f"draft:{step}", f"value:{step}"
        value = value if value in self._contents else "value"
        if value in self._contents and status == "accepted":
            yield f"  the draft, served: {self._text(self._contents[value])}"
            return
        if draft in self._contents:
            yield f"  the draft: {self._text(self._contents[draft])}"
        if value in self._contents:
            whose = status if status == "approved" else f"the validator's, {status}"
            yield f"  served ({whose}): {self._text(self._contents[value])}"

    def resolved(self) -> Iterator[str]:
        if "resolved" in self._contents:
            yield f"a person answered: {self._text(self._contents['resolved'])}"

    def answer(self, call_id: str) -> Iterator[str]:
        """What one call came back with."""
        text = self._answers.get(call_id)
        if text is not None:
            yield f"answered: {self._text(_read(text))}"

    def _text(self, value: Any) -> str:
        """As JSON on one line."""
        whole = json.dumps(value, ensure_ascii=False)
        if self._most is None or len(whole) <= self._most:
            return whole
        return f"{whole[: self._most]}… ({len(whole):,} characters; --full shows them)"


def printable(line: str) -> str:
    """The line as a terminal may have it, whoever wrote it: characters that it would obey are written out."""
    return _MOVES.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
