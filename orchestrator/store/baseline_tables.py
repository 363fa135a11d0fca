"""What is kept of a measured baseline: how its answer compares, never the answer."""

from __future__ import annotations

from typing import ClassVar

from sqlmodel import Field, SQLModel


class BaselineRow(SQLModel, table=True):
    """A task that the validator also answered alone, to the end. Its calls stand in `call`, with the role baseline.

    `served`: it gave an answer that passes schema and guards. `required`: what the pipeline requires of a value holds
    (NULL: nothing is required, or there is no answer). `same`: it compares equal to what the run served (NULL where
    either served nothing). `judge` is what says whether it is `right`, independent of the validator: label or proof.
    `share` is the probability that the task was drawn with.
    """

    __tablename__: ClassVar[str] = "baseline"
    run_id: str = Field(primary_key=True)
    pipeline: str
    share: float
    served: bool
    required: bool | None = None
    same: bool | None = None
    judge: str | None = None
    right: bool | None = None
    ended_at: float = Field(index=True)
