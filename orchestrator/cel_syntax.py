"""The syntax tree of a CEL expression, as far as `expressions.py` and what `check` says of fields and values need it.

The Rust package compiles and runs CEL but shows no tree. This parser (grammar: cel-spec, doc/langdef.md) is
run on source the package already took, so it only has to understand it, not to judge it: which
fields are read, where, under which `has()`, and what they are compared with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import ExpressionError

MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})
COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "in"})

Kind = Literal[
    "path", "has", "bound", "name", "call", "macro", "and", "or", "not", "if", "group", "arithmetic", "comparison",
    "index", "selected", "negative", "list", "integer", "float", "string", "word", "other",
]

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<string>
            (?:[rR][bB]?|[bB][rR])(?:\"\"\"(?s:.)*?\"\"\"|'''(?s:.)*?'''|"[^"\n]*"|'[^'\n]*')
          | [bB]?(?:\"\"\"(?s:\\.|.)*?\"\"\"|'''(?s:\\.|.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
      | (?P<float>\d*\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
      | (?P<integer>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<op>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One part of an expression, source[start:end].

    `path` is ("value", "qty") for `value.qty` and for `has(value.qty)`; (name,) for a name, a call or a macro,
    whose own name is source[name_at:name_at + len(name)]. `parts` are what it is made of, receiver first.
    `operator` is that of a comparison, `variable` what a macro calls each item. A "word" is true, false or null; a
    number with a part is one with a minus.
    """

    kind: Kind
    start: int
    end: int
    parts: tuple[Node, ...] = ()
    path: tuple[str, ...] = ()
    name_at: int = -1
    operator: str = ""
    variable: str = ""

    def walk(self) -> Iterator[Node]:
        yield self
        for part in self.parts:
            yield from part.walk()


def parse(source: str, roots: frozenset[str]) -> Node:
    """The tree of `source`, in which names in `roots` begin paths. Raises ExpressionError on what it can't follow."""
    parser = _Parser(source, roots)
    node = parser.expression(frozenset())
    parser.take("end")
    return node


def macro_depth(node: Node) -> int:
    """How deeply comprehensions (`all`, `exists`, `map`, ...) are nested."""
    return (node.kind == "macro") + max(map(macro_depth, node.parts), default=0)


def _tokens(source: str) -> Iterator[Token]:
    at = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise ExpressionError(f"{source!r}: {source[at]!r} at column {at + 1} is not understood")
        kind = found.lastgroup or ""
        if kind != "space":
            yield Token(found[0] if kind == "op" else kind, found[0], at, found.end())
        at = found.end()
    yield Token("end", "", at, at)


