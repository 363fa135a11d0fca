"""What the ledger says before a file run: what such runs cost, and which tasks cost nothing more. Both databases."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.records import Money
from orchestrator.store.engine import Store
from orchestrator.store.entries import OutcomeEntry
from orchestrator.store.spending import done_among
from tests.stores import Opener, claim, config, ended


async def done(store: Store, *outcomes: OutcomeEntry) -> None:
    await store.claim([claim(one.run_id, tenant=one.tenant, config_id=one.config_id) for one in outcomes])
    await store.finish(list(outcomes))


def look(store: Store, tenant: str, run_ids: list[str], *, answered: bool = False) -> set[str]:
    with store.read() as connection:
        return done_among(connection, "p", tenant, [f"key of {one}" for one in run_ids], answered=answered)


async def test_only_ended_runs_of_the_same_tenant_are_done_and_only_answered_ones_where_that_is_asked(
    opened: Opener,
) -> None:
    store = await opened()
    failed, handed_off = (
        ended(name, status=status, success=False, success_source="status")
        for name, status in (("failed", "failed"), ("people", "handed_off"))
    )
    await done(store, ended("r1"), ended("hers", tenant="acme"), failed, handed_off)
    await store.claim([claim("open")])
    asked = ["r1", "hers", "open", "failed", "people", "never seen"]
    assert look(store, "", asked) == {"key of r1", "key of failed", "key of people"}
    assert look(store, "", asked, answered=True) == {"key of r1"}
    assert look(store, "acme", asked) == {"key of hers"}


async def test_the_mean_is_of_answered_runs_of_the_mode(opened: Opener) -> None:
    store = await opened()
    await store.record_config(config())
    await store.record_config(replace(config("c2"), mode="shadow"))
    cost = {"cost": Money(nano=5)}
    lost = {"status": "handed_off", "success": False, "success_source": "status"}
    await done(
        store, ended("r1", **cost), ended("r2", **cost), ended("r3", cost=Money(nano=900), config_id="c2"),
        ended("r4", cost=Money(nano=0), **lost),
    )
    seen, shadow = await store.spent_so_far("p"), await store.spent_so_far("p", "shadow")
    assert (seen.runs, seen.costs) == (2, (Money(nano=10),))
    assert (shadow.runs, shadow.costs) == (1, (Money(nano=900),))
