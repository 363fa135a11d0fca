"""`python`: a callable of the user's own, by allow-listed import path, of (value, task).

It is given copies. It returns a bool, (bool, reason), a number, or a map; it may be a coroutine function. What it
returns as a reason is kept in the ledger, so it should quote no content. With `timeout`, a plain function runs in a
thread of its own (a thread can't be stopped: one that hangs stays, but the task goes on with a signal that is not ok).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from typing import Any

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting
from orchestrator.config.plugins import load_callable, source_digest
from orchestrator.config.quantities import Seconds
from orchestrator.records import Json, Task

MAX_REASON = 200


class PythonOptions(Options):
    call: str
    timeout: Seconds | None = None


def _compile(options: PythonOptions, setting: Setting) -> Compiled:
    function = load_callable(options.call, setting.allow_imports)
    meaning = source_digest(function)
    is_async = inspect.iscoroutinefunction(function)
    if not is_async and options.timeout is None:
        return Compiled(now=lambda look: reading(function(*_given(look))), meaning=meaning)
    asked = function if is_async else _in_thread(function)

    async def later(look: Look) -> Reading:
        try:
            async with asyncio.timeout(options.timeout):
                return reading(await asked(*_given(look)))
        except TimeoutError:
            return Reading(None, False, f"{options.call} gave nothing within {options.timeout:g} s")

    return Compiled(later=later, meaning=meaning)


def _given(look: Look) -> tuple[Json, Task]:
    """Copies: what a user's function writes into them is not what is served, cached or sent."""
    return copy.deepcopy(look.draft.value), copy.deepcopy(look.task)


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function that runs `function` in a daemon thread: one that hangs must not keep the program from
    ending, as a thread of asyncio's own pool would."""

    async def asked(*given: Any) -> Any:
        answer: Future[Any] = Future()
        Thread(target=_answer, args=(answer, function, given), name="signal", daemon=True).start()
        return await asyncio.wrap_future(answer)

    return asked


def _answer(answer: Future[Any], function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(function(*given))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the one who waits
        answer.set_exception(error)


def reading(given: Any) -> Reading:
    """What a user's callable returned, as a reading; what it may not return is not ok."""
    match given:
        case bool():
            return Reading(given, given, "" if given else "it returned False")
        case (bool() as ok, str() as reason):
            return Reading(ok, ok, reason[:MAX_REASON])
        case int() | float():
            return Reading(float(given), not math.isnan(given), "it returned NaN" if math.isnan(given) else "")
        case Mapping():
            ok = given.get("ok", True)
            return Reading(dict(given), ok is True, str(given.get("reason", ""))[:MAX_REASON])
        case _:
            wanted = "a bool, (bool, reason), a number or a map"
            return Reading(None, False, f"it returned {type(given).__name__}, and may return {wanted}")


KIND = Kind(PythonOptions, _compile)
