"""The limits that `orchestrator budget set` keeps in the store, in force in every process that writes to it."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class BudgetLimit(SQLModel, table=True):
    """At most `limit_nano` in each `span` (hour, day, month, total) by `who` (`config.budget.Who.key`). From
    `soft_nano` on there is a warning. Read in the transaction that reserves."""

    __tablename__: ClassVar[str] = "budget_limit"
    who: str = Field(primary_key=True)
    span: str = Field(primary_key=True)
    currency: str
    limit_nano: int = Field(sa_type=BigInteger)
    soft_nano: int | None = Field(default=None, sa_type=BigInteger)
    set_at: float
