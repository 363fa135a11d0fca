"""`refusal`: the draft answers, instead of refusing, deflecting, or filling a field with a placeholder.

Only the beginning of a text, or a whole value, is looked at. A field that quotes the task's own words ("I can't help
myself", says the ticket) and a value that the output schema lists in an `enum` are no refusals.
"""

# ruff: noqa: RUF001 - characters that look like ASCII ones are what is folded here

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.cascade.signals.refusal_phrases import FILLERS, PLACEHOLDERS, REFUSALS
from orchestrator.records import Task

Found = Literal["refusal", "placeholder", "empty"]

HEAD = 240
"""Characters of a text that are looked at: a refusal comes first."""
MAX_STRINGS = 1_000
_SHORTEST_QUOTE = 3

_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "´": "'", "`": "'", "“": '"', "”": '"', "，": ",", "！": "!"})
_LEADING = re.compile(r"^[\s\"'*_#>~\-–—:.,;!()]+(?=\w)")
_TRAILING = " .!\"'*_"
_REFUSAL = re.compile("|".join(f"(?P<{code}>{'|'.join(phrases)})" for code, phrases in REFUSALS.items()))
_FILLER = re.compile("|".join(FILLERS))

Strings = Iterator[tuple[str, str, bool]]


class RefusalOptions(Options):
    """`allow`: values that are answers here, though they read like a placeholder ("unknown").

    `also`: further beginnings, in any case, that are refusals here ("please contact support").
    `empty`: whether an empty string in a required field counts.
    """

    allow: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    empty: bool = True


def normalised(text: str) -> str:
    """The beginning of `text`, as the phrases are written."""
    folded = unicodedata.normalize("NFKC", text[: 2 * HEAD].translate(_QUOTES)).casefold().translate(_QUOTES)
    return " ".join(_LEADING.sub("", folded).split())[:HEAD]


def is_deflection(text: str) -> bool:
    """Does an answer as a whole refuse, or is it empty or a placeholder? (A JSON document does not.)"""
    return _of_text(normalised(text)) is not None


def _of_text(head: str) -> tuple[Found, str] | None:
    if not head:
        return "empty", "is empty"
    refused = _REFUSAL.match(head)
    if refused is not None:
        return "refusal", f"reads like a refusal ({refused.lastgroup})"
    bare = head.strip(_TRAILING)
    if not bare or head in PLACEHOLDERS or bare in PLACEHOLDERS or _FILLER.match(head):
        return "placeholder", "is a placeholder"
    return None


def _compile(options: RefusalOptions, setting: Setting) -> Compiled:
    allowed = {normalised(a) for a in options.allow} | {normalised(v) for v in _listed(setting.output_schema)}
    also = tuple(normalised(a) for a in options.also)

    def found_in(text: str) -> tuple[Found, str] | None:
        head = normalised(text)
        if head in allowed:
            return None
        if also and head.startswith(also):
            return "refusal", "begins like a refusal listed in `also`"
        return _of_text(head)

    def measure(look: Look) -> Reading:
        if not look.draft.parsed or isinstance(look.draft.value, str):
            said = found_in(look.draft.value if look.draft.parsed else look.draft.text)
            return Reading(said[0], False, f"the answer {said[1]}") if said else Reading()
        strings = _strings("value", look.draft.value, setting.output_schema, False)
        for name, text, required in islice(strings, MAX_STRINGS):
            said = found_in(text)
            if said is None or _excused(said[0], text, required and options.empty, look.task):
                continue
            return Reading(said[0], False, f"{name} {said[1]}")
        return Reading()

    return Compiled(now=measure, meaning=sorted(allowed))


def _excused(found: Found, text: str, must_be_filled: bool, task: Task) -> bool:
    if found == "empty":
        return not must_be_filled
    words = text.strip().casefold()
    return len(words) >= _SHORTEST_QUOTE and any(words[:HEAD] in said.casefold() for said in _texts(task.input))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _strings(name: str, value: Any, schema: Any, required: bool) -> Strings:
    """(path, text, whether the schema requires it) of every string in a value."""
    known = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, str):
        yield name, value, required
    elif isinstance(value, Mapping):
        parts, wanted = known.get("properties", {}), known.get("required", ())
        for key, part in value.items():
            yield from _strings(f"{name}.{key}", part, parts.get(key), key in wanted)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _strings(f"{name}[{index}]", part, known.get("items"), False)


def _listed(schema: Any) -> Iterator[str]:
    """Strings that a schema allows by name, in any of its parts."""
    if isinstance(schema, Mapping):
        listed = schema.get("enum")
        for value in [*(listed if isinstance(listed, list) else []), schema.get("const")]:
            if isinstance(value, str):
                yield value
        for part in schema.values():
            yield from _listed(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _listed(part)


KIND = Kind(RefusalOptions, _compile)
