"""Processes of many threads against the same few budgets, killed in mid-run, with an observer that never looks away.

`python -m tests.budget_storm URL --processes 4 --threads 64 --kills 6 --calls 6000` prints the account. A call reserves
in the budget of its pipeline's file, in that of everything and in its tenant's (both of the store), and settles at a
random cost up to its bound, or at none that is known. All goes on until every thread was refused many times over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import text

from orchestrator.config.budget import Who, bucket, set_in_store
from orchestrator.errors import BudgetExceeded
from orchestrator.records import Money
from orchestrator.store.connect import locate, reading_engine
from orchestrator.store.engine import Store
from orchestrator.store.entries import BudgetLine, Covered
from tests.stores import intent, settlement, usd

TENANTS, PIPELINES = ("a", "b", "c"), ("p", "q", "r")
BOUND = 10_000
"""The largest bound, in billionths; bounds are uniform up to it, and so are costs up to theirs."""
GIVE_UP = 12
"""Refusals in a row after which a thread ends: what is left fits no call."""
CALLS = """SELECT call_id, state, scopes, cost_nano, bound_nano FROM call WHERE scopes IS NOT NULL"""
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
FIGURES = "SELECT scope, limit_nano, spent_nano, reserved_nano FROM budget"


@dataclass(kw_only=True)
class Seen:
    """What the observer saw: `most` is the largest share of any limit that was spent or reserved at once."""

    samples: int = 0
    most: float = 0.0
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What is left when all is done. `wrong` must be empty, and so must `seen.broken`."""

    seconds: float
    kills: int
    calls: int
    unsettled: int
    left_unused: int
    deadlocks: int
    seen: Seen
    wrong: list[str]


def storm(url: str, *, processes: int, threads: int, kills: int, calls: int, seed: int = 0) -> Account:
    """Run it. Budgets are so large that about `calls` calls fit."""
    limit = calls * BOUND // 4
    asyncio.run(_limits(url, limit))
    draw, started = random.Random(seed), time.perf_counter()
    with _watched(url) as seen:
        workers = [_worker(url, threads, limit, draw.randrange(2**32)) for _ in range(processes)]
        killed = 0
        try:
            while killed < kills or any(worker.poll() is None for worker in workers):
                place = draw.randrange(processes)
                if killed < kills and seen.most > 0.9 * killed / kills:  # by what is spent: machines differ in speed
                    time.sleep(draw.uniform(0.0, 0.1))
                    workers[place].send_signal(signal.SIGKILL)
                    killed += workers[place].wait() == -signal.SIGKILL
                    workers[place] = _worker(url, threads, limit, draw.randrange(2**32))
                time.sleep(0.01)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    codes = [worker.returncode for worker in workers]
    seconds = time.perf_counter() - started
    account = asyncio.run(_account(url, seconds, killed, seen))
    return account if codes == [0] * processes else _failed(account, codes)


def _failed(account: Account, codes: list[int]) -> Account:
    return Account(**{**vars(account), "wrong": [*account.wrong, f"workers ended with {codes}"]})


