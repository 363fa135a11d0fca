"""What the workbook and the page both show: figures of a line picked out, in words that stand for themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from orchestrator.finance.period import Period
from orchestrator.finance.phrases import counted
from orchestrator.finance.records import Line, Report, Spend

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
SHOWN = {
    "pipeline": "pipeline", "version": "version", "owner": "owner", "cost_center": "cost centre", "mode": "mode",
    "tenant": "tenant",
}
ROLES = ("draft", "sample", "judge", "repair", "redo", "guard", "spot_check")

MEANINGS: Sequence[tuple[str, str]] = (
    ("Cost per successful outcome", "All money spent in the period, failures and retries included, divided by the "
     "runs that succeeded."),
    ("Long-run interval", "Where the figure would settle if runs like these went on: it lies between these two with "
     "the confidence given. A wide one means few runs, or few of them looked at."),
    ("This period's own interval", "The money spent is known, save for calls without an answer, which cost something "
     "between nothing and their upper bound; where successes are estimated, the period's own figure lies between these "
     "two."),
    ("Run", "One task taken through a pipeline: a draft by the cheap model, and a look by the strong one where due."),
    ("Known success", "Somebody or something other than the drafter said so: see the definition of each pipeline."),
    ("Estimated success", "Accepted drafts nobody looked at; how many of them succeeded is estimated from random "
     "spot checks of others like them."),
    ("Measured", "The share of runs whose success is known, not estimated, and from something other than the strong "
     "model's own word."),
    ("By the validator's word", "The share of runs of which only the strong model itself says that they succeeded."),
    ("At most, at least, a range", "At most: some runs are of unknown success and count as none. At least: the cost of "
     "some calls is unknown and in no sum. With both, the range that the figure lies in: unknown costs between nothing "
     "and their upper bound, unknown successes either way."),
    ("Cost", "Exact, from each call's own token counts and the price valid when it ended; what a provider charged "
     "itself where it says so. Where calls of unknown cost are missing from a sum, it says at least."),
    ("Wasted on failures", "The part of the cost that was spent on runs known to have failed."),
    ("Saved by cache", "What answers taken from the cache would have cost; it is in no sum."),
    ("Apart", "The measured baseline (tasks also given to the strong model alone) and calibrations: paid, and no part "
     "of cost per success. One line adds them to it: that is what providers bill."),
    ("Unpriced", "A call of a model that the price book does not know: its cost is unknown, and never taken as 0."),
    ("Unsettled", "A call whose answer was lost: it may be billed. Its upper bound is shown, and in no sum."),
    ("Estimated cost", "A call cut short: its tokens were counted from what was received."),
    ("Still maturing", "Runs young enough for feedback to change: the feedback window is open."),
    ("Restated", "Feedback that came after the period's end changed what is known of its runs."),
    ("Days", "UTC days, as prices, budgets and providers' invoices go by them."),
)
"""Each figure in plain words."""


def shown(key: str) -> str:
    """A grouping key as a heading."""
    return SHOWN.get(key, key)


def spell(period: Period) -> str:
    """At the beginning of a sentence."""
    words = str(period)
    return words[0].upper() + words[1:]


def spends(report: Report) -> list[tuple[Line, Spend]]:
    """Every line and currency, currencies together so that each stands in one block."""
    pairs = [(line, spend) for line in report.lines for spend in line.spend]
    return sorted(pairs, key=lambda pair: pair[1].currency)


def estimated(line: Line) -> float:
    return line.estimate.successes if line.estimate is not None else 0.0


def maturing(report: Report) -> str:
    """What may still change, in words; empty where nothing may."""
    young, runs = sum(line.maturing for line in report.lines), sum(line.runs for line in report.lines)
    if not young:
        return ""
    return f"{young:,} of {counted(runs, 'run')} still maturing: feedback may yet change what is known of them."


def measured(line: Line) -> float | None:
    """The share of runs whose success is known from more than the validator's own word."""
    if not line.runs:
        return None
    return (line.successes + line.failures) / line.runs - (by_validator(line) or 0.0)


def by_validator(line: Line) -> float | None:
    """The share of runs of which the validator alone says whether they succeeded."""
    return sum(one.runs for one in line.sources if one.name == "validator") / line.runs if line.runs else None


def places(values: Iterable[Decimal | None]) -> int:
    """Decimals that show the smallest of `values` to three figures, as far as the largest leaves room; 2 to 9."""
    found = sorted(abs(value) for value in values if value)
    if not found:
        return 2
    wanted = 2 - found[0].adjusted() if found[0] < 1 else 2
    room = 8 - max(found[-1].adjusted(), 0)
    return max(2, min(wanted, room, 9))
