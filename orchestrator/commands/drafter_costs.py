"""drafter bench, drafter break-even: what a served drafter's hour does, and when that beats an API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import any_path, existing_file, json_option, pipeline_argument, store_option
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.config.pipeline import ModelConfig
    from orchestrator.config.prices import PriceBook
    from orchestrator.finance.break_even import BreakEven
    from orchestrator.models.bench import Bench
    from orchestrator.records import Usage


@click.command(short_help="Measure a served drafter's throughput and weights.")
@pipeline_argument
@click.option("--model", metavar="NAME", help="The model in `models:`; by default the drafter.")
@click.option("--seconds", type=click.FloatRange(1, 120), default=15.0, show_default=True, help="Of each of 3 loads.")
@click.option("--in-flight", type=click.IntRange(1, 4096), default=32, show_default=True, help="Requests at a time.")
@click.option("--words", type=click.IntRange(32, 100_000), default=300, show_default=True,
              help="Of the prompts that are read: as long as the pipeline's own.")
@click.option("--price", default="1", show_default=True, metavar="AMOUNT", help="Of a GPU-hour.")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="How many of them.")
@click.option("--currency", default="USD", show_default=True)
@click.option("--write", "book", type=any_path, metavar="BOOK.yaml", help="Add the entry to this price book.")
@json_option
def bench(
    pipeline: Path, model: str | None, seconds: float, in_flight: int, words: int, price: str, gpus: int,
    currency: str, book: Path | None, as_json: bool,
) -> None:
    """Load the running server for some 3 x SECONDS, and print its entry for the price book.

    Nothing else should use the server meanwhile. Choose --in-flight as high as your pipeline runs it.

    \b
    Examples:
      orchestrator drafter bench pipelines/order_lines/pipeline.yaml --price 2.50
      orchestrator drafter bench pipelines/order_lines/pipeline.yaml --price 2.50 --write prices.yaml
    """
    from orchestrator.commands.drafter import served
    from orchestrator.commands.output import print_json
    from orchestrator.config.prices import PriceEntry
    from orchestrator.price_book import add_entry

    loaded, config = served(pipeline, model)
    found = asyncio.run(_measured(config, loaded.config.local_networks, seconds, in_flight, words))
    entry = _entry(config.target, found, price, gpus, currency)
    PriceEntry.model_validate(entry)
    if book is not None:
        add_entry(book, entry)
    if as_json:
        print_json(entry)
        return
    _tell(found)
    click.echo(_yaml(entry))


async def _measured(
    config: ModelConfig, networks: tuple[str, ...], seconds: float, in_flight: int, words: int
) -> Bench:
    from orchestrator.models.bench import measure
    from orchestrator.models.served import ServedModel

    client = ServedModel(config.target, config=config, local_networks=networks)
    try:
        return await measure(client, seconds=seconds, in_flight=in_flight, words=words,
                             tell=lambda text: click.echo(text, err=True))
    finally:
        await client.aclose()


def _entry(model: str, found: Bench, price: str, gpus: int, currency: str) -> dict[str, Any]:
    return {
        "model": model, "currency": currency, "valid_from": datetime.now(UTC).date(),
        "gpu_hour": {
            "price": price, "gpus": gpus, "tokens_per_s": f"{found.tokens_per_s:.4g}",
            "input_weight": f"{found.input_weight:.3g}", "cache_read_weight": f"{found.cache_read_weight:.3g}",
        },
        "source": "orchestrator drafter bench",
    }


def _tell(found: Bench) -> None:
    for name, load in (("writing", found.writing), ("reading", found.reading), ("reading again", found.again)):
        click.echo(f"# {name}: {load.requests} requests in {load.seconds:.1f} s; tokens read {load.fresh:,} fresh and "
                   f"{load.cached:,} cached, written {load.written:,}")
    if not found.cached_told:
        click.echo("# the server does not say what was cached: a prompt read again is taken as cached whole, and calls "
                   "are priced as fresh input")


def _yaml(entry: dict[str, Any]) -> str:
    """As one item of `prices:`."""
    gpu = ", ".join(f"{name}: {value}" for name, value in entry["gpu_hour"].items())
    return (f"prices:\n  - model: {entry['model']}\n    currency: {entry['currency']}\n"
            f"    valid_from: {entry['valid_from']}\n    gpu_hour: {{{gpu}}}\n    source: {entry['source']}")


@click.command(name="break-even", short_help="From which volume on a served drafter costs less than an API.")
@click.argument("book", type=existing_file)
@click.option("--model", metavar="NAME", help="The local model of the book; by default the only one with `gpu_hour`.")
@click.option("--input", "reads", type=click.IntRange(0), help="Tokens a call reads; else as the ledger's calls did.")
@click.option("--output", "writes", type=click.IntRange(0), help="Tokens a call writes.")
@store_option
@json_option
def break_even(
    book: Path, model: str | None, reads: int | None, writes: int | None, store: str, as_json: bool
) -> None:
    """Lay a GPU's hour beside every model of BOOK that is priced per token in the same currency.

    \b
    Examples:
      orchestrator drafter break-even prices.yaml --input 400 --output 60
      orchestrator drafter break-even prices.yaml
    """
    from orchestrator.commands.output import print_json, print_table
    from orchestrator.finance.break_even import break_even as against
    from orchestrator.price_book import load_book
    from orchestrator.records import Usage

    if (reads is None) != (writes is None):
        raise click.UsageError("give --input and --output, or neither: a call reads and writes tokens")
    prices = load_book(book)
    now = datetime.now(UTC)
    valid = [entry for entry in prices.prices if entry.is_valid(now)]
    rented = [entry for entry in valid if entry.gpu_hour is not None and model in (None, entry.model)]
    if len({entry.model for entry in rented}) != 1:
        named = ", ".join(sorted({entry.model for entry in valid if entry.gpu_hour is not None})) or "none"
        raise InputError(f"{book} must have one local model, or --model must name it: {named}")
    local = rented[-1]
    given = reads is not None and writes is not None
    usage = Usage(input=reads or 0, output=writes or 0) if given else _of_ledger(store, local.model, prices)
    found = [against(local, api, usage) for api in valid if api.gpu_hour is None and api.currency == local.currency]
    if as_json:
        print_json([_plain(one) for one in found])
        return
    click.echo(f"{local.model}: {found[0].bill if found else ''} an hour; a call reads {usage.prompt:,} tokens and "
               f"writes {usage.total - usage.prompt:,}")
    print_table(("model", "a call there", "calls/hour", "calls/month", "the GPU can do"), [
        (one.api, str(one.api_call), _whole(one.calls_per_hour), _whole(one.calls_per_month),
         f"{_whole(one.capacity_per_hour)}/hour" + ("" if one.reachable else ": never cheaper")) for one in found
    ])


def _whole(number: Any) -> str:
    return "-" if number is None else f"{-(-number // 1):,}"


def _plain(one: BreakEven) -> dict[str, Any]:
    return {
        "local": one.local, "api": one.api, "bill_per_hour": str(one.bill.amount), "currency": one.bill.currency,
        "api_call": str(one.api_call.amount), "reachable": one.reachable,
        "calls_per_hour": None if one.calls_per_hour is None else float(one.calls_per_hour),
        "calls_per_month": None if one.calls_per_month is None else float(one.calls_per_month),
        "capacity_per_hour": float(one.capacity_per_hour),
    }


def _of_ledger(store: str, model: str, prices: PriceBook) -> Usage:
    """What the local model's calls used in the mean, under whatever name it is served."""
    from orchestrator.commands.opened import read_store
    from orchestrator.finance.break_even import mean_usage
    from orchestrator.finance.charges import read_charges
    from orchestrator.finance.period import Period

    charges = read_store(store, lambda connection: read_charges(connection, period=Period(), grain="period"))
    names = [model, *(served for served, priced in prices.aliases.items() if priced == model)]
    found = next((usage for name in names if (usage := mean_usage(charges, name))), None)
    if found is None:
        raise InputError(f"the ledger has no call of {model!r}", hint="give --input and --output")
    return found
