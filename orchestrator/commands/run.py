"""run, check."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from orchestrator.commands.options import MONEY, any_path, existing_file, json_option, pipeline_argument, store_option

if TYPE_CHECKING:
    from orchestrator.batch import RunSummary
    from orchestrator.check import CheckReport

MODES = ("cascade", "shadow", "draft_only", "validate_only")
SAID_BY = {
    "feedback": "by feedback", "label": "by label", "proof": "by proof", "spot_check": "by spot check",
    "require": "by the required check",
}
AGAIN = ("budget", "outage", "handed_off", "failed")


@click.command(short_help="Run a file of tasks through a pipeline.")
@pipeline_argument
@click.argument("tasks", type=existing_file)
@click.option("--out", type=any_path, help="Where outcomes go, a line of JSON each (append; the same command resumes).")
@store_option
@click.option("--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Calls in flight.")
@click.option("--limit", type=click.IntRange(min=0), help="Take the first N tasks only.")
@click.option("--handed-off", type=any_path, help="Also write tasks given to a person to this file.")
@click.option("--max-failures", type=click.IntRange(min=1), help="Stop after N failed tasks.")
@click.option("--max-cost", type=MONEY,
              help="Never spend more in this run, like 20USD: each call, a spot check too, must fit at its worst case.")
@click.option("--mode", type=click.Choice(MODES), help="Override the pipeline's mode.")
@click.option("--strict-prices", is_flag=True, help="Refuse to start where a model has no price.")
@click.option("--resume-with-changes", is_flag=True,
              help="Go on with tasks left half done although the configuration changed since. What has ended stands: "
                   "to have that done anew, give new ids.")
@click.option("--again", type=click.Choice(AGAIN), multiple=True,
              help="Do again what ended without an answer before: for a spent budget, for an outage, or all that is "
                   "handed off, or failed. May be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask when the worst case exceeds the budget.")
@json_option
def run(as_json: bool, **given: Any) -> int:
    """Run a file of tasks (.jsonl or .csv) through a pipeline.

    Says first what it is likely to cost, where that is known, and what it can cost at most. Interrupted or killed, the
    same command goes on where it stopped; an answer once received is never paid for twice. Lines that can't be taken go
    to OUT.rejected.jsonl and stop nothing. What was handed off or failed stays so, until it is done --again: then its
    new outcome takes the old one's place in OUT.

    Exit codes: 0 every task is answered, declined or given to a person; 1 some failed or were rejected, or the run was
    stopped (--max-cost, --max-failures, a limit on escalations), or the store failed; 2 the files or options are wrong,
    or the run was not to be started; 3 a model can't be reached at the start; 130 interrupted.

    \b
    Examples:
      orchestrator run pipelines/order_lines/pipeline.yaml orders.jsonl --out done.jsonl --max-cost 20USD
      orchestrator run pipelines/order_lines/pipeline.yaml orders.jsonl --out done.jsonl --again budget
    """
    from orchestrator.batch import RunOptions, run_file
    from orchestrator.commands.output import ask
    from orchestrator.progress import Progress

    summary = run_file(RunOptions(**given, confirm=ask, progress=Progress()))
    _print_summary(summary, as_json=as_json)
    if summary.otherwise:
        _tell_changes(summary)
    if summary.undone and given["store"] != "memory:":
        _tell_undone(summary)
    return summary.exit_code


@click.command(short_help="Check a pipeline, without spending.")
@pipeline_argument
@click.option("--live", is_flag=True, help="Also ask each endpoint what it serves (nothing is spent).")
@click.option("--residency", is_flag=True, help="Also list every address the pipeline can reach.")
@store_option
@json_option
def check(pipeline: Path, live: bool, residency: bool, store: str, as_json: bool) -> int:
    """Check a pipeline and all it names, without spending.

    Shows what paths resolve to, compiles every expression against the schemas, tells the state of certificates and
    prices, and what happens to a task whose residency field is missing or misspelt. In the store, where there is one,
    it looks whether spot checks have revoked a certificate. Exit code 2 on errors, 3 where an endpoint can't be
    reached.

    \b
    Examples:
      orchestrator check pipelines/order_lines/pipeline.yaml
      orchestrator check pipelines/order_lines/pipeline.yaml --residency --live
    """
    from orchestrator.check import check_pipeline

    report = check_pipeline(pipeline, live=live, residency=residency, store=store)
    _print_check(report, as_json=as_json)
    return report.exit_code


def _print_summary(summary: RunSummary, *, as_json: bool) -> None:
    from orchestrator.commands.output import note, print_json, print_table

    if summary.stopped:
        note(f"stopped: {summary.stopped}")
    if summary.checks_waiting:
        note(summary.checks_waiting)
    if as_json:
        print_json(summary)
        return
    checks = f"{later} of it for spot checks and baselines" if (later := _money(summary.spent_afterwards)) else ""
    every, now = ("in all", "of this run") if summary.resumed else ("", "")
    besides = ", ".join(filter(None, (checks, _unknown_costs(summary))))
    rows = [
        ("tasks", summary.tasks, every, _done_before(summary)),
        *((status, count, every, "") for status, count in sorted(summary.by_status.items()) if count),
        *_successes(summary, every),
        ("rejected", summary.rejected, now, summary.rejected_file),
        ("escalated", summary.escalated, now, ""),
        *((("done again", summary.again, now, ""),) if summary.again else ()),
        *((("left open", summary.left_open, now, "begun and not ended: the same command goes on"),)
          if summary.left_open else ()),
        *((("spot checks", summary.checked, now, f"{summary.checked_right} drafts right"),) if summary.checked else ()),
        ("spent", _money(summary.spent) or _nothing(summary), now, besides),
        ("seconds", f"{summary.seconds:.1f}", now, ""),
    ]
    print_table(("", "", "", ""), rows)


def _successes(summary: RunSummary, every: str) -> list[tuple[str, str, str, str]]:
    """A row for each source that says so. The validator only ever says yes of its own answers, so nothing is counted
    of it; what was not served stands among the statuses."""
    said = [
        (f"{summary.succeeded_by[source]:,} of {known:,}", words) for source, words in SAID_BY.items()
        if (known := summary.known_by[source])
    ]
    if own_word := summary.succeeded_by["validator"]:
        said.append((f"{own_word:,}", "by the validator's own word"))
    if unknown := summary.tasks - summary.known:
        said.append((f"{unknown:,}", "unknown: accepted, and not looked at"))
    return [("" if nth else "successes", count, every, words) for nth, (count, words) in enumerate(said)]


def _done_before(summary: RunSummary) -> str:
    if not summary.resumed:
        return ""
    other = f", {summary.otherwise} under another configuration ({_changed(summary)} changed)"
    return f"{summary.resumed} of them done before" + (other if summary.otherwise else "")


def _changed(summary: RunSummary) -> str:
    return ", ".join(sorted(summary.changed))


def _tell_changes(summary: RunSummary) -> None:
    """That outcomes are of another configuration, and how to get others."""
    from orchestrator.commands.output import note
    from orchestrator.finance.phrases import counted

    told = f"{counted(summary.otherwise, 'outcome')} here stood before, under another configuration"
    anew = "To have these tasks done as the pipeline is now, give them new ids; for a try, another --store and --out"
    note(f"{told}: {_changed(summary)} changed since. {anew}.")


def _tell_undone(summary: RunSummary) -> None:
    """Why tasks got no answer, where they are not to blame, and the command that does them again."""
    from orchestrator.commands.output import note
    from orchestrator.finance.phrases import counted

    why = {"budget": "because a budget had no room left", "outage": "because a model was out or refused the key"}
    told = [f"{counted(n, 'task')} got no answer {why[reason]}" for reason, n in sorted(summary.undone.items())]
    note(f"{', '.join(told)}. Once that is mended, do them again with:\n  {_this_command(sorted(summary.undone))}")


def _this_command(again: Iterable[str]) -> str:
    """What was typed, to do again what ended for these reasons. A password in the store's URL is not shown."""
    from orchestrator.store.connect import locate

    context = click.get_current_context()
    words = ["orchestrator", context.command.name or "run"]
    for option in context.command.params:
        name, value = option.name or "", context.params.get(option.name or "")
        if name == "again" or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if isinstance(option, click.Option):
            words.append(option.opts[0])
        if value is not True:
            words.append(locate(str(value)).name if name == "store" else str(value))
    return shlex.join([*words, *(word for reason in again for word in ("--again", reason))])


