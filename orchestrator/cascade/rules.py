"""One rule, compiled: its test as CEL or as a guard, and the draw of a rule that samples."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.config.plugins import load_callable
from orchestrator.config.policy import AfterRule, BeforeRule
from orchestrator.errors import ConfigError, ExpressionError
from orchestrator.expressions import Expression, compile_expression
from orchestrator.records import Json, Task

ON_CONFIDENCE = frozenset({"confidence", "threshold"})
ON_GATE = frozenset({"gate", "gate_threshold"})
R = TypeVar("R", BeforeRule, AfterRule)


@dataclass(frozen=True, slots=True)
class CompiledRule(Generic[R]):
    """`words` say what is tested, `reads` what the test reads (of a guard: nothing is known)."""

    config: R
    name: str
    words: str
    reads: frozenset[str]
    reads_confidence: bool
    reads_gate: bool
    _expression: Expression | None
    _guard: Callable[..., Any] | None

    def matches(self, bindings: Mapping[str, Any], *of_draft: Json) -> bool:
        """Does the test hold, before any `sample` is drawn? Raises ExpressionError where it cannot be evaluated."""
        if self._expression is not None:
            return self._expression.holds(bindings)
        if self._guard is not None:
            return self._asked(self._guard, bindings, *of_draft)
        return True

    def _asked(self, guard: Callable[..., Any], bindings: Mapping[str, Any], *of_draft: Json) -> bool:
        try:
            said = guard(_task(bindings["task"]), *of_draft)
        except Exception as error:  # a user's code may raise anything: then the rule is unevaluable
            raise ExpressionError(f"{self.words} raised {type(error).__name__}") from error
        if said is True or said is False:
            return bool(said)
        raise ExpressionError(f"{self.words} returned {type(said).__name__}, and must return True or False")


def compile_rule(policy: str, rule: R, allow_imports: Sequence[str]) -> CompiledRule[R]:
    """Raises ConfigError, with the policy's and the rule's name."""
    try:
        expression = compile_expression(rule.when) if rule.when is not None else None
        guard = load_callable(rule.guard, allow_imports) if rule.guard is not None else None
    except (ConfigError, ExpressionError) as error:
        raise ConfigError(f"policy {policy!r}, rule {rule.name!r}: {error}", key=rule.name, hint=error.hint) from error
    if guard is not None and inspect.iscoroutinefunction(guard):
        raise ConfigError(
            f"policy {policy!r}, rule {rule.name!r}: guard {rule.guard!r} is a coroutine function, not a plain one",
            key=rule.name, hint="what has to wait is a signal: `python: {call: ...}`, read in `when:`",
        )
    reads = expression.reads if expression is not None else frozenset[str]()
    words = rule.when or (f"guard {rule.guard}" if rule.guard else "always")
    return CompiledRule(
        config=rule, name=rule.name, words=words, reads=reads,
        reads_confidence=not reads.isdisjoint(ON_CONFIDENCE), reads_gate=not reads.isdisjoint(ON_GATE),
        _expression=expression, _guard=guard,
    )


def draw(run_id: str, rule: str, attempt: int = 1) -> float:
    """Uniform in [0, 1), the same for the same run, rule and attempt, so that a draw can be replayed: BLAKE2b, 53 bits.

    Another attempt is another draw: else a rule that passed over the first draft would pass over every one after it.
    """
    key = f"{run_id}\0{rule}" if attempt == 1 else f"{run_id}\0{rule}\0{attempt}"
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def _task(bound: Any) -> Task:
    return bound if isinstance(bound, Task) else Task(input=bound["input"], meta=bound["meta"])
