"""An event loop in a thread of its own, for the synchronous face.

Not anyio's `start_blocking_portal`: where nobody closes that one, the interpreter does while it ends, when the thread
is gone already, and waits for ever. A script that forgets its `with` ends like one that was killed: what is on record
stays, and spot checks wait for the next process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from orchestrator.errors import InputError

T = TypeVar("T")


class LoopThread:
    """Coroutines are called into the loop, from any thread of this process; `stop` ends it once what it runs has
    ended."""

    def __init__(self) -> None:
        ready: Future[BlockingPortal] = Future()

        async def serve() -> None:
            async with BlockingPortal() as portal:
                ready.set_result(portal)
                await portal.sleep_until_stopped()

        def work() -> None:
            try:
                anyio.run(serve)
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        self._thread = Thread(target=work, name="orchestrator", daemon=True)
        self._thread.start()
        self._portal, self._pid = ready.result(), os.getpid()

    @property
    def portal(self) -> BlockingPortal:
        """Raises InputError in a process that was forked off: the thread is not there, its answer would never come."""
        if self._pid != os.getpid():
            raise InputError(f"this pipeline was at work in process {self._pid} before this one was forked off",
                             hint="load the pipeline in the process that uses it, after the fork")
        return self._portal

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """What `function` returns, waited for."""
        return self.portal.call(function, *args)

    def each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """What `items` gives, one by one. Ctrl-C while one is waited for cancels it, and it has ended before `items` is
        closed."""
        turn = asyncio.Lock()

        async def following() -> T:
            async with turn:
                return await anext(items)

        async def closing() -> None:
            async with turn:
                await items.aclose()

        try:
            while True:
                coming = self.portal.start_task_soon(following)
                try:
                    found = coming.result()
                except StopAsyncIteration:
                    return
                except BaseException:  # Ctrl-C too: what was asked for goes on in the loop otherwise
                    coming.cancel()
                    raise
                yield found
        finally:
            if not sys.is_finalizing():  # else the loop's thread is gone: nobody would answer
                self.portal.call(closing)

    def stop(self) -> None:
        self.portal.call(self.portal.stop)
        self._thread.join()
