"""A labels file: tasks with the right answer, or ids of recorded tasks with theirs. And their drafts, as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select

from orchestrator.canonical import canonical
from orchestrator.cascade.given import as_task
from orchestrator.config.loaded import LoadedStep
from orchestrator.config.schema import validator
from orchestrator.errors import InputError, TaskError
from orchestrator.quality.calibration.bills import bills
from orchestrator.quality.calibration.drafting import Drafted, decided_elsewhere, draft_all, refused, validate_all
from orchestrator.quality.calibration.evidence import Evidence, Known, Place, Source
from orchestrator.quality.calibration.from_ledger import unlabelled
from orchestrator.quality.calibration.guarantees import require
from orchestrator.quality.calibration.probes import priced_escalations
from orchestrator.quality.calibration.revoked import kept_before, left_out
from orchestrator.records import Json, Money, Outcome, Task
from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import Content, Run

KEYS = frozenset({"id", "input", "meta", "expected"})
TOLD = 10
"""Bad lines that are told at once."""
_run, _content = table(Run), table(Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One line: `task` is None where it only names the id of a recorded one. `where` is for messages."""

    where: str
    expected: Json
    id: str | None = None
    task: Task | None = None


def read_labels(path: Path) -> list[Label]:
    """The labels of a JSONL or CSV file; empty lines are passed over. Raises InputError naming the bad lines."""
    if path.suffix.lower() == ".csv":
        return list(_from_csv(path))
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"labels {str(path)!r}: {error.strerror}") from error
    labels, problems = [], []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if line.strip():
            try:
                labels.append(_label(_object(line), where))
            except (TaskError, ValueError) as error:
                problems.append(f"{where}: {error}")
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems[:TOLD]) + (f"\nand {len(problems) - TOLD} more" if problems[TOLD:] else ""))
    return labels


def label_tasks(tasks: Iterable[Task]) -> list[Label]:
    """Labels of tasks that are at hand. Raises InputError where one has no `expected`."""
    return [_of_task(task, f"task {number}") for number, task in enumerate(tasks, 1)]


def from_labels(labels: Callable[[], Sequence[Label]], *, validate: bool = False) -> Source:
    """Draft the labelled tasks. With `validate` each task that comes to the rule is also answered by the validator
    alone, and its accuracy and cost are measured; without, it counts as right."""

    async def gather(place: Place) -> Evidence:
        given = labels()
        found = checked(given)
        if not found:
            raise InputError("there are no labels: a line is {\"id\", \"input\", \"expected\"}")
        if place.step is not place.loaded.steps[-1]:
            raise InputError(
                f"labels say what is right at the end of the pipeline, not at step {place.step.config.id!r}",
                hint="give --ledger or --spend: there the validator's answer to that step is the reference",
            )
        _require_labels(len(found), place)
        tasks = await joined(found, place)
        _fit_schema(found, tasks, place.step)
        drafted, problems = await draft_all(place, tasks)
        if problems:
            raise refused(problems)
        reached = [one for one in drafted if one.counts(place.asked.gate)]
        answers = await validate_all(place, reached) if validate else {}
        paid = await bills(place, [*(one.collected.run_id for one in reached), *(a.run_id for a in answers.values())])
        traffic = await unlabelled(place, await asyncio.to_thread(_runs_of, place, tasks))
        before = await asyncio.to_thread(kept_before, place, tasks)
        return Evidence(
            source=_counted(len(tasks), len(given)), tasks=len(tasks), reference="label",
            notes=(*left_out(place.changed, kept=before, recorded=traffic.left_out), *_kept(drafted), *paid.notes),
            known=tuple(
                known(one, draft_ok=bool(one.collected.draft_ok), answers=answers, paid=paid.costs) for one in reached
            ),
            traffic=traffic.drafts,
            escalations=await priced_escalations(place, drafted) if validate else (),
            elsewhere=decided_elsewhere(drafted, place),
        )

    return gather


def _kept(drafted: Sequence[Drafted]) -> tuple[str, ...]:
    """Drafts of an earlier try count as they are: whoever changed the model behind a name should know."""
    kept = sum(one.collected.resumed for one in drafted)
    if not kept:
        return ()
    return (
        f"{kept} of the {len(drafted)} drafts kept from before (if another model made those under the drafter's name, "
        "give the model another `revision:`: then all are drafted anew)",
    )


def _counted(kept: int, given: int) -> str:
    words = f"{kept} labelled task" + ("" if kept == 1 else "s")
    return words if kept == given else f"{words} ({given - kept} more said the same of the same id, and count once)"


def _fit_schema(labels: Sequence[Label], tasks: Sequence[Task], step: LoadedStep) -> None:
    """Before anything is spent: an `expected` that breaks the output schema can equal no draft. The user's own
    `compare` may read it otherwise."""
    schema = step.output_schema
    if schema is None or ":" in step.config.compare:
        return
    valid = validator(schema)
    for label, task in zip(labels, tasks, strict=True):
        broken = next(valid.iter_errors(task.expected), None)
        if broken is not None:
            raise InputError(
                f"{label.where}: `expected` breaks the step's output schema: {broken.message}",
                hint="write it as the pipeline answers, or say how the two compare: compare: module:callable",
            )


def _require_labels(n: int, place: Place) -> None:
    """Before anything is asked: could so many labels reach the guarantee, the share set apart to fit on left out?"""
    apart = round(n * place.asked.fit_share) if place.fits else 0
    what = f"of {n} labels, {apart} being set apart to fit on," if apart else "label" if n == 1 else "labels"
    require(n - apart, what, place.asked, share=1.0 - place.asked.fit_share if apart else 1.0)


