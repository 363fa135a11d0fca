"""What every kind of signal is made of: its options, how it is compiled, and what one reading gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator.cascade.compare import Compare
from orchestrator.config.pipeline import Name, Strict
from orchestrator.declared_fields import DeclaredFields
from orchestrator.records import Draft, Json, Task


class Options(Strict):
    """What every signal takes. `required` None is the kind's own default; a `proof` decides success by itself."""

    name: Name | None = None
    required: bool | None = None
    proof: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What a signal is given: the draft, its task, and all samples of this attempt (the draft among them)."""

    draft: Draft
    task: Task
    samples: Sequence[Draft]


@dataclass(frozen=True, slots=True)
class Reading:
    """What it found. `reason` is kept in the ledger: it names fields and rules, and quotes no content."""

    value: Json = None
    ok: bool = True
    reason: str = ""


Measure = Callable[[Look], Reading]
MeasureLater = Callable[[Look], Awaitable[Reading]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What of the step and the pipeline a signal is compiled with."""

    output_schema: Mapping[str, Json] | None
    output_model: type[BaseModel] | None
    allow_imports: Sequence[str]
    compare: Compare


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One signal at work. Exactly one of `now` and `later` is set. `required` is the default of what was written.

    `meaning` is what else than its options changes what it measures (a schema, a function's source).
    """

    now: Measure | None = None
    later: MeasureLater | None = None
    required: bool = True
    samples: int = 1
    needs_logprobs: bool = False
    meaning: Json = None
    check: Callable[[DeclaredFields], list[str]] = field(default=lambda fields: [])


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of signal: the model of its options and how it is compiled."""

    options: type[Options]
    compile: Callable[[Any, Setting], Compiled]


def at_path(value: Json, path: Sequence[str]) -> Json:
    """The part of a JSON value at dotted names; None where there is none."""
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value
