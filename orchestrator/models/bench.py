"""What a served model does at full load: its throughput, and what reading a token costs beside writing one.

Three loads, each bounded in time: one that mostly writes, one that mostly reads fresh prompts, one that reads the same
prompts again. If a second of full load does `tokens_per_s` of weighted tokens, each load gives one linear equation.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.errors import InputError
from orchestrator.models.served import ServedModel
from orchestrator.records import Request

WORDS = ("blue", "widget", "order", "seven", "crate", "north", "amber", "sold", "line", "paper", "under", "river")
WRITTEN = 64
"""Tokens of an answer of the load that writes."""
AGAIN = 8
"""Different prompts of the load that reads again."""


@dataclass(frozen=True, slots=True)
class Load:
    """Tokens that went through in `seconds`: `fresh` and `cached` were read, `written` came back."""

    seconds: float
    requests: int
    fresh: int
    cached: int
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Weights are of one token, in output tokens. `cached_told`: the server says how much of a prompt was cached; else
    a prompt that was read again is taken to have been cached whole."""

    tokens_per_s: float
    input_weight: float
    cache_read_weight: float
    cached_told: bool
    writing: Load
    reading: Load
    again: Load


def solve(writing: Load, reading: Load, again: Load) -> tuple[float, float, float]:
    """Throughput in weighted tokens a second, input weight, cache-read weight: of written + w fresh + c cached =
    throughput x seconds, for the three loads. Weights are not below 0.

    Raises InputError where the loads are too alike to tell reading from writing.
    """
    pace = reading.seconds / writing.seconds
    spread = reading.fresh - writing.fresh * pace
    if not writing.written or spread <= 0:
        raise InputError("the loads don't tell reading from writing", hint="give --seconds and --words a higher figure")
    input_weight = max(0.0, (writing.written * pace - reading.written) / spread)
    throughput = (writing.written + input_weight * writing.fresh) / writing.seconds
    left = throughput * again.seconds - again.written - input_weight * again.fresh
    cached = min(input_weight, max(0.0, left / again.cached)) if again.cached else input_weight
    return throughput, input_weight, cached


async def measure(
    model: ServedModel, *, seconds: float, in_flight: int, words: int, tell: Callable[[str], None]
) -> Bench:
    """Drive the first endpoint of `model`, `seconds` for each load. Raises a ModelError where it can't be asked."""
    salt = random.randrange(1 << 30)  # not what an earlier run has left in the server's cache
    await _drive(model, lambda i: _ask(f"{salt} w{i}", 8, 4), seconds=0.0, in_flight=in_flight)
    tell(f"writing, {in_flight} in flight")
    writing = await _drive(
        model, lambda i: _ask(f"{salt} a{i}", 8, WRITTEN), seconds=seconds, in_flight=in_flight)
    tell("reading")
    reading = await _drive(
        model, lambda i: _ask(f"{salt} b{i}", words, 1), seconds=seconds, in_flight=in_flight)
    tell("reading again")
    await _drive(model, lambda i: _ask(f"{salt} c{i % AGAIN}", words, 1), seconds=0.0, in_flight=AGAIN)
    again = await _drive(
        model, lambda i: _ask(f"{salt} c{i % AGAIN}", words, 1), seconds=seconds, in_flight=in_flight)
    told = again.cached > 0
    if not told:
        again = Load(again.seconds, again.requests, 0, again.fresh, again.written)
    throughput, input_weight, cached = solve(writing, reading, again)
    return Bench(tokens_per_s=throughput, input_weight=input_weight, cache_read_weight=cached, cached_told=told,
                 writing=writing, reading=reading, again=again)


def _ask(mark: str, words: int, written: int) -> Request:
    """A prompt like no other `mark`'s from its first word on; the answer has exactly `written` tokens."""
    chosen = random.Random(mark).choices(WORDS, k=words)
    extra: Mapping[str, object] = {"ignore_eos": True, "min_tokens": written}
    return Request(messages=[{"role": "user", "content": " ".join([mark, *chosen])}], max_tokens=written, extra=extra)


async def _drive(model: ServedModel, ask: Callable[[int], Request], *, seconds: float, in_flight: int) -> Load:
    """Keep `in_flight` requests under way until `seconds` have passed; each asks once at least."""
    counts = [0, 0, 0, 0]
    endpoint, began = model.addresses[0], time.perf_counter()
    numbers = iter(range(1_000_000_000))

    async def work() -> None:
        while True:
            i = next(numbers)
            answer = await model.complete(ask(i), call_id=f"bench-{i}", endpoint=endpoint, timeout_s=120.0)
            used = answer.usage
            for place, more in enumerate((1, used.input, used.cache_read, used.output + used.reasoning)):
                counts[place] += more
            if time.perf_counter() - began >= seconds:
                return

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return Load(time.perf_counter() - began, *counts)
