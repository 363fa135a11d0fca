"""What an `after` rule asks of confidence and threshold beyond which of the two is greater."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.cascade.rules import ON_CONFIDENCE
from orchestrator.cel_syntax import Node
from orchestrator.expressions import compile_expression


def compares_plainly(when: str) -> bool:
    """Does it read confidence and threshold in plain comparisons alone?"""
    return all(path[0] not in ON_CONFIDENCE for path in reads_beside(when))


def reads_beside(when: str) -> Iterator[tuple[str, ...]]:
    """The paths that `when` reads, or asks for, outside its plain comparisons `confidence < threshold` and
    `confidence >= threshold`. Raises ExpressionError for what does not compile."""
    return _beside(compile_expression(when).tree, when)


def _beside(node: Node, source: str) -> Iterator[tuple[str, ...]]:
    if _is_plain(node, source):
        return
    if node.kind in ("path", "has", "name"):
        yield node.path
    for part in node.parts:
        yield from _beside(part, source)


def _is_plain(node: Node, source: str) -> bool:
    """By the tree: in `2.0 * confidence < threshold` the left side is a product."""
    if [(part.kind, part.path) for part in node.parts] != [("path", ("confidence",)), ("path", ("threshold",))]:
        return False
    left, right = node.parts
    return source[left.end : right.start].strip() in ("<", ">=")
