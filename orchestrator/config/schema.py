"""JSON Schemas named by a pipeline: a file beside it, or an allow-listed pydantic model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PydanticUserError

from orchestrator.config.document import read_json
from orchestrator.config.plugins import load_callable
from orchestrator.config.schema_shapes import references
from orchestrator.errors import ConfigError

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_import(reference: str) -> bool:
    """Is this `module:Name` rather than the path of a file?"""
    return bool(_REFERENCE.fullmatch(reference))


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON Schema from a file. References that leave the file are refused: nothing is fetched."""
    schema = read_json(path)
    if not isinstance(schema, dict):
        raise ConfigError(f"a JSON Schema is an object, not a {type(schema).__name__}", file=str(path))
    _check(schema, str(path))
    return schema


def imported_schema(reference: str, allow_imports: Sequence[str]) -> tuple[dict[str, Any], type[BaseModel]]:
    """The JSON Schema of a pydantic model, `module:Name`, and the model, if `allow_imports` lists its module or a
    package above it."""
    found: Any = load_callable(reference, allow_imports)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise ConfigError(f"{reference!r} is no pydantic model")
    try:
        schema = found.model_json_schema()
    except PydanticUserError as error:
        raise ConfigError(f"{reference!r} has no JSON Schema: {str(error).splitlines()[0]}") from None
    except AttributeError:
        raise ConfigError(f"{reference!r} has no fields: name a model of your own") from None
    _check(schema, reference)
    return schema, found


def validator(schema: Mapping[str, Any], *, mask: str | None = None) -> Any:
    """What checks values by `schema`, formats included (`date`, `email`, `uuid`: who writes one means it). With `mask`,
    messages have that word in place of what they would quote."""
    import jsonschema_rs

    return jsonschema_rs.validator_for(dict(schema), mask=mask, offline=True, validate_formats=True)


def _check(schema: dict[str, Any], name: str) -> None:
    import jsonschema_rs

    for reference in references(schema):
        if not reference.startswith("#"):
            raise ConfigError(
                f"$ref {reference!r} leaves the schema: write what it names under $defs", file=name, key="$ref"
            )
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise ConfigError(f"not a JSON Schema: {str(error).splitlines()[0]}", file=name) from None
