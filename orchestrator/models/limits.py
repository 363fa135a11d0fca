"""What stands between a task and an endpoint: calls in flight, tokens a minute, a circuit breaker, and retries.

The caller composes: pick an endpoint, pass its gate, write the intent, call, settle, and let tenacity decide whether
the next attempt is made. Everything here lives in one event loop and counts for one process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay

from orchestrator.errors import CircuitOpen, ModelError, Outage, RateLimited

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

RETRY_BASE_S = 0.5
RETRY_CAP_S = 30.0


class CircuitBreaker:
    """Opens after `threshold` outages in a row; after `cooldown_s` (doubled at each failed probe, up to `cap_s`) one
    probe goes through, and its end decides. A 429 is an answer: it counts neither way."""

    def __init__(
        self, endpoint: str = "", *, threshold: int = 5, cooldown_s: float = 5.0, cap_s: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._endpoint, self._threshold, self._base_s, self._cap_s = endpoint, threshold, cooldown_s, cap_s
        self._clock = clock
        self._failures = 0
        self._cooldown_s = cooldown_s
        self._opened_at: float | None = None
        self._probing = False

    @property
    def seconds_left(self) -> float:
        """Until a call may be tried; 0 where it may be tried now."""
        if self._opened_at is None:
            return 0.0
        left = max(0.0, self._opened_at + self._cooldown_s - self._clock())
        return left if left > 0.0 or not self._probing else self._cooldown_s

    def check(self) -> bool:
        """True if this call is the probe of an open circuit. Raises CircuitOpen at once while it is open."""
        if self._opened_at is None:
            return False
        if (left := self.seconds_left) > 0.0:
            raise circuit_open(self._endpoint, left)
        self._probing = True
        return True

    def succeeded(self) -> None:
        self._failures, self._opened_at, self._cooldown_s, self._probing = 0, None, self._base_s, False

    def failed(self, *, probe: bool) -> None:
        self._failures += 1
        if probe:
            self._cooldown_s = min(self._cap_s, self._cooldown_s * 2)
            self._opened_at, self._probing = self._clock(), False
        elif self._opened_at is None and self._failures >= self._threshold:
            self._opened_at = self._clock()

    def withdrawn(self, *, probe: bool) -> None:
        """A call that ended without saying anything of the endpoint: cancelled, or told to slow down."""
        if probe:
            self._probing = False


class TokenBucket:
    """Tokens a minute: full at the start, refilled evenly, one minute's worth at most."""

    def __init__(self, per_minute: int, *, clock: Clock = time.monotonic) -> None:
        self._capacity, self._rate, self._clock = float(per_minute), per_minute / 60.0, clock
        self._level, self._at = self._capacity, clock()

    def wait_s(self, tokens: int) -> float:
        """Seconds until `tokens` may be taken. More than a minute's worth waits for a full bucket, not for ever."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (min(float(tokens), self._capacity) - self._level) / self._rate)

    def take(self, tokens: float) -> None:
        """A negative number gives back what was taken too much."""
        self._level = min(self._capacity, self._level - tokens)


class EndpointGate:
    """The way to one endpoint: `async with gate.enter(tokens=upper_bound) as entry: …; entry.used(tokens)`.

    Raises CircuitOpen at once while the circuit is open. Waiters go first come, first served; a cancelled one leaves
    nothing behind. How the block ends (an Outage or not) is what the circuit breaker learns from.
    """

    def __init__(
        self, endpoint: str, *, max_in_flight: int | None = None, tokens_per_minute: int | None = None,
        breaker: CircuitBreaker | None = None, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.breaker = breaker or CircuitBreaker(endpoint, clock=clock)
        self.load = 0
        """Calls in flight and calls waiting."""
        self._slots = asyncio.Semaphore(max_in_flight) if max_in_flight else None
        self._bucket = TokenBucket(tokens_per_minute, clock=clock) if tokens_per_minute else None
        self._turn = asyncio.Lock()
        self._sleep = sleep

    def enter(self, *, tokens: int = 0) -> Entry:
        """`tokens` is the call's upper bound, input and output; what it did not use is given back."""
        return Entry(self, tokens)

    async def take(self, tokens: int) -> None:
        bucket = self._bucket
        if bucket is None:
            return
        async with self._turn:  # the first in line waits for its tokens, the others wait for it
            while (wait := bucket.wait_s(tokens)) > 0.0:
                await self._sleep(wait)
            bucket.take(tokens)

    def give_back(self, tokens: int) -> None:
        if self._bucket is not None:
            self._bucket.take(-tokens)

    async def open_slot(self) -> None:
        if self._slots is not None:
            await self._slots.acquire()

    def close_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()


