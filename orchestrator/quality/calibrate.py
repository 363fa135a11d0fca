"""`orchestrator calibrate --labels`: draft labelled tasks through the pipeline, certify a threshold, write the file.

labels -> drafts on the one path -> records -> certify -> certificate file, or the reason why there is none
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from orchestrator.errors import ConfigError, InputError, TaskError
from orchestrator.quality.certify import certify
from orchestrator.quality.records import Certificate, Loss, Record
from orchestrator.records import Outcome, Task

if TYPE_CHECKING:
    from orchestrator.config.loader import LoadedPipeline, LoadedStep
    from orchestrator.models.client import ModelClient
    from orchestrator.pipeline import Collected
    from orchestrator.store.engine import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A certificate and where it was written. `reached` of the `labelled` tasks came to the rule that compares the
    confidence; the others were decided before it, and the certificate does not speak of them."""

    certificate: Certificate
    path: Path
    signal: str
    labelled: int
    reached: int

    @property
    def words(self) -> str:
        """What `calibrate` prints: figures first, the recommendation last."""
        c = self.certificate
        lines = [f"{self.labelled} labelled tasks, {self.reached} of them reached a rule that compares {self.signal}"]
        if c.draft_accuracy is not None:
            lines.append(f"drafts right: {c.draft_accuracy:.1%}")
        if c.validator_accuracy is not None:
            lines.append(f"validator right: {c.validator_accuracy:.1%}")
        else:
            lines.append("validator not asked: it counts as right, so that the bound holds all the more")
        lines += [
            f"{c.loss.replace('_', ' ')} if every draft were accepted: {c.base_loss:.1%}; to keep it within "
            f"{c.max_regret:.1%} at least {c.least_escalation:.1%} must escalate",
            self._tested(),
            f"guarantee: {c.guarantee}",
            f"written to {self.path}",
            f"recommendation: {c.recommendation.replace('_', ' ')} ({'; '.join(c.reasons)})",
        ]
        return "\n".join(lines)

    def _tested(self) -> str:
        c = self.certificate
        if c.threshold is None:
            return "threshold: none certified, every draft escalates"
        return (
            f"threshold {c.threshold:.6g}: accepts {c.accepted} of {c.n} ({c.coverage:.1%}), {c.regretted:g} of them "
            f"lost; p = {c.p_value:.3g} against {c.delta:.3g}"
        )


async def calibrate(
    pipeline: str | Path | LoadedPipeline, tasks: Iterable[Task], *, max_regret: float, confidence: float = 0.90,
    store: str | Store, loss: Loss = "regret", validate: bool = False, seed: int = 0, concurrency: int = 64,
    clients: Mapping[str, ModelClient] | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Callable[[], object] = lambda: None,
) -> Calibration:
    """Certify the threshold of the pipeline's last step on labelled `tasks`, and write its certificate file.

    Without `validate` the validator is not asked and counts as right; with it, each task is also answered by the
    validator alone, and its accuracy and cost are measured. Drafts are kept in `store`: an interrupted calibration
    goes on where it stopped. Raises InputError where a task has no `expected`, ConfigError where the pipeline names
    no certificate file.
    """
    from orchestrator.config.loader import load_pipeline

    loaded = load_pipeline(pipeline) if isinstance(pipeline, str | Path) else pipeline
    step, path, signal = _certified_step(loaded)
    labelled = _named(tasks, loaded, step)
    drafts = await _collect(loaded, labelled, store, clients, concurrency, progress)
    answers = await _validate(loaded, labelled, store, clients, concurrency) if validate else {}
    reached = [one for one in drafts if one.reached]
    certificate = certify(
        [_record(one, answers.get(str(one.task.id))) for one in reached],
        max_regret=max_regret, confidence=confidence, loss=loss, seed=seed,
    )
    write_certificate(path, certificate, loaded, step, signal, now())
    return Calibration(
        certificate=certificate, path=path, signal=signal, labelled=len(labelled), reached=len(reached)
    )


async def calibrate_from_labels(
    pipeline: str | Path | LoadedPipeline, labels: Path, **options: Any
) -> Calibration:
    """`calibrate` on the tasks of a JSONL file. Raises InputError naming the line that is no labelled task."""
    return await calibrate(pipeline, read_labels(labels), **options)


