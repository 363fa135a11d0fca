"""Signals of the user's own: allow-listed callables, plain and asynchronous."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cascade.compare import compile_compare
from orchestrator.cascade.signals import compile_signals
from orchestrator.errors import ConfigError
from tests.drafts import draft_of, task_of

GOOD = {"item": "blue widget", "qty": 2}


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own, importable as `own_checks`."""
    (tmp_path / "own_checks.py").write_text(
        "import asyncio, threading\n"
        "released = threading.Event()\n"
        "def even(value, task):\n    return value['qty'] % 2 == 0\n"
        "def why(value, task):\n    return False, task.input['text']\n"
        "def number(value, task):\n    return 0.25\n"
        "def nan(value, task):\n    return float('nan')\n"
        "def rows(value, task):\n    return {'ok': False, 'reason': 'no rows', 'rows': 0}\n"
        "def odd(value, task):\n    return 'yes'\n"
        "def broken(value, task):\n    raise KeyError(task.input['text'])\n"
        "async def later(value, task):\n    await asyncio.sleep(0)\n    return True\n"
        "async def never(value, task):\n    await asyncio.Event().wait()\n"
        "def stuck(value, task):\n    released.wait(5)\n    return True\n"
    )
    monkeypatch.delitem(sys.modules, "own_checks", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_checks"


@pytest.mark.parametrize(
    ("name", "value", "ok", "reason"),
    [
        ("even", True, True, ""),
        ("why", False, False, "2x blue widget"),
        ("number", 0.25, True, ""),
        ("nan", math.nan, False, "it returned NaN"),
        ("rows", {"ok": False, "reason": "no rows", "rows": 0}, False, "no rows"),
        ("odd", None, False, "it returned str, and may return a bool, (bool, reason), a number or a map"),
        ("broken", None, False, "raised KeyError in broken, line 16"),
    ],
)
def test_a_callable_may_return_a_bool_a_reason_a_number_or_a_map(
    checks: str, name: str, value: Any, ok: bool, reason: str
) -> None:
    entry = {"python": {"call": f"{checks}:{name}"}}
    signals = compile_signals([entry], allow_imports=["own_checks"])
    signal = signals.measure_sync(draft_of(GOOD), task_of("2x blue widget"))["python"]
    assert signal.value == pytest.approx(value, nan_ok=True)
    assert (signal.ok, signal.reason, signal.required) == (ok, reason, True)


async def test_asynchronous_callables_are_awaited_beside_the_others(checks: str) -> None:
    signals = compile_signals(
        ["schema", {"python": {"call": f"{checks}:later", "name": "later", "proof": True}}],
        allow_imports=["own_checks"],
    )
    found = await signals.measure(draft_of(GOOD), task_of())
    assert list(found) == ["schema", "later"]
    assert found["later"].ok
    assert found["later"].proof
    with pytest.raises(RuntimeError, match="asynchronous"):
        signals.measure_sync(draft_of(GOOD), task_of())


@pytest.mark.parametrize("name", ["never", "stuck"])
async def test_a_callable_that_takes_too_long_is_not_ok(checks: str, name: str) -> None:
    import own_checks  # type: ignore[import-not-found]

    entry = {"python": {"call": f"{checks}:{name}", "timeout": "1ms"}}
    signals = compile_signals([entry], allow_imports=["own_checks"])
    found = await signals.measure(draft_of(GOOD), task_of())
    own_checks.released.set()
    assert not found["python"].ok
    assert "gave nothing within 0.001 s" in found["python"].reason


async def test_cancelling_a_measurement_cancels_it(checks: str) -> None:
    signals = compile_signals([{"python": {"call": f"{checks}:never"}}], allow_imports=["own_checks"])
    measuring = asyncio.ensure_future(signals.measure(draft_of(GOOD), task_of()))
    await asyncio.sleep(0)
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring


def test_only_allow_listed_modules_are_imported() -> None:
    with pytest.raises(ConfigError, match=r"signal 'python': 'os:system' may not be imported"):
        compile_signals([{"python": {"call": "os:system"}}], allow_imports=["own_checks"])


def test_what_changes_a_measurement_changes_the_digest(checks: str) -> None:
    def digest(*entries: Any, **options: Any) -> bytes:
        return compile_signals(entries, allow_imports=["own_checks"], **options).fingerprint_json

    assert digest("schema") == digest("schema")
    assert digest("schema") != digest("schema", output_schema={"type": "object"})
    assert digest("agreement") != digest("agreement", compare=compile_compare("fields"))
    assert digest({"python": {"call": f"{checks}:even"}}) != digest({"python": {"call": f"{checks}:odd"}})
    assert digest({"logprob": {"min_mean": -1.0}}) != digest({"logprob": {"min_mean": -2.0}})
