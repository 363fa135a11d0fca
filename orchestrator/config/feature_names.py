"""The names of the numbers kept of every draft, in the order they are kept in.

A ledger row holds the numbers alone; their names stand once in the configuration the run was made under.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.config.pipeline import StepConfig

TASK_FEATURES = ("task_chars", "task_digits", "task_ascii")
"""Known before anything is drafted: what a gate may look at."""

DRAFT_FEATURES = ("chars", "tokens", "stopped")
LOGPROB_FEATURES = ("n", "mean", "total", "q0", "q10", "q25", "q50", "margin_mean", "margin_min")
"""Of the whole answer as `lp_mean`, of the tokens of field values alone as `span_mean`."""

LOGPROB_VALUE: Mapping[str, str] = {
    name: "min" if name == "q0" else name for name in LOGPROB_FEATURES if name not in ("n", "total")
}
"""What the value of a `logprob` signal calls these numbers, as `confidence: {from: logprob.min}` does."""

TAG_PREFIX = "tag."
"""`tag.KEY=VALUE`: 1 where the task's `meta` says so. Not kept with the draft: the run's tags are."""

ANSWER_PREFIX = "answer:"
"""`answer:FIELD`: what was answered, where the schema allows a closed list only: its place there, from 0. No signal can
be called that."""

_PROBABILITIES = frozenset(
    f"{part}_{name}" for part in ("lp", "span") for name in ("mean", "total", "q0", "q10", "q25", "q50")
)
_NUMERIC = frozenset({"agreement", "python"})


def feature_names(step: StepConfig, answers: Iterable[str] = ()) -> tuple[str, ...]:
    """The names for one step: of its task, its draft, its log-probabilities, its signals, and those of its `answers`
    from closed lists."""
    names = [*TASK_FEATURES, *DRAFT_FEATURES]
    names += [f"{part}_{name}" for part in ("lp", "span") for name in LOGPROB_FEATURES]
    for name, kind in signal_names(step):
        names += [f"{name}.ok", name] if kind in _NUMERIC else [f"{name}.ok"]
    return (*names, *answers)


def is_log_probability(name: str) -> bool:
    return name in _PROBABILITIES


def compared_names(step: StepConfig) -> dict[str, str]:
    """The numbers of log-probabilities by the names that rules and `confidence.from` give them: what is kept as
    `lp_q0` is `logprob.min` there. Empty where the step has no such signal."""
    parts = (("lp", ""), ("span", "span."))
    return {
        f"{part}_{kept}": f"{name}.{inner}{shown}"
        for name, kind in signal_names(step) if kind == "logprob"
        for part, inner in parts for kept, shown in LOGPROB_VALUE.items()
    }


def signal_names(step: StepConfig) -> list[tuple[str, str]]:
    """(name, kind) of each signal, as `signals:` writes them."""
    found = []
    for entry in step.signals:
        kind, options = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
        found.append((str((options or {}).get("name") or kind), kind))
    return found
