"""Rows that stand once, under a digest of what they say; and adding to sums that stand under such keys."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Table, case

from orchestrator.store.statements import Prepared, insert

HOUR_S = 3600


@lru_cache(maxsize=4096)
def key_id(key: tuple[Any, ...]) -> bytes:
    return blake2b(orjson.dumps(tuple(key)), digest_size=16).digest()


def adding(target: Table, largest: Sequence[str] = ()) -> Prepared:
    """INSERT of a row of sums, or its values added to those that are there; of `largest`, the larger one stays."""
    key = [column.name for column in target.primary_key]
    sums = [column.name for column in target.columns if column.name not in key]

    def build(dialect: str) -> Any:
        fresh = insert(target, dialect)
        there, more = target.c, fresh.excluded
        return fresh.on_conflict_do_update(index_elements=key, set_={
            name: case((there[name] > more[name], there[name]), else_=more[name]) if name in largest
            else there[name] + more[name]
            for name in sums
        })

    return Prepared((*key, *sums), build)
