"""The tables that reports are read from: sums of calls and of runs, by the UTC hour they ended in.

A key's row is written once, under its digest; the sums stand apart in narrow rows.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel

_TO_THE_KEY: dict[str, bool] = {"sqlite_with_rowid": False}


def _key() -> bytes:
    found: bytes = Field(primary_key=True, sa_type=LargeBinary)
    return found


def _sum() -> int:
    found: int = Field(default=0, sa_type=BigInteger)
    return found


class LineKey(SQLModel, table=True):
    """What the calls of a line have in common."""

    __tablename__: ClassVar[str] = "line_key"
    key_id: bytes = _key()
    config_id: str
    tenant: str
    tags_json: str
    step: str
    role: str
    provider: str
    endpoint: str
    model: str
    account: str | None = None
    tier: str | None = None
    state: str
    provenance: str | None = None
    currency: str | None = None
    price_version: str | None = None


class LineRow(SQLModel, table=True):
    """Calls of one key that ended in one hour: `lines.AMOUNTS` says what each sum is. Processes on one PostgreSQL add
    to rows of different `shard`."""

    __tablename__: ClassVar[str] = "call_line"
    __table_args__: ClassVar[dict[str, bool]] = _TO_THE_KEY
    hour: int = Field(primary_key=True)
    key_id: bytes = _key()
    shard: int = Field(primary_key=True)
    calls: int = _sum()
    input_tokens: int = _sum()
    input_audio_tokens: int = _sum()
    cache_read_tokens: int = _sum()
    cache_write_tokens: int = _sum()
    cache_write_1h_tokens: int = _sum()
    output_tokens: int = _sum()
    output_audio_tokens: int = _sum()
    reasoning_tokens: int = _sum()
    input_nano: int = _sum()
    input_audio_nano: int = _sum()
    cache_read_nano: int = _sum()
    cache_write_nano: int = _sum()
    cache_write_1h_nano: int = _sum()
    output_nano: int = _sum()
    output_audio_nano: int = _sum()
    reasoning_nano: int = _sum()
    cost_nano: int = _sum()
    priced: int = _sum()
    by_class: int = _sum()
    bound_nano: int = _sum()
    unpriced: int = _sum()
    unbounded: int = _sum()


class Uncounted(SQLModel, table=True):
    """Runs with an outcome that are in no cell: those just ended, and those something was learned of since."""

    __tablename__: ClassVar[str] = "uncounted"
    __table_args__: ClassVar[dict[str, bool]] = _TO_THE_KEY
    run_id: str = Field(primary_key=True)


class RunKey(SQLModel, table=True):
    """What the runs of a cell have in common: whose they are, how they ended, and what is known of their success.
    `step`, whose rule drew `propensity`, tells whether the confidence logged there is a fitted one."""

    __tablename__: ClassVar[str] = "run_key"
    key_id: bytes = _key()
    config_id: str
    tenant: str
    tags_json: str
    status: str
    source: str
    success: bool | None = None
    propensity: float | None = None
    unanswered: bool
    step: str | None = None


class RunCell(SQLModel, table=True):
    """Runs of one key that ended in one hour. `confident` of them logged a confidence between 0 and 1, which sum to
    `confidences` and their squares to `confidence_squares`."""

    __tablename__: ClassVar[str] = "run_cell"
    __table_args__: ClassVar[dict[str, bool]] = _TO_THE_KEY
    hour: int = Field(primary_key=True)
    key_id: bytes = _key()
    runs: int = _sum()
    confident: int = _sum()
    confidences: float = 0.0
    confidence_squares: float = 0.0
    escalated: int = _sum()
    from_cache: int = _sum()
    degraded: int = _sum()


class CostCell(SQLModel, table=True):
    """What the runs of a `run_cell` cost in one currency, those apart whose cost has another number of `digits`: so
    that a dear run taken out of a sum of cubes leaves the cheap ones' to many figures.

    `bound_nano` is the largest there was; a run that left the cell stands, with its bound, in another of that hour.
    """

    __tablename__: ClassVar[str] = "cost_cell"
    __table_args__: ClassVar[dict[str, bool]] = _TO_THE_KEY
    hour: int = Field(primary_key=True)
    key_id: bytes = _key()
    currency: str = Field(primary_key=True)
    digits: int = Field(primary_key=True)
    runs: int = _sum()
    cost_nano: int = _sum()
    squares: float = 0.0
    cubes: float = 0.0
    by_confidence: float = 0.0
    bound_nano: int = _sum()
    unbounded: int = _sum()
    saved_nano: int = _sum()


class Allocated(SQLModel, table=True):
    """A GPU's bill of one hour, spread over that hour's lines when it closed, and never changed. The row with the empty
    key is the hour's mark: it bears the bill where there was no work to bear it. `calls` are those it was spread over.
    """

    __tablename__: ClassVar[str] = "allocated"
    __table_args__: ClassVar[dict[str, bool]] = _TO_THE_KEY
    hour: int = Field(primary_key=True)
    model: str = Field(primary_key=True)
    key_id: bytes = _key()
    price_version: str
    currency: str
    calls: int = _sum()
    nano: int = _sum()
