"""cache stats, cache purge."""

from __future__ import annotations

import click

from orchestrator.commands.options import json_option, store_option

pipeline_option = click.option("--pipeline", metavar="NAME", help="Of this pipeline only.")
tenant_option = click.option("--tenant", metavar="T", help="Of this tenant only.")


@click.group(short_help="Kept answers: stats, purge.")
def cache() -> None:
    """Kept answers: a memo of calls. Decisions are never kept, so a changed policy needs no purge."""


@cache.command()
@pipeline_option
@tenant_option
@store_option
@json_option
def stats(pipeline: str | None, tenant: str | None, store: str, as_json: bool) -> None:
    """How many answers are kept, how large they are, and what they saved.

    \b
    Example:
      orchestrator cache stats --pipeline order_lines
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import print_json, print_table

    found = with_store(store, lambda opened: opened.cache_stats(pipeline, tenant))
    if as_json:
        print_json(found)
        return
    saved = " + ".join(str(money) for money in found.saved) or "0"
    rows = [
        ("answers", found.entries), ("expired", found.expired), ("bytes", found.size_bytes), ("hits", found.hits),
        ("saved", saved),
    ]
    print_table(("", ""), rows)


@cache.command()
@pipeline_option
@tenant_option
@click.option("--expired", is_flag=True, help="Only what is past its time to live.")
@store_option
def purge(pipeline: str | None, tenant: str | None, expired: bool, store: str) -> None:
    """Remove kept answers. Later tasks call the models again.

    \b
    Example:
      orchestrator cache purge --pipeline order_lines --expired
    """
    from orchestrator.commands.opened import with_store

    removed = with_store(store, lambda opened: opened.cache_purge(pipeline, tenant, expired_only=expired))
    click.echo(f"removed: {removed} answers", err=True)
