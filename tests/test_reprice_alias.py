"""Repricing looks a call up by the name that priced it, and one without a price by the pipeline's `price:`."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from orchestrator import Pipeline, Task
from orchestrator.config.prices import PriceBook
from orchestrator.finance.period import Period
from orchestrator.finance.reprice import Repriced, reprice
from orchestrator.price_book import load_book
from orchestrator.testing import ScriptedModel
from tests.ledger import Ledger
from tests.pipelines import dump, write_pipeline

PRICES = {"book": "ours", "prices": [
    {"model": "house-drafter", "per_million": {"input": "0.1", "output": "0.4"}},
    {"model": "house-validator", "per_million": {"input": 3, "output": 15}},
]}


async def lived(folder: Path, prices: dict[str, object]) -> tuple[str, Path]:
    """A store with runs of a pipeline whose models are priced under other names, and the price book."""
    said = {name: ScriptedModel(lambda _: '{"label": "a"}', name=name) for name in ("drafter", "validator")}
    path = write_pipeline(folder, drafter={"price": "house-drafter"}, validator={"price": "house-validator"})
    dump(folder / "prices.yaml", prices)
    url = f"sqlite:///{folder / 's.db'}"
    async with Pipeline.load(path, store=url, clients=said) as pipeline:
        for n in range(3):
            await pipeline.arun(Task(id=f"t{n}", input={"text": "x"}))
    return url, folder / "prices.yaml"


def repriced(url: str, book: PriceBook) -> Repriced:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return reprice(connection, book, period=Period())
    finally:
        engine.dispose()


async def test_the_book_that_priced_a_pipelines_aliases_prices_them_the_same_again(tmp_path: Path) -> None:
    url, path = await lived(tmp_path, PRICES)
    found = repriced(url, load_book(path))
    assert found.recorded
    assert found.recorded[0].nano > 0
    assert found.repriced == found.recorded
    assert sum(line.still_unpriced for line in found.lines) == 0


async def test_calls_that_had_no_price_get_that_of_the_pipelines_alias(tmp_path: Path) -> None:
    url, _ = await lived(tmp_path, {"book": "empty", "prices": []})
    found = repriced(url, PriceBook.model_validate(PRICES))
    assert found.recorded == ()
    assert found.repriced[0].nano > 0


@pytest.mark.parametrize("use", ["embedded:../../models/drafter", "embedded:models/drafter/", "embedded:drafter"])
def test_a_model_named_by_its_folder_is_found_by_its_alias(tmp_path: Path, use: str) -> None:
    ledger = Ledger.on_disk(tmp_path)
    try:
        ledger.config(models={"drafter": {"use": use, "price": "house-drafter"}})
        ledger.run("r")
        ledger.call("r", None, model="drafter", provider="embedded", input_tokens=1_000_000)
        with ledger.read() as connection:
            found = reprice(connection, PriceBook.model_validate(PRICES), period=Period())
    finally:
        ledger.close()
    assert [str(one) for one in found.repriced] == ["0.1 USD"]
