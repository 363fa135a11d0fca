"""Tasks drawn in a thread of their own: an iterable that waits (for a database, a queue) holds up no call under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from threading import Semaphore, Thread
from typing import Any, TypeVar

T = TypeVar("T")

AHEAD = 64
"""How many are drawn before anybody asks for them."""


async def drawn(items: Iterable[T]) -> AsyncGenerator[T, None]:
    """The same items, in order. Where this is closed early a generator is closed, too, as soon as it gives way."""
    pump = _Pump(iter(items))
    try:
        while (found := await pump.coming.get()) is not pump:
            pump.room.release()
            yield found
        if pump.error is not None:
            raise pump.error
    finally:
        pump.stop()


class _Pump:
    """Draws into `coming` until the items or the wish for them end; then puts itself there."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self.coming: asyncio.Queue[Any] = asyncio.Queue()
        self.room = Semaphore(AHEAD)
        self.error: BaseException | None = None
        Thread(target=self._draw, name="orchestrator-tasks", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        self.room.release()

    def _draw(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is there to tell
            try:
                while not self._stopped:
                    self.room.acquire()
                    if self._stopped:
                        break
                    self._loop.call_soon_threadsafe(self.coming.put_nowait, next(self._items))
            except StopIteration:
                pass
            except BaseException as error:  # noqa: BLE001 - a caller's code: what it raises is the caller's
                self.error = error
            if isinstance(self._items, Generator):
                with contextlib.suppress(Exception):  # nobody asks for it any more
                    self._items.close()
            self._loop.call_soon_threadsafe(self.coming.put_nowait, self)
