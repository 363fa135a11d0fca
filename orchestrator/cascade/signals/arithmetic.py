"""`arithmetic`: a CEL expression on the value (and the task) is true."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.declared_fields import DeclaredFields
from orchestrator.errors import ConfigError, ExpressionError
from orchestrator.expressions import check_expression, compile_expression

READS = frozenset({"value", "task"})
HOLDS = Reading(True)


class ArithmeticOptions(Options):
    check: str


def _compile(options: ArithmeticOptions, setting: Setting) -> Compiled:
    expression = compile_expression(options.check)
    if not expression.reads <= READS:
        unknown = ", ".join(sorted(expression.reads - READS))
        raise ConfigError(f"arithmetic check {options.check!r} reads {unknown}: it may read value and task")

    def measure(look: Look) -> Reading:
        if not look.draft.parsed:
            return Reading(None, False, "the draft has no value")
        try:
            holds = expression.holds({"value": look.draft.value, "task": look.task})
        except ExpressionError as error:
            return Reading(None, False, f"cannot be evaluated: {error}")
        return HOLDS if holds else Reading(False, False, f"{options.check} is false")

    def problems(fields: DeclaredFields) -> list[str]:
        return check_expression(options.check, fields=replace(fields, roots=READS))

    return Compiled(now=measure, check=problems)


KIND = Kind(ArithmeticOptions, _compile)
