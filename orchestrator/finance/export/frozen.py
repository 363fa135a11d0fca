"""A report with its breakdown as one JSON document, and back: what a closed month is kept as.

**Every format is written from what `from_json` gives**, so a month that is closed reads the same for ever.
"""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, get_type_hints

import orjson

from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.bridge import Bridge, paid
from orchestrator.finance.plain import decode, encode, schema_of
from orchestrator.finance.records import Line, Report, ReportQuery

KIND, FORMAT = "report", 1
_REPORT = tuple(one.name for one in fields(Report) if one.name not in ("query", "created_at", "lines"))


def report_json(report: Report) -> dict[str, Any]:
    """The report alone as JSON types: money as strings, times as ISO 8601, what is not known as null."""
    query = encode(report.query)
    return {
        "kind": KIND, "format": FORMAT,
        "created_at": datetime.fromtimestamp(report.created_at, UTC).isoformat(),
        **query, "by": list(report.query.by),
        **{name: encode(getattr(report, name)) for name in _REPORT}, "paid": encode(paid(report)),
        "lines": [{**encode(line), "escalation_rate": line.escalation_rate} for line in report.lines],
    }


def to_json(report: Report, breakdown: Breakdown) -> bytes:
    """The whole, the same bytes for the same figures."""
    document = {**report_json(report), "breakdown": encode(breakdown)}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def from_json(document: bytes) -> tuple[Report, Breakdown]:
    """What `to_json` wrote. Raises InputError for anything else."""
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise InputError(f"a frozen report is not JSON: {error}") from error
    if not isinstance(found, dict) or (found.get("kind"), found.get("format")) != (KIND, FORMAT):
        raise InputError(f"this is no report of format {FORMAT}: {str(found)[:80]!r}")
    hints = get_type_hints(Report)
    report = Report(
        query=decode(ReportQuery, found), created_at=datetime.fromisoformat(found["created_at"]).timestamp(),
        lines=decode(tuple[Line, ...], found["lines"]),
        **{name: decode(hints[name], found[name]) for name in _REPORT if name in found},
    )
    return report, decode(Breakdown, found["breakdown"])


def settled(report: Report, breakdown: Breakdown) -> tuple[Report, Breakdown]:
    """Both as they will be read back once frozen: what every format is written from."""
    rounded, small = from_json(to_json(report, replace(breakdown, charges=())))
    return rounded, replace(small, charges=breakdown.charges)  # they hold no statistic: nothing of them is rounded


def report_schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    records: dict[str, Any] = {}
    hints = get_type_hints(Report)
    schema_of(ReportQuery, records)
    asked = records.pop("ReportQuery")["properties"]
    parts = {name: schema_of(hints[name], records) for name in (*_REPORT, "lines")}
    breakdown = schema_of(Breakdown, records)
    parts["paid"] = schema_of(tuple[Bridge, ...], records)
    records["Line"]["properties"]["escalation_rate"] = schema_of(float | None, records)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "draftgate report", "type": "object",
        "description": "What `orchestrator report --format json` writes. Money is an exact decimal string beside its "
        "currency; null is not known, and never zero.",
        "properties": {
            "kind": {"const": KIND}, "format": {"const": FORMAT},
            "created_at": {"type": "string", "format": "date-time"}, **asked, **parts, "breakdown": breakdown,
        },
        "required": ["kind", "format", "created_at", "lines", "breakdown"], "$defs": dict(sorted(records.items())),
    }
