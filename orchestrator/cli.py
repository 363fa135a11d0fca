"""The `orchestrator` command: its groups, and how errors become messages and exit codes.

Exit codes: 0 done, 1 some tasks failed, 2 the user's input is wrong, 3 an endpoint can't be reached, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from orchestrator import __version__
from orchestrator.commands import (
    assess,
    budget,
    cache,
    drafter,
    handoffs,
    ledger,
    outcome,
    prices,
    quality,
    report,
    run,
    simulate,
    start,
    verify,
)
from orchestrator.errors import InputError, OrchestratorError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="orchestrator")
def cli() -> None:
    """A cheap local model drafts, a strong model checks what needs checking, and each success has a known cost.

    \b
    First steps:
      orchestrator demo                                   the main job, offline, in about a minute
      orchestrator init my-pipeline                       a pipeline of your own to start from
      orchestrator check my-pipeline/pipeline.yaml        what it would do, without spending
    """


for command in (
    run.run, run.check, report.report, outcome.outcome, handoffs.handoffs, ledger.explain, ledger.forget, verify.verify,
    quality.calibrate, assess.assess, simulate.simulate, drafter.drafter, prices.prices, budget.budget, cache.cache,
    start.schema, start.init, start.demo,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the `orchestrator` script and of `python -m orchestrator`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # the installed script finds `allow_imports` modules as `python -m` does
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Messages go to stderr."""
    try:
        result = cli.main(args=list(arguments), prog_name="orchestrator", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except OrchestratorError as error:
        return _tell(error)
    except BrokenPipeError:  # the reader of stdout went away: what was to be said is of no interest any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a file that can't be written, a disk that is full: the user's to mend
        where = f"{str(error.filename)!r}: " if error.filename else ""
        return _tell(InputError(f"{where}{error.strerror or error}", hint="look at the path, its rights and the disk"))
    return result if isinstance(result, int) else 0


def _tell(error: OrchestratorError) -> int:
    click.echo(f"error: {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return error.exit_code
