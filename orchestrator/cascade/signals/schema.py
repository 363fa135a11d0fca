"""`schema`: the draft is JSON and matches the output schema, and a pydantic model takes it where one is the output."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import orjson
from pydantic import BaseModel, ValidationError

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.config.plugins import source_digest
from orchestrator.config.schema import validator
from orchestrator.errors import ConfigError

MATCHES = Reading(True)


def _compile(options: Options, setting: Setting) -> Compiled:
    if setting.output_schema is None:
        return Compiled(now=_any_text)
    schema, model = dict(setting.output_schema), setting.output_model
    try:
        # `mask`: an error message would quote the draft, and reasons are kept where no content is
        valid = validator(schema, mask="it")
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ConfigError(f"the output schema is no JSON Schema: {error}") from error

    def measure(look: Look) -> Reading:
        if not look.draft.parsed:
            return Reading(False, False, "the draft is not JSON")
        if not valid.is_valid(look.draft.value):
            return Reading(False, False, _first_error(valid, look.draft.value))
        return MATCHES if model is None else _taken_by(model, look.draft.value)

    return Compiled(now=measure, meaning=schema if model is None else [schema, source_digest(model)])


def _any_text(look: Look) -> Reading:
    return MATCHES if look.draft.parsed else Reading(False, False, "the draft is empty")


def _taken_by(model: type[BaseModel], value: object) -> Reading:
    """By its validators, too. Of a refusal only the place and the kind: the words may quote the draft."""
    try:
        model.model_validate_json(orjson.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return Reading(False, False, f"{'.'.join(['value', *map(str, first['loc'])])}: {first['type']}"[:200])
    return MATCHES


def _first_error(validator: Any, value: object) -> str:
    error = next(iter(validator.iter_errors(value)))
    return f"{'.'.join(['value', *map(str, error.instance_path)])}: {error.message}"[:200]


KIND = Kind(Options, _compile)
