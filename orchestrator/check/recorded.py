"""What the ledger holds that bears on a pipeline's files. The store is only read, and never made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


def recorded(url: str, table: str, look_up: Callable[[Connection], list[T]]) -> list[T]:
    """What `look_up` finds in the store; nothing where there is no store, or an older one without `table`.

    Raises StoreError where it can't be read.
    """
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.store.connect import locate, reading_engine, store_error

    place = locate(url)
    if place.path is not None and not place.path.exists():
        return []
    engine = reading_engine(place, size=1)
    try:
        with engine.connect() as connection:
            return look_up(connection) if inspect(connection).has_table(table) else []
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise store_error(error, place.name) from error
    finally:
        engine.dispose()
