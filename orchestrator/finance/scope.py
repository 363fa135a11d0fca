"""Which rows of the ledger a report is of, and how they are grouped: in SQL and from the values of a key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Label, Text, and_, case, cast, func, literal
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.finance.configured import config
from orchestrator.finance.period import Period
from orchestrator.finance.records import ReportQuery
from orchestrator.store.evidence import run
from orchestrator.store.statements import table
from orchestrator.store.tables import CallRow

call = table(CallRow)
Group = tuple[str, ...]

COLUMNS: Mapping[str, ColumnElement[Any]] = {
    "pipeline": run.c.pipeline,
    "version": config.c.version,
    "owner": config.c.owner,
    "cost_center": config.c.cost_center,
    "mode": config.c.mode,
    "tenant": run.c.tenant,
}
OF_CONFIG = ("pipeline", "version", "owner", "cost_center", "mode")


def with_config(joined: Any) -> Any:
    return joined.join(config, config.c.config_id == run.c.config_id)


def ended(moment: ColumnElement[Any], query: ReportQuery) -> ColumnElement[bool]:
    of_it = within(moment, query.period)
    return of_it if query.pipeline is None else and_(run.c.pipeline == query.pipeline, of_it)


def within(moment: ColumnElement[Any], period: Period) -> ColumnElement[bool]:
    """Does a moment, in epoch seconds, lie in the period."""
    wanted: list[ColumnElement[bool]] = [literal(True)]
    if period.since_at is not None:
        wanted.append(moment >= period.since_at)
    if period.until_at is not None:
        wanted.append(moment < period.until_at)
    return and_(*wanted)


def keys_of(connection: Connection, by: Sequence[str]) -> list[Label[Any]]:
    found = (COLUMNS[name] if name in COLUMNS else _tag(connection, name) for name in by)
    return [key.label(f"key{i}") for i, key in enumerate(found)]


def _tag(connection: Connection, name: str) -> ColumnElement[Any]:
    """A tag's value as text; of a run without it, NULL."""
    if connection.dialect.name == "postgresql":
        return func.jsonb_extract_path_text(cast(run.c.tags_json, JSONB), name)
    path = f'$."{name}"'
    truth = func.json_type(run.c.tags_json, path)
    value = cast(func.json_extract(run.c.tags_json, path), Text)
    return case((truth.in_(("true", "false")), truth), else_=value)


def group_of(values: Sequence[Any]) -> Group:
    return tuple("" if value is None else str(value) for value in values)


@lru_cache(maxsize=4096)
def tags_of(tags_json: str) -> Mapping[str, str]:
    """The values of tags as texts: one that is no text reads as its JSON, one that is null is empty."""
    tags: dict[str, Any] = json.loads(tags_json)
    return {name: v if isinstance(v, str) else "" if v is None else _json(v) for name, v in tags.items()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def group_of_key(by: Sequence[str], of_config: Mapping[str, str], tenant: str, tags_json: str) -> Group:
    """The group of rows that stand under a key: `of_config` holds the columns that their configuration has."""
    values = {**tags_of(tags_json), **of_config, "tenant": tenant}
    return tuple(values.get(name, "") for name in by)
