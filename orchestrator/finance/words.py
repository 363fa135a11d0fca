"""Figures and findings as people read them. What is not known is said in words, never shown as 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.finance.cost import CostPerSuccess
from orchestrator.finance.money_sums import total
from orchestrator.finance.paired_words import paired_remarks
from orchestrator.finance.phrases import amount, at_least, between, counted, days, share, unit_cost
from orchestrator.finance.records import Definition, Estimate, Line, Report, Spend, WholeBill
from orchestrator.records import Money

NOT_SERVED = ("handed_off", "declined", "failed")
SOURCE_WORDS = {
    "require": "required check failed",
    "feedback": "feedback",
    "status": "not served (handed off, declined, failed)",
    "label": "label",
    "proof": "proof",
    "spot_check": "spot check",
    "validator": "according to the validator",
    "unknown": "unknown",
}

METHOD_WORDS: Mapping[str, str] = {
    "hypergeometric": "exact, by the random draw alone: hypergeometric",
    "clopper-pearson": "exact, for a share of a sample: Clopper-Pearson",
    "melded": "exact limits of each class of runs, put together: melded",
    "augmented": "spot checks and the drafts' own confidence together: augmented inverse propensity",
    "square-and-add": "the uncertainty of the mean cost and that of the success rate, put together: square-and-add",
    "box": "mean cost and success rate each at its worst, which is wide, for few runs or very uneven costs: box",
}
"""How an interval was made, in plain words, with the name that docs/cost.md has it under."""


def incomplete(line: Line) -> bool:
    """Is the cost of some of the line's calls unknown, so that its sums are too low."""
    return line.unpriced_calls + line.unsettled_calls > line.apart_unknown_calls


def incomplete_in(line: Line, spend: Spend) -> bool:
    """The same of its sums in the currency of `spend`: a call that is bounded in one is missing from no other."""
    unit = spend.per_success
    return incomplete(line) and (unit.value is None or unit.qualifier == "at least")


def apart_only(line: Line) -> bool:
    """Is all of it apart (calibrations, where lines are by mode): no run, and no call of one."""
    own = any(spend.total is None or spend.by_role for spend in line.spend)
    return not line.runs and not own and (line.apart_unknown_calls > 0 or any(map(_apart, line.spend)))


def apart(line: Line, spend: Spend) -> str:
    """What baseline and calibration of the line cost."""
    found = _apart(spend)
    return at_least(line.apart_unknown_calls > 0, amount(found.amount if found else None))


def _apart(spend: Spend) -> Money | None:
    return total((spend.baseline, spend.calibration))


def successes(line: Line) -> str:
    """Known ones, and apart those that spot checks let expect."""
    known = f"{line.successes:,}"
    return known if line.estimate is None else f"{known} + {line.estimate.successes:,.1f} est."


def success_rate(line: Line) -> str:
    """Of all runs, where all are known or estimated."""
    if line.not_estimated or not line.runs:
        return "-"
    return share((line.successes + (line.estimate.successes if line.estimate else 0.0)) / line.runs)


def definition(one: Definition) -> str:
    require = f"{one.require} holds for the value served, and " if one.require else ""
    return (
        f"{one.pipeline}: {require}the first of these says so: feedback (open for {days(one.feedback_window_s)}), "
        "label, proof, spot check, validator. Runs that were handed off, declined or failed are none."
    )


def warnings(report: Report) -> Iterator[str]:
    """What must be known before a figure is read."""
    if report.unpriced_calls:
        yield f"{counted(report.unpriced_calls, 'call')} without a price: the cost is unknown and in no sum below."
    if report.unsettled_calls:
        calls = counted(report.unsettled_calls, "call")
        yield f"{calls} without an answer: the cost is unknown, its upper bound stands apart."
    for lapse in report.lapses:
        yield lapse.words


