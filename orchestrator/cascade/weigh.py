"""Weigh: measure the draft's signals, unless they are kept beside its answer already."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.signals import features, signals_from_json, signals_to_json


async def weigh(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """Every run of the group gets its signals; a signal that raised is one that is not ok."""
    for run in runs:
        await _weigh(run, step)
        run.stage = Stage.DECIDE


async def _weigh(run: Run, step: Step) -> None:
    work = run.work
    draft = work.draft
    assert draft is not None
    if work.kept_signals is not None:
        version, _, body = work.kept_signals.partition(b"\n")
        if version == step.signals.digest:
            work.signals = signals_from_json(body)
            work.signals_known = True
    if not work.signals_known:
        work.signals = await step.signals.measure(draft, run.task, list(work.drafts.values()))
        if work.kept is not None:
            run.kept.append((work.kept, step.signals.digest + b"\n" + signals_to_json(work.signals)))
    run.features[step.id] = features(draft, work.signals, run.task)
