"""Numbers that a signal is compared with and never reaches: a log-probability is at most 0, a probability at most 1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.check.finding import Finding
from orchestrator.check.measures import confidence_measure, gate_measure, measure_at
from orchestrator.config.feature_names import signal_names
from orchestrator.config.loader import LoadedStep
from orchestrator.config.policy import AfterRule, BeforeRule
from orchestrator.declared_fields import Path
from orchestrator.declared_values import comparisons
from orchestrator.errors import ExpressionError


def range_findings(step: LoadedStep) -> Iterator[Finding]:
    """A warning for each threshold, rule and limit of the step with a number that no draft, or every one, reaches."""
    place = f"step {step.config.id}"
    for words in (*_thresholds(step), *_limits(step)):
        yield Finding("warning", place, words)
    for part, rules in (("before", step.policy.before), ("after", step.policy.after)):
        for rule in rules:
            for words in _of_rule(step, rule):
                where = f"{place}, {step.policy_path.name}"
                yield Finding("warning", where, f"{part} rule {rule.name!r}: {rule.when}: {words}")


def out_of_range(name: str, measure: Mapping[str, Any], number: float, *, what: str = "draft") -> str:
    """`logprob.min is at most 0: no draft can reach 0.8; a probability of 80% is -0.223`; empty where one can."""
    low, high = measure.get("minimum", -math.inf), measure.get("maximum", math.inf)
    if number > high:
        return f"{name} is at most {high:g}: no {what} can reach {number:g}{_as_a_share(number, high)}"
    if number < low:
        return f"{name} is at least {low:g}: every {what} reaches {number:g}"
    return ""


def _as_a_share(number: float, high: float) -> str:
    """What a probability, or a percentage, is on the scale that ends at `high`: 0 of log-probabilities, else 1."""
    share = number if number <= 1.0 else number / 100.0
    if share > 1.0:
        return ""
    return f"; a probability of {100.0 * share:g}% is {math.log(share) if high == 0.0 else share:.3g}"


def _thresholds(step: LoadedStep) -> Iterator[str]:
    """A plain number; a certified threshold is of drafts that were seen."""
    for key, threshold, (name, measure), what in (
        ("confidence", step.confidence.config, confidence_measure(step), "draft"),
        ("gate", step.gate.config, gate_measure(step), "task"),
    ):
        number = threshold.threshold if threshold else None
        if number is not None and (words := out_of_range(name, measure, number, what=what)):
            yield f"`{key}:` has the threshold {number:g}: {words}"


def _limits(step: LoadedStep) -> Iterator[str]:
    """The limits of `logprob` signals, by which a draft is ok."""
    for (name, kind), entry in zip(signal_names(step.config), step.config.signals, strict=True):
        options = {} if isinstance(entry, str) or kind != "logprob" else entry[kind] or {}
        for option, number in options.items():
            part = option.removeprefix("span_").removeprefix("min_")
            if not isinstance(number, (int, float)):
                continue
            if words := out_of_range(f"{name}.{part}", measure_at(step, (name, part)), number):
                yield f"signal {name!r} has {option}: {number:g}: {words}"


def _of_rule(step: LoadedStep, rule: BeforeRule | AfterRule) -> Iterator[str]:
    from orchestrator.expressions import compile_expression

    if rule.when is None:
        return
    try:
        tree = compile_expression(rule.when).tree
    except ExpressionError:
        return  # told where the rules are compiled
    for one in comparisons(tree, rule.when):
        if isinstance(one.literal, (int, float)) and not isinstance(one.literal, bool):
            name, measure, what = _measured(step, one.path)
            if words := out_of_range(name, measure, one.literal, what=what):
                yield words


def _measured(step: LoadedStep, path: Path) -> tuple[str, Mapping[str, Any], str]:
    """(its name, its schema, of what) of a number that a rule reads; the schema is {} where that is not known."""
    match path:
        case ("confidence",):
            return (*confidence_measure(step), "draft")
        case ("gate",):
            return (*gate_measure(step), "task")
        case ("signals", name, "value", *parts):
            return ".".join((name, *parts)), measure_at(step, (name, *parts)), "draft"
    return "", {}, ""
