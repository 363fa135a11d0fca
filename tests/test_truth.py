"""A provider with its own book, arithmetic and log bills our real clients: the ledger must say the same.

The full size is a benchmark: `python -m benchmarks.truth --calls 10000`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.bellwether import compare
from benchmarks.truth import BOOK, Account, reconcile, show
from benchmarks.truth_provider import PICO, _nearest
from orchestrator.config.checked import validated
from orchestrator.config.prices import PriceBook
from orchestrator.config.yaml12 import parse_yaml
from orchestrator.records import Usage

ROOT = Path(__file__).parent.parent
BELLWETHER = ROOT.parent / "shared" / "data" / "bellwether"


def test_a_few_hundred_mixed_calls_cost_what_the_provider_billed(tmp_path: Path) -> None:
    """In a process of its own, which forks and is killed in parts."""
    listed = tmp_path / "listed.txt"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.truth", "--calls", "200", "--kills", "3", "--cancel", "4",
         "--list", str(listed)],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "difference in priced rows: 0.000000000 USD" in done.stdout
    assert "every bill is in the ledger" in done.stdout
    assert {line.split()[0] for line in listed.read_text().splitlines()} == {"estimated", "unsettled"}


def written(folder: Path, *, cost: int | None, billed: int, state: str = "settled", bound: int = 1000) -> Account:
    """One call in a ledger and one line in a provider's log."""
    connection = sqlite3.connect(folder / "store.db")
    connection.execute("CREATE TABLE call (call_id, state, provenance, cost_nano, bound_nano, response_id, pipeline, "
                       "role, error)")
    kind = "priced" if state == "settled" else "unsettled"
    row = (state, kind, cost, bound)
    connection.execute("INSERT INTO call VALUES ('c1', ?, ?, ?, ?, NULL, 'p', 'draft', NULL)", row)
    connection.commit()
    connection.close()
    (folder / "log").write_text(json.dumps({"id": "c1", "nano": billed, "fate": "ok", "response": "r"}) + "\n")
    return reconcile(folder / "store.db", folder / "log")


def test_the_comparison_finds_a_billionth(tmp_path: Path) -> None:
    account = written(tmp_path, cost=100, billed=101)
    assert len(account.faults) == 2  # the row, and the total
    assert show(account).endswith("FAILED")


def test_the_comparison_takes_an_unsettled_call_as_listed_and_not_as_nothing(tmp_path: Path) -> None:
    account = written(tmp_path, cost=None, billed=101, state="unsettled")
    assert account.faults == []
    assert (account.provider["unsettled"], len(account.listed)) == (101, 1)


def test_the_comparison_finds_a_bill_above_its_bound_and_one_without_a_row(tmp_path: Path) -> None:
    account = written(tmp_path, cost=None, billed=1001, state="unsettled")
    assert ["above its bound" in fault for fault in account.faults] == [True]
    with (tmp_path / "log").open("a") as log:
        log.write(json.dumps({"id": "c2", "nano": 5, "fate": "ok", "response": "r"}) + "\n")
    assert any("in no row" in fault for fault in reconcile(tmp_path / "store.db", tmp_path / "log").faults)


@pytest.mark.parametrize(("model", "tier", "long"), list(PICO))
def test_the_two_books_were_written_apart_and_agree(model: str, tier: str, long: bool) -> None:
    book = validated(PriceBook, parse_yaml(BOOK, Path("b.yaml")))
    entry = book.entry(model, datetime(2026, 11, 1, tzinfo=UTC))
    assert entry is not None
    prices = PICO[model, tier, long]
    prompt = 401 if long else 400
    usages = [Usage(input=prompt), Usage(cache_read=prompt), Usage(cache_write=prompt)]
    told = None if tier == "standard" else tier
    assert [entry.cost(one, told).nano for one in usages] == [_nearest(prompt * pico) for pico in prices[:3]]  # type: ignore[arg-type]


@pytest.mark.skipif(not BELLWETHER.is_dir(), reason="public data are not here")
async def test_every_comparable_published_cost_per_success_is_reproduced_from_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Total spend, failures included, over successes."""
    assert await compare(tmp_path, BELLWETHER) == 0
    assert "171 of 171 comparable ones reproduced" in capsys.readouterr().out
