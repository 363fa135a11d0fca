"""The one writer of a process: a thread that commits whatever has gathered, in groups.

A caller submits an operation and awaits it; it resumes once the commit that holds it is durable. While one commit is
under way the next group gathers, so a busy process pays for one commit a group and a quiet one waits for none.

**What nobody outside can have seen need not wait for the disk**: the durability of such commits is delayed to the next
one that waits, which takes along all that was written before it. See docs/store.md.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from orchestrator.errors import OrchestratorError, StoreError
from orchestrator.store.connect import (
    LOCK_PATIENCE_S,
    is_of_a_row,
    is_transient,
    rows_written,
    store_error,
    wait_for_disk,
)
from orchestrator.store.statements import Transaction

log = logging.getLogger(__name__)
Payload = TypeVar("Payload")
Result = TypeVar("Result")

Flow = Callable[[Transaction, Sequence[Any]], Sequence[Any]]
"""Writes a list of payloads in the open transaction; one result each, where an OrchestratorError refuses its own."""

GROUP = 256
"""Most operations of one commit: other processes wait for it."""
DELAY_S = 0.025
"""How long durability is delayed at most. What comes of a claim or an answer mostly follows sooner."""


@dataclass(slots=True)
class _Operation:
    flow: Flow
    payload: Any
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[Any] | None = None


class Writer:
    """Owns the writing connection. `order` ranks flows within a commit: what a run does first comes first.

    `beat` is a flow run every `beat_s` seconds (the lease): in this thread, so that a busy event loop loses no lease.
    The durability of a commit of `delayed` flows alone is delayed; `renew` is what is committed where nothing follows.
    `ready` is called before each commit, and raises StoreError where nothing may be written any more.
    """

    def __init__(
        self, connection: Connection, *, name: str, owner_id: str, clock: Callable[[], float], lease_s: float,
        order: Sequence[Flow], beat: Flow, beat_s: float, renew: Flow, delayed: frozenset[Flow] = frozenset(),
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection, self._name, self._owner_id, self._clock = connection, name, owner_id, clock
        self._lease_s, self._beat, self._beat_s, self._renew = lease_s, beat, beat_s, renew
        self._delayed, self._waits, self._due, self._ready = delayed, True, math.inf, ready
        self._rank = {flow: place for place, flow in enumerate(order)}
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._broken: StoreError | None = None
        self._head: tuple[int, bytes] | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="orchestrator-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(
        self, flow: Callable[[Transaction, Sequence[Payload]], Sequence[Result | OrchestratorError]], payload: Payload
    ) -> asyncio.Future[Result]:
        """Queue one operation. Awaiting gives its result once durable, or the error; it is queued at once, so a
        caller cancelled while it waits has still written it."""
        if self._pid != os.getpid():  # the thread is not there: this would wait for ever
            raise StoreError(f"store {self._name} was opened in process {self._pid}, before this one was forked off",
                             hint="open it in the process that uses it")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._gate:
            if self._broken is not None:
                raise StoreError(str(self._broken), hint=self._broken.hint)
            self._queue.put(_Operation(flow, payload, loop, future))
        return future

    def close(self) -> None:
        """Commit what is queued, then end the thread. Blocks; later operations get a StoreError."""
        with self._gate:
            if self._broken is None:
                self._broken = StoreError(f"store {self._name} is closed")
                self._queue.put(None)
        self._thread.join()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        batch: list[_Operation] = []
        try:
            next_beat = time.monotonic() + self._beat_s
            going = True
            while going:
                going, batch = self._gather(min(next_beat, self._due) - time.monotonic())
                if time.monotonic() >= next_beat:
                    batch.append(_Operation(self._beat, None))
                    next_beat = time.monotonic() + self._beat_s
                elif not batch and time.monotonic() >= self._due:
                    batch.append(_Operation(self._renew, None))
                    self._due = math.inf  # tried once: a disk that fails is told of by what is written next
                if batch:
                    self._commit(batch)
        except BaseException as error:  # a thread that dies silently would leave its callers waiting for ever
            log.exception("the writer of store %s stopped", self._name)
            self._stop(batch, store_error(error, self._name))

    def _gather(self, wait_s: float) -> tuple[bool, list[_Operation]]:
        """What has come together by now, waiting at most `wait_s` for the first; False once the store closes."""
        batch: list[_Operation] = []
        try:
            one = self._queue.get(timeout=max(0.0, wait_s))
            while one is not None:
                batch.append(one)
                if len(batch) >= GROUP:
                    break
                one = self._queue.get_nowait()
        except queue.Empty:
            return True, batch
        return one is not None, batch

    def _commit(self, batch: list[_Operation]) -> None:
        try:
            results = self._transact(batch)
        except Exception as error:  # noqa: BLE001  # whatever went wrong, those who wait must hear of it
            results = self._failed(batch, error)
        _resolve(batch, results)

    def _failed(self, batch: list[_Operation], error: Exception) -> list[Any]:
        """Nothing of `batch` was written. If one operation is to blame, find it by committing each on its own."""
        if len(batch) > 1 and is_of_a_row(error):
            return [result for operation in batch for result in self._alone(operation)]
        if all(operation.future is None for operation in batch):
            log.warning("store %s: the lease could not be renewed: %s", self._name, error)
        return [store_error(error, self._name) for _ in batch]

    def _alone(self, operation: _Operation) -> list[Any]:
        try:
            return self._transact([operation])
        except Exception as error:  # noqa: BLE001  # as in _commit
            return [store_error(error, self._name)]

    def _transact(self, batch: list[_Operation]) -> list[Any]:
        """Write `batch` in one transaction; again, within a bound, where another process was in the way."""
        self._ready()
        self._wait_or_delay(batch)
        before = rows_written(self._connection) if self._due < math.inf else 0
        give_up = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                with self._transaction() as transaction:
                    results = self._write(transaction, batch)
                if self._waits and self._due < math.inf and rows_written(self._connection) > before:
                    self._due = math.inf
                for words in transaction.warnings:
                    log.warning("store %s: %s", self._name, words)
                return results
            except Exception as error:
                if not is_transient(error) or time.monotonic() >= give_up:
                    raise
            time.sleep(random.uniform(0.0002, 0.005))

    def _wait_or_delay(self, batch: Sequence[_Operation]) -> None:
        """Will the commit of `batch` wait for the disk? It takes those along that did not, the first due at `_due`."""
        now = time.monotonic()
        waits = now >= self._due or any(operation.flow not in self._delayed for operation in batch)
        if not waits:
            self._due = min(self._due, now + DELAY_S)
        if waits is not self._waits:
            wait_for_disk(self._connection, waits)
            self._waits = waits

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        head, self._head = self._head, None  # unknown until the commit: then nobody else has moved it
        with self._connection.begin():
            transaction = Transaction(
                connection=self._connection, owner_id=self._owner_id, now=self._clock(), lease_s=self._lease_s,
                head=head,
            )
            yield transaction
        self._head = transaction.head

    def _write(self, transaction: Transaction, batch: list[_Operation]) -> list[Any]:
        """Each flow once, with all its payloads, in the order of a run's life."""
        places: dict[Flow, list[int]] = {}
        for place, operation in enumerate(batch):
            places.setdefault(operation.flow, []).append(place)
        results: list[Any] = [None] * len(batch)
        for flow in sorted(places, key=lambda flow: self._rank.get(flow, len(self._rank))):
            found = flow(transaction, [batch[place].payload for place in places[flow]])
            for place, result in zip(places[flow], found, strict=True):
                results[place] = result
        return results

    def _stop(self, batch: list[_Operation], error: StoreError) -> None:
        with self._gate:
            self._broken = error
            while not self._queue.empty():
                if (operation := self._queue.get_nowait()) is not None:
                    batch.append(operation)
        _resolve(batch, [error] * len(batch))


def one_by_one(
    transaction: Transaction, operations: Sequence[Callable[[Transaction], Result]]
) -> list[Result | OrchestratorError]:
    """The flow of what is too rare to be written in groups: each operation writes for itself.

    It must check before it writes: an OrchestratorError it raises refuses that operation only.
    """
    results: list[Result | OrchestratorError] = []
    for operation in operations:
        try:
            results.append(operation(transaction))
        except OrchestratorError as error:
            results.append(error)
    return results


def _resolve(batch: Sequence[_Operation], results: Sequence[Any]) -> None:
    """Wake the callers: once a loop, not once an operation."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for operation, result in zip(batch, results, strict=True):
        if operation.loop is not None and operation.future is not None:
            by_loop.setdefault(operation.loop, []).append((operation.future, result))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer, answers)
        except RuntimeError:  # the loop was closed: nobody waits there any more
            continue


def _answer(answers: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in answers:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
