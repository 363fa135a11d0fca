"""A store that is there already, opened for one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from orchestrator.store.engine import Store

T = TypeVar("T")


def with_store(url: str, act: Callable[[Store], Awaitable[T]]) -> T:
    """What `act` makes of the store at `url`. A mistyped path is an InputError, not a new and empty store."""
    from orchestrator.store.connect import locate
    from orchestrator.store.engine import Store

    place = locate(url)
    if place.path is not None and place.folder is None and not place.path.exists():
        raise InputError(f"there is no store at {place.name}", hint="give --store URL; `orchestrator run` makes one")

    async def work() -> T:
        store = await Store.open(url)
        try:
            return await act(store)
        finally:
            await store.aclose()

    return asyncio.run(work())


def read_store(url: str, look: Callable[[Connection], T]) -> T:
    """What `look` reads in the store at `url`, in a thread of its own."""

    def read(store: Store) -> T:
        with store.read() as connection:
            return look(connection)

    return with_store(url, lambda store: asyncio.to_thread(read, store))
