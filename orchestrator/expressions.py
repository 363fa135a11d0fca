"""The one place that compiles and runs CEL, the expression language of policies, signals and `when:`.

The Rust package takes a microsecond per *value converted*, and much less to evaluate. So an expression is compiled to
read single leaves: `has(task.meta.amount) && task.meta.amount > 1000.0` becomes `__0 && __1 > 1000.0`, and only the two
leaves are handed over. A leaf that is not there stays undefined, which CEL treats as it treats a missing key: an error,
absorbed by `&&` and `||` where the other side decides.

**Nothing is guessed: what cannot be evaluated raises, and the caller fails closed.**
"""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cel

from orchestrator.cel_faults import parse_fault
from orchestrator.cel_syntax import Node, macro_depth, parse
from orchestrator.declared_fields import AFTER, BEFORE, DeclaredFields, undeclared
from orchestrator.declared_values import impossible
from orchestrator.errors import ExpressionError
from orchestrator.records import Signal, Task

__all__ = ["ROOTS", "DeclaredFields", "Expression", "check_expression", "compile_expression"]

ROOTS = BEFORE | AFTER
MAX_SOURCE = 2_000
MAX_CHARS = 1_000_000
MAX_ITEMS = 20_000
MAX_ITEMS_NESTED = 1_000
"""Items handed to an expression with one comprehension in another: their product bounds the work to about a second."""
MAX_NESTING = 2

_TYPES = frozenset({"bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type"})
_FUNCTIONS = frozenset({
    "size", "close", "has", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes",
    "timestamp", "duration", "type", "dyn", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek",
    "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
})

# The package logs every failing callback with its arguments' errors: content that belongs in no log.
logging.getLogger("cel").disabled = True


def close(a: object, b: object, tol: object) -> bool:
    """|a - b| <= tol, inclusive up to the rounding of doubles (0.13 is close to 0.125 within 0.005)."""
    x, y, t = _number(a), _number(b), _number(tol)
    return abs(x - y) <= t + 4 * math.ulp(max(abs(x), abs(y), t))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("close() takes three finite numbers")
    return float(value)


def _size(of: str | bytes | list[Any] | dict[str, Any]) -> int:
    """Code points of a string, as the specification has it; the package's own counts bytes of UTF-8."""
    return len(of)


_OWN: dict[str, tuple[str, Callable[..., Any]]] = {"size": ("__size", _size), "close": ("__close", close)}


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One field that an expression reads (or asks for, by `has`), and the variable it is handed over in."""

    variable: str
    path: tuple[str, ...]
    asked: bool


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. May be shared between threads. `reads` are the names at the root of what it reads."""

    source: str
    reads: frozenset[str]
    tree: Node
    _program: cel.Program
    _leaves: tuple[_Leaf, ...]
    _functions: dict[str, Callable[..., Any]]
    _items: int

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """The value under `bindings` (name at the root: JSON value, Signal or Task). Integers arrive as doubles.

        Raises ExpressionError, with the reason, where it cannot be evaluated.
        """
        variables: dict[str, Any] = dict(self._functions)
        try:
            for leaf in self._leaves:
                found = _find(bindings, leaf)
                if found is not _MISSING:
                    variables[leaf.variable] = _to_cel(found, self._items)
            return self._program.execute(variables)
        except ExpressionError as error:
            raise ExpressionError(f"{self.source}: {error}") from None
        except Exception as error:  # noqa: BLE001 - of the package, any: what it can't evaluate fails closed
            raise ExpressionError(f"{self.source}: {self._reason(error)}") from None
        except BaseException as error:  # a panic of the Rust side is no Exception
            if type(error).__name__ != "PanicException":  # the Rust side's own, beside Exception
                raise
            raise ExpressionError(f"{self.source}: the CEL runtime gave up on it") from None

    def holds(self, bindings: Mapping[str, Any]) -> bool:
        """`evaluate`, where only true and false are answers. Raises ExpressionError on any other."""
        value = self.evaluate(bindings)
        if value is True or value is False:
            return bool(value)
        raise ExpressionError(f"{self.source}: gives {type(value).__name__}, and must give true or false")

    def _reason(self, error: Exception) -> str:
        """Why it could not be evaluated: of the program and its types, never of the values."""
        match error:
            case KeyError():
                return f"{error} is missing"
            case TypeError():
                return f"the types do not fit (numbers are doubles: write 2.0; null fits nothing): {_first_line(error)}"
            case IndexError() | ArithmeticError() | RecursionError():
                return type(error).__name__
        undefined = _UNDEFINED.match(str(error))
        leaf = next((leaf for leaf in self._leaves if undefined and leaf.variable == undefined[1]), None)
        if leaf is not None:
            return f"{'.'.join(leaf.path)} is missing"
        return f"a function failed: {_first_line(error)}"


