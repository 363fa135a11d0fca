"""What a month must be to be closed: what is frozen is wrong for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from orchestrator.errors import InputError
from orchestrator.finance.closing.document import of_month
from orchestrator.finance.closing.figures import differences, figures_of, read_figures
from orchestrator.finance.period import Period
from orchestrator.finance.records import Report
from orchestrator.finance.scope import call
from orchestrator.store import allocations, closes
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.evidence import outcome


def check_month(
    connection: Connection, month: str, period: Period, before: Sequence[ClosedMonth], now: float
) -> None:
    """It is over, has its turn, and nothing of it is under way."""
    assert period.since is not None
    assert period.since_at is not None
    assert period.until_at is not None
    if month != f"{period.since:%Y-%m}":
        raise InputError(f"{month!r} is written {period.since:%Y-%m}")
    if period.until_at > now:
        raise InputError(f"{month} is not over yet ({period})", hint="a month is closed once it has ended")
    if before:
        closes.check_follows(month, period.since_at, before[-1])
    else:
        _check_begun(connection, month, period)
    closes.check_ended(connection, month, period.until_at)
    if models := allocations.unclosed(connection, period.until_at):
        raise InputError(
            f"{month} has hours of {', '.join(models)} whose bill is not spread yet",
            hint=f"a rented GPU's hours are closed {allocations.GRACE_S:.0f} s after their end: try again then",
        )


def _check_begun(connection: Connection, month: str, period: Period) -> None:
    """A close is for good, and the next one must follow it: the first is of no month before the ledger's own."""
    firsts = connection.execute(select(func.min(call.c.started_at)).union_all(select(func.min(outcome.c.ended_at))))
    began = min((at for at in firsts.scalars() if at is not None), default=None)
    if began is None:
        raise InputError(f"{month} can't be closed: the ledger has no calls and no runs")
    assert period.until_at is not None
    if began >= period.until_at:
        raise InputError(
            f"{month} can't be closed: the ledger's first call is of {datetime.fromtimestamp(began, UTC):%Y-%m}",
            hint="begin with that month, or a later one; a close can't be undone",
        )


def check_sums(connection: Connection, report: Report, month: str) -> None:
    """What the report says is what the rows say."""
    if found := differences(figures_of(report), read_figures(connection, report.query.period)):
        raise InputError(f"{month} can't be closed: {found[0]}", hint="see `orchestrator verify`, which names the rows")


def check_runs(report: Report, month: str) -> None:
    if not any(line.runs or line.calls for line in report.lines):
        raise InputError(
            f"{month} has no runs and no calls", hint="a close can't be undone: where it is meant, add --yes"
        )


def check_chains(connection: Connection, before: Sequence[ClosedMonth], month: str) -> None:
    """No row was changed, removed or put in: the close would hold heads of chains that do not hold."""
    from orchestrator.finance.verify.ledger import chain_findings

    found = next(chain_findings(connection, [of_month(one) for one in before]), None)
    if found is not None:
        raise InputError(
            f"{month} can't be closed: {found.words}",
            hint="see `orchestrator verify`; where that is explained, --yes closes it as it is, and verify goes on "
                 "naming it",
        )
