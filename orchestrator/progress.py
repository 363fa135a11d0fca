"""What a file run shows while it works: a bar on a terminal, a line now and then elsewhere; always on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.batch import RunSummary

EVERY_S = 0.2
PLAIN_EVERY_S = 15.0


class Progress:
    """A bar with tasks a second, the shares by status, and what was spent."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._shown_at = 0.0
        self._started = 0.0
        self._total = 0

    def note(self, words: str) -> None:
        """A line above the bar."""
        self._console.print(words, markup=False, soft_wrap=not self._console.is_terminal)

    def start(self, total: int) -> None:
        self._started, self._total = time.perf_counter(), total
        if not self._console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task("running", total=total)

    def show(self, summary: RunSummary) -> None:
        """Say where the run is, not more often than a person can read."""
        now = time.perf_counter()
        if now - self._shown_at < (EVERY_S if self._bar else PLAIN_EVERY_S):
            return
        self._shown_at = now
        if self._bar is not None:
            self._bar.update(self._task, completed=summary.tasks + summary.rejected, description=self._words(summary))
        elif now - self._started >= PLAIN_EVERY_S:
            self.note(f"{summary.tasks + summary.rejected}/{self._total}  {self._words(summary)}")

    def finish(self, summary: RunSummary) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=summary.tasks + summary.rejected, description=self._words(summary))
            self._bar.stop()

    def _words(self, summary: RunSummary) -> str:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        parts = [f"{summary.tasks / seconds:,.0f}/s"]
        if summary.resumed:
            parts.append(f"{summary.resumed} done before")
        if summary.otherwise:
            parts.append(f"{summary.otherwise} under another configuration ({', '.join(summary.changed)} changed)")
        if taken := summary.tasks - summary.resumed:
            parts.append(f"{summary.escalated / taken:.0%} escalated")
        parts += [f"{nano / 1e9:.4f} {currency}" for currency, nano in summary.spent.items()]
        return ", ".join(parts)


@contextlib.contextmanager
def bar(words: str, total: int) -> Iterator[Callable[[], object]]:
    """A bare bar on stderr for work of known length; silent where stderr is no terminal. Gives what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    shown = Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    )
    task = shown.add_task(words, total=total)
    with shown:
        yield lambda: shown.advance(task)