async def _limits(url: str, limit: int) -> None:
    store = await Store.open(url)
    await store.set_budget(Who("all"), [("month", usd(limit), usd(limit // 2))])
    for tenant in TENANTS:
        await store.set_budget(Who("tenant", tenant), [("total", usd(limit // 2), None)], new=True)
    await store.aclose()


def _worker(url: str, threads: int, limit: int, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.budget_storm", url, "--worker", "--threads", str(threads), "--limit", str(limit),
         "--seed", str(seed)],
    )


# -- a worker ----------------------------------------------------------------------------------------------------------


async def work(url: str, threads: int, limit: int, seed: int) -> None:
    store = await Store.open(url, lease_s=6.0)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(threads) as pool:
        await asyncio.gather(*(
            loop.run_in_executor(pool, asyncio.run, _spend(store, limit, random.Random(seed + thread)))
            for thread in range(threads)
        ))
    await store.aclose()


async def _spend(store: Store, limit: int, draw: random.Random) -> None:
    refused = number = 0
    name = f"{store.owner_id}-{draw.randrange(2**40)}"
    while refused < GIVE_UP:
        number += 1
        call_id, bound, now = f"{name}-{number}", draw.randint(1, BOUND), bucket("day", time.time())
        pipeline = draw.choice(PIPELINES)
        covered = Covered(since=now.since, until=now.until, pipeline=pipeline)
        of_file = BudgetLine(scope=now.scope(pipeline), limit=usd(limit // 2), covered=covered)
        of_task = BudgetLine(scope=f"task:{name}", limit=usd(limit))
        try:
            await store.intend(intent(
                call_id, f"run of {name}", bound=usd(bound), budgets=(of_file, of_task), pipeline=pipeline,
                tenant=draw.choice(TENANTS),
            ))
        except BudgetExceeded:
            refused += 1
            continue
        refused = 0
        await store.settle(_settled(call_id, bound, draw))


def _settled(call_id: str, bound: int, draw: random.Random) -> Any:
    how = draw.random()
    if how < 0.05:
        return settlement(call_id, state="unsettled", cost=None, usage=None, provenance="unsettled",
                          ended_at=time.time())
    cost = bound if how < 0.25 else draw.randint(0, bound)
    return settlement(call_id, cost=Money(nano=cost), ended_at=time.time())


# -- the observer ------------------------------------------------------------------------------------------------------


@contextmanager
def _watched(url: str) -> Iterator[Seen]:
    """Look at every budget, in one consistent view each time, from a connection of its own, as often as it goes."""
    seen, over = Seen(), threading.Event()
    engine = reading_engine(locate(url), size=1)

    def look() -> None:
        while not over.is_set():
            with engine.connect() as connection:
                for scope, limit, spent, reserved in connection.execute(text(FIGURES)):
                    seen.most = max(seen.most, (spent + reserved) / limit)
                    if spent + reserved > limit or min(spent, reserved) < 0:
                        seen.broken.append(f"{scope}: {spent} + {reserved} of {limit}")
            seen.samples += 1
            over.wait(0.001)

    observer = threading.Thread(target=look)
    observer.start()
    try:
        yield seen
    finally:
        over.set()
        observer.join()
        engine.dispose()


# -- the account -------------------------------------------------------------------------------------------------------


async def _account(url: str, seconds: float, kills: int, seen: Seen) -> Account:
    """Opened once more: what the dead left is recovered. Then every budget must be the sum of its calls."""
    store = await Store.open(url)
    with store.read() as connection:
        calls = connection.execute(text(CALLS)).all()
        budgets = connection.execute(text(FIGURES)).all()
        postgres = connection.dialect.name == "postgresql"
        deadlocks = int(connection.execute(text(DEADLOCKS)).scalar_one()) if postgres else 0
    standings = await store.budgets(tasks=True)
    await store.aclose()
    sums: dict[str, int] = {}
    for call in calls:
        for scope in call.scopes.split():
            sums[scope] = sums.get(scope, 0) + (call.bound_nano if call.cost_nano is None else call.cost_nano)
    wrong = [f"{c.call_id} is still open" for c in calls if c.state == "intent"]
    for b in budgets:
        if (b.spent_nano, b.reserved_nano) != (sums.get(b.scope, 0), 0):
            wrong.append(f"{b.scope}: spent {b.spent_nano}, reserved {b.reserved_nano}, its calls {sums.get(b.scope)}")
    within = all(one.limit.nano >= one.spent.nano for one in standings)
    if not within or not any(set_in_store(b.scope) for b in budgets):
        wrong.append("a limit was passed, or none applied")
    left = min(b.limit_nano - b.spent_nano for b in budgets if not b.scope.startswith("task:"))
    return Account(
        seconds=round(seconds, 1), kills=kills, calls=len(calls), left_unused=left, deadlocks=deadlocks, seen=seen,
        wrong=wrong, unsettled=sum(call.state == "unsettled" for call in calls),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        asyncio.run(work(asked.url, asked.threads, asked.limit, asked.seed))
        return
    print(json.dumps(asdict(storm(
        asked.url, processes=asked.processes, threads=asked.threads, kills=asked.kills, calls=asked.calls,
        seed=asked.seed,
    ))))


if __name__ == "__main__":
    main()
