"""assess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.commands.options import SHARE, existing_file, file_or_folder, json_option, store_option


@click.command(short_help="What would a cascade save, by your own request logs?")
@click.argument("logs", type=existing_file, required=False)
@click.option("--pipeline", type=file_or_folder, required=True, help="The pipeline that would do these requests.")
@click.option("--sample", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N",
              help="Draft N requests, drawn at random.")
@click.option("--max-regret", type=SHARE, default=0.03, show_default=True, metavar="SHARE",
              help="The share of tasks that may get a draft which differs from the answer that was given.")
@click.option("--confidence", type=SHARE, default=0.9, show_default=True, metavar="SHARE",
              help="How sure to be of that.")
@click.option("--loss", type=click.Choice(["regret", "selective"]), default="regret", show_default=True,
              help="What is bounded, as in `calibrate`.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample and of the split.")
@click.option("--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Calls in flight.")
@store_option
@json_option
def assess(logs: Path | None, pipeline: Path, as_json: bool, **settings: Any) -> None:
    """Say what a cascade would save, before anything goes live.

    LOGS holds requests in the OpenAI chat format with the answers that were given, a line of JSON each. A sample is
    drafted and compared; a threshold is certified on one half, and what it saves is measured on the other. Without
    LOGS the ledger's shadow runs (`mode: shadow`) are looked at. The validator is not asked, and nothing is put to use.

    \b
    Examples:
      orchestrator assess logs.jsonl --pipeline pipelines/order_lines/pipeline.yaml
      orchestrator assess --pipeline pipelines/order_lines/pipeline.yaml
    """
    import asyncio

    from orchestrator.commands.output import print_json
    from orchestrator.progress import bar
    from orchestrator.quality.assessment.assess import assess as assessed

    done = asyncio.run(assessed(pipeline, logs, **settings, bars=bar))
    if as_json:
        print_json(done)
    else:
        click.echo(done.words)
