"""The numbers kept of a draft, held in eight bytes each: for those who hold the drafts of a whole ledger."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache


class Numbers(Mapping[str, float | None]):
    """The same as the mapping it is made of, in a sixth of the memory. What was not to be had is None, as there."""

    __slots__ = ("_places", "_values")

    def __init__(self, of: Mapping[str, float | None]) -> None:
        self._places = _places(tuple(of))
        self._values = array("d", [math.nan if value is None else value for value in of.values()])

    def __getitem__(self, name: str) -> float | None:
        value = self._values[self._places[name]]
        return None if math.isnan(value) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._values)


@lru_cache(maxsize=256)
def _places(names: tuple[str, ...]) -> Mapping[str, int]:
    """Shared by all drafts of which the same numbers are kept."""
    return {name: place for place, name in enumerate(names)}
