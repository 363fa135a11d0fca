"""Many tasks through the graph: bounded groups in flight, yielded as they complete, nothing left behind on exit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any

from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime

GROUP = 64


class Flow:
    """Moves runs through the graph in groups. `concurrency` bounds the calls in flight; twice as many tasks wait."""

    def __init__(self, rt: Runtime, graph: Any, concurrency: int) -> None:
        self._rt, self._graph = rt, graph
        self._slots = asyncio.Semaphore(concurrency)
        self._size = max(1, min(GROUP, concurrency // 2))
        self._most = max(2 * concurrency, 2 * self._size)
        self._active: dict[asyncio.Future[Any], list[Run]] = {}
        self._open = 0

    async def each(self, runs: AsyncIterable[Run] | Iterable[Run]) -> AsyncGenerator[Run, None]:
        """Every run, done, in order of completion. Closing the iterator cancels what is in flight and settles it."""
        source = Source(runs)
        try:
            while True:
                await self._fill(source)
                waiting: set[asyncio.Future[Any]] = set(self._active)
                if source.coming is not None and self._open < self._most:
                    waiting.add(source.coming)
                if not waiting:
                    return
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for run in self._collect([task for task in done if task in self._active]):
                    self._open -= 1
                    yield run
        finally:
            await source.aclose()
            await self._stop()

    async def _fill(self, source: Source) -> None:
        while self._open + self._size <= self._most:
            group = await source.take(self._size)
            if not group:
                return
            for run in group:
                run.slots = self._slots
            self._open += len(group)
            self._start(group)

    def _start(self, group: list[Run]) -> None:
        self._active[asyncio.create_task(self._graph_of(group))] = group

    async def _graph_of(self, group: list[Run]) -> None:
        following = [run.follow for run in group if run.follow is not None and run.stage is Stage.SETTLE]
        if following:
            await asyncio.wait(following)
        await invoke(self._graph, {"runs": group, "regroup": True})

    def _collect(self, done: list[asyncio.Future[Any]]) -> list[Run]:
        """Runs that are done; the others enter again, together with those that wait at the same place."""
        again: dict[tuple[int, Stage], list[Run]] = {}
        finished: list[Run] = []
        for task in done:
            if task.exception() is None:
                group = self._active.pop(task)
            else:
                task.result()
            for run in group:
                if run.stage is Stage.DONE:
                    finished.append(run)
                else:
                    again.setdefault((run.step, run.stage), []).append(run)
        for waiting in again.values():
            self._start(waiting)
        return finished

    async def _stop(self) -> None:
        for task in self._active:
            task.cancel()
        await asyncio.gather(*self._active, return_exceptions=True)
        for group in self._active.values():
            let_go(group, self._rt)
        self._active.clear()


class Source:
    """Runs as they come. A live (async) source gives what is there; it never holds back a group to fill it."""

    def __init__(self, runs: AsyncIterable[Run] | Iterable[Run]) -> None:
        live = isinstance(runs, AsyncIterable)
        self._plain = None if live else iter(runs)  # type: ignore[arg-type]  # told apart by the line above
        self._live = aiter(runs) if live else None  # type: ignore[arg-type]
        self.coming: asyncio.Task[Run] | None = None

    async def take(self, count: int) -> list[Run]:
        """Up to `count` runs; none where the source has ended or nothing is there yet (then `coming` is set)."""
        group: list[Run] = []
        if self._plain is not None:
            for run in self._plain:
                group.append(run)
                if len(group) == count:
                    break
            return group
        while self._live is not None and len(group) < count:
            if self.coming is None:
                self.coming = asyncio.ensure_future(anext(self._live))
                await asyncio.sleep(0)
            if not self.coming.done():
                break
            done, self.coming = self.coming, None
            try:
                group.append(done.result())
            except StopAsyncIteration:
                self._live = None
        return group

    async def aclose(self) -> None:
        if self.coming is not None:
            self.coming.cancel()
            await asyncio.gather(self.coming, return_exceptions=True)


async def invoke(graph: Any, given: dict[str, Any]) -> Any:
    """The graph, for as many redrafts as the policy allows."""
    return await graph.ainvoke(given, {"recursion_limit": 1000, "callbacks": []})


def let_go(group: Iterable[Run], rt: Runtime) -> None:
    """Those who follow a run that was given up must not wait for ever."""
    for run in group:
        if run.stage is not Stage.DONE and run.follow is None:
            rt.let_go(run.task.tenant, run.task_key, None)