class Entry:
    """One call's passage through a gate."""

    __slots__ = ("_gate", "_probe", "_tokens", "_used")

    def __init__(self, gate: EndpointGate, tokens: int) -> None:
        self._gate, self._tokens = gate, tokens
        self._used: int | None = None
        self._probe = False

    def used(self, tokens: int) -> None:
        """The tokens the call really took, where they became known."""
        self._used = tokens

    async def __aenter__(self) -> Entry:
        gate = self._gate
        self._probe = gate.breaker.check()
        gate.load += 1
        slot = False
        try:
            await gate.open_slot()
            slot = True
            await gate.take(self._tokens)
            if not self._probe:  # the circuit may have opened while this call stood in line
                self._probe = gate.breaker.check()
        except BaseException:  # cancelled while waiting, mostly: what was taken goes back
            gate.breaker.withdrawn(probe=self._probe)
            if slot:
                gate.close_slot()
            gate.load -= 1
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gate, breaker = self._gate, self._gate.breaker
        gate.load -= 1
        gate.close_slot()
        if self._used is not None:
            gate.give_back(self._tokens - self._used)
        elif isinstance(error, ModelError) and not error.sent:
            gate.give_back(self._tokens)
        if error is None or (isinstance(error, ModelError) and not isinstance(error, Outage)):
            breaker.succeeded()
        elif isinstance(error, Outage) and not isinstance(error, RateLimited | CircuitOpen):
            breaker.failed(probe=self._probe)
        else:
            breaker.withdrawn(probe=self._probe)


class EndpointPool:
    """The gates of one model."""

    def __init__(self, gates: Sequence[EndpointGate]) -> None:
        if not gates:
            raise ValueError("a pool needs at least one endpoint")
        self.gates = tuple(gates)

    def pick(self) -> EndpointGate:
        """The gate with the least in flight among those whose circuit lets a call through.

        Raises CircuitOpen, with the seconds until the first of them does, where none.
        """
        if len(self.gates) == 1:
            return self.gates[0]  # its own circuit speaks when it is entered
        usable = [gate for gate in self.gates if gate.breaker.seconds_left == 0.0]
        if not usable:
            first = min(self.gates, key=lambda gate: gate.breaker.seconds_left)
            raise circuit_open(first.endpoint, first.breaker.seconds_left)
        return min(usable, key=lambda gate: gate.load)


def circuit_open(endpoint: str, seconds_left: float) -> CircuitOpen:
    return CircuitOpen(
        f"{endpoint} failed too often: not asked for another {seconds_left:.1f} s", retry_after_s=seconds_left,
        sent=False, endpoint=endpoint,
    )


def should_retry(error: BaseException) -> bool:
    """Whether the same request may be sent again: by class, never for 4xx."""
    return isinstance(error, ModelError) and error.retryable


def retry_wait(error: BaseException | None, attempt: int, *, draw: Callable[[], float] = random.random) -> float:
    """Seconds before the attempt after `attempt` (from 1): full jitter under an exponential ceiling of 0.5 s, 1 s, …
    30 s, and never less than the server asked for (AWS Architecture Blog, "Exponential Backoff And Jitter")."""
    jittered = draw() * min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(attempt - 1, 16))
    asked = getattr(error, "retry_after_s", None)
    return jittered if asked is None else asked + draw() * RETRY_BASE_S


def _wait(state: RetryCallState) -> float:
    return retry_wait(state.outcome.exception() if state.outcome else None, state.attempt_number)


def retrying(*, retries: int, deadline_s: float, sleep: Sleep = asyncio.sleep) -> AsyncRetrying:
    """At most `retries` further attempts, none that would begin after `deadline_s`; the last error is raised as it is.

    One object serves many calls at once, in one event loop: what tenacity keeps on it is used only between two awaits.
    """
    return AsyncRetrying(
        stop=stop_after_attempt(retries + 1) | stop_before_delay(deadline_s), wait=_wait,
        retry=retry_if_exception(should_retry), sleep=sleep, reraise=True,
    )
