"""Weigh: measure the draft's signals, unless they are kept beside its answer already."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.signals import draft_features, signals_from_json, signals_to_json
from orchestrator.cascade.signals.features import features_from_json, features_to_json


async def weigh(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """Every run of the group gets its signals; a signal that raised is one that is not ok."""
    for run in runs:
        await _weigh(run, step)
        run.stage = Stage.DECIDE


async def _weigh(run: Run, step: Step) -> None:
    work = run.work
    draft = work.draft
    assert draft is not None
    if work.kept_signals is not None and _take_kept(run, step, work.kept_signals):
        return
    work.signals = await step.signals.measure(draft, run.task, list(work.drafts.values()))
    work.features = draft_features(draft, work.signals, run.task, step.features, step.loaded.answers)
    if not step.keeps_answers:  # neither now, so that the confidence is the one that the ledger can tell later
        work.features.update(dict.fromkeys(one.name for one in step.loaded.answers))
    numbers = features_to_json(work.features.values())
    run.features[step.id] = numbers
    if work.kept is not None:
        run.kept.append((work.kept, b"\n".join((step.measured, numbers, signals_to_json(work.signals)))))


def _take_kept(run: Run, step: Step, kept: bytes) -> bool:
    """Signals and features measured on this very answer before; False where other signals are asked for by now."""
    version, numbers, body = kept.split(b"\n", 2)
    if version != step.measured:
        return False
    run.work.signals = signals_from_json(body)
    run.work.features = features_from_json(numbers, step.features)
    run.features[step.id] = numbers
    return True
