"""Why there is nothing to replay: four causes, and what to do about each."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select

from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.errors import InputError
from orchestrator.store.statements import Readable, table
from orchestrator.store.tables import OutcomeRow

_outcome = table(OutcomeRow)


def nothing_to_replay(
    store: Readable, loaded: LoadedPipeline, step: LoadedStep, left_out: Mapping[str, int],
    period: tuple[float | None, float | None],
) -> InputError:
    """`left_out` are runs that were found and drafted nothing, by cause."""
    since, until = period
    name, pipeline = step.config.id, loaded.config.pipeline
    ended = [_outcome.c.pipeline == pipeline]
    within = [*ended, *([_outcome.c.ended_at >= since] if since is not None else []),
              *([_outcome.c.ended_at < until] if until is not None else [])]
    with store.read() as connection:
        runs, inside = (
            connection.execute(select(func.count()).select_from(_outcome).where(*which)).scalar_one()
            for which in (ended, within)
        )
    if not runs:
        return InputError(
            f"no recorded run of step {name!r}: the store has none of pipeline {pipeline!r}",
            hint="look at --store; `orchestrator run` records what a pipeline does",
        )
    if not inside:
        return InputError(
            f"no recorded run of step {name!r} ended in that time; {runs:,} of the pipeline ended before or after",
            hint="look at --since and --until",
        )
    if left_out:
        causes = {"cache": "answered from the cache", "validate_only": "in mode validate_only"}
        words = " and ".join(f"{n:,} were {causes[cause]}" for cause, n in sorted(left_out.items()))
        return InputError(f"no recorded run of step {name!r} has a draft: {words}", hint="run it in mode cascade first")
    return InputError(
        f"no recorded run of step {name!r} was drafted as the pipeline drafts today: {inside:,} ran, with another "
        "prompt, model or signals, or did not come to this step",
        hint="a changed prompt, model or signal starts anew: run some tasks, or simulate the pipeline as it was",
    )
