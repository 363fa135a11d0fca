"""The schema, step by step: ordered named functions, recorded once applied.

A new store gets today's tables by the first step. A later step brings an older store there, and must therefore do
nothing where its change is already in place. A store with a step unknown here was written by a newer version.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine, Table, inspect, select
from sqlmodel import SQLModel

from orchestrator.errors import StoreTooNew
from orchestrator.store import line_rows, seals
from orchestrator.store.baseline_tables import BaselineRow
from orchestrator.store.budget_tables import BudgetLimit
from orchestrator.store.close_tables import Close, Superseded
from orchestrator.store.line_tables import Allocated, CostCell, LineKey, LineRow, RunCell, RunKey, Uncounted
from orchestrator.store.own_tables import Migration, Owner, Setting
from orchestrator.store.statements import insert, table
from orchestrator.store.tables import Budget, CallRow, Feedback, Lapse, OutcomeRow, Price, Run, StepRow

SchemaStep = Callable[[Connection], None]

_POSTGRES_LOCK = 0x6472_6166_7467_6174  # "draftgat": one migration at a time

_migration, _setting = table(Migration), table(Setting)


def m001_tables(connection: Connection) -> None:
    SQLModel.metadata.create_all(connection, tables=[table(model) for model in _models()])


def m002_lapse(connection: Connection) -> None:
    SQLModel.metadata.create_all(connection, tables=[table(Lapse)])


def m003_seals(connection: Connection) -> None:
    """More token classes, the tier, seals, and the prices that calls were priced by."""
    SQLModel.metadata.create_all(connection, tables=[table(Price)])
    for model in (CallRow, OutcomeRow, Feedback, Owner):
        _add_columns(connection, table(model))


def m004_lines(connection: Connection) -> None:
    """What reports are read from: calls in lines, and runs in cells, where those that are here wait to be counted."""
    models = (LineKey, LineRow, RunKey, RunCell, CostCell, Uncounted, Allocated)
    SQLModel.metadata.create_all(connection, tables=[table(model) for model in models])
    m008_again(connection)
    line_rows.rebuild(connection)


def m006_closes(connection: Connection) -> None:
    """Closed months; and how many final rows there were before any was sealed: to tell what is slipped in later."""
    SQLModel.metadata.create_all(connection, tables=[table(Close), table(Superseded)])
    counts = json.dumps(seals.unsealed(connection))
    connection.execute(_setting.insert().values(name=seals.UNSEALED, value=counts))


def m005_budgets(connection: Connection) -> None:
    """Limits kept in the store; soft limits, and when a bucket ends."""
    SQLModel.metadata.create_all(connection, tables=[table(BudgetLimit)])
    _add_columns(connection, table(Budget))


def m007_baselines(connection: Connection) -> None:
    """How the answers of the measured baseline compare."""
    SQLModel.metadata.create_all(connection, tables=[table(BaselineRow)])


def m008_again(connection: Connection) -> None:
    """Runs that did a task again, and every index of today's on runs."""
    _add_columns(connection, table(Run))
    for index in table(Run).indexes:
        index.create(connection, checkfirst=True)


def m009_asked_again(connection: Connection) -> None:
    """Every index of today's on calls."""
    for index in table(CallRow).indexes:
        index.create(connection, checkfirst=True)


def m010_lapse_since(connection: Connection) -> None:
    """From when on the evidence counted that revoked a certificate."""
    _add_columns(connection, table(Lapse))


def m011_look(connection: Connection) -> None:
    """With what probability the validator came to see a draft, over all draws."""
    _add_columns(connection, table(StepRow))


MIGRATIONS: tuple[SchemaStep, ...] = (
    m001_tables, m002_lapse, m003_seals, m004_lines, m005_budgets, m006_closes, m007_baselines, m008_again,
    m009_asked_again, m010_lapse_since, m011_look,
)


def _add_columns(connection: Connection, today: Table) -> None:
    """Add to the store's table whatever columns of today's it lacks."""
    there = {column["name"] for column in inspect(connection).get_columns(today.name)}
    for column in today.columns:
        if column.name not in there:
            kind = column.type.compile(connection.dialect)
            rule = "" if column.nullable else " NOT NULL DEFAULT 0"
            connection.exec_driver_sql(f"ALTER TABLE {today.name} ADD COLUMN {column.name} {kind}{rule}")


def _models() -> list[type[SQLModel]]:
    from orchestrator.store import own_tables, tables

    return [
        value for value in (*vars(own_tables).values(), *vars(tables).values())
        if isinstance(value, type) and issubclass(value, SQLModel) and hasattr(value, "__table__")
    ]


def migrate(engine: Engine, name: str) -> None:
    """Bring the store up to date, in one transaction that other openers wait for. Twice is a no-op.

    Raises StoreTooNew where a newer version has been at it; then nothing was changed.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})")
        applied = _applied(connection)
        known = [step.__name__ for step in MIGRATIONS]
        if newer := sorted(applied - set(known)):
            raise StoreTooNew(f"store {name} has migrations this version does not know: {', '.join(newer)}")
        for step in MIGRATIONS:
            if step.__name__ not in applied:
                step(connection)
                connection.execute(_migration.insert().values(name=step.__name__, applied_at=time.time()))
        connection.execute(
            insert(_setting, connection.dialect.name).on_conflict_do_nothing()
            .values(name="secret", value=secrets.token_hex(32))
        )


def _applied(connection: Connection) -> set[str]:
    if not inspect(connection).has_table("migration"):
        return set()
    return set(connection.execute(select(_migration.c.name)).scalars())


def secret(connection: Connection) -> bytes:
    """The key of this store's digests: 32 random bytes, made once."""
    return bytes.fromhex(connection.execute(select(_setting.c.value).where(_setting.c.name == "secret")).scalar_one())
