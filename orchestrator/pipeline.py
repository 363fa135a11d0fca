"""The SDK: load a pipeline, run tasks through it, record how they turned out.

One asynchronous core. The synchronous face runs it in an event loop of its own, in a thread that lives as long as
the pipeline is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from orchestrator.cascade.again import wanted
from orchestrator.cascade.collected import CALIBRATION, Collected, collected
from orchestrator.cascade.drawn import drawn
from orchestrator.cascade.given import each_made, run_of
from orchestrator.cascade.run import Run
from orchestrator.errors import InputError
from orchestrator.records import Json, Mode, Outcome, Task

if TYPE_CHECKING:
    from orchestrator.cascade.again import Reason
    from orchestrator.cascade.runtime import Runtime
    from orchestrator.config.loader import LoadedPipeline
    from orchestrator.models.client import ModelClient
    from orchestrator.portal import LoopThread
    from orchestrator.store.engine import Store

DEFAULT_STORE = "sqlite:///orchestrator.db"


class Pipeline:
    """A loaded pipeline. Use it as a context manager (`with` or `async with`): closing waits for spot checks.

    Safe to share between threads (the synchronous face) and between tasks of one event loop (the asynchronous one). A
    loop of its own for each task (`asyncio.run(pipeline.arun(task))`) connects anew each time: use `run` there. In a
    process that forks, each child loads its own.
    """

    def __init__(
        self, loaded: LoadedPipeline, *, store: str | Store = DEFAULT_STORE, mode: Mode | None = None,
        clients: Mapping[str, ModelClient] | None = None, clock: Callable[[], float] = time.time,
        in_file: bool = False, calibrating: bool = False, again: Iterable[Reason] = (),
    ) -> None:
        """`load` is the usual way in. `calibrating` runs are recorded apart from the pipeline's own figures."""
        self.loaded = _as_run(loaded, mode, calibrating)
        self._recorded_as = CALIBRATION if calibrating else self.loaded.config.mode
        self._url = store if isinstance(store, str) else ""
        self._given: Store | None = None if isinstance(store, str) else store
        self._clients, self._clock, self._in_file, self._again = clients, clock, in_file, wanted(again)
        self._store: Store | None = self._given
        self._works: dict[asyncio.AbstractEventLoop, Runtime] = {}
        self._graph: Any = None
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._loop: LoopThread | None = None
        self._closed = False

    @classmethod
    def load(
        cls, path: str | Path, *, store: str | Store = DEFAULT_STORE, mode: Mode | None = None,
        clients: Mapping[str, ModelClient] | None = None, env: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time, in_file: bool = False, again: Iterable[Reason] = (),
    ) -> Pipeline:
        """Read and check the pipeline file at `path` and all it names.

        `store` is a database URL (`sqlite:///FILE`, `postgresql://…`, `memory:`); `mode` overrides the file's;
        `clients` replace models by name, for tests. A task that ended without an answer is done again when it comes
        again, where `again` has the reason: "outage" and "budget" in a service whose callers repeat what failed, also
        "failed" and "handed_off" (docs/again.md). Raises ConfigError, naming file, line and key.
        """
        from orchestrator.config.loader import load_pipeline

        loaded = load_pipeline(path, env=env)
        return cls(loaded, store=store, mode=mode, clients=clients, clock=clock, in_file=in_file, again=again)

    # -- asynchronous --------------------------------------------------------------------------------------------

    async def arun(self, task: Task | Mapping[str, Any]) -> Outcome:
        """The outcome of one task. Raises InputError (and its kin) where the task can't be taken."""
        from orchestrator.flow import invoke, let_go

        rt = await self.runtime()
        run = run_of(task, rt.clock())
        try:
            await invoke(self.graph, {"runs": [run]})
        except BaseException:  # cancelled too: who follows this task must not wait for ever
            let_go([run], rt)
            raise
        if run.outcome is None:
            raise run.error or RuntimeError("the run ended without an outcome")
        return run.outcome

    async def amap(
        self, tasks: AsyncIterable[Task | Mapping[str, Any]] | Iterable[Task | Mapping[str, Any]], *,
        concurrency: int = 64,
    ) -> AsyncGenerator[Outcome, None]:
        """Outcomes in order of completion. At most `concurrency` calls are in flight; tasks are drawn as they are
        needed, and no further than the consumer keeps up. A task that can't be taken gives a `failed` outcome."""
        from orchestrator.cascade.settle import outcome_or_failure

        rt = await self.runtime()
        runs = each_made(tasks, lambda task: run_of(task, rt.clock()))
        async with contextlib.aclosing(self.flow(runs, concurrency=concurrency)) as done:
            async for run in done:
                yield outcome_or_failure(run)

    async def flow(
        self, runs: AsyncIterable[Run] | Iterable[Run], *, concurrency: int
    ) -> AsyncGenerator[Run, None]:
        """Runs through the graph, as they end: what `amap` and file runs are made of."""
        from orchestrator.flow import Flow

        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency!r}: give at least 1")
        rt = await self.runtime()
        async with contextlib.aclosing(Flow(rt, self.graph, concurrency).each(runs)) as done:
            async for run in done:
                yield run

    async def arecord_outcome(self, run_id: str, *, success: bool, reason: str = "") -> None:
        """What was learned of a run later (append-only). A failure evicts the answers that led to it."""
        store = await self.astore()
        await store.record_feedback(run_id, success=success, reason=reason)

    async def aresolve_handoff(self, run_id: str, *, value: Json, success: bool = True, reason: str = "") -> None:
        """A person's answer to a task that was handed off; its value must fit the step's output schema."""
        store = await self.astore()
        await store.resolve_handoff(run_id, value=value, success=success, reason=reason)

    async def collect(
        self, tasks: AsyncIterable[Task] | Iterable[Task], *, step: str | None = None, concurrency: int = 64
    ) -> AsyncGenerator[Collected, None]:
        """Draft tasks through the same graph, up to the rule of `step` (by default the last) that compares the
        confidence. Nothing is served, and of that step nothing is validated; the steps before it run as they do
        otherwise. The basis of `orchestrator calibrate`."""
        rt = await self.runtime()
        index = next((s.index for s in rt.steps if s.id == step), len(rt.steps) - 1)
        runs = each_made(tasks, lambda task: run_of(task, rt.clock(), collect_at=index))
        async with contextlib.aclosing(self.flow(runs, concurrency=concurrency)) as done:
            async for run in done:
                yield collected(run, rt, index)

    async def take_up_spot_checks(self) -> None:
        """Start, in the background, the spot checks that an earlier process left undone."""
        from orchestrator.cascade.later import take_up

        take_up(await self.runtime())

    async def astore(self) -> Store:
        """The store of this pipeline, opened where it was not yet."""
        return (await self.runtime()).store

    async def runtime(self) -> Runtime:
        """The compiled pipeline at work in the running event loop: clients and limits belong to a loop."""
        loop = asyncio.get_running_loop()
        found = self._works.get(loop)
        if found is not None:
            return found
        async with self._opening.setdefault(loop, asyncio.Lock()):
            if loop not in self._works:
                await self._drop_ended()
                self._works[loop] = await self._open()
        return self._works[loop]

    async def _drop_ended(self) -> None:
        """Let go of what belonged to loops that have ended, as each `asyncio.run` makes one."""
        for loop in [loop for loop in self._opening if loop.is_closed()]:
            del self._opening[loop]
            if (work := self._works.pop(loop, None)) is not None:
                await work.disconnect(leave=self._clients or ())

    async def __aenter__(self) -> Self:
        await self.runtime()
        await asyncio.to_thread(lambda: self.graph)  # LangGraph takes its time to import: not that of the first task
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for spot checks under way, close clients, and the store where this pipeline opened it."""
        await self._drop_ended()
        work = self._works.pop(asyncio.get_running_loop(), None)
        if work is not None:
            await work.aclose()
        if self._store is not None and self._given is None and not self._works:
            store, self._store = self._store, None
            await store.aclose()

    # -- synchronous ---------------------------------------------------------------------------------------------

    def run(self, task: Task | Mapping[str, Any]) -> Outcome:
        """`arun`, waited for."""
        outcome: Outcome = self._thread().call(self.arun, task)
        return outcome

    def map(self, tasks: Iterable[Task | Mapping[str, Any]], *, concurrency: int = 64) -> Iterator[Outcome]:
        """`amap`, waited for, outcome by outcome. Tasks that are no list are drawn in a thread of their own, up to 64
        ahead: an iterable that waits, for a database or a queue, holds up nothing."""
        ready = tasks if isinstance(tasks, (list, tuple)) else drawn(tasks)
        yield from self._thread().each(self.amap(ready, concurrency=concurrency))

    def record_outcome(self, run_id: str, *, success: bool, reason: str = "") -> None:
        """`arecord_outcome`, waited for."""
        self._thread().call(lambda: self.arecord_outcome(run_id, success=success, reason=reason))

    def resolve_handoff(self, run_id: str, *, value: Json, success: bool = True, reason: str = "") -> None:
        """`aresolve_handoff`, waited for."""
        self._thread().call(lambda: self.aresolve_handoff(run_id, value=value, success=success, reason=reason))

    def __enter__(self) -> Self:
        self._closed = False
        self._thread().call(self.__aenter__)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """`aclose`, waited for; ends the thread. What is asked of it afterwards raises InputError."""
        self._closed = True
        if self._loop is not None:
            loop, self._loop = self._loop, None
            try:
                loop.call(self.aclose)
            finally:
                loop.stop()

    # -- LangGraph -----------------------------------------------------------------------------------------------

    @property
    def graph(self) -> Any:
        """The compiled LangGraph graph, asynchronous: {"tasks": [Task, …]} -> {"outcomes": [Outcome, …]}, in that
        order."""
        if self._graph is None:
            from orchestrator.graph import assemble

            self._graph = assemble(
                self.loaded.config.pipeline, [step.config.id for step in self.loaded.steps], self.runtime,
                lambda tasks, rt: [run_of(task, rt.clock()) for task in tasks],
            )
        return self._graph

    def as_node(self, *, input: str, output: str, outcome: str | None = None, id: str | None = None) -> Any:
        """A node for the caller's own graph: reads the task from state key `input` (a Task, or the mapping that is
        its input), writes the value to `output` and, where named, the whole Outcome to `outcome`. `id` names the
        state key of the idempotency key; a state without one is a task without. Works in `invoke` and `ainvoke`. A
        checkpointer reads outcomes back where its serializer allows `orchestrator.node.STATE_TYPES`."""
        from orchestrator.node import node

        return node(
            self.run, self.arun, self.loaded.config.pipeline, input=input, output=output, outcome=outcome, id=id
        )

    # -- inside --------------------------------------------------------------------------------------------------

    async def _open(self) -> Runtime:
        from orchestrator.cascade.pricing import price_record
        from orchestrator.cascade.runtime import build, config_entry
        from orchestrator.store.engine import Store

        if self._store is None:
            self._store = await Store.open(self._url, clock=self._clock)
        rt = build(
            self.loaded, self._store, clock=self._clock, clients=self._clients, in_file=self._in_file
        )
        rt.calibrating, rt.again = self._recorded_as == CALIBRATION, self._again
        await self._store.record_config(config_entry(self.loaded, self._recorded_as, self._clock()))
        prices = self.loaded.book.prices if self.loaded.book else ()
        await self._store.record_gpu_hours([price_record(one, self._clock()) for one in prices if one.gpu_hour])
        return rt

    def _thread(self) -> LoopThread:
        if self._closed:
            raise InputError(
                "this pipeline is closed", hint="use it inside its `with` block, or load it anew: nobody would wait "
                "for the spot checks of a run after that",
            )
        if self._loop is None:
            from orchestrator.portal import LoopThread

            self._loop = LoopThread()
        return self._loop


def _as_run(loaded: LoadedPipeline, mode: Mode | None, calibrating: bool) -> LoadedPipeline:
    """The pipeline in another mode than its file says, or at calibration: a configuration with an id of its own."""
    mode = mode or loaded.config.mode
    marks = [*([mode] if mode != loaded.config.mode else []), *([CALIBRATION] if calibrating else [])]
    config = loaded.config.model_copy(update={"mode": mode})
    if calibrating:  # it serves nobody: what limits the escalation of live tasks does not stop it
        config = config.model_copy(update={"limits": config.limits.model_copy(update={"escalation": None})})
    return replace(loaded, config=config, config_id=":".join([loaded.config_id, *marks]))
