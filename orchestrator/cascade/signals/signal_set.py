"""From the entries of `signals:` in a pipeline to measurements of a draft."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from traceback import extract_tb
from typing import Any

from pydantic import BaseModel
from pydantic import ValidationError as Invalid

from orchestrator.canonical import canonical
from orchestrator.cascade.compare import Compare, compile_compare
from orchestrator.cascade.signals import (
    agreement,
    arithmetic,
    finish,
    length,
    logprob,
    python,
    refusal,
    regex,
    schema,
)
from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.config.checked import nearest
from orchestrator.declared_fields import DeclaredFields
from orchestrator.errors import ConfigError, ExpressionError
from orchestrator.records import Draft, Json, Signal, Task

KINDS: dict[str, Kind] = {
    "schema": schema.KIND,
    "logprob": logprob.KIND,
    "finish": finish.KIND,
    "length": length.KIND,
    "refusal": refusal.KIND,
    "arithmetic": arithmetic.KIND,
    "regex": regex.KIND,
    "agreement": agreement.KIND,
    "python": python.KIND,
}
"""Every kind of signal there is, by the name a pipeline writes."""

_VERSION = 2
_LOGPROB_PARTS = frozenset({"mean", "min", "q10", "q25", "q50", "margin_mean", "margin_min"})


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    kind: str
    options: Options
    compiled: Compiled

    @property
    def required(self) -> bool:
        return self.compiled.required if self.options.required is None else self.options.required


@dataclass(frozen=True, slots=True)
class SignalSet:
    """The signals of one step. `samples` drafts are needed; `fingerprint_json` says what is measured."""

    _named: tuple[_Named, ...]
    names: tuple[str, ...]
    needs_logprobs: bool
    samples: int
    needs_await: bool
    fingerprint_json: bytes

    @property
    def required(self) -> frozenset[str]:
        """The names of those without which no rule accepts a draft."""
        return frozenset(one.name for one in self._named if one.required)

    async def measure(self, draft: Draft, task: Task, samples: Sequence[Draft] = ()) -> dict[str, Signal]:
        """Every signal by name, in the order written. `samples` are all drafts of the attempt, this one among them.

        A signal that raises is one that is not ok.
        """
        look = Look(draft, task, samples)
        if not self.needs_await:
            return {one.name: _now(one, look) for one in self._named}
        found = await asyncio.gather(*(_later(one, look) for one in self._named))
        return {signal.name: signal for signal in found}

    def measure_sync(self, draft: Draft, task: Task, samples: Sequence[Draft] = ()) -> dict[str, Signal]:
        """The same outside an event loop; only where `needs_await` is False."""
        if self.needs_await:
            raise RuntimeError("one of the signals is asynchronous: await measure() instead")
        look = Look(draft, task, samples)
        return {one.name: _now(one, look) for one in self._named}

    def check(self, fields: DeclaredFields) -> list[str]:
        """What is wrong with the signals under the declared fields: their expressions, and a missing `schema`."""
        found = [f"signal {one.name!r}: {problem}" for one in self._named for problem in one.compiled.check(fields)]
        if fields.value is not None and all(one.kind != "schema" for one in self._named):
            found.append("`signals:` lacks schema: a draft that breaks the step's output schema may be accepted")
        return found

    def confidence_problem(self, path: str) -> str | None:
        """Why `path` (as in `confidence: {from: logprob.mean}`) can't be what the threshold is compared with."""
        name, _, rest = path.partition(".")
        one = next((n for n in self._named if n.name == name), None)
        if one is None:
            return f"`confidence: {{from: {path}}}` names no signal of this step{nearest(name, self.names)}"
        if one.kind == "logprob" and rest.removeprefix("span.") not in _LOGPROB_PARTS:
            return f"`confidence: {{from: {path}}}`: {name} has no {rest!r}{nearest(rest, sorted(_LOGPROB_PARTS))}"
        if one.kind in ("schema", "finish", "refusal", "regex", "arithmetic"):
            return f"`confidence: {{from: {path}}}`: {name} says yes or no, and a threshold needs a number"
        return None


