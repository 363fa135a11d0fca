"""drafter up, drafter status, drafter down; and what its hour is worth (drafter_costs.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.drafter_costs import bench, break_even
from orchestrator.commands.options import json_option, pipeline_argument
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.config.loader import LoadedPipeline
    from orchestrator.config.pipeline import ModelConfig

model_option = click.option("--model", metavar="NAME", help="The model in `models:`; by default the drafter.")


@click.group(short_help="A local vLLM server: up, status, down, bench, break-even.")
def drafter() -> None:
    """A local vLLM server for a pipeline's drafter, started from its `use:`, `endpoints:` and `serve:`."""


drafter.add_command(bench)
drafter.add_command(break_even)


@drafter.command()
@pipeline_argument
@model_option
@click.option("--print", "print_only", is_flag=True, help="Only print the command, for systemd or Kubernetes.")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=900.0, show_default=True, metavar="SECONDS",
              help="Give up when it is not healthy by then.")
def up(pipeline: Path, model: str | None, print_only: bool, wait_s: float) -> None:
    """Start vLLM and wait until it is healthy. Shows the end of its log where it fails (exit code 3).

    \b
    Examples:
      orchestrator drafter up pipelines/order_lines/pipeline.yaml
      orchestrator drafter up pipelines/order_lines/pipeline.yaml --print
    """
    from orchestrator.models.vllm_server import up as start

    loaded, config = served(pipeline, model)
    server = start(config, base=loaded.path.parent, wait_s=wait_s, print_only=print_only)
    if server is not None:
        click.echo(server.url)


@drafter.command()
@pipeline_argument
@model_option
@json_option
def status(pipeline: Path, model: str | None, as_json: bool) -> int:
    """Say whether the server runs, and whether it was started here. Exit code 3 where nothing answers.

    \b
    Example:
      orchestrator drafter status pipelines/order_lines/pipeline.yaml
    """
    from orchestrator.commands.output import print_json
    from orchestrator.models.vllm_server import status as state_of

    _, config = served(pipeline, model)
    found = state_of(config)
    if as_json:
        print_json(found)
    else:
        process = f" (process {found.server.pid}, log {found.server.log})" if found.server else ""
        click.echo(f"{found.state}: {found.model} at {found.url}{process}")
    return 0 if found.state in ("running", "elsewhere") else 3


@drafter.command()
@pipeline_argument
@model_option
def down(pipeline: Path, model: str | None) -> None:
    """Stop the server that was started here. Another's is never touched.

    \b
    Example:
      orchestrator drafter down pipelines/order_lines/pipeline.yaml
    """
    from orchestrator.models.vllm_server import down as stop

    _, config = served(pipeline, model)
    click.echo("stopped" if stop(config) else "none was running that was started here", err=True)


def served(pipeline: Path, model: str | None) -> tuple[LoadedPipeline, ModelConfig]:
    """The pipeline, and the model to serve. Raises InputError where that is none that vLLM serves."""
    from orchestrator.config.loader import load_pipeline

    loaded = load_pipeline(pipeline)
    name = model or loaded.config.steps[0].draft.model
    config = loaded.config.models.get(name)
    if config is None:
        raise InputError(f"{pipeline} has no model {name!r}", hint=f"it has {', '.join(loaded.config.models)}")
    if config.kind != "vllm":
        raise InputError(
            f"model {name!r} is {config.use!r}, which is not served by vLLM",
            hint="write `use: vllm:MODEL` in the pipeline, or name another model with --model",
        )
    return loaded, config
