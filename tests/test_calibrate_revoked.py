"""A certificate that spot checks revoked comes back to life by nothing that it stood on: neither by kept drafts, nor by
recorded ones, nor by cached answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.check import check_pipeline
from orchestrator.cli import run_command
from orchestrator.config.certificate import certificate_digest, read_certificate
from orchestrator.config.digest import digest
from orchestrator.errors import InputError
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.labels import from_labels, label_tasks
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.records import Money
from tests.calibrations import CERTIFIED, labels
from tests.revoking import BAD, GOOD, LABELS, REVOKED, Shop, sure

SINCE = "2026-06-01T09:00:00Z"
"""BAD, as it is written."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    opened = await Shop.open(tmp_path)
    yield opened
    await opened.store.aclose()


def certificate(shop: Shop) -> dict[str, Any]:
    return dict(read_certificate(shop.folder / "p/certificates/label.json"))


async def test_the_change_is_recorded_from_where_the_evidence_counted(shop: Shop) -> None:
    change = await shop.revoke(sure())
    assert (change.since, change.at) == (BAD, REVOKED)


# -- labels ------------------------------------------------------------------------------------------------------------


async def test_the_same_calibrate_drafts_anew_and_certifies_what_drafts_are_today(shop: Shop) -> None:
    before = certificate(shop)
    await shop.revoke(sure())
    done = await shop.calibrate()
    assert before["threshold"] is not None
    assert shop.asked == len(LABELS)
    assert (done.certificate.accepted <= 1, done.certificate.draft_accuracy) == (True, 0.0)
    said = next(line for line in done.words.splitlines() if "tell nothing of today" in line)
    assert f"drafts made before {SINCE} tell nothing of today (spot checks revoked this step's certificate" in said
    assert said.endswith("120 kept drafts are replaced by new ones, 100 recorded drafts are left out")
    assert "revoked" not in " ".join(one.message for one in check_pipeline(shop.folder / "p").findings)


async def test_interrupted_it_goes_on_with_the_drafts_made_since(shop: Shop) -> None:
    await shop.revoke(sure())
    await shop.calibrate()
    again = await shop.calibrate(traffic=False)
    assert shop.asked == 0
    assert "120 of the 120 drafts kept from before" in again.words
    assert "2^-" not in again.words, "the same question of the same drafts is no second try"


async def test_an_equal_certificate_from_new_drafts_is_another_one_and_no_second_try(shop: Shop) -> None:
    before = certificate(shop)
    await shop.revoke(sure())
    shop.turned = False  # a false alarm, say
    await shop.calibrate(traffic=False)
    after = certificate(shop)
    assert shop.asked == len(LABELS)
    assert (after["threshold"], after["tried_on"]["records"]) == (before["threshold"], before["tried_on"]["records"])
    assert after["tried_on"]["attempt"] == 0
    assert certificate_digest(after) != certificate_digest(before)
    assert await shop.serve(sure(5000), 1) == ["accepted"]


async def test_the_validators_own_answers_are_asked_for_anew_as_well(shop: Shop) -> None:
    source = from_labels(lambda: label_tasks(LABELS), validate=True)
    await shop.calibrate(source, attempt=0)
    await shop.revoke(sure())
    await shop.calibrate(source)
    assert len(shop.validated.calls) == len(LABELS)


async def test_no_cached_answer_of_before_stands_for_todays_draft(tmp_path: Path) -> None:
    shop = await Shop.open(tmp_path, cache={"ttl": "30d"})
    await shop.revoke(sure())
    done = await shop.calibrate()
    await shop.store.aclose()
    assert (shop.asked, done.certificate.draft_accuracy) == (len(LABELS), 0.0)


async def test_a_gate_is_calibrated_on_new_drafts_as_well(tmp_path: Path) -> None:
    gate = {"gate": {"fitted": "confidence/gate.json", "certificate": "certificates/gate.json"}}
    shop = await Shop.open(tmp_path, step={**CERTIFIED, **gate})
    tasks = labels(200, 100)
    await shop.calibrate(tasks, gate=True, max_regret=0.1)
    await shop.calibrate(attempt=0)  # behind the gate it is another threshold
    await shop.revoke(sure())
    shop.turned = False  # of one class only there is no fit
    done = await shop.calibrate(tasks, gate=True, max_regret=0.1)
    await shop.store.aclose()
    assert shop.asked == len(tasks)
    assert "300 kept drafts are replaced by new ones" in done.words


