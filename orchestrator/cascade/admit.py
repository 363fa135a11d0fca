"""Admit: check the task, claim its run in the store, and send home what is already done.

**A task is claimed before anything is spent on it, and by one process only.**
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.canonical import canonical, stable
from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, UnderWay
from orchestrator.cascade.settle import outcome_of
from orchestrator.errors import ConfigChanged, DuplicateTask, EscalationPaused, InputError, TaskError
from orchestrator.records import Task
from orchestrator.store.entries import Claimed, RunClaim

BUSY_POLL_S = 0.25
SHARE_LOOK_S = 1.0


async def admit(runs: Sequence[Run], rt: Runtime) -> None:
    """Claim each run; those refused, done or followed elsewhere leave the path here."""
    await _look_at_escalation(rt)
    claims: list[tuple[Run, RunClaim]] = []
    for run in runs:
        try:
            claim = _claim(run, rt)
        except InputError as error:
            _refuse(run, error)
            continue
        if rt.escalations_paused and _pauses(rt):
            _refuse(run, EscalationPaused(_paused_words(rt)))
            continue
        if not _follows(run, claim, rt):
            claims.append((run, claim))
    while claims:
        claimed = await rt.store.claim([claim for _, claim in claims])
        pairs = list(zip(claims, claimed, strict=True))
        claims = [(run, claim) for (run, claim), got in pairs if got.kind == "busy"]
        for (run, _), got in pairs:
            if got.kind != "busy":
                await _take(run, got, rt)
        if claims:
            await asyncio.sleep(BUSY_POLL_S)


def check_task(task: Task, rt: Runtime) -> bytes:
    """The task's stable bytes. Raises TaskError where it is oversized or not what the task schema says."""
    try:
        expected, given, meta = stable(task.expected), stable(task.input), stable(task.meta)
        if b"null" in given or b"null" in meta:
            canonical([task.input, task.meta])  # NaN is null in the stable form, and an error here
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"the task is not JSON: {error}") from error
    body = b'{"expected":%b,"input":%b,"meta":%b}' % (expected, given, meta)
    if len(body) > rt.config.limits.task_bytes:
        raise TaskError(
            f"the task has {len(body)} bytes and `limits.task_bytes` is {rt.config.limits.task_bytes}",
            hint="raise `limits.task_bytes`, or shorten the task",
        )
    if rt.task_schema is not None:
        for found in rt.task_schema.iter_errors({"input": task.input, "meta": task.meta}):
            where = ".".join(str(p) for p in found.instance_path) or "task"
            raise TaskError(f"{where}: {found.message}", hint="the task schema is the pipeline's `task:` file")
    return body


def filled(task: Task, schema: Mapping[str, Any] | None) -> Task:
    """The task as it is sent: with the defaults of the pipeline's task schema."""
    if schema is None:
        return task
    parts = schema.get("properties", {})
    return Task(
        input=with_defaults(task.input, parts.get("input")), meta=with_defaults(task.meta, parts.get("meta")),
        id=task.id, expected=task.expected,
    )


def with_defaults(value: Any, schema: Mapping[str, Any] | None) -> Any:
    """`value` with the schema's `default`s filled in, in objects, recursively."""
    if not isinstance(value, Mapping) or not schema:
        return value
    filled = dict(value)
    for name, part in schema.get("properties", {}).items():
        if name in filled:
            filled[name] = with_defaults(filled[name], part)
        elif "default" in part:
            filled[name] = part["default"]
    return filled


def key_of(task: Task, line: int | None, body: bytes) -> bytes | None:
    """What makes a task this one: its id, else its line in a file, with its content. None where there is neither."""
    if task.id is not None:
        return b"id:" + task.id.encode()
    return b"line:%d:" % line + body if line is not None else None


def _claim(run: Run, rt: Runtime) -> RunClaim:
    task = run.task
    run.task = task = filled(task, rt.loaded.task_schema)
    body = check_task(task, rt)
    prefix = b"calibrate:" if run.collecting else b""
    key = key_of(task, run.line, body) or b"run:" + run.run_id.encode()
    run.task_key = rt.store.digest(prefix + key)
    keep = rt.config.content.keep
    named = rt.config.tags
    return RunClaim(
        run_id=run.run_id, pipeline=rt.config.pipeline, tenant=task.tenant, task_key=run.task_key,
        task_digest=rt.store.digest(body), config_id=rt.loaded.config_id,
        tags={t: task.meta[t] for t in named if t in task.meta} if named else {},
        content=b'{"id":' + stable(task.id) + b"," + body[1:],
        keep_until=rt.clock() + keep if isinstance(keep, float) else None, config_strict=rt.strict_config,
        again=rt.again,
    )


def _follows(run: Run, claim: RunClaim, rt: Runtime) -> bool:
    """True where this process has the same task under way: then this run waits for that one's outcome."""
    place = (run.task.tenant, run.task_key)
    leader = rt.inflight.get(place)
    if leader is None:
        rt.inflight[place] = UnderWay(claim.task_digest, asyncio.get_running_loop().create_future())
        return False
    if leader.digest != claim.task_digest:
        _refuse(run, DuplicateTask(f"task {run.task.id!r} is under way with other content"))
    else:
        run.follow, run.stage = leader.outcome, Stage.SETTLE
    return True


async def _take(run: Run, got: Claimed, rt: Runtime) -> None:
    match got.kind:
        case "new" | "resumed":
            run.run_id = got.run_id
            run.resumed, run.again_of = got.kind == "resumed", got.again_of
            run.stage = Stage.SCREEN
        case "done":
            assert got.outcome is not None
            run.run_id, run.done_under = got.run_id, got.outcome.config_id
            run.outcome, run.stage = outcome_of(got.outcome, id=run.task.id), Stage.DONE
            rt.let_go(run.task.tenant, run.task_key, run.outcome)
        case "conflict":
            words = f"task {run.task.id!r} was taken before with other content"
            _refuse(run, DuplicateTask(words))
            rt.let_go(run.task.tenant, run.task_key, run.outcome)
        case "config_changed":
            _refuse(run, ConfigChanged("the configuration changed since this run began"))
            rt.let_go(run.task.tenant, run.task_key, run.outcome)
        case "busy":
            raise AssertionError("busy runs are asked again")


def _refuse(run: Run, error: InputError | EscalationPaused) -> None:
    run.error, run.stage = error, Stage.DONE


def _pauses(rt: Runtime) -> bool:
    limit = rt.config.limits.escalation
    return limit is not None and limit.then == "pause"


def _paused_words(rt: Runtime) -> str:
    limit = rt.config.limits.escalation
    assert limit is not None
    return f"more than {limit.share:.0%} of the tasks of the last {limit.window:g} s escalated: no new task is taken"


async def _look_at_escalation(rt: Runtime) -> None:
    limit = rt.config.limits.escalation
    now = rt.clock()
    if limit is None or now - rt.share_at < SHARE_LOOK_S:
        return
    rt.share_at = now
    outcomes, escalated = await rt.store.escalation_share(rt.config.pipeline, now - limit.window)
    above = outcomes >= limit.at_least and escalated > limit.share * outcomes
    if above and not rt.escalations_paused:
        await rt.store.record_event(rt.config.pipeline, "escalation_limit", f"{escalated} of {outcomes} escalated")
    rt.escalations_paused = above
