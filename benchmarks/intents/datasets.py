"""The data sets that the benchmark runs on, by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from benchmarks.intents.data import Dataset, Part, Question

OUT_OF_SCOPE = "out_of_scope"


def read_banking77(folder: Path, part: Part) -> list[Question]:
    """Questions of bank customers, each with one of 77 intents (Casanueva et al. 2020, CC BY 4.0)."""
    path = folder / f"{part}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ["text", "category"]:
            raise ValueError(f"{str(path)!r} has the columns {reader.fieldnames!r}: text,category is needed")
        return [Question(f"{part}-{row}", r["text"], r["category"]) for row, r in enumerate(reader, 1)]


def read_clinc150(folder: Path, part: Part) -> list[Question]:
    """Requests to an assistant, each with one of 150 intents in ten domains, or with none of them, which is an intent
    too (Larson et al. 2019, CC BY 3.0). Its part for validation is left out.

    Some intents are words, like `time`: each is called by its domain as well, utility.time.
    """
    domains = json.loads((folder / "domains.json").read_text(encoding="utf-8"))
    names = {intent: f"{domain}.{intent}" for domain, of_it in domains.items() for intent in of_it}
    names["oos"] = OUT_OF_SCOPE
    whole = json.loads((folder / "data_full.json").read_text(encoding="utf-8"))
    try:
        return [
            Question(f"{name}-{row}", text, names[intent])
            for name in (part, f"oos_{part}")
            for row, (text, intent) in enumerate(whole[name], 1)
        ]
    except KeyError as absent:
        raise ValueError(f"{str(folder)!r}: {absent} is no part of data_full.json, or no domain has it") from None


BANKING77 = Dataset(name="banking77", files=("train.csv", "test.csv"), read=read_banking77)
CLINC150 = Dataset(name="clinc150", files=("data_full.json", "domains.json"), read=read_clinc150)
DATASETS = {dataset.name: dataset for dataset in (BANKING77, CLINC150)}
