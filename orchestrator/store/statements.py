"""Statements written many times over: built by SQLAlchemy once, run with plain tuples.

SQLAlchemy's own `execute(statement, rows)` handles each row's parameters in Python, which costs about as much as
SQLite's insert. A `Prepared` statement leaves that out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol, cast

import orjson
from sqlalchemy import ARRAY, Boolean, ColumnElement, Connection, Dialect, Executable, String, Table, Text, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel

Row = tuple[Any, ...]
CHUNK = 400
"""How many values stand in one IN (...) at most."""


class Readable(Protocol):
    """A store, as far as reports and decisions over its records need one."""

    def read(self) -> AbstractContextManager[Connection]: ...


def table(model: type[SQLModel]) -> Table:
    return cast(Table, model.__table__)  # type: ignore[attr-defined]  # set by SQLModel's metaclass


def insert(target: Table, dialect: str) -> Any:
    """The dialect's own INSERT, which knows ON CONFLICT."""
    return postgresql.insert(target) if dialect == "postgresql" else sqlite.insert(target)


class Raced(Exception):
    """Another process wrote between our look and our write: nothing was written, take the transaction again."""

    sqlstate = "40001"  # as PostgreSQL says it


@dataclass(slots=True)
class Prepared:
    """A statement of which `build(dialect name)` gives the SQL; rows are tuples in the order of `columns`."""

    columns: tuple[str, ...]
    build: Callable[[str], Any]
    _compiled: dict[str, tuple[str, Callable[[Row], Row] | None]] = field(default_factory=dict)

    def for_dialect(self, dialect: Dialect) -> tuple[str, Callable[[Row], Row] | None]:
        """The SQL, and what puts a row into the order of its placeholders (None where it already is)."""
        known = self._compiled.get(dialect.name)
        if known is None:
            compiled = self.build(dialect.name).compile(dialect=dialect, column_keys=list(self.columns))
            order = [self.columns.index(name) for name in compiled.positiontup or ()]
            arrange = None if order == list(range(len(self.columns))) else cast(Any, itemgetter(*order))
            known = self._compiled[dialect.name] = (str(compiled), arrange)
        return known


def inserting(model: type[SQLModel], *columns: str) -> Prepared:
    """INSERT of `columns`; the table's defaults for the others must be NULL."""
    return Prepared(columns, lambda dialect: insert(table(model), dialect))


def inserting_new(model: type[SQLModel], *columns: str) -> Prepared:
    """INSERT of `columns` that passes over rows whose key is there already."""
    return Prepared(columns, lambda dialect: insert(table(model), dialect).on_conflict_do_nothing())


def upserting(model: type[SQLModel], *columns: str, keep: Sequence[str] = ()) -> Prepared:
    """INSERT, or replace every column of the row that is there, except its key and those in `keep`."""
    target = table(model)
    key = [column.name for column in target.primary_key]

    def build(dialect: str) -> Any:
        fresh = insert(target, dialect)
        changed = {c: fresh.excluded[c] for c in columns if c not in key and c not in keep}
        return fresh.on_conflict_do_update(index_elements=key, set_=changed)

    return Prepared(columns, build)


def updating(model: type[SQLModel], *columns: str, by: Sequence[str]) -> Prepared:
    """UPDATE of `columns` in the row named by `by` (tuples: the columns first, then the key)."""
    target = table(model)
    where = [target.c[name] == bindparam(f"by_{name}") for name in by]
    values = {name: bindparam(name, type_=target.c[name].type) for name in columns}
    return Prepared(
        (*columns, *(f"by_{name}" for name in by)), lambda dialect: target.update().where(*where).values(values)
    )


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One open transaction of the writer: who writes, and the time that counts as now. `head` is that of the writer's
    chain of seals, as (number, link), where it is known. `warnings` are logged once it is committed."""

    connection: Connection
    owner_id: str
    now: float
    lease_s: float
    head: tuple[int, bytes] | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def dialect(self) -> str:
        return self.connection.dialect.name

    def many(self, statement: Prepared, rows: Sequence[Row]) -> int:
        """Run `statement` for each row; the number of rows it touched."""
        if not rows:
            return 0
        sql, arrange = statement.for_dialect(self.connection.dialect)
        return self.connection.exec_driver_sql(sql, [arrange(row) for row in rows] if arrange else list(rows)).rowcount

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return cast("CursorResult[Any]", self.connection.execute(statement, parameters))

    def rows(self, statement: Executable, parameters: Any = None) -> Sequence[Any]:
        """All that `statement` gives, to be unpacked by place: by name, SQLAlchemy's rows take ten times as long."""
        return self.execute(statement, parameters).all()


class _Texts(TypeDecorator[Sequence[str]]):
    """Many texts as one value: a JSON list, or PostgreSQL's array."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return ARRAY(String()) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        texts = list(value or ())
        return texts if dialect.name == "postgresql" else orjson.dumps(texts).decode()


class _Among(FunctionElement[bool]):
    """A column, and the texts that it is to be one of."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        """As it is: SQLAlchemy would add `= 1` for SQLite, which then reads the whole table."""
        return self


@compiles(_Among, "sqlite")
def _among_json(element: _Among, compiler: SQLCompiler, **named: Any) -> str:
    column, texts = element.clauses
    return f"{compiler.process(column, **named)} IN (SELECT value FROM json_each({compiler.process(texts, **named)}))"


@compiles(_Among, "postgresql")
def _among_array(element: _Among, compiler: SQLCompiler, **named: Any) -> str:
    column, texts = element.clauses
    return f"{compiler.process(column, **named)} = ANY ({compiler.process(texts, **named)})"


def among(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """`column IN (…)`, its texts given on execution as {"among": texts}, as one value: so that the statement is the
    same however many they are, and is built and planned once. That costs more than SQLite takes to run it."""
    return _Among(column, bindparam("among", type_=_Texts()))


def chunks(values: Sequence[Any], size: int = CHUNK) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
