"""schema, init, demo."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.commands.options import any_path


@click.command(short_help="Print the JSON Schema of a kind of file.")
@click.argument("kind", type=click.Choice(["pipeline", "policy", "prices", "report"]), default="pipeline")
def schema(kind: str) -> None:
    """Print the JSON Schema of a kind of file, for editors to complete and check it by.

    \b
    Examples:
      orchestrator schema > pipeline.schema.json
      orchestrator schema policy > policy.schema.json
      orchestrator schema report > report.schema.json     what `report --format json` writes
    and as the first line of a YAML file:
      # yaml-language-server: $schema=pipeline.schema.json
    """
    from orchestrator.commands.output import print_json
    from orchestrator.config.file_schema import file_schema
    from orchestrator.finance.export.frozen import report_schema

    print_json(report_schema() if kind == "report" else file_schema(kind))


@click.command(short_help="Copy the starter pipelines and policies.")
@click.argument("folder", type=any_path, default=Path())
@click.option("--pipeline", metavar="NAME", help="Only this starter pipeline, with the policies.")
def init(folder: Path, pipeline: str | None) -> None:
    """Copy the starter pipelines and policies into FOLDER, ready to run and to change, and their example tasks.

    Nothing that is there is overwritten. The copies have no certificate yet: until `calibrate` has made one of the
    labelled tasks in examples/, every draft that comes to the threshold escalates.

    \b
    Examples:
      orchestrator init my-work
      orchestrator init my-work --pipeline order_lines
    """
    from orchestrator.scaffold import scaffold

    for path in scaffold(folder, pipeline=pipeline):
        click.echo(path)
    click.echo("next: orchestrator check, with one of these files; then calibrate", err=True)


@click.command(short_help="The main job, offline, end to end.")
@click.option("--out", type=any_path, default=Path("out/demo"), show_default=True, help="Where the results go.")
@click.option("--limit", type=click.IntRange(min=1), help="Run N lines instead of all.")
def demo(out: Path, limit: int | None) -> None:
    """Run the main job end to end, offline: calibrate a threshold, run held-out order lines, report.

    Needs no key, no GPU and no network: drafter and validator are tiny models that ship with the project.

    \b
    Example:
      orchestrator demo
    """
    from orchestrator.demo import run_demo

    run_demo(out, limit=limit)