async def test_recorded_drafts_of_before_sharpen_nothing(shop: Shop) -> None:
    await shop.revoke(sure())
    shop.turned = False
    done = await shop.calibrate()
    assert done.certificate.traffic == 40


# -- what a certificate is known by ------------------------------------------------------------------------------------


async def test_a_certificate_made_again_from_the_same_drafts_is_the_same_whatever_it_costs(shop: Shop) -> None:
    before = certificate(shop)
    await shop.calibrate(now=lambda: datetime(2026, 7, 1, tzinfo=UTC))
    after = certificate(shop)
    assert after["created"] != before["created"]
    assert certificate_digest(after) == certificate_digest(before)
    assert certificate_digest({**after, "cost_ratio": 0.1, "reasons": []}) == certificate_digest(before)
    assert certificate_digest({**after, "threshold": -0.4}) != certificate_digest(before)


async def test_what_drift_has_found_of_a_certificate_is_not_forgotten_when_it_is_made_again(shop: Shop) -> None:
    texts = sure()
    await shop.serve(texts, 100)
    shop.turned, shop.clock.now = True, BAD
    served = []
    for day in range(2, 6):  # on the same labels: drafts are kept, and none is asked for
        await shop.calibrate(traffic=False, now=lambda day=day: datetime(2026, 6, day, tzinfo=UTC))
        assert shop.asked == 0
        served += await shop.serve(texts, 1)
        if await shop.store.lapses():
            break
    assert 2 <= served.count("accepted") < 4, "wrong drafts, one a day, are as much evidence as on one day"


async def test_a_certificate_that_an_earlier_version_revoked_stays_revoked(shop: Shop) -> None:
    path = shop.folder / "p"
    await shop.serve(sure(), 100)
    shop.clock.now = BAD
    whole = digest(certificate(shop))
    assert await shop.store.record_lapse("labels", "label", whole, "spot checks show regret above 0.03")
    assert await shop.serve(sure(2000), 2) == ["approved", "approved"]
    with shop.store._writing.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE lapse DROP COLUMN since")
    words = " ".join(one.message for one in check_pipeline(path, store=f"sqlite:///{shop.folder}/s.db").findings)
    assert "its certificate was revoked on 2026-06-01: spot checks show regret above 0.03" in words


async def test_where_it_is_not_known_since_when_drafts_count_from_the_revocation_on(shop: Shop) -> None:
    await shop.serve(sure(), 100)
    shop.clock.now = BAD
    await shop.store.record_lapse("labels", "label", digest(certificate(shop)), "regret")
    await shop.serve(sure(2000), 90)
    done = await shop.calibrate(from_ledger())
    assert (done.labelled, done.certificate.given) == (90, 90)


# -- the ledger --------------------------------------------------------------------------------------------------------


async def test_the_ledger_counts_from_the_change_on_and_says_so(shop: Shop) -> None:
    texts = sure()
    await shop.revoke(texts)
    await shop.serve(texts, 60)
    done = await shop.calibrate(from_ledger())
    assert (done.certificate.given, done.certificate.threshold, done.certificate.draft_accuracy) == (100, None, 0.0)
    assert done.words.startswith(f"100 recorded drafts since {SINCE}, ")
    assert f"drafts made before {SINCE} tell nothing of today" in done.words
    assert "100 recorded drafts are left out" in done.words
    assert certificate(shop)["source"] == f"100 recorded drafts since {SINCE}"
    assert "label.previous.json, and stays revoked" in done.words


async def test_a_calibration_in_between_that_certified_nothing_brings_no_old_draft_back(shop: Shop) -> None:
    texts = sure()
    await shop.revoke(texts)
    await shop.calibrate()
    await shop.serve(texts, 60)
    done = await shop.calibrate(from_ledger())
    assert (done.certificate.given, done.certificate.threshold) == (100, None)