def _money(nano: Mapping[str, int]) -> str:
    return " + ".join(f"{n / 1_000_000_000:.6f} {currency}" for currency, n in sorted(nano.items()))


def _nothing(summary: RunSummary) -> str:
    """0 of the money that the models' prices are in."""
    worst = summary.worst_case
    return " + ".join(f"0 {cost.currency}" for cost in worst.costs) if worst and worst.costs else "0"


def _unknown_costs(summary: RunSummary) -> str:
    """What the sum spent leaves out, in the words of docs/prices.md."""
    from orchestrator.finance.phrases import counted

    unpriced = f"{counted(summary.unpriced_calls, 'call')} unpriced (used tokens, no price)"
    unsettled = f"{counted(summary.unsettled_calls, 'call')} unsettled (may be billed; the report has the upper bound)"
    told = ((summary.unpriced_calls, unpriced), (summary.unsettled_calls, unsettled))
    return ", ".join(words for calls, words in told if calls)


def _print_check(report: CheckReport, *, as_json: bool) -> None:
    from orchestrator.commands.output import print_json, print_table

    if as_json:
        print_json(report)
        return
    if report.resolved:
        print_table(("key", "resolves to"), report.resolved.items())
        click.echo()
    if report.addresses:
        columns = ("model", "declared", "address", "is")
        print_table(columns, [(a.model, a.location, a.address, a.verdict) for a in report.addresses])
        click.echo()
    for finding in report.findings:
        where = f"{finding.where}: " if finding.where else ""
        click.echo(f"{finding.level}: {where}{finding.message}")
    click.echo(report.summary)
