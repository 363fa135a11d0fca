"""What may be wrong between the files of a pipeline: one function each, listed in `CHECKS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

from orchestrator.check.compiled import Checked
from orchestrator.check.finding import Finding, compared_drafts, confidence_rules, faults_of, without_a_certificate
from orchestrator.check.measures import measures_of
from orchestrator.check.prices import how_to_price, priced_models
from orchestrator.check.ranges import range_findings
from orchestrator.check.residency import residency_findings
from orchestrator.config.expression_names import reads_gate
from orchestrator.config.loader import LoadedStep
from orchestrator.declared_fields import AFTER, TASK_ALONE, DeclaredFields
from orchestrator.errors import OrchestratorError

_NO_SCHEMA = "is not in any schema"


def check_expressions(checked: Checked) -> Iterator[Finding]:
    """Every CEL expression, against the schemas and the signals it may read."""
    from orchestrator.expressions import check_expression

    for step in checked.loaded.steps:
        place, after = f"step {step.config.id}", _fields(checked, step)
        if step.config.when:
            before = replace(after, roots=TASK_ALONE)
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
    from orchestrator.config.plugins import load_callable

    allow = checked.loaded.config.allow_imports
    found: list[Finding] = []
    for step in checked.loaded.steps:
        with faults_of(f"step {step.config.id}", found):
            compile_compare(step.config.compare, allow)
    for guard in checked.loaded.config.guards:
        with faults_of("guards", found):
            load_callable(guard, allow)
    yield from found


def check_confidence(checked: Checked) -> Iterator[Finding]:
    """Where the confidence comes from, what it is compared with, and what that is worth."""
    for step in checked.loaded.steps:
        place, confidence = f"step {step.config.id}", step.config.confidence
        rules = confidence_rules(step)
        if confidence is None:
            for name in rules:
                yield Finding("error", place, f"every draft would escalate: rule {name!r} compares the confidence, and "
                                              "the step has no `confidence:`")
            continue
        if not rules:
            yield Finding("warning", place, f"no rule of {step.policy.policy!r} compares the confidence")
        signals = checked.signals.get(step.config.id)
        if signals is not None and confidence.from_ and (problem := signals.confidence_problem(confidence.from_)):
            yield Finding("error", place, problem)
        if confidence.threshold is not None:
            words = f"UNCERTIFIED: the threshold {confidence.threshold} is a plain number"
            yield Finding("warning", place, f"{words}, and nothing is known of its regret")
        elif step.confidence.problem:
            words = without_a_certificate(checked.loaded, compared_drafts(step))
            yield Finding("warning", place, f"{words}: {step.confidence.problem}")
        elif why := checked.revoked.get(step.config.id):
            words = without_a_certificate(checked.loaded, compared_drafts(step))
            yield Finding("warning", place, f"{words}: its certificate was {why}; calibrate anew")
        elif (certificate := step.confidence.certificate) is not None:
            certified = f"certified at {certificate['threshold']}: {certificate['guarantee']}"
            yield Finding("info", place, certified)


def check_ranges(checked: Checked) -> Iterator[Finding]:
    """Thresholds and rules with a number that the signal never reaches."""
    for step in checked.loaded.steps:
        yield from range_findings(step)


def check_gate(checked: Checked) -> Iterator[Finding]:
    """Whether a gate is compared with anything, by what, and what that is worth."""
    for step in checked.loaded.steps:
        place, gate = f"step {step.config.id}", step.config.gate
        rules = [rule.name for rule in step.policy.before if rule.when and reads_gate(rule.when)]
        if gate is None:
            for name in rules:
                words = f"every task would escalate: rule {name!r} compares the gate, and the step has no `gate:`"
                yield Finding("error", place, words)
        elif not rules:
            yield Finding("warning", place, f"no `before` rule of {step.policy.policy!r} compares the gate")
        elif step.gate.problem:
            words = without_a_certificate(checked.loaded, "task")
            yield Finding("warning", place, f"{words} before its draft: {step.gate.problem}")
        elif (said := step.gate.certificate) is not None:
            yield Finding("info", place, f"gate certified at {said['threshold']}: {said['guarantee']}")
        else:
            yield Finding("warning", place, f"UNCERTIFIED: the gate's threshold {gate.threshold} is a plain number")


def check_otherwise(checked: Checked) -> Iterator[Finding]:
    """What a policy does where no rule matches should be written down."""
    for step in checked.loaded.steps:
        if "otherwise" not in step.policy.model_fields_set:
            words = "`otherwise:` is not written: what no rule decides escalates"
            yield Finding("warning", f"step {step.config.id}, {step.policy_path.name}", words)


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
    budget, book = checked.loaded.config.budget, checked.loaded.book
    for served, priced_as in (book.aliases if book else {}).items():
        if book and all(entry.model != priced_as for entry in book.prices):
            words = f"alias {served!r} is priced as {priced_as!r}, which has no entry"
            yield Finding("warning", "prices", words)
    try:
        priced = priced_models(checked.loaded)
    except OrchestratorError:
        return  # a model that can't be built is told once, where it is compiled
    for one in priced:
        if one.price is None:
            means = "under a `budget:` every call of it is refused" if budget.limited else "its cost is unknown"
            level: Literal["error", "warning"] = "error" if budget.limited else "warning"
            words = f"no price for {one.name!r}: {means} ({how_to_price(checked.loaded, one)})"
            yield Finding(level, f"model {one.model}", words)
        elif budget.limited and one.currency != budget.currency:
            words = f"{one.name!r} is priced in {one.currency}: under a `budget:` in {budget.currency} every call of it"
            yield Finding("error", f"model {one.model}", f"{words} is refused")


def check_residency(checked: Checked) -> Iterator[Finding]:
    """What happens to a task without the fields that keep it home, or with one misspelt."""
    yield from residency_findings(checked.loaded)


CHECKS: tuple[Callable[[Checked], Iterator[Finding]], ...] = (
    check_expressions, check_callables, check_confidence, check_ranges, check_gate, check_otherwise, check_roles,
    check_prompts, check_prices, check_residency,
)


def _fields(checked: Checked, step: LoadedStep) -> DeclaredFields:
    """What the step's `after` rules may read."""
    steps, signals = checked.loaded.steps, checked.signals.get(step.config.id)
    return DeclaredFields(
        roots=AFTER, task=checked.loaded.task_schema, value=step.output_schema,
        signals=signals.names if signals else (), measures=measures_of(step),
        steps={one.config.id: one.output_schema for one in steps[: steps.index(step)]},
    )


def _problems(place: str, problems: Iterable[str]) -> Iterator[Finding]:
    """Where there is no schema at all, nothing is undeclared: that is told, but is no error."""
    for problem in problems:
        yield Finding("warning" if _NO_SCHEMA in problem else "error", place, problem)


def _inputs_read(step: LoadedStep) -> set[str]:
    inputs = {name[2] for name in step.reads if name[:2] == ("task", "input") and len(name) > 2}
    return (inputs | {name[1] for name in step.reads if name[0] == "input" and len(name) > 1}) - {"*"}


def _undeclared_input(schema: Mapping[str, object], name: str) -> bool:
    from orchestrator.expressions import check_expression

    problems = check_expression(f"has(task.input.{name})", fields=DeclaredFields(task=schema))
    return any("is not declared" in problem for problem in problems)
