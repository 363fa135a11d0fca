"""Calls in flight, tokens a minute, the circuit breaker and retries, on a clock that only moves when told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator.errors import (
    AuthRefused,
    BadAnswer,
    CallTimedOut,
    CircuitOpen,
    ConnectionLost,
    ContextOverflow,
    RateLimited,
    RequestRefused,
    ServerFailed,
)
from orchestrator.models.limits import (
    RETRY_CAP_S,
    CircuitBreaker,
    EndpointGate,
    EndpointPool,
    retry_wait,
    retrying,
    should_retry,
)
from orchestrator.testing import FrozenClock


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


def gate_of(clock: FrozenClock, name: str = "e", **limits: int) -> EndpointGate:
    breaker = CircuitBreaker(name, threshold=3, cooldown_s=10.0, cap_s=25.0, clock=clock.monotonic)
    return EndpointGate(name, breaker=breaker, clock=clock.monotonic, sleep=clock.sleep, **limits)  # type: ignore[arg-type]


async def fail(gate: EndpointGate, error: BaseException) -> None:
    with pytest.raises(type(error)):
        async with gate.enter():
            raise error


async def opened(gate: EndpointGate) -> EndpointGate:
    for _ in range(3):
        await fail(gate, ServerFailed("500"))
    return gate


async def turns(n: int = 10) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_no_more_calls_are_in_flight_than_allowed_and_waiters_go_in_order(clock: FrozenClock) -> None:
    gate, done, order, most = gate_of(clock, max_in_flight=2), asyncio.Event(), list[int](), 0
    inside = 0

    async def call(i: int) -> None:
        nonlocal inside, most
        async with gate.enter():
            inside += 1
            most = max(most, inside)
            order.append(i)
            await (done.wait() if i < 2 else asyncio.sleep(0))
            inside -= 1

    calls = [asyncio.ensure_future(call(i)) for i in range(8)]
    await turns()
    assert order == [0, 1]
    assert gate.load == 8
    done.set()
    await asyncio.gather(*calls)
    assert order == list(range(8))
    assert (most, gate.load) == (2, 0)


async def test_a_cancelled_waiter_leaves_nothing_behind(clock: FrozenClock) -> None:
    gate, done, entered = gate_of(clock, max_in_flight=1), asyncio.Event(), list[str]()

    async def call(name: str) -> None:
        async with gate.enter():
            entered.append(name)
            await done.wait()

    first, second, third = (asyncio.ensure_future(call(n)) for n in ("first", "second", "third"))
    await turns()
    second.cancel()
    first.cancel()
    await turns()
    assert (entered, gate.load) == (["first", "third"], 1)
    done.set()
    await third
    assert gate.load == 0


async def test_tokens_a_minute_are_waited_for_and_what_was_not_used_is_given_back(clock: FrozenClock) -> None:
    gate = gate_of(clock, tokens_per_minute=600)
    async with gate.enter(tokens=600) as entry:
        entry.used(300)
    async with gate.enter(tokens=300):
        pass
    assert clock.slept == []
    async with gate.enter(tokens=100):
        pass
    assert clock.slept == [pytest.approx(10.0)]


async def test_a_call_larger_than_a_minutes_tokens_waits_for_a_full_bucket_not_for_ever(clock: FrozenClock) -> None:
    gate = gate_of(clock, tokens_per_minute=60)
    async with gate.enter(tokens=10_000):
        pass
    async with gate.enter(tokens=1):
        pass
    assert sum(clock.slept) == pytest.approx(10_000 - 60 + 1)


async def test_tokens_of_a_call_that_never_left_are_given_back(clock: FrozenClock) -> None:
    gate = gate_of(clock, tokens_per_minute=60)
    await fail_with_tokens(gate, ConnectionLost("refused", sent=False))
    async with gate.enter(tokens=60):
        pass
    assert clock.slept == []
    await fail_with_tokens(gate, ConnectionLost("reset", sent=True))
    assert clock.slept == [pytest.approx(60.0)]


async def fail_with_tokens(gate: EndpointGate, error: ConnectionLost) -> None:
    with pytest.raises(ConnectionLost):
        async with gate.enter(tokens=60):
            raise error


async def test_the_circuit_opens_after_outages_in_a_row_and_says_for_how_long(clock: FrozenClock) -> None:
    gate = gate_of(clock)
    await fail(gate, ServerFailed("500"))
    await fail(gate, CallTimedOut("late"))
    async with gate.enter():
        pass  # a success in between starts the count anew
    await opened(gate)
    clock.advance(4.0)
    with pytest.raises(CircuitOpen, match=r"another 6\.0 s") as error:
        async with gate.enter():
            raise AssertionError("an open circuit lets nothing through")
    assert not error.value.sent
    assert gate.load == 0


@pytest.mark.parametrize("error", [RequestRefused("400"), BadAnswer("html"), RateLimited("429"), ContextOverflow("4k")])
async def test_an_endpoint_that_answers_is_no_outage(clock: FrozenClock, error: Exception) -> None:
    gate = gate_of(clock)
    for _ in range(5):
        await fail(gate, error)
    async with gate.enter():
        pass


async def test_after_the_cool_down_one_probe_goes_and_its_success_closes_the_circuit(clock: FrozenClock) -> None:
    gate, done = await opened(gate_of(clock)), asyncio.Event()
    clock.advance(10.0)

    async def probe() -> None:
        async with gate.enter():
            await done.wait()

    running = asyncio.ensure_future(probe())
    await turns()
    with pytest.raises(CircuitOpen):
        async with gate.enter():
            raise AssertionError("a second probe")
    done.set()
    await running
    async with gate.enter():
        pass


async def test_each_failed_probe_doubles_the_cool_down_up_to_its_cap(clock: FrozenClock) -> None:
    gate = await opened(gate_of(clock))
    for expected in (20.0, 25.0, 25.0):
        clock.advance(gate.breaker.seconds_left)
        await fail(gate, ServerFailed("500"))
        assert gate.breaker.seconds_left == expected


async def test_a_cancelled_probe_makes_room_for_another(clock: FrozenClock) -> None:
    gate = await opened(gate_of(clock))
    clock.advance(10.0)
    await fail(gate, asyncio.CancelledError())
    async with gate.enter():
        pass


async def test_a_probe_cancelled_while_it_waits_in_line_makes_room_too(clock: FrozenClock) -> None:
    async def never(seconds: float) -> None:
        await asyncio.Event().wait()

    breaker = CircuitBreaker("e", threshold=3, cooldown_s=10.0, clock=clock.monotonic)
    gate = EndpointGate("e", breaker=breaker, tokens_per_minute=60, clock=clock.monotonic, sleep=never)
    async with gate.enter(tokens=60):
        pass
    await opened(gate)
    clock.advance(10.0)
    probe = asyncio.ensure_future(gate.enter(tokens=60).__aenter__())
    await turns()
    with pytest.raises(CircuitOpen):
        gate.breaker.check()
    probe.cancel()
    await asyncio.wait([probe])
    async with gate.enter():
        pass
    assert gate.load == 0


async def test_those_in_line_when_the_circuit_opens_are_told_so(clock: FrozenClock) -> None:
    gate, fails = gate_of(clock, max_in_flight=1), asyncio.Event()

    async def call() -> None:
        async with gate.enter():
            await fails.wait()
            raise ServerFailed("500")

    calls = [asyncio.ensure_future(call()) for _ in range(6)]
    await turns()
    fails.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [ServerFailed] * 3 + [CircuitOpen] * 3
    assert gate.load == 0


async def test_the_pool_picks_the_least_in_flight_among_closed_circuits(clock: FrozenClock) -> None:
    busy, idle, broken = gate_of(clock, "busy"), gate_of(clock, "idle"), await opened(gate_of(clock, "broken"))
    pool = EndpointPool([busy, broken, idle])
    async with busy.enter():
        assert pool.pick() is idle
        async with idle.enter(), idle.enter():
            assert pool.pick() is busy
    await opened(busy)
    await opened(idle)
    clock.advance(1.0)
    with pytest.raises(CircuitOpen, match=r"9\.0 s"):
        pool.pick()
    clock.advance(9.0)
    assert pool.pick() in (busy, idle, broken)


@pytest.mark.parametrize(
    ("error", "again"),
    [(RateLimited("429"), True), (ServerFailed("500"), True), (CallTimedOut("late"), True), (BadAnswer("html"), True),
     (ConnectionLost("reset"), True), (ContextOverflow("4k"), False), (RequestRefused("400"), False),
     (AuthRefused("401"), False), (ValueError("ours"), False), (asyncio.CancelledError(), False)],
)
def test_only_what_may_help_is_retried(error: BaseException, again: bool) -> None:
    assert should_retry(error) is again


def test_waits_are_jittered_under_a_doubling_ceiling_and_never_shorter_than_asked() -> None:
    most = [retry_wait(ServerFailed("500"), attempt, draw=lambda: 1.0) for attempt in range(1, 10)]
    assert most == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, RETRY_CAP_S, RETRY_CAP_S, RETRY_CAP_S]
    assert retry_wait(ServerFailed("500"), 3, draw=lambda: 0.0) == 0.0
    assert retry_wait(ServerFailed("500"), 10**6, draw=lambda: 1.0) == RETRY_CAP_S
    asked = RateLimited("429", retry_after_s=7.0)
    assert [retry_wait(asked, 1, draw=draw) for draw in (lambda: 0.0, lambda: 1.0)] == [7.0, 7.5]


def failing(errors: list[Exception]) -> Callable[[], object]:
    async def call() -> int:
        await asyncio.sleep(0)
        if errors:
            raise errors.pop(0)
        return 42

    return call


async def test_retrying_stops_at_the_count_the_class_and_the_deadline(clock: FrozenClock) -> None:
    policy = retrying(retries=2, deadline_s=60.0, sleep=clock.sleep)
    assert await policy(failing([ServerFailed("1"), BadAnswer("2")])) == 42
    with pytest.raises(ServerFailed, match="third"):
        await policy(failing([ServerFailed("first"), ServerFailed("second"), ServerFailed("third")]))
    with pytest.raises(RequestRefused):
        await policy(failing([RequestRefused("400")]))
    slept = len(clock.slept)
    with pytest.raises(RateLimited):
        await policy(failing([RateLimited("429", retry_after_s=61.0)]))
    assert len(clock.slept) == slept, "it does not wait for what comes after the deadline"


async def test_one_retrying_object_serves_many_calls_at_once(clock: FrozenClock) -> None:
    policy = retrying(retries=3, deadline_s=60.0, sleep=clock.sleep)
    calls = [policy(failing([ServerFailed("x")] * (i % 5))) for i in range(50)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [ServerFailed if i % 5 == 4 else int for i in range(50)]
