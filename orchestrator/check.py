"""`orchestrator check`: what a pipeline would do, found out without spending.

Loading finds what is wrong with the files; the checks in `CHECKS` find what is wrong between them. `LIVE` asks the
endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.check_residency import Address, reachable_addresses, residency_findings
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.loader import LoadedPipeline, LoadedStep, load_pipeline, model_target
from orchestrator.declared_fields import BEFORE, DeclaredFields
from orchestrator.errors import OrchestratorError
from orchestrator.finding import Finding

if TYPE_CHECKING:
    from orchestrator.cascade.policy import CompiledPolicy
    from orchestrator.cascade.signals import SignalSet
    from orchestrator.models.client import ModelClient, Probe

_NO_SCHEMA = "is not in any schema"
_UNREACHABLE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedModel:
    """`name` is what the price book is asked for; `price` the entry's version, None where it has none."""

    model: str
    name: str
    price: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `check` found. `exit_code` is 2 with an error, 3 where an endpoint can't be reached, else 0."""

    path: Path
    findings: tuple[Finding, ...]
    resolved: Mapping[str, Path] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    probes: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        if self.count("error"):
            return 2
        return 0 if all(probe.ok for found in self.probes.values() for probe in found) else _UNREACHABLE

    @property
    def summary(self) -> str:
        return f"{self.path}: {self.count('error')} errors, {self.count('warning')} warnings"

    def count(self, level: Literal["error", "warning", "info"]) -> int:
        return sum(finding.level == level for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Checked:
    """A loaded pipeline with what could be compiled of it: a step or model that could not be is absent."""

    loaded: LoadedPipeline
    signals: Mapping[str, SignalSet]
    policies: Mapping[str, CompiledPolicy]
    clients: Mapping[str, ModelClient]


def check_pipeline(
    path: Path, *, live: bool = False, residency: bool = False, env: Mapping[str, str] | None = None
) -> CheckReport:
    """Check the pipeline at `path`. What is wrong stands in the report; nothing is raised for it."""
    try:
        loaded = load_pipeline(path, env=env)
    except OrchestratorError as error:
        return CheckReport(path=path, findings=(_fault("", error),))
    findings: list[Finding] = []
    checked = _compiled(loaded, findings)
    for one in CHECKS:
        findings.extend(one(checked))
    probes: dict[str, tuple[Probe, ...]] = {}
    if live:
        from orchestrator.check_live import ask_endpoints, live_findings

        probes = ask_endpoints(checked.clients, _logprob_models(checked))
        findings.extend(live_findings(probes, _logprob_models(checked)))
    return CheckReport(
        path=path, findings=tuple(dict.fromkeys(findings)), resolved=loaded.resolved, probes=probes,
        addresses=tuple(reachable_addresses(loaded, checked.clients)) if residency else (),
    )


def priced_models(loaded: LoadedPipeline) -> list[PricedModel]:
    """Each model of the pipeline with the version of its present price, or None."""
    today = datetime.now(UTC)
    found = []
    for name, config in loaded.config.models.items():
        asked = _client(loaded, name).name
        entry = loaded.book.entry(asked, today) if loaded.book else None
        if entry is None and loaded.book and config.price:
            entry = loaded.book.entry(config.price, today)
        found.append(PricedModel(model=name, name=asked, price=entry.name if entry else None))
    return found


# -- the checks --------------------------------------------------------------------------------------------------------


def check_expressions(checked: Checked) -> Iterator[Finding]:
    """Every CEL expression, against the schemas and the signals it may read."""
    from orchestrator.expressions import check_expression

    for step in checked.loaded.steps:
        place, after = f"step {step.config.id}", _fields(checked, step)
        if step.config.when:
            before = replace(after, roots=BEFORE)
            yield from _problems(f"{place}, when", check_expression(step.config.when, fields=before))
        if step.config.id in checked.signals:
            yield from _problems(place, checked.signals[step.config.id].check(after))
        if step.config.id in checked.policies:
            yield from _problems(f"{place}, {step.policy_path.name}", checked.policies[step.config.id].check(after))
    if require := checked.loaded.config.success.require:
        last = _fields(checked, checked.loaded.steps[-1])
        yield from _problems("success.require", check_expression(require, fields=last))


def check_callables(checked: Checked) -> Iterator[Finding]:
    """`compare:` and guards: what they import is allowed, and there."""
    from orchestrator.cascade.compare import compile_compare
    from orchestrator.cascade.plugins import load_callable

    allow = checked.loaded.config.allow_imports
    found: list[Finding] = []
    for step in checked.loaded.steps:
        with _faults_of(f"step {step.config.id}", found):
            compile_compare(step.config.compare, allow)
    for guard in checked.loaded.config.guards:
        with _faults_of("guards", found):
            load_callable(guard, allow)
    yield from found


def check_confidence(checked: Checked) -> Iterator[Finding]:
    """Where the confidence comes from, what it is compared with, and what that is worth."""
    for step in checked.loaded.steps:
        place, confidence = f"step {step.config.id}", step.config.confidence
        rules = [rule.name for rule in step.policy.after if rule.when and reads_confidence(rule.when)]
        if confidence is None:
            for name in rules:
                yield Finding("error", place, f"every draft would escalate: rule {name!r} compares the confidence, and "
                                              "the step has no `confidence:`")
            continue
        if not rules:
            yield Finding("warning", place, f"no rule of {step.policy.policy!r} compares the confidence")
        signals = checked.signals.get(step.config.id)
        if signals is not None and (problem := signals.confidence_problem(confidence.from_)):
            yield Finding("error", place, problem)
        if confidence.threshold is not None:
            words = f"UNCERTIFIED: the threshold {confidence.threshold} is a plain number"
            yield Finding("warning", place, f"{words}, and nothing is known of its regret")
        elif step.certificate_problem:
            does = "escalate" if checked.loaded.config.certificate_lapsed == "escalate" else "be handed off"
            words = f"every draft that reaches {', '.join(rules) or 'the threshold'} would {does}"
            yield Finding("warning", place, f"{words}: {step.certificate_problem}")
        elif step.certificate is not None:
            certified = f"certified at {step.certificate['threshold']}: {step.certificate['guarantee']}"
            yield Finding("info", place, certified)


def check_roles(checked: Checked) -> Iterator[Finding]:
    """Can the step do what its mode and policy ask?"""
    mode = checked.loaded.config.mode
    for step in checked.loaded.steps:
        if step.config.validate_ is None and mode != "draft_only":
            words = "there is no `validate:`: what the policy escalates is handed off"
            level: Literal["error", "warning"] = "error" if mode in ("validate_only", "shadow") else "warning"
            yield Finding(level, f"step {step.config.id}", words)


def check_prompts(checked: Checked) -> Iterator[Finding]:
    """What prompts read of a task, against its schema."""
    schema = checked.loaded.task_schema
    for step in checked.loaded.steps:
        place = f"step {step.config.id}"
        if step.prompt is None:
            if schema is not None and _undeclared_input(schema, "messages"):
                words = "there is no `prompt:`, and the task schema declares no `input.messages`"
                yield Finding("error", place, words)
            continue
        for name in sorted(_inputs_read(step)):
            if hasattr(dict, name):
                words = f"`task.input.{name}` is a method of every map: write `task.input[{name!r}]`"
                yield Finding("warning", place, f"the prompt: {words}")
            elif schema is not None and _undeclared_input(schema, name):
                yield Finding("warning", place, f"the prompt reads `task.input.{name}`, which the task schema has not")


def check_prices(checked: Checked) -> Iterator[Finding]:
    """Models without a price: unknown is not zero."""
    budget = checked.loaded.config.budget
    limited = budget.per_day is not None or budget.per_task is not None
    try:
        priced = priced_models(checked.loaded)
    except OrchestratorError:
        return  # a model that can't be built is told once, where it is compiled
    for one in priced:
        if one.price is None:
            means = "under a `budget:` every call of it is refused" if limited else "its cost is unknown"
            level: Literal["error", "warning"] = "error" if limited else "warning"
            yield Finding(level, f"model {one.model}", f"no price for {one.name!r}: {means}")


def check_residency(checked: Checked) -> Iterator[Finding]:
    """What happens to a task without the fields that keep it home, or with one misspelt."""
    yield from residency_findings(checked.loaded)


CHECKS: tuple[Callable[[Checked], Iterator[Finding]], ...] = (
    check_expressions, check_callables, check_confidence, check_roles, check_prompts, check_prices, check_residency,
)


# -- what they are made of ---------------------------------------------------------------------------------------------


def _compiled(loaded: LoadedPipeline, findings: list[Finding]) -> Checked:
    from orchestrator.cascade.policy import compile_policy
    from orchestrator.cascade.signals import compile_signals

    policies: dict[str, CompiledPolicy] = {}
    signals: dict[str, SignalSet] = {}
    clients: dict[str, ModelClient] = {}
    for step in loaded.steps:
        with _faults_of(f"step {step.config.id}", findings):
            signals[step.config.id] = compile_signals(
                step.config.signals, output_schema=step.output_schema, allow_imports=loaded.config.allow_imports
            )
        with _faults_of(f"step {step.config.id}, {step.policy_path.name}", findings):
            policies[step.config.id] = compile_policy(step.policy, allow_imports=loaded.config.allow_imports)
    for name in loaded.config.models:
        with _faults_of(f"model {name}", findings):
            clients[name] = _client(loaded, name)
    return Checked(loaded, signals, policies, clients)


def _client(loaded: LoadedPipeline, name: str) -> ModelClient:
    from orchestrator.models.catalog import client_for

    config = loaded.config
    return client_for(
        name, config.models[name], target=model_target(loaded, name), local_networks=config.local_networks,
        allow_imports=config.allow_imports,
    )


def _fields(checked: Checked, step: LoadedStep) -> DeclaredFields:
    """What the step's `after` rules may read."""
    steps, signals = checked.loaded.steps, checked.signals.get(step.config.id)
    return DeclaredFields(
        task=checked.loaded.task_schema, value=step.output_schema, signals=signals.names if signals else (),
        steps={one.config.id: one.output_schema for one in steps[: steps.index(step)]},
    )


def _problems(place: str, problems: Iterable[str]) -> Iterator[Finding]:
    """Where there is no schema at all, nothing is undeclared: that is told, but is no error."""
    for problem in problems:
        yield Finding("warning" if _NO_SCHEMA in problem else "error", place, problem)


def _logprob_models(checked: Checked) -> frozenset[str]:
    """The drafters whose signals need log-probabilities."""
    return frozenset(
        step.config.draft.model for step in checked.loaded.steps
        if step.config.id in checked.signals and checked.signals[step.config.id].needs_logprobs
    )


def _inputs_read(step: LoadedStep) -> set[str]:
    inputs = {name[2] for name in step.reads if name[:2] == ("task", "input") and len(name) > 2}
    return (inputs | {name[1] for name in step.reads if name[0] == "input" and len(name) > 1}) - {"*"}


def _undeclared_input(schema: Mapping[str, object], name: str) -> bool:
    from orchestrator.expressions import check_expression

    problems = check_expression(f"has(task.input.{name})", fields=DeclaredFields(task=schema))
    return any("is not declared" in problem for problem in problems)


@contextmanager
def _faults_of(place: str, findings: list[Finding]) -> Iterator[None]:
    """Turn what is raised within into a finding."""
    try:
        yield
    except OrchestratorError as error:
        findings.append(_fault(place, error))


def _fault(place: str, error: OrchestratorError) -> Finding:
    return Finding("error", place, f"{error} ({error.hint})" if error.hint else str(error))
