"""simulate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.options import any_path, existing_file, json_option, pipeline_argument, store_option

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedPipeline
    from orchestrator.config.policy import AfterRule, BeforeRule, PolicyConfig
    from orchestrator.quality.what_if.simulate import Simulation
    from orchestrator.quality.what_if.what_if import Figure, PolicyFigures

HARDLY = 0.01
"""An end of the interval says nothing where it is less than this part of the figure, or the figure of it."""
COLUMNS = ("accepted", "escalated", "to a person", "right", "per 1,000 tasks", "over always validating")


@click.command(short_help="What another policy would have cost, and been worth.")
@pipeline_argument
@click.option("--policy", type=existing_file, help="The policy to ask about; by default the step's own.")
@click.option("--threshold", type=float, metavar="X", help="The threshold to ask about; by default the step's own.")
@click.option("--step", metavar="ID", help="The step; by default the last.")
@click.option("--since", metavar="D", help="Runs that ended from this day or time on (ISO 8601).")
@click.option("--until", metavar="D", help="Up to this day or time, which is outside.")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of both, like Europe/Berlin.")
@click.option("--svg", type=any_path, metavar="FILE", help="Write the frontier as a picture.")
@store_option
@json_option
def simulate(
    pipeline: Path, policy: Path | None, threshold: float | None, step: str | None, since: str | None,
    until: str | None, tz: str, svg: Path | None, store: str, as_json: bool,
) -> None:
    """What another policy or threshold would have been worth on the runs that are recorded: quality and cost of the
    present policy, the proposed one, always drafting and always validating, and of every threshold, with intervals.

    Asks no model. Refuses (exit code 2) where the proposed policy accepts drafts that no spot check could have
    reached, and names the rule that would have to explore.

    \b
    Examples:
      orchestrator simulate pipelines/order_lines/pipeline.yaml --threshold -0.02
      orchestrator simulate pipelines/order_lines/pipeline.yaml --policy policies/careful.yaml --svg frontier.svg
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import note, print_json
    from orchestrator.config.loader import load_pipeline
    from orchestrator.finance.period import parse_period
    from orchestrator.quality.what_if.picture import svg as picture
    from orchestrator.quality.what_if.simulate import simulate as replay

    if threshold is not None and not math.isfinite(threshold):
        raise click.BadParameter(f"{threshold!r} is no threshold: write a number", param_hint="--threshold")
    loaded = load_pipeline(pipeline)
    period = parse_period(since=since, until=until, tz=tz, options=("--since", "--until"))
    proposed = _policy(policy, loaded)
    found = with_store(store, lambda opened: replay(
        opened, loaded, policy=proposed, threshold=threshold, step=step, since=period.since_at, until=period.until_at,
    ))
    if svg is not None:
        svg.write_text(picture(found), encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        _print(found)
    if svg is not None:
        note(f"written to {svg}")


def _policy(path: Path | None, loaded: LoadedPipeline) -> PolicyConfig | None:
    from orchestrator.config.checked import nearest, validated
    from orchestrator.config.policy import PolicyConfig
    from orchestrator.config.yaml12 import read_yaml
    from orchestrator.errors import ConfigError

    if path is None:
        return None
    policy = validated(PolicyConfig, read_yaml(path))
    models = sorted(loaded.config.models)
    rules: list[BeforeRule | AfterRule] = [*policy.before, *policy.after]
    for rule in rules:
        if rule.to is not None and rule.to not in models:
            raise ConfigError(
                f"rule {rule.name!r}: `to: {rule.to}` is no model of {loaded.path}{nearest(rule.to, models)}",
                file=str(path), key=rule.name,
            )
    return policy


def _print(found: Simulation) -> None:
    from orchestrator.commands.output import note, print_table

    seen = ", ".join(f"{who} {n:,}" for who, n in sorted(found.reference.items()) if who != "none")
    print_table(
        ("policy", *COLUMNS), ((one.name, *_cells(one, found.currency)) for one in found.policies),
        title=f"{found.pipeline} / {found.step}: {found.runs:,} recorded runs; truth seen by {seen or 'nobody'}",
    )
    if found.frontier.points:
        currency, shown = found.currency, found.frontier.shown()
        distinct = f"{found.frontier.distinct:,} distinct confidences"
        click.echo()
        print_table(
            ("threshold", "hull", *COLUMNS),
            ((f"{one.threshold:.6g}", "*" if one.on_hull else "", *_cells(one.figures, currency)) for one in shown),
            title=f"thresholds: {len(shown)} of {distinct} (* on the upper hull; --json has more)",
        )
    for line in _remarks(found):
        note(line)


def _cells(one: PolicyFigures, currency: str) -> tuple[str, ...]:
    return (
        f"{one.accepted:.1%}", f"{one.escalated:.1%}", f"{one.handed_off:.1%}",
        _with_interval(one.quality, lambda value: f"{value:.1%}"), _money(one.cost, currency),
        _with_interval(one.ratio, lambda value: f"{value:.3g}"),
    )


def _money(figure: Figure, currency: str) -> str:
    shown = _with_interval(figure, lambda value: f"{value * 1000:.4g}")
    return shown if figure.value is None else f"{shown} {currency}"


def _with_interval(figure: Figure, shown: Callable[[float], str]) -> str:
    if figure.value is None:
        return figure.note or "unknown"
    if figure.low is None or figure.high is None:
        return f"{shown(figure.value)} ({figure.note or 'no interval'})"
    if figure.low < HARDLY * figure.value < HARDLY**2 * figure.high:
        return f"{shown(figure.value)} (hardly known)"
    if figure.low < HARDLY * figure.value:
        return f"{shown(figure.value)} (at most {shown(figure.high)})"
    return f"{shown(figure.value)} ({shown(figure.low)} to {shown(figure.high)})"


def _remarks(found: Simulation) -> Iterator[str]:
    yield from found.notes
    for one in found.policies:
        if one.cost.value is not None and one.cost.note:
            yield f"{one.name}: its cost {one.cost.note}"
    for name in ("present", "proposed"):
        for why, runs in sorted(found.not_told.get(name, {}).items(), key=lambda pair: -pair[1]):
            yield f"{name}: not told for {runs:,} runs, for which every interval allows: {why}"
    if found.frontier.left_out:
        yield f"{found.frontier.left_out:,} thresholds left out: they accept drafts that no spot check could reach"