def read_labels(path: Path) -> list[Task]:
    """Tasks with `expected`, one JSON object a line; empty lines are passed over."""
    from orchestrator.pipeline import as_task

    tasks = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    tasks.append(_with_label(as_task(_object(line)), number))
    except OSError as error:
        raise InputError(f"labels {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"labels {str(path)!r} are not UTF-8: {error}") from error
    except (TaskError, ValueError) as error:
        raise InputError(f"{path}:{number}: {error}") from error
    return tasks


def write_certificate(
    path: Path, certificate: Certificate, loaded: LoadedPipeline, step: LoadedStep, signal: str, created: datetime
) -> None:
    """Replace the file at `path` in one move: a reader sees the old certificate or the new one, never half of it."""
    from orchestrator.config.fingerprint import step_fingerprint

    body = {
        "kind": "certificate", "format": 1, "pipeline": loaded.config.pipeline, "step": step.config.id,
        "signal": signal, "reference": "label", "created": created.isoformat(timespec="seconds"),
        **certificate.body(), "fingerprint": step_fingerprint(loaded, step),
    }
    text = json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)
        except BaseException:  # Ctrl-C too: no half certificate is left beside the old one
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"the certificate can't be written to {str(path)!r}: {error.strerror}") from error


def _certified_step(loaded: LoadedPipeline) -> tuple[LoadedStep, Path, str]:
    """The last step: labels say what is right at the end of the pipeline, not in between."""
    step = loaded.steps[-1]
    confidence = step.config.confidence
    if confidence is None or step.certificate_path is None:
        raise ConfigError(
            f"step {step.config.id!r} names no certificate file to write", file=str(loaded.path), key="confidence",
            hint="confidence: {from: logprob.mean, certificate: certificates/NAME.json}",
        )
    return step, step.certificate_path, confidence.from_


def _with_label(task: Task, number: int) -> Task:
    if task.expected is None:
        raise InputError(f"task {task.id or number!r} has no `expected`: calibration needs the right answer of each")
    return task


def _object(line: str) -> Mapping[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError(f"{found!r} is not an object")
    return found


def _generator(iterator: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """What `async def` with `yield` makes, whatever its annotation says."""
    return cast("AsyncGenerator[T, None]", iterator)


async def _collect(
    loaded: LoadedPipeline, tasks: Sequence[Task], store: str | Store, clients: Mapping[str, ModelClient] | None,
    concurrency: int, progress: Callable[[], object],
) -> list[Collected]:
    from orchestrator.pipeline import Pipeline

    drafts = []
    async with (
        Pipeline(loaded, store=store, clients=clients, mode="cascade", calibrating=True) as pipeline,
        contextlib.aclosing(_generator(pipeline.collect(tasks, concurrency=concurrency))) as collected,
    ):
        async for one in collected:
            drafts.append(one)
            progress()
    return drafts


async def _validate(
    loaded: LoadedPipeline, tasks: Sequence[Task], store: str | Store, clients: Mapping[str, ModelClient] | None,
    concurrency: int,
) -> dict[str, Outcome]:
    """Each task answered by the validator alone, by task id."""
    from orchestrator.pipeline import Pipeline

    apart = [replace(task, id=f"{task.id}:validated") for task in tasks]
    answers = {}
    async with (
        Pipeline(loaded, store=store, clients=clients, mode="validate_only", calibrating=True) as pipeline,
        contextlib.aclosing(_generator(pipeline.amap(apart, concurrency=concurrency))) as outcomes,
    ):
        async for outcome in outcomes:
            answers[str(outcome.id).removesuffix(":validated")] = outcome
    return answers


def _named(tasks: Iterable[Task], loaded: LoadedPipeline, step: LoadedStep) -> list[Task]:
    """The tasks under ids of this calibration: the same configuration goes on where it stopped, another one drafts
    anew. Raises InputError where a task has no `expected`."""
    from orchestrator.config.fingerprint import fingerprint_digest, step_fingerprint

    mark = fingerprint_digest(step_fingerprint(loaded, step)).removeprefix("sha256:")[:16]
    return [
        replace(_with_label(task, number), id=f"calibration:{mark}:{task.id or number}")
        for number, task in enumerate(tasks, 1)
    ]


def _record(one: Collected, validated: Outcome | None) -> Record:
    """A validation that failed or cost an unknown sum is unknown, not wrong or free."""
    known = validated is not None and validated.success is not None
    spent = validated.costs if validated is not None and len(validated.costs) == 1 else ()
    return Record(
        score=math.nan if one.score is None else one.score,
        draft_ok=one.draft_ok,
        validator_ok=validated.success if validated is not None and known else None,
        draft_cost=one.cost.nano if one.cost is not None else None,
        validator_cost=spent[0].nano if spent else None,
    )