class _Parser:
    """Recursive descent, one method a level of precedence."""

    def __init__(self, source: str, roots: frozenset[str]) -> None:
        self.source, self.roots = source, roots
        self.tokens = list(_tokens(source))
        self.at = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self, *kinds: str) -> Token:
        token = self.next
        if token.kind not in kinds:
            where = f"{token.text!r} at column {token.start + 1}"
            raise ExpressionError(f"{self.source!r}: {where} is not understood here")
        self.at += 1
        return token

    def took(self, *kinds: str) -> bool:
        if self.next.kind in kinds:
            self.at += 1
            return True
        return False

    def expression(self, bound: frozenset[str]) -> Node:
        test = self.either(bound)
        if not self.took("?"):
            return test
        then = self.either(bound)
        self.take(":")
        other = self.expression(bound)
        return Node(kind="if", start=test.start, end=other.end, parts=(test, then, other))

    def either(self, bound: frozenset[str]) -> Node:
        left = self.both(bound)
        while self.took("||"):
            right = self.both(bound)
            left = Node(kind="or", start=left.start, end=right.end, parts=(left, right))
        return left

    def both(self, bound: frozenset[str]) -> Node:
        left = self.relation(bound)
        while self.took("&&"):
            right = self.relation(bound)
            left = Node(kind="and", start=left.start, end=right.end, parts=(left, right))
        return left

    def relation(self, bound: frozenset[str]) -> Node:
        left = self.sum(bound)
        while (operator := self.next.text) in COMPARISONS:
            self.at += 1
            right = self.sum(bound)
            left = Node(kind="comparison", start=left.start, end=right.end, parts=(left, right), operator=operator)
        return left

    def sum(self, bound: frozenset[str]) -> Node:
        left = self.product(bound)
        while self.took("+", "-"):
            right = self.product(bound)
            left = Node(kind="arithmetic", start=left.start, end=right.end, parts=(left, right))
        return left

    def product(self, bound: frozenset[str]) -> Node:
        left = self.unary(bound)
        while self.took("*", "/", "%"):
            right = self.unary(bound)
            left = Node(kind="arithmetic", start=left.start, end=right.end, parts=(left, right))
        return left

    def unary(self, bound: frozenset[str]) -> Node:
        start, negations = self.next.start, 0
        if self.next.kind == "-":
            while self.took("-"):
                pass
            inner = self.member(bound)
            kind: Kind = inner.kind if inner.kind in ("integer", "float") else "negative"
            return Node(kind=kind, start=start, end=inner.end, parts=(inner,))
        while self.took("!"):
            negations += 1
        inner = self.member(bound)
        if not negations:
            return inner
        return Node(kind="not" if negations % 2 else "other", start=start, end=inner.end, parts=(inner,))

    def member(self, bound: frozenset[str]) -> Node:
        node = self.primary(bound)
        while self.next.kind in (".", "["):
            node = self.selected(node, bound) if self.took(".") else self.indexed(node, bound)
        return node

    def selected(self, node: Node, bound: frozenset[str]) -> Node:
        field = self.take("name")
        if self.next.kind == "(":
            return self.called(field, (node,), node.start, bound)
        if node.kind == "path":
            return Node(kind="path", start=node.start, end=field.end, path=(*node.path, field.text))
        return Node(kind="selected", start=node.start, end=field.end, parts=(node,))

    def indexed(self, node: Node, bound: frozenset[str]) -> Node:
        self.take("[")
        index = self.expression(bound)
        return Node(kind="index", start=node.start, end=self.take("]").end, parts=(node, index))

    def called(self, name: Token, receiver: tuple[Node, ...], start: int, bound: frozenset[str]) -> Node:
        self.take("(")
        looped = ""
        if receiver and name.text in MACROS:
            variable = self.take("name")
            if variable.text in self.roots or variable.text.startswith("__"):
                raise ExpressionError(f"{self.source!r}: {variable.text!r} is taken: call the variable x instead")
            self.take(",")
            looped, bound = variable.text, bound | {variable.text}
        arguments = self.listed(")", bound)
        end = self.take(")").end
        kind: Kind = "macro" if receiver and name.text in MACROS else "call"
        if not receiver and name.text == "has" and len(arguments) == 1 and arguments[0].kind == "path":
            return Node(kind="has", start=start, end=end, path=arguments[0].path)
        return Node(
            kind=kind, start=start, end=end, parts=(*receiver, *arguments), path=(name.text,), name_at=name.start,
            variable=looped,
        )

    def listed(self, close: str, bound: frozenset[str]) -> tuple[Node, ...]:
        """Comma-separated expressions, or `key: value` pairs, up to but without `close`."""
        found: list[Node] = []
        while self.next.kind != close:
            found.append(self.expression(bound))
            if not self.took(",", ":"):
                break
        return tuple(found)

    def primary(self, bound: frozenset[str]) -> Node:
        token = self.take("(", "[", "{", "name", "string", "float", "integer")
        match token.kind:
            case "(":
                inner = self.expression(bound)
                return Node(kind="group", start=token.start, end=self.take(")").end, parts=(inner,))
            case "[" | "{":
                close = "]" if token.kind == "[" else "}"
                inside = self.listed(close, bound)
                held: Kind = "list" if token.kind == "[" else "other"
                return Node(kind=held, start=token.start, end=self.take(close).end, parts=inside)
            case "string" | "float" | "integer" as literal:
                return Node(kind=literal, start=token.start, end=token.end)
            case _:
                return self.named(token, bound)

    def named(self, token: Token, bound: frozenset[str]) -> Node:
        if token.text in ("true", "false", "null"):
            return Node(kind="word", start=token.start, end=token.end)
        if self.next.kind == "(":
            return self.called(token, (), token.start, bound)
        kind: Kind = "bound" if token.text in bound else "path" if token.text in self.roots else "name"
        return Node(kind=kind, start=token.start, end=token.end, path=(token.text,))
