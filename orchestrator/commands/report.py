"""report: what each successful outcome cost, in every format finance opens."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.options import MONEY, any_path, existing_file, json_option, store_option
from orchestrator.commands.report_close import close
from orchestrator.commands.report_invoice import invoice_options
from orchestrator.commands.report_options import check_pipeline, check_together, given, kind_of

if TYPE_CHECKING:
    from orchestrator.finance.breakdown import Breakdown
    from orchestrator.finance.export.formats import FileFormat, FocusVersion
    from orchestrator.finance.invoice.records import Tolerance
    from orchestrator.finance.records import Report, ReportQuery
    from orchestrator.records import Money
    from orchestrator.store.engine import Store

TABLE_WIDTH = 160
"""Of a report that goes to a file or a pipe."""
FORMATS = ("table", "json", "csv", "xlsx", "html", "focus")


@click.group(short_help="What each successful outcome cost.", invoke_without_command=True)
@click.option("--month", metavar="YYYY-MM", help="One month.")
@click.option("--from", "since", metavar="D", help="From this day or time on (ISO 8601).")
@click.option("--to", "until", metavar="D", help="Up to this day or time, which is outside.")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of the period, like Europe/Berlin.")
@click.option("--by", default="pipeline", show_default=True, metavar="A,B",
              help="Group by pipeline, version, owner, cost_center, mode, tenant or an allow-listed tag.")
@click.option("--pipeline", metavar="NAME", help="This pipeline only.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True,
              help="Without it, what the ending of the --output file says.")
@click.option("--focus-version", type=click.Choice(["1.2", "1.0"]), default="1.2", show_default=True,
              help="Of --format focus: the version of the specification.")
@click.option("--prices", type=existing_file, metavar="BOOK.yaml",
              help="The price book that names accounts (focus, --invoice) and rates (--currency).")
@click.option("--currency", metavar="CODE", help="Also say the totals in this currency, at the rates of --prices.")
@click.option("--error-price", type=MONEY, metavar="2USD", help="What each wrong answer that was served costs.")
@click.option("--reprice", type=existing_file, metavar="BOOK.yaml",
              help="What this price book would have said, beside what the ledger says.")
@invoice_options
@click.option("-o", "--output", type=any_path, help="Write to this file instead of stdout. A workbook needs it.")
@store_option
@json_option
@click.pass_context
def report(
    context: click.Context, month: str | None, since: str | None, until: str | None, tz: str, by: str,
    pipeline: str | None, format_: FileFormat, focus_version: FocusVersion, prices: Path | None, currency: str | None,
    error_price: Money | None, reprice: Path | None, invoice: Path | None, columns: str | None,
    tolerance: Tolerance, accounts: tuple[str, ...], output: Path | None, store: str, as_json: bool,
) -> None:
    """What each successful outcome cost, and how much of that is measured.

    Opens with what needs attention and what counts as a success. Periods are half-open. A month that was closed is
    reported as it was closed.

    \b
    Examples:
      orchestrator report --month 2026-11
      orchestrator report --month 2026-11 --format xlsx -o november.xlsx
      orchestrator report --month 2026-11 --format focus --prices prices.yaml -o november-focus.csv
      orchestrator report --from 2026-11-01 --to 2026-11-08 --by pipeline,cost_center --format csv -o week.csv
      orchestrator report --month 2026-11 --invoice openai-usage.csv
    """
    from orchestrator.commands.output import note, put
    from orchestrator.finance.closing.reported import notes
    from orchestrator.finance.export.focus import left_out
    from orchestrator.finance.export.formats import written
    from orchestrator.finance.period import parse_period
    from orchestrator.finance.records import ReportQuery

    if context.invoked_subcommand is not None:
        _refuse_stray_options(context)
        return
    period = parse_period(month=month, since=since, until=until, tz=tz)
    kind = kind_of(context, format_, output, as_json=as_json)
    check_together(context, kind)
    if pipeline is not None:
        check_pipeline(store, pipeline)
    if invoice is not None:
        from orchestrator.commands.report_invoice import report_invoice

        context.exit(report_invoice(
            store, invoice, period=period, columns=columns, tolerance=tolerance, accounts=accounts, prices=prices,
            pipeline=pipeline, as_json=kind == "json", output=output, width=_width(context, output),
        ))
    if reprice is not None:
        from orchestrator.commands.report_reprice import repriced_text

        put(repriced_text(store, reprice, period, pipeline, as_json=kind == "json"), output)
        return
    by_columns = tuple(name for part in by.split(",") if (name := part.strip()))
    query = ReportQuery(pipeline=pipeline, by=by_columns, period=period, error_price=error_price)
    made, breakdown = _reported(store, query, prices)
    end = _converted(breakdown, currency, prices) if currency is not None and prices is not None else ""
    file = written(made, breakdown, kind, width=_width(context, output), focus=focus_version)
    put(file + end.encode(), output)
    for words in notes(breakdown) if kind in ("csv", "focus") else ():  # which hold rows alone
        note(f"note: {words}")
    for words in left_out(breakdown) if kind == "focus" else ():
        note(f"note: {words}")


report.add_command(close)


def _reported(store: str, query: ReportQuery, prices: Path | None) -> tuple[Report, Breakdown]:
    from orchestrator.commands.opened import with_store
    from orchestrator.finance.charged import with_accounts
    from orchestrator.finance.closing.reported import reported
    from orchestrator.price_book import load_book

    book = load_book(prices) if prices is not None else None  # before the ledger is read: a typo is told at once

    async def read(opened: Store) -> tuple[Report, Breakdown]:
        await opened.close_hours()
        await opened.count_runs()  # a report reads the runs that are not counted yet one by one
        return await asyncio.to_thread(reported, opened, query)

    made, breakdown = with_store(store, read)
    return made, breakdown if book is None else with_accounts(breakdown, book)


def _converted(breakdown: Breakdown, currency: str, prices: Path) -> str:
    from orchestrator.finance.breakdown import incomplete
    from orchestrator.finance.charged import converted
    from orchestrator.finance.phrases import at_least
    from orchestrator.price_book import load_book

    total = converted(breakdown, currency.upper(), load_book(prices).rates)
    return f"\nTotal in {total.currency}, each day at its rate: {at_least(incomplete(breakdown.charges), str(total))}\n"


def _refuse_stray_options(context: click.Context) -> None:
    """`report --store X close M` would close in another store than X: options go behind the subcommand."""
    for name in context.params:
        if given(context, name):
            raise click.UsageError(f"write the options after {context.invoked_subcommand!r}, which has its own")


def _width(context: click.Context, output: Path | None) -> int:
    import shutil

    if output is not None or not sys.stdout.isatty():
        return TABLE_WIDTH
    return context.terminal_width or shutil.get_terminal_size().columns
