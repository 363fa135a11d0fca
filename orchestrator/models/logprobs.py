"""Token log-probabilities: the summary that is kept, and which tokens carry the answer's values.

The list itself is dropped. It runs once a draft, over 12 to 60 tokens: plain Python is faster there than an array.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import fsum

import orjson

from orchestrator.records import TokenLogprobs

FLOOR = -9999.0
"""Stands for minus infinity and NaN (vLLM's own choice): a summary has to survive JSON."""

_SCALAR = re.compile(rb'"((?:[^"\\]|\\.)*)"(\s*:)?|-?\d[\d.eE+-]*|true|false|null', re.DOTALL)
_THINK_END = b"</think>"


def summarise(
    tokens: Sequence[str | bytes], logprobs: Sequence[float], top2: Sequence[float | None] | None = None
) -> TokenLogprobs:
    """Exact mean, total (compensated sum), linearly interpolated quantiles and margins of at least one token.

    `top2[i]` is the best log-probability of any token but the chosen one; the margin is therefore top-1 minus top-2
    wherever the likeliest token was chosen (always, at temperature 0), and negative where a less likely one was drawn.
    A token without a rival (None, or masked by a grammar) has no margin.
    Raises ValueError for no tokens or lists of different lengths.
    """
    if not logprobs or len(tokens) != len(logprobs):
        raise ValueError(f"{len(tokens)} tokens and {len(logprobs)} log-probabilities: one for each token is needed")
    clean = [p if FLOOR <= p <= 0.0 else (0.0 if p > 0.0 else FLOOR) for p in logprobs]
    total, ranked = fsum(clean), sorted(clean)
    margins = _margins(clean, top2)
    return TokenLogprobs(
        n=len(clean), mean=total / len(clean), total=total,
        q0=ranked[0], q10=_quantile(ranked, 0.10), q25=_quantile(ranked, 0.25), q50=_quantile(ranked, 0.50),
        margin_mean=fsum(margins) / len(margins) if margins else None,
        margin_min=min(margins) if margins else None,
    )


def summaries(
    text: str, tokens: Sequence[str | bytes], logprobs: Sequence[float], top2: Sequence[float | None] | None = None
) -> tuple[TokenLogprobs, TokenLogprobs]:
    """`summarise` over the tokens of the answer, and over those of its values (over all, where it holds none)."""

    def over(at: Sequence[int]) -> TokenLogprobs:
        return summarise([tokens[i] for i in at], [logprobs[i] for i in at], top2 and [top2[i] for i in at])

    whole, values = answer_tokens(text, tokens)
    summary = over(whole)
    return summary, over(values) if values else summary


def value_span(text: str, tokens: Sequence[str | bytes]) -> list[int]:
    """Indices of the tokens that overlap a value of the JSON `text`: not keys, braces, quotes or punctuation.

    The whole answer where `text` is no JSON, or holds no values. Tokens outside `text` (thinking, end marks) are never
    in it. Tokens that split a character are followed by their bytes, or, where the server replaced those, by position.
    """
    whole, values = answer_tokens(text, tokens)
    return values or whole


def answer_tokens(text: str, tokens: Sequence[str | bytes]) -> tuple[list[int], list[int]]:
    """Indices of the tokens of the answer (all, where they don't fit the text), and of those of its JSON values."""
    spans = token_spans(text.encode("utf-8", "surrogatepass"), tokens)
    whole = [i for i, (start, end) in enumerate(spans) if end > start]
    if not whole:
        return list(range(len(tokens))), []
    return whole, _overlapping(whole, spans, _value_ranges(text))


def token_spans(data: bytes, tokens: Sequence[str | bytes]) -> list[tuple[int, int]]:
    """Byte range of each token in the answer `data`; (0, 0) for tokens outside it."""
    parts = [t if isinstance(t, bytes) else t.encode("utf-8", "surrogatepass") for t in tokens]
    shift = b"".join(parts).rfind(data)
    if shift < 0:
        return _walked(data, parts)
    ends = [end - shift for end in accumulate(map(len, parts))]
    size = len(data)
    return [
        (max(end - len(part), 0), min(end, size)) if end > 0 and end - len(part) < size else (0, 0)
        for part, end in zip(parts, ends, strict=True)
    ]


def _walked(data: bytes, parts: list[bytes]) -> list[tuple[int, int]]:
    """Spans where the tokens don't join to the text: those that don't match share the gap up to the next that does."""
    spans = [(0, 0)] * len(parts)
    first = parts.index(_THINK_END) + 1 if _THINK_END in parts else 0
    at, waiting = 0, list[int]()
    for i in range(first, len(parts)):
        part = parts[i]
        reach = at + 8 * len(waiting) + len(part)
        found = data.find(part, at, reach) if part and b"\xef\xbf\xbd" not in part else -1
        if found < 0:
            waiting.append(i)
            continue
        for j in waiting:
            spans[j] = (at, found)
        waiting.clear()
        spans[i] = (found, at := found + len(part))
    for j in waiting:
        spans[j] = (at, len(data))
    return spans


def _overlapping(whole: list[int], spans: list[tuple[int, int]], values: list[tuple[int, int]]) -> list[int]:
    chosen: list[int] = []
    at = 0
    for i in whole:
        start, end = spans[i]
        while at < len(values) and values[at][1] <= start:
            at += 1
        if at == len(values):
            break
        if values[at][0] < end:
            chosen.append(i)
    return chosen


def _value_ranges(text: str) -> list[tuple[int, int]]:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return list(_scalars(text.encode()))


def _scalars(data: bytes) -> Iterator[tuple[int, int]]:
    for found in _SCALAR.finditer(data):
        if found[1] is None:
            yield found.span()
        elif found[2] is None:  # a string that no colon follows is no key; an empty one is its two quotes
            yield found.span(1) if found[1] else found.span()


def _quantile(ranked: list[float], q: float) -> float:
    place = q * (len(ranked) - 1)
    low = int(place)
    if low + 1 == len(ranked):
        return ranked[low]
    return ranked[low] + (ranked[low + 1] - ranked[low]) * (place - low)


def _margins(chosen: list[float], top2: Sequence[float | None] | None) -> list[float]:
    if top2 is None:
        return []
    return [p - second for p, second in zip(chosen, top2, strict=True) if second is not None and second > FLOOR]