def remarks(line: Line, level: str) -> Iterator[str]:
    """What the tables leave out of one line. `level` is the intervals' nominal one, as in "95%"."""
    name = line.name
    lost = ", ".join(f"{line.statuses[s]:,} {s.replace('_', ' ')}" for s in NOT_SERVED if s in line.statuses)
    if lost:
        yield f"{name}: {lost}."
    if line.degraded:
        yield f"{name}: {counted(line.degraded, 'run')} served degraded, without the validation that was due."
    if line.estimate is not None:
        yield f"{name}: {_estimated(line.estimate, level)}"
    if (rate := line.long_run_rate) is not None:
        yield (
            f"{name}: in the long run {share(rate.low)} to {share(rate.high)} of such runs succeed "
            f"({level} interval, {METHOD_WORDS[rate.method]})."
        )
    if line.not_estimated:
        yield f"{name}: {counted(line.not_estimated, 'run')} unknown and not estimated: no spot check speaks for them."
    if line.maturing:
        yield f"{name}: {counted(line.maturing, 'run')} still maturing: the feedback window is open."
    if line.restated is not None:
        yield (
            f"{name}: restated by later feedback: {line.restated.then:,} known successes at the period's end, "
            f"{line.restated.now:,} now."
        )
    if line.unbounded_calls:
        yield f"{name}: {counted(line.unbounded_calls, 'call')} without an answer and without an upper bound."
    if line.in_flight_calls:
        yield f"{name}: {counted(line.in_flight_calls, 'call')} in flight."
    for spend in line.spend:
        yield from _of_spend(line, spend, level)
    yield from paired_remarks(line, level)


def _estimated(found: Estimate, level: str) -> str:
    strata = f", in {found.strata} strata" if found.strata > 1 else ""
    unanswered = f", {found.unanswered:,} more unanswered" if found.unanswered else ""
    checks = counted(found.checked, "spot check")
    return (
        f"{counted(found.unchecked, 'accepted draft')} of this period not looked at; by {checks} "
        f"({found.right:,} right{strata}{unanswered}) {found.successes:,.1f} are successes "
        f"({level} interval {found.low:,.1f} to {found.high:,.1f}, {METHOD_WORDS[found.method]})."
    )


def _with_idle(found: WholeBill) -> str:
    code, per = found.total.currency, found.per_success
    unit = "" if per.value is None and per.own_low is None else f", {unit_cost(per)} {code} a success"
    open_hours = f"; {counted(found.pending, 'call')} in hours not closed yet stand at their usage"
    return (
        f"with the idle time of its GPUs ({amount(found.idle.amount)} {code}) it cost {amount(found.total.amount)} "
        f"{code}{unit}{open_hours if found.pending else ''}."
    )


def _own_interval(line: Line, unit: CostPerSuccess) -> str:
    """Why this period's own figure has an interval at all."""
    missing = unit.qualifier in ("at least", "between") or unit.value is None
    cost = "its cost is known up to that of calls without an answer" if missing else "its cost is known"
    cost = "some of its calls have no upper bound" if unit.own_high is None else cost
    return f"{cost}, its successes are estimated" if line.estimate is not None or line.not_estimated else cost


def _of_spend(line: Line, spend: Spend, level: str) -> Iterator[str]:
    name, code = line.name, spend.currency
    if spend.unsettled_bound is not None:
        yield f"{name}: calls without an answer cost {amount(spend.unsettled_bound.amount)} {code} at most."
    if spend.baseline is not None:
        yield f"{name}: the baseline cost {amount(spend.baseline.amount)} {code}, no part of cost per success."
    if spend.calibration is not None:
        yield f"{name}: calibration cost {amount(spend.calibration.amount)} {code}, no part of cost per success."
    if (whole := spend.whole_bill) is not None:
        yield f"{name}: {_with_idle(whole)}"
    unit = spend.per_success
    if unit.own_low is not None:
        own = between(unit.own_low, unit.own_high) if unit.own_high is not None else f"{amount(unit.own_low)} upwards"
        yield (
            f"{name}: this period's own cost per success in {code}: {own} "
            f"({level} interval: {_own_interval(line, unit)})."
        )
    if unit.method is not None:
        yield f"{name}: the long-run interval in {code} is made of {METHOD_WORDS[unit.method]}."
    if unit.note and not apart_only(line):
        yield f"{name}: cost per success in {code}: {unit.note}."
