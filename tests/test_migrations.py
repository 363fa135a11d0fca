"""The schema, step by step; and who may open a store."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, select

from orchestrator.errors import StoreTooNew
from orchestrator.store import migrations
from orchestrator.store.engine import Store
from orchestrator.store.own_tables import Migration
from orchestrator.store.statements import table
from orchestrator.store.tables import Run
from tests.stores import Opener

migration = table(Migration)
OLD_STORE = Path(__file__).parent / "golden" / "store_m002.sql"


async def test_migrating_twice_is_a_noop(opened: Opener, url: str) -> None:
    first = await opened()
    second = await opened()
    assert first.secret == second.secret
    with second.read() as connection:
        names = connection.execute(select(migration.c.name)).scalars().all()
    assert names == [step.__name__ for step in migrations.MIGRATIONS]


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    store = await Store.open(url)
    with store._writing.begin() as connection:
        connection.execute(migration.insert().values(name="m999_from_tomorrow", applied_at=1.0))
    await store.aclose()
    with pytest.raises(StoreTooNew, match="m999_from_tomorrow") as refused:
        await Store.open(url)
    assert refused.value.exit_code == 2


async def test_an_older_schema_is_brought_to_the_tables_of_today(store: Store) -> None:
    with store.read() as connection:
        found = inspect(connection)
        for model in migrations._models():
            expected = {column.name for column in table(model).columns}
            assert {column["name"] for column in found.get_columns(table(model).name)} == expected
            assert {i["name"] for i in found.get_indexes(table(model).name) if not i.get("duplicates_constraint")} == {
                index.name for index in table(model).indexes}


async def test_a_ledger_of_an_earlier_version_keeps_its_figures_and_takes_new_runs(tmp_path: Path) -> None:
    """`store_m002.sql` is the dump of a store that five order lines were run in before there were seals."""
    place = tmp_path / "old.db"
    with closing(sqlite3.connect(place)) as old:
        old.executescript(OLD_STORE.read_text())
    store = await Store.open(f"sqlite:///{place}")
    try:
        with store.read() as connection:
            found = inspect(connection)
            for model in migrations._models():
                columns = {column["name"] for column in found.get_columns(table(model).name)}
                assert columns >= {column.name for column in table(model).columns}
            runs = connection.execute(select(table(Run).c.run_id).order_by(table(Run).c.run_id)).scalars().all()
        told = [await store.stored_outcome(run_id) for run_id in runs]
        assert [one.success for one in told if one] == [True] * 5
        assert sum(call.cost.nano for one in told if one for call in one.calls if call.cost) == 454_400
    finally:
        await store.aclose()


def test_processes_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    """Ten stores in turn: what makes processes collide is over within a few milliseconds of each."""
    script = (
        "import asyncio, sys; from orchestrator.store.engine import Store\n"
        "async def main(url):\n"
        "    store = await Store.open(url); print(store.secret.hex(), flush=True); await store.aclose()\n"
        "print('ready', flush=True)\n"
        "for url in sys.stdin: asyncio.run(main(url.strip()))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    talks = [(process.stdin, process.stdout) for process in processes]
    assert [out.readline() for _, out in talks if out] == ["ready\n"] * 4
    for number in range(10):
        for into, _ in talks:
            assert into is not None
            into.write(f"sqlite:///{tmp_path}/{number}.db\n")
            into.flush()
        secrets = [out.readline() for _, out in talks if out]
        assert secrets == [secrets[0]] * 4
        assert secrets[0]
    assert [process.communicate(timeout=300)[0] for process in processes] == [""] * 4
    assert [process.returncode for process in processes] == [0] * 4