@pytest.mark.parametrize(("later", "said"), [
    (0.0, "40 records can't certify"), (1.0, "0 records of the ledger can't certify"),
])
async def test_too_few_since_the_change_is_an_error_that_names_it(shop: Shop, later: float, said: str) -> None:
    change = await shop.revoke(sure())
    if later:  # a second one, after all that is recorded
        await shop.store.record_lapse("labels", "label", "sha256:another", "regret", change.at + later)
    with pytest.raises(InputError, match=f"{said} 3% regret at 90% confidence: even .* it takes 76") as told:
        await shop.calibrate(from_ledger())
    assert f"Drafts made before {'2026-06-01T09:01:01Z' if later else SINCE} tell nothing of today" in told.value.hint
    assert "(spot checks revoked this step's certificate at" in told.value.hint
    assert f"{140 if later else 100} recorded drafts are left out" in told.value.hint


async def test_another_beginning_can_be_asked_for_and_is_told_of(shop: Shop) -> None:
    await shop.revoke(sure())
    all_of_it = await shop.calibrate(from_ledger(since=GOOD), max_regret=0.5)
    assert all_of_it.certificate.given == 140
    assert "as --since asks for, those from 2026-06-01T08:00:00Z on count all the same" in all_of_it.words
    before = await shop.calibrate(from_ledger(since=GOOD, until=BAD), attempt=0)
    assert (before.certificate.given, before.certificate.draft_accuracy) == (100, 1.0)


async def test_the_very_certificate_that_was_revoked_is_not_made_again(shop: Shop) -> None:
    await shop.serve(sure(), 100)
    await shop.calibrate(from_ledger())
    revoked = certificate(shop)
    shop.clock.now = BAD
    await shop.store.record_lapse("labels", "label", certificate_digest(revoked), "regret above 0.03", BAD)
    with pytest.raises(InputError, match=r"the very certificate that spot checks revoked at .*: regret above 0.03"):
        await shop.calibrate(from_ledger(since=GOOD))
    assert certificate(shop) == revoked


async def test_the_command_takes_since_and_until(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    await shop.revoke(sure())
    command = ["calibrate", str(shop.folder / "p"), "--ledger", "--max-regret", "0.03", "--json",
               "--store", f"sqlite:///{shop.folder}/s.db"]
    span = ["--since", "2026-06-01T10:00:01", "--until", "2026-06-01T11:00", "--tz", "Europe/Amsterdam"]
    assert await asyncio.to_thread(run_command, [*command, *span]) == 2
    assert "140 recorded drafts outside --since and --until are left out" in capsys.readouterr().err
    span = ["--since", "2026-06-01", "--until", "2026-06-01T10:00+01:00"]
    assert await asyncio.to_thread(run_command, [*command, *span]) == 0
    assert json.loads(capsys.readouterr().out)["labelled"] == 100


# -- a sum -------------------------------------------------------------------------------------------------------------


async def test_a_sum_is_spent_on_tasks_and_drafts_of_today(shop: Shop) -> None:
    texts, told = sure(), list[str]()
    await shop.revoke(texts)
    await shop.serve(texts, 50)
    done = await shop.calibrate(by_spending(Money(nano=10**9), tell=told.append))
    assert (shop.asked, done.labelled, done.certificate.draft_accuracy) == (90, 90, 0.0)
    with pytest.raises(InputError, match="too few tasks") as caught:
        await shop.calibrate(by_spending(Money(nano=10**9)), max_regret=0.001)
    assert f"Drafts made before {SINCE} tell nothing of today" in caught.value.hint


async def test_what_was_bought_before_the_change_is_bought_anew_and_that_is_told_first(shop: Shop) -> None:
    tasks = shop.folder / "tasks.jsonl"
    tasks.write_bytes(b"\n".join(orjson.dumps({"id": t.id, "input": t.input}) for t in labels(90, 0)))
    await shop.calibrate(by_spending(Money(nano=10**9), tasks), attempt=0)
    await shop.revoke(sure())
    told = list[str]()
    done = await shop.calibrate(by_spending(Money(nano=10**9), tasks, tell=told.append))
    assert (shop.asked, len(shop.validated.calls)) == (90, 90)
    assert done.certificate.threshold is None
    assert "90 kept drafts are replaced by new ones; a record costs at most" in told[0]
