"""Threads of several processes against the same budgets, some killed: a limit holds at every moment, and in the end
every budget is the sum of its calls. `benchmarks/budgets.py` does the same with 64 threads in each of 4 processes."""

from __future__ import annotations

from tests.budget_storm import storm


def test_processes_of_many_threads_never_pass_a_limit_and_lose_nothing_when_killed(url: str) -> None:
    account = storm(url, processes=4, threads=6, kills=2, calls=600)
    assert (account.wrong, account.seen.broken, account.kills) == ([], [], 2)
    assert account.seen.samples > 50
    assert account.seen.most > 0.9, "the budgets were never near their limits"
    assert account.left_unused < 10_000, "what was freed or lost could not be spent again"
    assert account.deadlocks == 0
