"""Where a task can go: every address a pipeline can reach, and what keeps a task home if a field is missing.

**A rule that protects by a field protects nothing where the field is misspelt**: the case is played through, and shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.check.finding import Finding
from orchestrator.config.addresses import configured_addresses, host_of, is_local, networks
from orchestrator.config.loader import LoadedPipeline, LoadedStep
from orchestrator.config.schema import validator
from orchestrator.config.secrets import shown_address
from orchestrator.config.telemetry import addresses, wanted
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.records import Location

if TYPE_CHECKING:
    from orchestrator.cascade.policy_views import BeforeDecision
    from orchestrator.models.client import ModelClient

_META_FIELD = re.compile(r"""task\s*\.\s*meta\s*\.\s*([A-Za-z_]\w*)(?:\s*==\s*["']([^"']*)["'])?""")
_OTHER_VOWEL = str.maketrans("aeiou", "eaeuo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`address` is scheme, host and port; `verdict` says what it is: in-process, loopback, in local_networks, …"""

    model: str
    location: Location
    address: str
    verdict: str


def reachable_addresses(loaded: LoadedPipeline, clients: Mapping[str, ModelClient]) -> Iterator[Address]:
    """Every address that a model of the pipeline may connect to, and the hook that is told of a lapse; nothing else of
    a run opens connections."""
    for name, model in loaded.config.models.items():
        client = clients.get(name)
        found = client.addresses if client is not None else configured_addresses(model)
        for address in found or ("none",):
            shown = shown_address(address) if "://" in address else address
            verdict = _verdict(address, loaded) if found else "in this process"
            yield Address(model=name, location=model.location, address=shown, verdict=verdict)
    yield from _of_hook(loaded)
    yield from _of_telemetry(loaded)


def _of_telemetry(loaded: LoadedPipeline) -> Iterator[Address]:
    telemetry = wanted(loaded.config.telemetry)
    for url in () if telemetry is None else addresses(telemetry):
        verdict = _verdict(url, loaded)
        location: Location = "local" if verdict in ("loopback", "in local_networks") else "remote"
        yield Address(model="telemetry", location=location, address=shown_address(url), verdict=verdict)


def _of_hook(loaded: LoadedPipeline) -> Iterator[Address]:
    hook = loaded.config.on_lapse
    if hook is None:
        return
    location: Location = "local" if loaded.config.residency == "local" else "remote"
    if hook.webhook is not None:
        shown, verdict = shown_address(hook.webhook), _verdict(hook.webhook, loaded)
    else:
        shown, verdict = (hook.command or ("",))[0], "a program: what it contacts is its own affair"
    yield Address(model="on_lapse", location=location, address=shown, verdict=verdict)


def residency_findings(loaded: LoadedPipeline) -> Iterator[Finding]:
    """For each step, what each case of `meta` forbids; a warning where a near miss protects nothing."""
    remote = sorted(name for name, model in loaded.config.models.items() if model.location == "remote")
    if not remote:
        yield Finding("info", "", "every model is local: no task leaves, whatever its fields say")
        return
    for step in loaded.steps:
        fields = _protecting_fields(step)
        always = any(rule.forbid and rule.when is None and rule.guard is None for rule in step.policy.before)
        if always:
            yield Finding("info", f"step {step.config.id}", "the policy forbids remote models for every task")
        elif not fields:
            words = f"no rule forbids remote models by a field of meta: every task may go to {', '.join(remote)}"
            yield Finding("info", f"step {step.config.id}", words)
        for field, value in ({} if always else fields).items():
            yield from _cases(loaded, step, field, value, remote)


def misspelt(field: str) -> str:
    """`residancy` for `residency`: one vowel wrong, or where there is none the last letter missing."""
    at = max((i for i, letter in enumerate(field[1:-1], 1) if letter in "aeiou"), default=None)
    return field[:-1] + "x" if at is None else field[:at] + field[at].translate(_OTHER_VOWEL) + field[at + 1 :]


def _cases(
    loaded: LoadedPipeline, step: LoadedStep, field: str, value: str, remote: list[str]
) -> Iterator[Finding]:
    for meta, near_miss in (({}, False), ({field: value}, False), ({misspelt(field): value}, True),
                            ({field.capitalize(): value}, True)):
        happens = _what_happens(loaded, step, meta)
        goes = happens == "forbids nothing"
        words = f"{happens}: the task may go to {', '.join(remote)}" if goes else happens
        hint = "; in the task schema, `additionalProperties: false` on meta refuses such a task" if goes else ""
        level: Literal["warning", "info"] = "warning" if goes and near_miss else "info"
        yield Finding(level, f"step {step.config.id}, meta {meta}", words + (hint if near_miss else ""))


def _what_happens(loaded: LoadedPipeline, step: LoadedStep, meta: Mapping[str, str]) -> str:
    """In words: `refused: …`, `forbids remote`, or `forbids nothing`."""
    if problem := _schema_problem(loaded.task_schema, meta):
        return f"refused: {problem}"
    try:
        decided = _before(loaded, step, meta)
    except OrchestratorError as error:
        return f"can't be told: {error}"
    if not decided.forbid:
        return "forbids nothing"
    why = f" ({'; '.join(decided.problems)})" if decided.problems else ""
    return f"forbids {', '.join(sorted(decided.forbid))}{why}"


def _before(loaded: LoadedPipeline, step: LoadedStep, meta: Mapping[str, str]) -> BeforeDecision:
    """What the forbidding rules say of such a task, by the same code that runs them. Only they are asked: other rules
    may need an input, which this task has not."""
    from orchestrator.cascade.admit import with_defaults
    from orchestrator.cascade.policy import compile_policy

    rules = tuple(rule for rule in step.policy.before if rule.forbid)
    policy = compile_policy(
        step.policy.model_copy(update={"before": rules}), allow_imports=loaded.config.allow_imports
    )
    filled = with_defaults(meta, _part(loaded.task_schema, "meta"))
    return policy.before({"task": {"input": {}, "meta": filled}, "steps": {}}, run_id="check")


def _schema_problem(schema: Mapping[str, Any] | None, meta: Mapping[str, str]) -> str:
    part = _part(schema, "meta")
    if part is None or schema is None:
        return ""
    whole = {key: value for key, value in schema.items() if key in ("$defs", "definitions", "$schema")}
    found = next(validator({**whole, **part}).iter_errors(dict(meta)), None)
    return found.message if found else ""


def _part(schema: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    part = (schema or {}).get("properties", {}).get(name)
    return part if isinstance(part, dict) else None


def _protecting_fields(step: LoadedStep) -> dict[str, str]:
    """The fields of meta that forbidding rules read, each with a value it is compared with."""
    found: dict[str, str] = {}
    for rule in step.policy.before:
        for field, value in _META_FIELD.findall(rule.when or "") if rule.forbid else ():
            found[field] = value or found.get(field, "local")
    return found


def _verdict(address: str, loaded: LoadedPipeline) -> str:
    if "://" not in address:
        return "chosen by LiteLLM"
    try:
        host = host_of(address)
    except ConfigError:
        return "not a URL"
    local = is_local(host, ())
    if local or host == "localhost":
        return "loopback"
    if is_local(host, networks(loaded.config.local_networks)):
        return "in local_networks"
    return "remote" if local is False else "a name, looked up as it connects"
