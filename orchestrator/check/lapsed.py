"""Whether the ledger says that a certificate was revoked. The store is only read, and never made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.check.finding import Finding
from orchestrator.config.certificate import certificate_digest
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.loader import LoadedPipeline
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from orchestrator.store.lapses import StoredLapse


def lapse_findings(loaded: LoadedPipeline, store: str) -> Iterator[Finding]:
    """A warning for each step whose present certificate spot checks revoked, or where the store can't be read."""
    try:
        lapses = _read(loaded.config.pipeline, store)
    except StoreError as error:
        yield Finding("warning", "store", f"it is not known whether a certificate was revoked: {error}")
        return
    does = "escalate" if loaded.config.certificate_lapsed == "escalate" else "be handed off"
    for step in loaded.steps:
        present = certificate_digest(step.certificate) if step.certificate and not step.certificate_problem else None
        for lapse in lapses:
            if (lapse.step, lapse.certificate) == (step.config.id, present):
                rules = [rule.name for rule in step.policy.after if rule.when and reads_confidence(rule.when)]
                yield Finding(
                    "warning", f"step {step.config.id}",
                    f"every draft that reaches {', '.join(rules) or 'the threshold'} would {does}: its certificate was "
                    f"revoked on {datetime.fromtimestamp(lapse.at, UTC).date()}: {lapse.reason}; calibrate anew",
                )


def _read(pipeline: str, url: str) -> list[StoredLapse]:
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.store.connect import locate, reading_engine, store_error
    from orchestrator.store.lapses import listed

    place = locate(url)
    if place.path is not None and not place.path.exists():
        return []
    engine = reading_engine(place, size=1)
    try:
        with engine.connect() as connection:
            return listed(connection, pipeline) if inspect(connection).has_table("lapse") else []
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise store_error(error, place.name) from error
    finally:
        engine.dispose()
