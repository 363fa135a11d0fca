"""Frozen records as JSON types and back, and their JSON Schema: by their type hints alone, so that none is forgotten.

Money is an exact decimal string beside its currency, a time ISO 8601, what is not known null. A statistic keeps nine
significant digits: the rest is the processor's, not the ledger's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from orchestrator.errors import InputError
from orchestrator.records import Money


def encode(value: Any) -> Any:
    """`value` as JSON types. Raises ValueError for a number that is not finite: no figure of a report is."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, Money):
        return {"amount": plain_decimal(value.amount), "currency": value.currency}
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, date):  # or a time
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: encode(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [encode(one) for one in value]
    if is_dataclass(value):
        return {name: encode(getattr(value, name)) for name in _names(value.__class__)}
    raise TypeError(f"{value!r} has no form in JSON")


def figure(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no figure")
    return float(f"{value:.9g}")


def plain_decimal(value: Decimal) -> str:
    """Without an exponent and without trailing zeros."""
    return f"{value.normalize():f}"


def decode(kind: Any, value: Any) -> Any:
    """What `encode` made of a `kind`. A field that is missing has its default; one that is unknown is left alone.

    Raises InputError where `value` is no `kind`.
    """
    try:
        return _decoder(kind)(value)
    except (KeyError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        raise InputError(f"{str(value)[:80]!r} is no {getattr(kind, '__name__', kind)} of a report: {error}") from error


@cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    """What reads a `kind`, made once: a month may hold a hundred thousand charges."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        read = _decoder(next(one for one in inner if one is not NoneType))
        return lambda value: None if value is None else read(value)
    if origin is Literal:
        return lambda value: inner[inner.index(value)]
    if origin is tuple:
        each = _decoder(inner[0])
        return lambda value: tuple(map(each, value))
    if origin is not None and issubclass(origin, Mapping):
        of = _decoder(inner[1])
        return lambda value: {key: of(one) for key, one in value.items()}
    if kind is Money:
        return lambda value: Money(nano=int(Decimal(value["amount"]).scaleb(9)), currency=value["currency"])
    if kind in (datetime, date):
        return lambda value: kind.fromisoformat(value)
    if is_dataclass(kind):
        return _record_decoder(kind)
    return _as_it_is if kind is Any else kind


def _record_decoder(kind: Any) -> Callable[[Any], Any]:
    parts = [(name, _decoder(hint)) for name, hint in _hints(kind).items()]
    return lambda value: kind(**{name: read(value[name]) for name, read in parts if name in value})


def _as_it_is(value: Any) -> Any:
    return value


def schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of what `encode` makes of a `kind`; records are put into `definitions` and referred to."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [{"type": "null"} if one is NoneType else schema_of(one, definitions) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(inner[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(inner[1], definitions)}
    if kind is Money:
        text = {"type": "string"}
        definitions["Money"] = {
            "type": "object", "properties": {"amount": {**text, "pattern": DECIMAL}, "currency": text},
            "required": ["amount", "currency"], "additionalProperties": False,
        }
        return {"$ref": "#/$defs/Money"}
    if is_dataclass(kind):
        name = str(getattr(kind, "__name__", ""))
        if name not in definitions:
            definitions[name] = _of_record(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    return dict(_SIMPLE[kind])


DECIMAL = r"^-?[0-9]+(\.[0-9]+)?$"
_SIMPLE: Mapping[Any, Mapping[str, str]] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    Decimal: {"type": "string", "pattern": DECIMAL}, date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"}, Any: {},
}


def _of_record(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = _hints(kind)
    words = " ".join((kind.__doc__ or "").split())
    required = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    return {
        "type": "object", "description": words, "required": required,
        "properties": {name: schema_of(hint, definitions) for name, hint in hints.items()},
    }


@cache
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))  # type: ignore[arg-type]  # a dataclass


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}  # type: ignore[arg-type]  # a dataclass
