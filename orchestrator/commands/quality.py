"""calibrate."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import (
    MONEY,
    SHARE,
    Parsed,
    existing_file,
    json_option,
    pipeline_argument,
    store_option,
)

if TYPE_CHECKING:
    from orchestrator.finance.period import Period
    from orchestrator.quality.calibration.evidence import Source
    from orchestrator.records import Money


def _fit_share(value: Any) -> float:
    from orchestrator.config.quantities import parse_share

    if (share := parse_share(value)) <= Decimal("0.9"):
        return float(share)
    raise ValueError(f"{value!r} leaves too little to certify on: write at most 90%")


@click.command(short_help="Certify a threshold on labels, on the ledger, or for a sum.")
@pipeline_argument
@click.option("--labels", type=existing_file,
              help="Tasks with `expected`, a line of JSON each; a line with `id` alone is looked up in the store.")
@click.option("--ledger", is_flag=True, help="What spot checks, escalations, shadow runs and labels have told.")
@click.option("--spend", type=MONEY, help="Have a random sample validated, for this sum at most, like 5.00USD.")
@click.option("--tasks", type=existing_file, help="With --spend: the tasks to draw from; else those the store keeps.")
@click.option("--since", metavar="D",
              help="With --ledger: runs that ended from this day or time on (ISO 8601; default: all, or where a "
              "certificate of the step was revoked, from when that change began).")
@click.option("--until", metavar="D", help="With --ledger: up to this day or time, which is outside.")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of both, like Europe/Berlin.")
@click.option("--max-regret", type=SHARE, required=True, metavar="SHARE",
              help="Of all tasks, the share of accepted wrong drafts that the validator would have put right.")
@click.option("--confidence", type=SHARE, default=0.9, show_default=True, metavar="SHARE",
              help="How sure to be of that.")
@click.option("--loss", type=click.Choice(["regret", "selective"]), default="regret", show_default=True,
              help="Bound the regret of all tasks, or the share of wrong ones among accepted drafts.")
@click.option("--gate", is_flag=True, help="Fit and certify the gate before the draft, on what is known of tasks.")
@click.option("--step", metavar="ID", help="The step to certify (default: the last).")
@click.option("--validate", is_flag=True, help="With --labels: have the validator answer each task too.")
@click.option("--fit-share", type=Parsed("share", _fit_share), default=0.4, show_default=True, metavar="SHARE",
              help="Share of the records to fit a confidence on, where one is fitted; 0 keeps the one in place.")
@click.option("--traffic/--no-traffic", default=True, show_default=True,
              help="Let recorded drafts without a label sharpen the test.")
@click.option("--attempt", type=click.IntRange(min=0), help="Which try on these records it is (default: as recorded).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample and of splits.")
@click.option("--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Calls in flight.")
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@store_option
@json_option
def calibrate(
    pipeline: Path, labels: Path | None, ledger: bool, spend: Money | None, tasks: Path | None, since: str | None,
    until: str | None, tz: str, validate: bool, yes: bool, as_json: bool, **settings: Any,
) -> None:
    """Find the lowest threshold that is certified to keep regret within bounds, and write its certificate.

    The records come from one source: labelled tasks, the ledger, or a sum to spend on validations. Where the pipeline
    names a fitted confidence, that is fitted on a share of them first. Ends with one of three recommendations
    (cascade, always validate, always draft) and the figures behind it. Interrupted, the same command goes on where it
    stopped.

    \b
    Examples:
      orchestrator calibrate pipelines/order_lines/pipeline.yaml --labels labelled.jsonl --max-regret 0.03
      orchestrator calibrate pipelines/order_lines/pipeline.yaml --ledger --max-regret 0.03
      orchestrator calibrate pipelines/order_lines/pipeline.yaml --spend 5.00USD --tasks orders.jsonl --max-regret 0.03
    """
    import asyncio

    from orchestrator.commands.output import print_json
    from orchestrator.finance.period import parse_period
    from orchestrator.progress import bar
    from orchestrator.quality.calibration.calibrate import calibrate as calibrated

    if (since is not None or until is not None) and not ledger:
        raise click.UsageError("--since and --until go with --ledger")
    period = parse_period(since=since, until=until, tz=tz, options=("--since", "--until"))
    source = _source(labels, ledger, spend, tasks, period, validate=validate, yes=yes)
    done = asyncio.run(calibrated(pipeline, source, **settings, bars=bar))
    if as_json:
        print_json(done)
    else:
        click.echo(done.words)


def _source(
    labels: Path | None, ledger: bool, spend: Money | None, tasks: Path | None, period: Period, *, validate: bool,
    yes: bool,
) -> Source:
    from orchestrator.commands.output import ask, note
    from orchestrator.quality.calibration.from_ledger import from_ledger
    from orchestrator.quality.calibration.labels import from_labels, read_labels
    from orchestrator.quality.calibration.spending import by_spending

    if (labels is not None) + ledger + (spend is not None) != 1:
        raise click.UsageError("give one source of records: --labels FILE, --ledger, or --spend SUM")
    if tasks is not None and spend is None:
        raise click.UsageError("--tasks goes with --spend")
    if validate and labels is None:
        raise click.UsageError("--validate goes with --labels: in the other sources the validator has been asked")
    if labels is not None:
        return from_labels(lambda: read_labels(labels), validate=validate)
    if spend is not None:
        return by_spending(spend, tasks, tell=note, confirm=(lambda words: True) if yes else ask)
    return from_ledger(since=period.since_at, until=period.until_at)
