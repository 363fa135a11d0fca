"""Runs with ids one after the other: rules draw by them, so that what is drawn is the same whenever a test runs."""

from __future__ import annotations

from itertools import count

import pytest


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr("orchestrator.cascade.given.new_id", lambda prefix, now: f"{prefix}_{next(numbers):027x}")
