"""prices show, prices pin, prices check."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import Parsed, any_path, existing_file, json_option, pipeline_argument
from orchestrator.records import TOKEN_CLASSES

if TYPE_CHECKING:
    from orchestrator.config.price_types import TokenPrices
    from orchestrator.config.prices import PriceEntry


def _figure(value: Any) -> Decimal:
    try:
        figure = Decimal(str(value))
    except InvalidOperation:
        figure = Decimal(-1)
    if not figure.is_finite() or figure < 0:
        raise ValueError(f"{value!r} is not a price")
    return figure


FIGURE = Parsed("price", _figure)
"""A price of a million tokens: an exact, non-negative decimal."""


@click.group(short_help="The price book: show, pin, check.")
def prices() -> None:
    """The price book: a YAML file of your own, in which every price has a version and a day it is valid from."""


@prices.command()
@click.argument("book", type=existing_file)
@json_option
def show(book: Path, as_json: bool) -> None:
    """Show the entries of a price book.

    \b
    Example:
      orchestrator prices show prices.yaml
    """
    from orchestrator.commands.output import print_json, print_table
    from orchestrator.price_book import load_book

    found = load_book(book)
    if as_json:
        print_json(found.model_dump(mode="json", exclude_none=True))
        return
    rows: list[tuple[object, ...]] = [row for entry in found.prices for row in _entry_rows(entry)]
    rows += [(served, "", "", "", f"priced as {priced}", "", "") for served, priced in found.aliases.items()]
    columns = ("model", "valid from", "to", "tier", "price of a million tokens", "currency", "source")
    print_table(columns, rows, title=f"{found.book} ({book})")
    if found.rates:
        print_table(
            ("from", "to", "rate", "valid from", "source"),
            [(r.from_, r.to, r.rate, r.valid_from, r.source) for r in found.rates], title="exchange rates",
        )
    if found.accounts:
        print_table(
            ("alias", "billing account", "name", "sub account", "its name", "invoice issuer"),
            [(alias, a.billing_account, a.name, a.sub_account, a.sub_account_name, a.issuer)
             for alias, a in found.accounts.items()], title="accounts",
        )


def _entry_rows(entry: PriceEntry) -> Iterator[tuple[object, ...]]:
    """One row a tier and length of the prompt; what they have in common stands in the first."""
    head = (entry.model, entry.valid_from, entry.valid_to or "")
    tail = (entry.currency, entry.source)
    if (gpu := entry.gpu_hour) is not None:
        yield (*head, "", f"{gpu.price} an hour and GPU, {gpu.gpus} GPUs, {gpu.tokens_per_s} tokens/s", *tail)
        return
    assert entry.per_million is not None
    yield (*head, "standard", _figures(entry.per_million), *tail)
    blank = ("", "", "")
    for tier, prices_of in entry.tiers.items():
        yield (*blank, tier, _figures(prices_of), "", "")
    for one in entry.above:
        yield (*blank, f"above {one.prompt_tokens:,} tokens", _figures(one.per_million), "", "")
        for tier, prices_of in one.tiers.items():
            yield (*blank, f"above {one.prompt_tokens:,}, {tier}", _figures(prices_of), "", "")


def _figures(of: TokenPrices) -> str:
    told = of.model_dump(exclude_none=True)
    return ", ".join(f"{name.replace('_', ' ')} {told[name]}" for name in TOKEN_CLASSES if name in told)


@prices.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--book", type=any_path, default=Path("prices.yaml"), show_default=True, help="The file to write to.")
@click.option("--input", type=FIGURE, help="Price of a million input tokens, instead of LiteLLM's.")
@click.option("--output", type=FIGURE, help="Price of a million output tokens, instead of LiteLLM's.")
@click.option("--cache-read", type=FIGURE, help="Price of a million tokens read from the provider's cache.")
@click.option("--cache-write", type=FIGURE, help="Price of a million tokens written to it.")
@click.option("--cache-write-1h", type=FIGURE, help="The same, of tokens that are to stay for an hour.")
@click.option("--reasoning", type=FIGURE, help="Price of a million reasoning tokens, where it is not the output's.")
@click.option("--currency", default="USD", show_default=True)
@click.option("--valid-from", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]), help="The first day, or the "
              "first moment (2026-11-01T12:00:00Z), of this price, UTC; today.")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="A name the provider also answers with.")
@click.option("--source", default="", help="Where figures given by hand are from, a page's address for instance.")
def pin(
    models: tuple[str, ...], book: Path, currency: str, valid_from: datetime | None, aliases: tuple[str, ...],
    source: str, **by_hand: Decimal | None,
) -> None:
    """Write prices into the book: from the table that ships with LiteLLM, or figures given by hand.

    Nothing is fetched. LiteLLM's prices come with all that it lists of them: cache, audio, reasoning, batch, flex and
    priority tiers, long prompts. What the book holds stays as it is, comments too; a new price is a new entry with
    its own first day.

    \b
    Examples:
      orchestrator prices pin anthropic/claude-opus-4-8 --book prices.yaml
      orchestrator prices pin my-model --input 0.50 --output 1.50 --source https://provider.example/prices
    """
    from orchestrator.commands.output import note
    from orchestrator.price_book import pin_price
    from orchestrator.shipped_prices import Pinned, shipped_price

    given = {name: figure for name, figure in by_hand.items() if figure is not None}
    if given and not {"input", "output"} <= given.keys():
        raise click.UsageError("figures by hand need --input and --output")
    if (given or aliases) and len(models) > 1:
        raise click.UsageError("give one MODEL with figures or aliases of its own")
    moment = _moment(valid_from)
    if given and not source:
        note(f"warning: the price of {models[0]} says not where it is from: an auditor will ask; give --source")
    for model in models:
        pinned = (
            Pinned(model=model, per_million=given, tiers={}, currency=currency, source=source, aliases=aliases)
            if given else shipped_price(model, aliases=aliases)
        )
        note(pin_price(book, pinned, moment))
        for remark in pinned.remarks:
            note(f"note: {model}: {remark}")


@prices.command("check")
@pipeline_argument
@json_option
def check_prices(pipeline: Path, as_json: bool) -> int:
    """Say which models of a pipeline have no price. Exit code 1 where one has none.

    \b
    Example:
      orchestrator prices check pipelines/order_lines/pipeline.yaml
    """
    from orchestrator.check import how_to_price, priced_models
    from orchestrator.commands.output import note, print_json, print_table
    from orchestrator.config.loader import load_pipeline

    loaded = load_pipeline(pipeline)
    found = priced_models(loaded)
    if as_json:
        print_json(found)
    else:
        rows = [(one.model, one.name, one.price or "no price: its cost would be unknown") for one in found]
        print_table(("model", "asked for as", "price"), rows)
    for one in found:
        if one.price is None:
            note(f"{one.name}: {how_to_price(loaded, one)}")
    return 0 if all(one.price for one in found) else 1


def _moment(given: datetime | None) -> date | datetime:
    """A day where the time is midnight."""
    if given is None:
        return datetime.now(UTC).date()
    return given.date() if given.time() == datetime.min.time() else given.replace(tzinfo=UTC)
