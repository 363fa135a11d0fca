"""The thread behind an embedded model: it loads the model, then generates what is queued, batch by batch."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ContextOverflow, ModelError, RequestRefused, ServerFailed
from orchestrator.records import Request

if TYPE_CHECKING:
    from orchestrator.models.embedded_engine import Engine, Generated, Prompt

ENDPOINT = "in-process"
LINGER_S = 0.002
"""How long a batch waits for company once its first row is there."""


@dataclass(frozen=True, slots=True)
class Done:
    generated: Generated
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A rendered request. Cancelling its future takes it out of the queue, or out of the running batch."""

    text: str
    request: Request
    schema: str | None
    seed: tuple[int, int]
    future: Future[Done] = field(default_factory=Future)


class Worker:
    """Starts its thread at once. `submit` may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[Job, Prompt]] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"embedded:{folder.name}", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # the runtime reports leaks unless its objects go before the interpreter does

    def submit(self, job: Job) -> None:
        self._queue.put(job)

    def close(self) -> None:
        """Give up what runs (at its next token) and what waits; return when the thread has ended."""
        atexit.unregister(self.close)
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
        while not self._queue.empty():
            if (job := self._queue.get()) is not None:
                job.future.cancel()

    def _run(self) -> None:
        try:
            from orchestrator.models.embedded_engine import Engine

            engine = Engine(self._folder)
        except Exception as error:  # noqa: BLE001  whatever a broken folder raises, each caller has to hear of it
            self._refuse_all(f"the model in {str(self._folder)!r} can't be loaded: {error}")
            return
        while self._collect(engine):
            if batch := self._next_batch(engine):
                self._generate(engine, batch)
        for job, _ in self._waiting:
            job.future.cancel()

    def _refuse_all(self, message: str) -> None:
        while (job := self._queue.get()) is not None:
            _settle(job, RequestRefused(message, sent=False, endpoint=ENDPOINT))

    def _collect(self, engine: Engine) -> bool:
        """Wait for work, then a moment for company. False once closing."""
        until = time.monotonic() + LINGER_S
        while not self._closing.is_set():
            left = max(0.0, until - time.monotonic()) if self._waiting else None
            try:
                job = self._queue.get(timeout=left)
            except queue.Empty:
                return True
            if job is not None:
                self._admit(engine, job)
                until = time.monotonic() + LINGER_S if len(self._waiting) == 1 else until
        return False

    def _admit(self, engine: Engine, job: Job) -> None:
        with _faults_told([job]):
            prompt = engine.prompt(job.text, job.request, schema=job.schema, seed=job.seed)
            length, limit = len(prompt.tokens), engine.context_length
            if length + prompt.max_tokens > limit:
                raise ContextOverflow(
                    f"{length} tokens of prompt and max_tokens {prompt.max_tokens} exceed the context of {limit}",
                    sent=False, endpoint=ENDPOINT,
                )
            self._waiting.append((job, prompt))

    def _next_batch(self, engine: Engine) -> list[tuple[Job, Prompt]]:
        """The one that waited longest, and whoever may run with it."""
        batch: list[tuple[Job, Prompt]] = []
        left: deque[tuple[Job, Prompt]] = deque()
        for job, prompt in self._waiting:
            if not job.future.cancelled():
                fitting = engine.fits([chosen for _, chosen in batch], prompt)
                (batch if fitting else left).append((job, prompt))
        self._waiting = left
        return batch

    def _generate(self, engine: Engine, batch: list[tuple[Job, Prompt]]) -> None:
        def given_up(row: int) -> bool:
            return self._closing.is_set() or batch[row][0].future.cancelled()

        with _faults_told([job for job, _ in batch]):
            rows = engine.generate([prompt for _, prompt in batch], given_up)
            for (job, prompt), row in zip(batch, rows, strict=True):
                if row.finish_reason:
                    _settle(job, Done(row, len(prompt.tokens)))
                else:
                    job.future.cancel()


@contextmanager
def _faults_told(jobs: Sequence[Job]) -> Iterator[None]:
    """The boundary of the thread: whatever fails, no caller is left waiting and the next batch runs."""
    try:
        yield
    except ModelError as error:
        for job in jobs:
            _settle(job, error)
    except Exception as error:  # noqa: BLE001  the runtime raises what it likes, and so may a bug of ours
        for job in jobs:
            failed = ServerFailed(f"the embedded runtime failed: {type(error).__name__}: {error}", endpoint=ENDPOINT)
            _settle(job, failed)


def _settle(job: Job, result: Done | ModelError) -> None:
    """Give the result to a caller who still waits."""
    if not job.future.set_running_or_notify_cancel():
        return
    if isinstance(result, ModelError):
        job.future.set_exception(result)
    else:
        job.future.set_result(result)