def compile_signals(
    entries: Sequence[str | Mapping[str, Mapping[str, Any]]], *, output_schema: Mapping[str, Json] | None = None,
    output_model: type[BaseModel] | None = None, allow_imports: Sequence[str] = (), compare: Compare | None = None,
) -> SignalSet:
    """Compile the entries of `signals:`: a kind's name, or {kind: {option: value}}.

    `compare` is what `agreement` compares samples by (default exact). Raises ConfigError on an unknown kind or option,
    two signals of one name, or what a kind can't be compiled from.
    """
    setting = Setting(
        output_schema=output_schema, output_model=output_model, allow_imports=allow_imports,
        compare=compare or compile_compare("exact"),
    )
    named = tuple(_named(entry, setting) for entry in entries)
    names = tuple(one.name for one in named)
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two signals are called {name!r}: give each its own `name:`", key="signals")
    fingerprint = canonical([_VERSION, [_meaning(one) for one in named]])
    return SignalSet(
        named, names, needs_logprobs=any(one.compiled.needs_logprobs for one in named),
        samples=max((one.compiled.samples for one in named), default=1),
        needs_await=any(one.compiled.later is not None for one in named), fingerprint_json=fingerprint,
    )


def _named(entry: str | Mapping[str, Mapping[str, Any]], setting: Setting) -> _Named:
    word, given = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    kind = KINDS.get(word)
    if kind is None:
        raise ConfigError(f"there is no signal {word!r}{nearest(word, sorted(KINDS))}", key="signals")
    try:
        options = kind.options.model_validate(dict(given or {}))
        if word == "schema" and options.required is False:
            raise ConfigError("it is always required: a draft that breaks its schema is never accepted")
        return _Named(options.name or word, word, options, kind.compile(options, setting))
    except Invalid as error:
        raise ConfigError(f"signal {word!r}: {_fault(kind, error)}", key="signals") from None
    except (ConfigError, ExpressionError) as error:
        raise ConfigError(f"signal {word!r}: {error}", key="signals", hint=error.hint or None) from error


def _fault(kind: Kind, error: Invalid) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown option {key!r}{nearest(key, sorted(kind.options.model_fields))}"
    if first["type"] == "missing":
        return f"the option {key!r} is missing"
    return f"{key}: {first['msg'].removeprefix('Value error, ')} (it is {first['input']!r})"


def _meaning(one: _Named) -> list[Json]:
    return [one.name, one.kind, one.options.model_dump(mode="json"), one.compiled.meaning]


def _now(one: _Named, look: Look) -> Signal:
    started = perf_counter_ns()
    assert one.compiled.now is not None
    try:
        reading = one.compiled.now(look)
    except Exception as error:  # noqa: BLE001 - a signal that raised is a signal that is not ok
        reading = _raised(error)
    return _signal(one, reading, started)


async def _later(one: _Named, look: Look) -> Signal:
    if one.compiled.later is None:
        return _now(one, look)
    started = perf_counter_ns()
    try:
        reading = await one.compiled.later(look)
    except Exception as error:  # noqa: BLE001 - the same
        reading = _raised(error)
    return _signal(one, reading, started)


def _signal(one: _Named, reading: Reading, started: int) -> Signal:
    return Signal(
        name=one.name, value=reading.value, ok=reading.ok, reason=reading.reason,
        time_ms=(perf_counter_ns() - started) / 1e6, required=one.required, proof=one.options.proof,
    )


def _raised(error: Exception) -> Reading:
    """Where it raised, not what it said: a message may quote the draft."""
    last = extract_tb(error.__traceback__)[-1]
    return Reading(None, False, f"raised {type(error).__name__} in {last.name}, line {last.lineno}")
