"""`orchestrator demo`: the main job end to end on two tiny models, without a key, a GPU or a network.

Calibrates on labelled lines of its own, then runs the held-out lines three ways: always draft, always validate, and
the cascade; measures each against the labels; ends with the cost report.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from orchestrator.errors import InputError
from orchestrator.records import Mode, Outcome, Task
from orchestrator.scaffold import starters

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.finance.export.formats import FileFormat

MAX_REGRET = 0.03
CONFIDENCE = 0.9
CONCURRENCY = 64
COLUMNS: tuple[tuple[str, Mode], ...] = (
    ("always draft", "draft_only"), ("always validate", "validate_only"), ("cascade", "cascade"),
)

REPORTS: tuple[FileFormat, ...] = ("html", "xlsx", "json", "csv", "focus")


@dataclass(slots=True, kw_only=True)
class Column:
    """One way of running the lines, measured. `right` by task id; costs in billionths of a dollar, None unknown."""

    name: str
    right: dict[str, bool] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    cost_nano: int | None = None
    example: str = ""
    seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        return sum(self.right.values()) / len(self.right)

    def regret(self, validator: Column) -> float:
        """Share of all tasks served from an unchecked draft that is wrong where the validator is right."""
        missed = [t for t in self.accepted if not self.right[t] and validator.right[t]]
        return len(missed) / len(self.right)

    @property
    def per_success_nano(self) -> float | None:
        successes = sum(self.right.values())
        return None if self.cost_nano is None or not successes else self.cost_nano / successes


def run_demo(out: Path = Path("out/demo"), *, limit: int | None = None) -> Path:
    """Run the demo in folder `out` (made anew); returns the folder. Raises InputError where the example is absent."""
    return asyncio.run(_demo(out, limit))


async def _demo(out: Path, limit: int | None) -> Path:
    from rich.console import Console

    console = Console(highlight=False)
    home = _home()
    pipeline = _lay_out(home, out)
    calibration = list(_tasks(home / "examples/order_lines/data/calibration.jsonl", None))
    held_out = list(_tasks(home / "examples/order_lines/data/held_out.jsonl", limit))
    await _calibrate(pipeline, calibration, out, console)
    columns = {}
    for name, mode in COLUMNS:
        columns[name] = await _column(pipeline, held_out, name, mode, out, console)
    _show(columns, console)
    await _report(out, columns["cascade"].example, console)
    return out


def _home() -> Path:
    """The folder that holds pipelines/, policies/ and examples/: a checkout, or what the package ships."""
    home = starters()
    if not (home / "examples/order_lines/models").is_dir():
        raise InputError(f"the demo's models are not in {str(home)!r}", hint="reinstall draftgate")
    return home


def _lay_out(home: Path, out: Path) -> Path:
    """A copy of the pipeline and its policies, so that the demo changes nothing in the checkout. Not of the
    certificate: the demo makes one, and a second on the same records would have to be stricter."""
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(
        home / "pipelines/order_lines", out / "pipelines/order_lines", ignore=shutil.ignore_patterns("certificates")
    )
    shutil.copytree(home / "policies", out / "policies")
    pipeline = out / "pipelines/order_lines/pipeline.yaml"
    text = pipeline.read_text(encoding="utf-8")
    pipeline.write_text(text.replace("../../examples/", f"{home}/examples/"), encoding="utf-8")
    return pipeline


def _tasks(path: Path, limit: int | None) -> Iterator[Task]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if limit is not None and number >= limit:
                return
            found = orjson.loads(line)
            yield Task(id=found["id"], input=found["input"], meta=found["meta"], expected=found["expected"])


async def _calibrate(pipeline: Path, tasks: list[Task], out: Path, console: Console) -> None:
    from orchestrator.quality.calibration.calibrate import calibrate

    console.print(f"[bold]1. Calibrate[/] on {len(tasks)} labelled lines: at most {MAX_REGRET:.0%} regret, "
                  f"with {CONFIDENCE:.0%} confidence")
    done = await calibrate(
        pipeline, tasks, max_regret=MAX_REGRET, confidence=CONFIDENCE, validate=True, store=f"sqlite:///{out}/calibration.db"
    )
    console.print(done.words, markup=False, soft_wrap=True)


async def _column(
    pipeline: Path, tasks: list[Task], name: str, mode: Mode, out: Path, console: Console
) -> Column:
    from orchestrator.pipeline import Pipeline
    from orchestrator.progress import bar

    store = out / ("orchestrator.db" if mode == "cascade" else f"{mode}.db")
    column = Column(name=name)
    with bar(f"   {name}", len(tasks)) as advance:
        async with Pipeline.load(pipeline, store=f"sqlite:///{store}", mode=mode) as loaded:
            started = time.perf_counter()
            async for outcome in loaded.amap(tasks, concurrency=CONCURRENCY):
                _count(column, outcome)
                advance()
            column.seconds = time.perf_counter() - started
    column.cost_nano = await _spent(store)
    console.print(f"   {name}: {len(tasks)} lines in {column.seconds:.1f} s")
    return column


def _count(column: Column, outcome: Outcome) -> None:
    assert outcome.id is not None
    column.right[outcome.id] = bool(outcome.success)
    if outcome.status == "accepted":
        column.accepted.add(outcome.id)
    if outcome.status == "repaired" or not column.example:
        column.example = outcome.run_id


async def _spent(store: Path) -> int | None:
    """All that the ledger holds of a run, spot checks included; None where a call has no price."""
    from orchestrator.store.engine import Store

    opened = await Store.open(f"sqlite:///{store}")
    try:
        with opened.read() as ledger:
            rows = ledger.exec_driver_sql("SELECT count(*), count(cost_nano), coalesce(sum(cost_nano), 0) FROM call")
            calls, priced, nano = rows.one()
    finally:
        await opened.aclose()
    return int(nano) if calls == priced else None


def _show(columns: dict[str, Column], console: Console) -> None:
    from rich.table import Table

    validator = columns["always validate"]
    lines = len(validator.right)
    table = Table(title=f"{lines} held-out lines, measured against their labels", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    ways = list(columns.values())
    table.add_row("answered right", *(f"{c.accuracy:.1%}" for c in ways))
    table.add_row("regret (missed corrections)", *(f"{c.regret(validator):.1%}" for c in ways))
    table.add_row("validated", *(f"{1 - len(c.accepted) / lines:.1%}" for c in ways))
    table.add_row("cost of the run, USD", *(_dollars(c.cost_nano) for c in ways))
    table.add_row("cost per successful outcome, USD", *(_dollars(c.per_success_nano, 6) for c in ways))
    table.add_row("time, s", *(f"{c.seconds:.1f}" for c in ways))
    console.print("\n[bold]2. The held-out lines, three ways[/]")
    console.print(table)
    console.print("Costs are usage times the example's price book (pipelines/order_lines/prices.yaml): stand-in "
                  "prices for an open-weight drafter and a frontier validator.", soft_wrap=True)


def _dollars(nano: float | None, places: int = 4) -> str:
    return "unknown" if nano is None else f"{nano / 1e9:.{places}f}"


async def _report(out: Path, example: str, console: Console) -> None:
    from orchestrator.finance.charged import build_breakdown
    from orchestrator.finance.export.formats import ENDINGS, written
    from orchestrator.finance.export.frozen import settled
    from orchestrator.finance.records import ReportQuery
    from orchestrator.finance.report import build_report
    from orchestrator.store.engine import Store

    store = await Store.open(f"sqlite:///{out}/orchestrator.db")
    try:
        report = build_report(store, ReportQuery())
        made = settled(report, build_breakdown(store, report))
    finally:
        await store.aclose()
    console.print("\n[bold]3. The cost report of the cascade[/]")
    console.print(written(*made, "table").decode(), markup=False, soft_wrap=True)
    files = []
    for kind in REPORTS:
        files.append(out / f"{'focus' if kind == 'focus' else 'report'}.{ENDINGS[kind]}")
        files[-1].write_bytes(written(*made, kind))
    console.print(f"\nReport files: {', '.join(map(str, files))}", soft_wrap=True)
    console.print(f"Look into one run: orchestrator explain {example} --store sqlite:///{out}/orchestrator.db",
                  soft_wrap=True)
