"""`calibrate --spend` with a sum below the worst case: records are bought as it goes, until the next could pass it."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from orchestrator.errors import InputError
from orchestrator.quality.calibration.evidence import Asked
from orchestrator.quality.calibration.purchase import Purchase
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.records import Money
from tests.calibrations import calibrated, drafter, labels, validator

RECORD = 108_000
"""Billionths that a validated record costs at the tests' prices; what it can cost at most is a hundred times that."""


def tasks(folder: Path, count: int) -> Path:
    path = folder / "tasks.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"id": t.id, "input": t.input}) for t in labels(count, 0)) + b"\n")
    return path


async def test_a_sum_below_the_worst_case_of_the_records_needed_buys_them_all_the_same(tmp_path: Path) -> None:
    """Nothing is recorded yet: 76 records take 8 million billionths, and could take more than a thousand million."""
    told: list[str] = []
    done = await calibrated(tmp_path, by_spending(Money(nano=40_000_000), tasks(tmp_path, 120), tell=told.append))
    assert done.certificate.n == 120
    assert re.search(r"buys \d records or, since most cost far less than the most, many more, of 120 tasks", told[0])


def test_one_record_is_no_records() -> None:
    one = Purchase(limit=Money(nano=10), spent=Money(nano=0), bound=Money(nano=8), expected=None, recorded=0, tasks=5,
                   takes=76)
    assert "buys 1 record or" in one.words(Asked(max_regret=0.03))
    with pytest.raises(InputError, match="bought 1 record for"):
        one.check_bought(1, Money(nano=8), Asked(max_regret=0.03))


async def test_a_sum_that_is_used_up_too_early_says_how_many_it_bought_and_what_the_rest_takes(tmp_path: Path) -> None:
    path = tasks(tmp_path, 400)
    with pytest.raises(InputError, match=r"bought \d+ records for .* takes 76 at least") as caught:
        await calibrated(tmp_path, by_spending(Money(nano=16_000_000), path))
    first = int(re.findall(r"bought (\d+) records", str(caught.value))[0])
    assert 0 < first < 76
    (enough,) = re.findall(r"give ([0-9.]+) USD in all", caught.value.hint)
    model = validator()
    clients = {"drafter": drafter(), "validator": model}
    sum_in_all = Money(nano=round(float(enough) * 1e9))
    done = await calibrated(tmp_path, by_spending(sum_in_all, path), clients=clients)
    assert done.certificate.n >= 76
    assert len(model.calls) <= done.certificate.n - first, "what was bought before was bought again"


async def test_a_sum_that_ends_with_a_rest_says_what_the_next_record_could_have_cost(tmp_path: Path) -> None:
    limit = 25_000_000
    done = await calibrated(tmp_path, by_spending(Money(nano=limit), tasks(tmp_path, 400)))
    spent = round(float(re.findall(r"for ([0-9.]+) USD of 0.025 USD", done.source)[0]) * 1e9)
    (note,) = (note for note in done.notes if "unspent" in note)
    rest, most = (round(float(one) * 1e9) for one in re.findall(r"([0-9.]+)(?: USD|$)", note))
    assert re.fullmatch(r"\S+ USD unspent: the next record could have cost \S+ USD", note)
    assert rest == limit - spent
    assert rest < most


async def test_a_sum_that_buys_all_tasks_says_nothing_of_a_rest(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, by_spending(Money(nano=10**9), tasks(tmp_path, 120)))
    assert not [note for note in done.notes if "unspent" in note]


async def test_a_sum_for_less_than_one_record_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    model = validator()
    with pytest.raises(InputError, match="too little for one"):
        await calibrated(
            tmp_path, by_spending(Money(nano=RECORD), tasks(tmp_path, 120)),
            clients={"drafter": drafter(), "validator": model},
        )
    assert model.calls == []


async def test_what_records_have_cost_so_far_says_that_a_sum_is_too_little(tmp_path: Path) -> None:
    path = tasks(tmp_path, 120)
    await calibrated(tmp_path, by_spending(Money(nano=10**9), path))
    other = tmp_path / "other.jsonl"
    texts = [f"sure {i} again" for i in range(200)]
    other.write_bytes(b"\n".join(orjson.dumps({"id": text, "input": {"text": text}}) for text in texts) + b"\n")
    with pytest.raises(InputError, match="too little") as caught:
        await calibrated(tmp_path, by_spending(Money(nano=70 * RECORD), other))
    assert "or more, or ask for less" in caught.value.hint
