"""A process that writes to a store, for tests that kill it or set several against each other.

`python -m tests.store_worker intents URL N` writes N intents of its own, says `ready` and waits to be killed.
`python -m tests.store_worker load URL` writes and settles calls until its standard input closes, saying each id.
`python -m tests.store_worker spend URL LIMIT WANTED` reserves until it is refused, and says how often it was not.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from orchestrator.errors import BudgetExceeded
from orchestrator.store.engine import Store
from tests.stores import intent, line, settlement, usd

LIMIT = 10**15


def names(count: int) -> list[str]:
    return [f"{os.getpid()}-{i}" for i in range(count)]


async def intents(store: Store, count: str) -> None:
    await asyncio.gather(*(store.intend(intent(name, f"run of {name}", budgets=(line(LIMIT),)))
                           for name in names(int(count))))
    print("ready", flush=True)
    await asyncio.Event().wait()


async def load(store: Store) -> None:
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()

    async def one(name: str) -> None:
        await store.intend(intent(name, f"run of {name}", budgets=(line(LIMIT),)))
        print("sent", name, flush=True)
        await store.settle(settlement(name))
        print("got", name, flush=True)

    turn = 0
    while not closed.is_set():
        await asyncio.gather(*(one(f"{name}-{turn}") for name in names(8)))
        turn += 1
    await store.aclose()


async def spend(store: Store, limit: str, wanted: str) -> None:
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    passed = 0
    try:
        while True:
            name = f"{os.getpid()}-{passed}"
            await store.intend(intent(name, bound=usd(int(wanted)), budgets=(line(int(limit)),)))
            passed += 1
    except BudgetExceeded:
        print(passed, flush=True)
    await store.aclose()


async def main(what: str, url: str, *arguments: str) -> None:
    store = await Store.open(url)
    await {"intents": intents, "load": load, "spend": spend}[what](store, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
