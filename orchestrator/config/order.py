"""A step may read earlier steps only: there are no cycles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.config.checked import key_name, nearest
from orchestrator.config.document import Document, KeyPath
from orchestrator.config.expression_names import steps_read
from orchestrator.config.loaded import LoadedStep
from orchestrator.errors import ConfigError


def steps_named_in(step: LoadedStep) -> frozenset[str]:
    """The ids of all steps that `step` reads: in `when`, prompt, signals and policy."""
    return frozenset(name for _, names in _readers(0, step) for name in names)


def check_order(steps: Sequence[LoadedStep], document: Document) -> None:
    """Raises ConfigError where a step reads itself, a later one, or one that is not there."""
    ids = [step.config.id for step in steps]
    for i, step in enumerate(steps):
        for keys, names in _readers(i, step):
            for name in sorted(names - set(ids[:i])):
                what = "itself" if name == step.config.id else f"{name!r}, which comes later" if name in ids else None
                unknown = f"step {name!r}, which does not exist{nearest(name, ids[:i])}"
                raise ConfigError(
                    f"{key_name(keys)}: step {step.config.id!r} reads {what or unknown}",
                    file=str(document.path), line=document.line(keys), key=key_name(keys),
                    hint="a step reads earlier steps only",
                )


def _readers(index: int, step: LoadedStep) -> Iterator[tuple[KeyPath, frozenset[str]]]:
    at: KeyPath = ("steps", index)
    config, policy = step.config, step.policy
    if config.when:
        yield (*at, "when"), steps_read(config.when)
    yield (*at, "prompt"), frozenset(n[1] for n in step.reads if n[0] == "steps" and len(n) > 1 and n[1] != "*")
    for entry in config.signals:
        for text in _strings(entry):
            yield (*at, "signals"), steps_read(text)
    for rule in (*policy.before, *policy.after):
        if rule.when:
            yield (*at, "policy"), steps_read(rule.when)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


