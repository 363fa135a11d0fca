"""`schema`: the draft is JSON and matches the step's output schema."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.errors import ConfigError

MATCHES = Reading(True)


def _compile(options: Options, setting: Setting) -> Compiled:
    if setting.output_schema is None:
        return Compiled(now=_any_text)
    schema = dict(setting.output_schema)
    try:
        # `mask`: an error message would quote the draft, and reasons are kept where no content is
        validator = jsonschema_rs.validator_for(schema, mask="it", offline=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ConfigError(f"the output schema is no JSON Schema: {error}") from error

    def measure(look: Look) -> Reading:
        if not look.draft.parsed:
            return Reading(False, False, "the draft is not JSON")
        if validator.is_valid(look.draft.value):
            return MATCHES
        return Reading(False, False, _first_error(validator, look.draft.value))

    return Compiled(now=measure, meaning=schema)


def _any_text(look: Look) -> Reading:
    return MATCHES if look.draft.parsed else Reading(False, False, "the draft is empty")


def _first_error(validator: Any, value: object) -> str:
    error = next(iter(validator.iter_errors(value)))
    return f"{'.'.join(['value', *map(str, error.instance_path)])}: {error.message}"[:200]


KIND = Kind(Options, _compile)
