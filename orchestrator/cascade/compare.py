"""Are two answers the same? The definition every other number of quality stands on.

`exact`: the same canonical JSON (7 equals 7.0, the order of keys is nothing, strings equal after Unicode NFC).
`fields`: field by field, strings trimmed and without case, numbers within 1e-9. `module:callable`: the user's own.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.canonical import canonical_nfc, nfc
from orchestrator.config.plugins import load_callable, source_digest
from orchestrator.errors import ConfigError

TOLERANCE = 1e-9
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compare:
    """A compiled comparison. `fingerprint` changes when its meaning may have.

    `score` is the share of equal fields, in [0, 1]; `exact` knows only 0 and 1. A user's callable that raises or
    returns something else says nothing of sameness: it scores 0, and the log says so.
    """

    spec: str
    fingerprint: str
    score: Callable[[Any, Any], float]

    def same(self, a: Any, b: Any) -> bool:
        return self.score(a, b) >= 1.0


def compile_compare(spec: str, allow_imports: Sequence[str] = ()) -> Compare:
    """`exact`, `fields`, or `module:callable` of (a, b) giving a bool or a score in [0, 1]. Raises ConfigError."""
    if spec == "exact":
        return Compare(spec, spec, _exact)
    if spec == "fields":
        return Compare(spec, spec, _fields)
    if ":" not in spec:
        raise ConfigError(f"`compare: {spec}` is unknown: write exact, fields or module:callable", key="compare")
    return Compare(spec, *_user_score(spec, load_callable(spec, allow_imports)))


def _user_score(spec: str, function: Callable[[Any, Any], Any]) -> tuple[str, Callable[[Any, Any], float]]:
    def score(a: Any, b: Any) -> float:
        try:
            given = function(copy.deepcopy(a), copy.deepcopy(b))
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything; it must not fail the group of tasks
            _logger.warning("compare %s raised %s: counted as different", spec, type(error).__name__)
            return 0.0
        if isinstance(given, (bool, int, float)) and 0.0 <= given <= 1.0:
            return float(given)
        _logger.warning("compare %s returned neither a bool nor a score from 0 to 1: counted as different", spec)
        return 0.0

    return f"{spec}@{source_digest(function)}", score


def _exact(a: Any, b: Any) -> float:
    try:
        return float(canonical_nfc(a) == canonical_nfc(b))
    except (TypeError, ValueError, RecursionError):
        return 0.0  # what is not JSON is like nothing


def _fields(a: Any, b: Any) -> float:
    if not (isinstance(a, Mapping) and isinstance(b, Mapping)):
        return float(_alike(a, b))
    names = a.keys() | b.keys()
    if not names:
        return 1.0
    return sum(name in a and name in b and _alike(a[name], b[name]) for name in names) / len(names)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return nfc(a).strip().casefold() == nfc(b).strip().casefold()
    if _is_number(a) and _is_number(b):
        return a == b or _near(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(v, b[k]) for k, v in a.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    return type(a) is type(b) and bool(a == b)


def _near(a: float, b: float) -> bool:
    try:
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except OverflowError:
        return False  # an integer beyond every double, and not equal


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