def known(
    one: Drafted, *, draft_ok: bool, answers: Mapping[str, Outcome], paid: Mapping[str, Money | None]
) -> Known:
    """A validation that failed or cost an unknown sum is unknown, not wrong or free. `paid` is what runs cost."""
    validated = answers.get(str(one.collected.task.id))
    return Known(
        id=one.id, score=one.collected.score, draft_ok=draft_ok,
        validator_ok=validated.success if validated is not None else None,
        draft_cost=paid.get(one.collected.run_id),
        validator_cost=paid.get(validated.run_id) if validated is not None else None, features=one.kept.features,
        meta=one.collected.task.meta, run=one.collected.run_id,
    )


def checked(labels: Sequence[Label]) -> list[Label]:
    """Each id and each input once with one answer. Raises InputError naming both places of a contradiction."""
    by_id: dict[tuple[str, str], tuple[Label, bytes]] = {}
    by_input: dict[bytes, tuple[Label, bytes]] = {}
    kept = []
    for label in labels:
        said = _canonical(label.expected, label.where)
        task = label.task
        if task is not None:
            content = _canonical([task.input, task.meta], label.where)
            _same_answer(by_input.setdefault(content, (label, said)), label, said, "the same input")
        if label.id is not None:
            place = (task.tenant if task is not None else "", label.id)
            first = by_id.setdefault(place, (label, said))
            _same_answer(first, label, said, f"id {label.id!r}")
            if first[0] is not label:
                if first[0].task != task:
                    raise InputError(f"{first[0].where} and {label.where}: id {label.id!r} stands for two inputs")
                continue
        kept.append(label)
    return kept


def _same_answer(first: tuple[Label, bytes], label: Label, said: bytes, what: str) -> None:
    if first[1] != said:
        raise InputError(
            f"{first[0].where} and {label.where} contradict each other: {what} has two different `expected`",
            hint="decide which is right, and take the other line out",
        )


async def joined(labels: Sequence[Label], place: Place) -> list[Task]:
    """Their tasks; those that only name an id are looked up in the store. Raises InputError naming unknown ids."""
    wanted = [label.id for label in labels if label.task is None and label.id is not None]
    found = await asyncio.to_thread(_recorded, place, wanted) if wanted else {}
    missing = [label for label in labels if label.task is None and label.id not in found]
    if missing:
        names = ", ".join(f"{one.id!r} ({one.where})" for one in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(
            f"ids without a recorded task of pipeline {place.loaded.config.pipeline!r} whose content is kept: "
            f"{names}{more}",
            hint="give `input` beside the id, or name the store that holds them with --store",
        )
    return [label.task or replace(found[str(label.id)], expected=label.expected) for label in labels]


def _recorded(place: Place, ids: Sequence[str]) -> dict[str, Task]:
    """The recorded tasks of these ids. Raises InputError where an id is known in more than one tenant."""
    keys = {place.store.digest(b"id:" + task_id.encode()): task_id for task_id in ids}
    r, c = _run.c, _content.c
    query = (
        select(r.task_key, c.body).join(_content, (c.run_id == r.run_id) & (c.kind == "task"))
        .where(r.pipeline == place.loaded.config.pipeline, among(r.task_key))
    )
    found: dict[str, Task] = {}
    with place.store.read() as connection:
        for some in chunks(list(keys)):
            for row in connection.execute(query, {"among": some}):
                task_id, said = keys[row.task_key], orjson.loads(row.body)
                if task_id in found:
                    raise InputError(f"id {task_id!r} is known in more than one tenant: give its `input` and `meta`")
                found[task_id] = Task(input=said["input"], meta=said["meta"], id=task_id)
    return found


def _runs_of(place: Place, tasks: Sequence[Task]) -> set[str]:
    """The recorded runs of these very tasks: they are no other traffic."""
    r = _run.c
    keys = [place.store.digest(b"id:" + task.id.encode()) for task in tasks if task.id is not None]
    query = select(r.run_id).where(r.pipeline == place.loaded.config.pipeline, among(r.task_key))
    with place.store.read() as connection:
        return {row.run_id for some in chunks(keys) for row in connection.execute(query, {"among": some})}


def _from_csv(path: Path) -> Iterator[Label]:
    from orchestrator.task_file import read

    for line in read(path, task_bytes=1_000_000, schema=None):
        where = f"{path}:{line.number}"
        if line.task is None:
            raise InputError(f"{where}: {line.error}")
        yield _of_task(line.task, where)


def _label(found: dict[str, Any], where: str) -> Label:
    if unknown := sorted(found.keys() - KEYS):
        raise InputError(f"{where}: unknown keys {unknown!r}: a label has 'input' or 'id', 'expected', 'meta'")
    task_id = found.get("id")
    if task_id is not None and (isinstance(task_id, bool) or not isinstance(task_id, str | int)):
        raise TaskError(f"id is {task_id!r}: give a string")
    if "input" not in found and task_id is not None:
        if found.get("expected") is None:
            raise InputError(f"{where}: id {task_id!r} has no `expected`: calibration needs the right answer of each")
        return Label(where=where, id=str(task_id), expected=found["expected"])
    return _of_task(as_task(found), where)


def _of_task(task: Task, where: str) -> Label:
    if task.expected is None:
        named = f"{where}: task {task.id!r}" if task.id is not None else where
        raise InputError(f"{named} has no `expected`: calibration needs the right answer of each")
    return Label(where=where, id=task.id, task=task, expected=task.expected)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        words = "not UTF-8" if "utf" in str(error).lower() else "not JSON (NaN and Infinity are none either)"
        raise ValueError(f"{words}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{found!r} is not an object")
    return found


def _canonical(value: Any, where: str) -> bytes:
    try:
        return canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from error
