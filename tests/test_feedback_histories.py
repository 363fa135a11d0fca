"""Two answers to one question: what counts of a run, as the store says it of one and as reports say it of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from orchestrator.store.evidence import evidence, outcome
from orchestrator.store.outcomes import load
from tests.ledger import Ledger

FIRST = st.sampled_from([
    ("accepted", None, "unknown"), ("accepted", True, "label"), ("accepted", False, "label"),
    ("approved", True, "validator"), ("redone", True, "proof"), ("repaired", False, "proof"),
    ("accepted", False, "require"), ("handed_off", False, "status"), ("failed", False, "status"),
])
SAID = st.lists(
    st.tuples(st.sampled_from(["feedback", "hand_off", "spot_check"]), st.booleans(), st.integers(200, 205)),
    max_size=5,
)
HISTORY = st.tuples(FIRST, SAID, st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(HISTORY, min_size=1, max_size=8))
def test_the_store_and_the_report_agree_on_every_history(
    tmp_path_factory: Any, histories: Sequence[tuple[Any, list[Any], bool]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("history")
    ledger = Ledger.on_disk(folder)
    ledger.config()
    for i, ((status, success, source), said, from_cache) in enumerate(histories):
        cached = {"from_cache": True, "source_run_id": f"r{i - 1}"} if from_cache and i else {}
        ledger.run(f"r{i}", status=status, success=success, source=source, **cached)
        for kind, word, at in said:
            ledger.feedback(f"r{i}", word, at=float(at) + i / 100, source=kind)
    known = evidence()
    with ledger.read() as connection:
        rows = connection.execute(
            select(outcome.c.run_id, known.source, known.success).select_from(known.joined).where(known.wanted)
        )
        reported = {run_id: (source, None if success is None else bool(success)) for run_id, source, success in rows}
        stored = load(connection, sorted(reported))
    ledger.close()
    assert len(reported) == len(histories)
    assert reported == {run_id: (one.success_source, one.success) for run_id, one in stored.items()}