def compile_expression(source: str) -> Expression:
    """Compile CEL. Names at the root are those of `ROOTS`. Raises ExpressionError with the place of the mistake."""
    if len(source) > MAX_SOURCE:
        raise ExpressionError(f"an expression of {len(source)} characters: {MAX_SOURCE} is the most")
    try:
        cel.compile(source)
    except ValueError as error:
        raise ExpressionError(parse_fault(source, str(error))) from None
    try:
        tree = parse(source, ROOTS)
        leaves, rewritten = _rewrite(source, tree)
        program = cel.compile(rewritten)
    except ValueError as error:
        raise ExpressionError(str(error)) from None
    except RecursionError:
        raise ExpressionError(f"{source!r} is nested too deeply") from None
    depth = macro_depth(tree)
    if depth > MAX_NESTING:
        raise ExpressionError(f"{source!r}: {depth} comprehensions in one another: {MAX_NESTING} is the most")
    return Expression(
        source=source, reads=frozenset(leaf.path[0] for leaf in leaves), tree=tree, _program=program, _leaves=leaves,
        _functions={name: function for name, function in _OWN.values() if name in rewritten},
        _items=MAX_ITEMS if depth < MAX_NESTING else MAX_ITEMS_NESTED,
    )


def check_expression(source: str, *, fields: DeclaredFields) -> list[str]:
    """What is wrong with `source` under `fields`: syntax, undeclared names, optional fields read without `has()`,
    literals that a field can't equal."""
    try:
        expression = compile_expression(source)
    except ExpressionError as error:
        return [str(error)]
    problems = undeclared(expression.tree, fields) + impossible(expression.tree, source, fields)
    return [f"{source}: {problem}" for problem in problems]


def _rewrite(source: str, tree: Node) -> tuple[tuple[_Leaf, ...], str]:
    """The leaves that `source` reads, and the source that reads them from variables of their own."""
    leaves: dict[tuple[tuple[str, ...], bool], _Leaf] = {}
    edits: list[tuple[int, int, str]] = []
    for node in tree.walk():
        if node.kind in ("path", "has"):
            key = (node.path, node.kind == "has")
            leaf = leaves.setdefault(key, _Leaf(f"__{len(leaves)}", *key))
            edits.append((node.start, node.end, leaf.variable))
        elif node.kind == "call":
            edits.extend(_call(source, node))
        elif node.kind == "name" and node.path[0] not in _TYPES:
            raise ExpressionError(f"{source!r}: {_unknown(node.path[0], ROOTS)}")
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return tuple(leaves.values()), source


def _call(source: str, node: Node) -> list[tuple[int, int, str]]:
    name = node.path[0]
    if name not in _FUNCTIONS:
        raise ExpressionError(f"{source!r}: {_unknown(name, _FUNCTIONS)}")
    return [(node.name_at, node.name_at + len(name), _OWN[name][0])] if name in _OWN else []


def _unknown(name: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"{name!r} is unknown: " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}")


_MISSING = object()
_UNDEFINED = re.compile(r"Undefined variable or function: '(__\d+)'")


def _find(bindings: Mapping[str, Any], leaf: _Leaf) -> Any:
    """What stands at the leaf's path; for `has`, whether it is there; `_MISSING` where the way to it ends early."""
    node: Any = bindings
    path = leaf.path[:-1] if leaf.asked else leaf.path
    for name in path:
        if type(node) is not dict:
            node = _as_map(node)
            if node is None:
                return _MISSING
        node = node.get(name, _MISSING)
        if node is _MISSING:
            return _MISSING
    if leaf.asked:
        holder = node if type(node) is dict else _as_map(node)
        return _MISSING if holder is None else leaf.path[-1] in holder
    return node


def _as_map(node: Any) -> Mapping[str, Any] | None:
    """What CEL sees of a record; None of what has no fields."""
    if type(node) is Signal:
        return {"ok": node.ok, "value": node.value, "reason": node.reason}
    if type(node) is Task:
        return {"input": node.input, "meta": node.meta}
    return node if isinstance(node, Mapping) else None


def _to_cel(value: Any, items: int) -> Any:
    """`value` with integers as doubles, as JSON has it. Raises ExpressionError where it is too large or no JSON."""
    kind = type(value)
    if kind is float or value is None or value is True or value is False:
        return value
    if kind is int:
        return float(value)
    if kind is str:
        if len(value) > MAX_CHARS:
            raise ExpressionError(f"a text of {len(value)} characters is too long to look at: {MAX_CHARS} is the most")
        return value
    return _Conversion(items).convert(value)


@dataclass(slots=True)
class _Conversion:
    """Of a list or map, within a bound on its items in all."""

    left: int

    def convert(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            self._spend(len(value))
            return [self.convert(part) for part in value]
        holder = _as_map(value)
        if holder is not None:
            self._spend(len(holder))
            return {name: self.convert(part) for name, part in holder.items()}
        if value is not None and not isinstance(value, (str, int, float)):
            raise ExpressionError(f"{type(value).__name__} is not JSON")
        return _to_cel(value, 0)

    def _spend(self, items: int) -> None:
        self.left -= items
        if self.left < 0:
            raise ExpressionError("a list or map has too many items to look at")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].split(". ", 1)[0][:120]
