"""The tables in which a store keeps account of itself: its schema, its secret, and the processes that write to it."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import LargeBinary
from sqlmodel import Field, SQLModel


class Migration(SQLModel, table=True):
    """Schema steps applied to this store, in order."""

    __tablename__: ClassVar[str] = "migration"
    name: str = Field(primary_key=True)
    applied_at: float


class Setting(SQLModel, table=True):
    """Facts of the store itself: its secret for keyed digests (hex)."""

    __tablename__: ClassVar[str] = "setting"
    name: str = Field(primary_key=True)
    value: str


class Owner(SQLModel, table=True):
    """A process that writes. Rows of an owner whose lease lapsed may be recovered by others.

    `sealed` rows are in its chain so far, `seal` is the last one's.
    """

    __tablename__: ClassVar[str] = "owner"
    owner_id: str = Field(primary_key=True)
    host: str
    pid: int
    process_started: str
    started_at: float
    lease_until: float
    recovered_at: float | None = None
    sealed: int = 0
    seal: bytes | None = Field(default=None, sa_type=LargeBinary)
