"""Tables of the trail: months that were closed, and seals whose row was sealed anew.

Apart from `tables.py`, which is long enough.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Float, LargeBinary
from sqlmodel import Field, SQLModel


class Close(SQLModel, table=True):
    """A closed month: what was reported of it, for good. `body` is the close file, `figures` the report within it,
    byte for byte; `digest` is the SHA-256 of the body (docs/trail.md).

    `touched` counts what was booked of the month's runs since it was last stated (by this close, or by a later one).
    """

    __tablename__: ClassVar[str] = "close"
    period: str = Field(primary_key=True)
    tz: str
    since_at: float = Field(sa_type=Float)
    until_at: float = Field(sa_type=Float)
    created_at: float = Field(sa_type=Float)
    digest: str
    body: bytes = Field(sa_type=LargeBinary)
    figures: bytes = Field(sa_type=LargeBinary)
    touched: int = 0


class Superseded(SQLModel, table=True):
    """A seal of a call that was sealed anew, and what it was over: the chain it stands in stays whole.

    It happens where recovery had given a call up, and its owner lived and came back with an answer.
    """

    __tablename__: ClassVar[str] = "superseded_seal"
    sealed_by: str = Field(primary_key=True)
    seal_no: int = Field(primary_key=True)
    seal: bytes = Field(sa_type=LargeBinary)
    row_id: str = Field(index=True)
    body: bytes = Field(sa_type=LargeBinary)
