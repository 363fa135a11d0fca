"""Bars on stderr for the long work of calibrations and assessments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def shown_bars(words: str, total: int) -> Iterator[Callable[[], object]]:
    """A bar where stderr is a terminal; else nothing."""
    from orchestrator.progress import Bar

    with Bar(words, total) as bar:
        yield bar.advance
