"""A policy made ready to be replayed over the recorded runs of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.cascade.policy import compile_policy
from orchestrator.cascade.rules import CompiledRule
from orchestrator.cascade.signals import compile_signals
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.feature_names import signal_names
from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.config.policy import AfterRule, PolicyConfig
from orchestrator.quality.what_if.plainness import reads_beside
from orchestrator.quality.what_if.rebuilt import DraftShape
from orchestrator.quality.what_if.replay import Bar, Replay

_CONTENT = frozenset({"task", "steps", "value"})


def replaying(
    loaded: LoadedPipeline, step: LoadedStep, policy: PolicyConfig, *, threshold: float | None = None
) -> Replay:
    """`policy` over the recorded runs of `step`, with the step's own threshold unless another is given.

    Raises ConfigError, with the rule's name, for what does not compile.
    """
    config = loaded.config
    compiled = compile_policy(policy, allow_imports=config.allow_imports)
    signals = compile_signals(
        step.config.signals, output_schema=step.output_schema, output_model=step.output_model,
        allow_imports=config.allow_imports,
    )
    schema = step.output_schema
    rules: Sequence[CompiledRule[Any]] = [*compiled.forbids, *compiled.deciders, *compiled.afters]
    return Replay(
        loaded=loaded, step=step, policy=compiled,
        shape=DraftShape(
            step=step.config.id, kinds=tuple(signal_names(step.config)), required=signals.required,
            structured=schema is not None, text=schema is not None and schema.get("type") not in ("object", "array"),
            alone=len(loaded.steps) == 1,
        ),
        bar=Bar(step.confidence.value, step.confidence.problem) if threshold is None else Bar(threshold),
        fitted=FittedConfidence(step.confidence.fitted) if step.confidence.fitted else None,
        gate=FittedConfidence(step.gate.fitted) if step.gate.fitted else None,
        same_before=_said(policy.before) == _said(step.policy.before),
        same_redrafts=_redrafts_alike(policy, step.policy),
        reads_content=compiled.reads_gate or any(
            rule.config.guard or not rule.reads.isdisjoint(_CONTENT) for rule in rules
        ),
        asks_little=not any(rule.config.guard or _asks_more(rule.config.when) for rule in compiled.afters),
        asks_task_alone=not compiled.reads_gate and not any(
            rule.config.guard or rule.config.sample is not None for rule in (*compiled.forbids, *compiled.deciders)
        ),
        samples=tuple((rule.name, rule.config.sample) for rule in compiled.afters if rule.config.sample is not None),
    )


def _asks_more(when: str | None) -> bool:
    """Does it read anything of a draft but `signals.X.ok`, its attempt and a plain comparison?"""
    paths = () if when is None else reads_beside(when)
    return not all(path == ("attempt",) or (len(path) == 3 and path[::2] == ("signals", "ok")) for path in paths)


def _redrafts_alike(policy: PolicyConfig, recorded: PolicyConfig) -> bool:
    """Would both have had the same drafts made anew? Where their rules are the same up to the last that redrafts, and
    that one stands among those that recorded runs have in common: before the confidence is compared."""
    return _said(up_to := _until_last_redraft(policy)) == _said(_until_last_redraft(recorded)) and not any(
        rule.when is not None and reads_confidence(rule.when) for rule in up_to
    )


def _until_last_redraft(policy: PolicyConfig) -> Sequence[AfterRule]:
    last = max((i for i, rule in enumerate(policy.after) if rule.then == "redraft"), default=-1)
    return policy.after[: last + 1]


def _said(rules: Sequence[Any]) -> list[Any]:
    return [rule.model_dump(mode="json", exclude={"name", "message"}) for rule in rules]
