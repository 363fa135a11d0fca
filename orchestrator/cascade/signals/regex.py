"""`regex`: a pattern occurs (or, with `absent: true`, does not) in the text or in one field.

Patterns are those of Rust's `regex`: no look-around, no back-references, and therefore linear in the text,
whatever a model writes. Anchor with ^ and $ for a match of the whole.
"""

from __future__ import annotations

from typing import Annotated

import jsonschema_rs
from pydantic import Field

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting, at_path
from orchestrator.errors import ConfigError

MAX_CHARS = 1_000_000


class RegexOptions(Options):
    """`field` is a dotted path into the value; without one, the draft's text is searched.

    `flags`: i (any case), m (^ and $ at each line), s (. takes line ends), x (spaces in the pattern are nothing).
    """

    pattern: Annotated[str, Field(min_length=1, max_length=1000)]
    field: str | None = None
    flags: Annotated[str, Field(pattern="^[imsx]*$")] = ""
    absent: bool = False


def _compile(options: RegexOptions, setting: Setting) -> Compiled:
    pattern = f"(?{options.flags}){options.pattern}" if options.flags else options.pattern
    try:
        searched = jsonschema_rs.validator_for(
            {"type": "string", "pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise ConfigError(
            f"{options.pattern!r} is no pattern of Rust's regex (no look-around, no back-references)"
        ) from error
    path = tuple(options.field.split(".")) if options.field else None
    where = f"value.{options.field}" if options.field else "the text"

    def measure(look: Look) -> Reading:
        found = look.draft.text if path is None else at_path(look.draft.value, path)
        if not isinstance(found, str):
            return Reading(None, False, f"{where} is no text")
        if len(found) > MAX_CHARS:
            return Reading(None, False, f"{where} has more than {MAX_CHARS} characters")
        occurs = searched.is_valid(found)
        if occurs is not options.absent:
            return Reading(occurs)
        return Reading(occurs, False, f"{where} {'has' if occurs else 'lacks'} the pattern {options.pattern!r}")

    return Compiled(now=measure)


KIND = Kind(RegexOptions, _compile)
