"""What docs/store.md says of running a store: the rights it takes on PostgreSQL, and how SQLite's file is backed up."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.engine import Store
from tests.stores import calls_of, run_to_the_end


async def test_rows_may_be_written_by_a_user_who_could_not_have_made_the_tables(postgres_url: str) -> None:
    """Of the owner's tables: without CREATE, without sequences. Into an empty database that user can't go."""
    import psycopg
    from sqlalchemy.engine import make_url

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        user = f"worker_of_{connection.info.dbname}"
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'x'")  # type: ignore[arg-type]  # no literal, but ours
    url = make_url(postgres_url).set(username=user, password="x").render_as_string(hide_password=False)
    with pytest.raises(StoreError, match="permission denied"):
        await Store.open(url)
    await (await Store.open(postgres_url)).aclose()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        rights = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"
        connection.execute(rights)  # type: ignore[arg-type]  # as above
        assert connection.execute("SELECT count(*) FROM pg_sequences").fetchone() == (0,)
    store = await Store.open(url)
    await run_to_the_end(store)
    assert [call.state for call in calls_of(store, "r1")] == ["settled"]
    await store.aclose()


@pytest.mark.parametrize("way", ["backup", "VACUUM INTO"])
async def test_a_backup_of_an_open_store_has_what_a_copy_of_its_file_has_not(tmp_path: Path, way: str) -> None:
    path, copy, bare = tmp_path / "store.db", tmp_path / "copy.db", tmp_path / "bare.db"
    store = await Store.open(f"sqlite:///{path}")
    await run_to_the_end(store)
    with closing(sqlite3.connect(path)) as source:
        if way == "backup":
            with closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        else:
            source.execute("VACUUM INTO ?", [str(copy)])
        bare.write_bytes(path.read_bytes())
    await store.aclose()
    assert (_outcomes(copy), _outcomes(bare)) == (1, 0)
    again = await Store.open(f"sqlite:///{copy}")
    assert [call.state for call in calls_of(again, "r1")] == ["settled"]
    await again.aclose()


def _outcomes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM outcome").fetchone()[0])
