"""calibrate."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.commands.options import BetweenZeroAndOne, existing_file, json_option, pipeline_argument, store_option


@click.command(short_help="Certify a threshold on labelled tasks.")
@pipeline_argument
@click.option("--labels", type=existing_file, required=True, help="Tasks with `expected`, a line of JSON each.")
@click.option("--max-regret", type=BetweenZeroAndOne(), required=True, metavar="SHARE",
              help="Of all tasks, the share of accepted wrong drafts that the validator would have put right.")
@click.option("--confidence", type=BetweenZeroAndOne(), default=0.9, show_default=True, metavar="SHARE",
              help="How sure to be of that.")
@store_option
@json_option
def calibrate(
    pipeline: Path, labels: Path, max_regret: float, confidence: float, store: str, as_json: bool
) -> None:
    """Find the lowest threshold that is certified to keep regret within bounds, and write its certificate.

    Drafts every labelled task, and writes the certificate to the path that the pipeline names. Ends with one of three
    recommendations (cascade, always validate, always draft) and the figures behind it. Interrupted, the same command
    goes on where it stopped.

    \b
    Example:
      orchestrator calibrate pipelines/order_lines/pipeline.yaml --labels labelled.jsonl --max-regret 0.03
    """
    import asyncio

    from orchestrator.commands.output import print_json
    from orchestrator.quality.calibrate import calibrate_from_labels

    done = asyncio.run(
        calibrate_from_labels(pipeline, labels, max_regret=max_regret, confidence=confidence, store=store)
    )
    if as_json:
        print_json(done)
    else:
        click.echo(done.words)
