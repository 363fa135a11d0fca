"""No float near money: the types of everything that holds or handles an amount are walked, not trusted."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel
from sqlalchemy import BigInteger, Float, Numeric
from sqlmodel import SQLModel

import orchestrator.cascade
import orchestrator.config
import orchestrator.finance
import orchestrator.store
from orchestrator import records
from orchestrator.config import price_types, prices
from orchestrator.records import Money

MONEY = ("nano", "cost", "costs", "price", "amount", "bound", "spent", "saved", "savings", "billed", "allocated",
         "limit", "reserved", "overrun", "wasted", "waste", "charge", "rate_to")
"""Words of a name that make it an amount of money (`cost_nano`, `spent`, `allocated`)."""
STATISTICS = frozenset({
    "Cell.cost_squares", "Cell.cost_cubes", "RunSums.confidence_costs",
    "Confidences.costs", "Moments.cost_error", "_End.limit", "_End.of_cost",
})
"""Floats whose name has such a word: for the width of intervals alone; the figures themselves are exact."""


def modules(*packages: ModuleType) -> Iterator[ModuleType]:
    for package in packages:
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "worker" not in found.name:
                yield importlib.import_module(found.name)


def classes(*packages: ModuleType) -> list[type]:
    found = {
        value for module in modules(*packages) for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def mentions_float(annotation: Any) -> bool:
    """Is a float anywhere inside, whatever it is wrapped in?"""
    return annotation in (float, complex) or any(mentions_float(inner) for inner in get_args(annotation))


def is_money(name: str) -> bool:
    words = name.lower().strip("_").split("_")
    return any(word in MONEY for word in words) and words[-1] not in ("ratio", "share", "at", "s", "ms")


def hints(cls: type) -> dict[str, Any]:
    module = importlib.import_module(cls.__module__)
    names = {**vars(typing), **vars(records), **vars(module)}
    try:
        return get_type_hints(cls, globalns=names)
    except NameError:  # a name imported for type checking only: read as it is written
        return {name: float if "float" in str(kind) else kind for name, kind in inspect.get_annotations(cls).items()}


RECORDS = [
    cls for cls in classes(orchestrator.finance, orchestrator.store, orchestrator.cascade, orchestrator.config)
    if is_dataclass(cls) or (issubclass(cls, BaseModel) and not issubclass(cls, SQLModel))
] + [cls for cls in vars(records).values() if is_dataclass(cls) and inspect.isclass(cls)]


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_no_field_that_holds_money_is_a_float(cls: type) -> None:
    wrong = [
        name for name, kind in hints(cls).items()
        if is_money(name) and mentions_float(kind) and f"{cls.__name__}.{name}" not in STATISTICS
    ]
    assert not wrong, f"{cls.__name__}: {', '.join(wrong)}"


def test_every_column_of_money_is_a_64_bit_integer_and_no_column_of_tokens_a_float() -> None:
    columns = [column for table in SQLModel.metadata.tables.values() for column in table.columns]
    money = [column for column in columns if column.name.endswith("_nano")]
    assert len(money) >= 8
    assert [str(one) for one in money if not isinstance(one.type, BigInteger)] == []
    kinds = (Float, Numeric)
    others = [one for one in columns if is_money(one.name) or one.name.endswith(("_tokens", "tokens", "calls"))]
    assert [str(one) for one in others if isinstance(one.type, kinds)] == []


def test_an_amount_is_an_integer_and_a_price_a_decimal() -> None:
    kinds = get_type_hints(Money)
    assert (kinds["nano"], kinds["currency"]) == (int, str)
    for model in (price_types.TokenPrices, price_types.GpuHour, price_types.Above, prices.Rate, prices.PriceEntry):
        assert not [name for name, kind in get_type_hints(model).items() if mentions_float(kind)], model


def test_what_prices_and_sums_gives_integers() -> None:
    """Signatures too: nothing that computes money takes or gives a float, save moments of time."""
    from orchestrator.finance import convert, reprice

    functions = [
        *(one for one in vars(prices.PriceEntry).values() if inspect.isfunction(one)),
        *(one for module in (convert, reprice, price_types) for one in vars(module).values()
          if inspect.isfunction(one) and one.__module__ == module.__name__),
    ]
    for function in functions:
        if function.__name__.startswith("__"):
            continue
        named = get_type_hints(function, globalns={**vars(importlib.import_module(function.__module__)), "Any": Any})
        assert not [name for name, kind in named.items() if mentions_float(kind) and name != "at"], function.__name__


def test_the_exceptions_are_still_there() -> None:
    """A name that is gone must leave the list too."""
    names = {f"{cls.__name__}.{one.name}" for cls in RECORDS if is_dataclass(cls) for one in fields(cls)}
    assert set(STATISTICS) <= names
