"""What a fitted confidence costs a task, and what it is worth.

    python benchmarks/confidence.py speed
    python benchmarks/confidence.py synthetic [--n 60,150,400,1000,3000] [--draws 4]
    python benchmarks/confidence.py order_lines
    python benchmarks/confidence.py records FILE        (JSONL: {"features": {...}, "right": true, "tags": {...}})

speed: microseconds a task for features and confidence together, and for the confidence alone.
The others fit on some records and compare, on records that neither fit nor certificate has seen, the order (AUROC) and
the certified share of drafts accepted at 3% regret and 90% confidence: the raw signal, certified on all labels,
against the fitted confidence, fitted on 40% of the same labels and certified on the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.cascade.confidence import FittedConfidence  # noqa: E402 - the checkout's own package
from orchestrator.cascade.signals.features import draft_features, features_from_json  # noqa: E402
from orchestrator.config.feature_names import DRAFT_FEATURES, LOGPROB_FEATURES, TASK_FEATURES  # noqa: E402
from orchestrator.quality import Record, certify  # noqa: E402
from orchestrator.quality.fitted.confidence import FittedArtefact, fit_confidence  # noqa: E402
from orchestrator.quality.fitted.reliability import auroc, calibration  # noqa: E402
from orchestrator.records import Signal  # noqa: E402
from tests.drafts import draft_of, task_of  # noqa: E402
from tests.labelled_drafts import drafts  # noqa: E402

FIT_SHARE, MAX_REGRET = 0.4, 0.03
CHECKS = ("schema", "finish", "logprob", "arithmetic")


@dataclass(frozen=True)
class Labelled:
    features: Mapping[str, float | None]
    right: bool
    tags: Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "synthetic", "order_lines", "records"))
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--n", default="60,150,400,1000,3000")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--raw", default="lp_mean")
    asked = parser.parse_args()
    match asked.what:
        case "speed":
            speed()
        case "synthetic":
            new = synthetic(6000, 9999)
            for n in map(int, asked.n.split(",")):
                compare([(synthetic(n, seed), new) for seed in range(asked.draws)], asked.raw)
        case "order_lines":
            known, new = asyncio.run(order_lines())
            found = compare([(known, new)], asked.raw)
            print(found.words)
        case _:
            rows = list(read(asked.file))
            found = compare([(rows[::2], rows[1::2])], asked.raw)
            print(found.words)


def speed() -> None:
    names = [*TASK_FEATURES, *DRAFT_FEATURES, *(f"{p}_{n}" for p in ("lp", "span") for n in LOGPROB_FEATURES)]
    names += [f"{check}.ok" for check in CHECKS]
    task, value = task_of("12 brass gears, usd 12,95 each; " * 12, lang="de"), {"item": "brass gear", "qty": 12}
    logprobs = draft_of(value).answer.logprobs
    draft = draft_of(value, span=logprobs)
    signals = {name: Signal(name=name, value=None, ok=True) for name in CHECKS}
    print(f"{len(names)} features; CPU microseconds a task, best and median of 15 rounds of 2,000")
    show("features alone", lambda: draft_features(draft, signals, task, names))
    draw = random.Random(1)
    rows = [{name: draw.random() for name in names} for _ in range(1200)]
    tags = [{"lang": draw.choice(("de", "en", "fr"))} for _ in rows]
    noise = [draw.gauss(0.0, 0.3) for _ in rows]
    by_line = [row["lp_mean"] + row["lp_q0"] + row["chars"] + e > 1.5 for row, e in zip(rows, noise, strict=True)]
    by_region = [(row["lp_mean"] > 0.5) == (row["chars"] + e > 0.5) for row, e in zip(rows, noise, strict=True)]
    for right, n in ((by_line, 400), (by_region, 1200)):
        artefact = fit_confidence(rows[:n], right[:n], tags=tags[:n])
        fitted = FittedConfidence(artefact.body())
        kind = f"{artefact.model['kind']}, {len(artefact.features)} features, {artefact.calibration['kind']}"
        numbers = draft_features(draft, signals, task, names)
        show(f"confidence alone: {kind}", lambda f=fitted, x=numbers: f.of(x, task.meta))
        show("features + confidence", lambda f=fitted: f.of(draft_features(draft, signals, task, names), task.meta))


def show(what: str, work: Callable[[], object], rounds: int = 15, times: int = 2000) -> None:
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) / times * 1e6)
    print(f"{what:<60}{min(found):>8.1f}{statistics.median(found):>8.1f}", flush=True)


COLUMNS = (
    "AUROC, raw signal", "AUROC, fitted", "AUROC, as reported", "calibration error", "the same, as reported",
    "accepted, raw", "accepted, fitted", "regret, raw", "regret, fitted",
)


def compare(redraws: Sequence[tuple[Sequence[Labelled], Sequence[Labelled]]], raw: str) -> FittedArtefact:
    """Prints one row, means over the redraws (of ECE over those with a fit); returns the last fit on all labels."""
    rows, fits = [], 0
    for known, new in redraws:
        at, right = round(len(known) * FIT_SHARE), [one.right for one in new]
        part, whole = fit(known[:at], raw), fit(known, raw)
        apply, fits = FittedConfidence(whole.body()), fits + (not whole.is_raw)
        scores = [apply.of(one.features, one.tags) for one in new]
        off = None if whole.is_raw else calibration([p or 0.0 for p in scores], right).error
        of_raw = accepted(known, new, None, raw)
        of_fit = accepted(known[at:], new, FittedConfidence(part.body()))
        rows.append((
            order([one.features.get(raw) for one in new], right), order(scores, right), whole.measured["auroc"],
            off, whole.measured["calibration_error"], of_raw[0], of_fit[0], of_raw[1], of_fit[1],
        ))
    print(f"{len(redraws[0][0])} labels, {len(redraws[0][1])} new, {len(rows)} draws, {fits} of them fitted")
    for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        found = [x for x in column if x is not None]
        print(f"    {name:<28}{statistics.mean(found) if found else math.nan:.3f}")
    return whole


def fit(known: Sequence[Labelled], raw: str) -> FittedArtefact:
    return fit_confidence(
        [one.features for one in known], [one.right for one in known], tags=[one.tags for one in known], raw=raw
    )


def order(scores: Sequence[float | None], right: Sequence[bool]) -> float:
    return auroc([float("-inf") if s is None else s for s in scores], right) or float("nan")


def accepted(
    known: Sequence[Labelled], new: Sequence[Labelled], fitted: FittedConfidence | None, raw: str = ""
) -> tuple[float, float]:
    """(the share of new drafts accepted at the certified threshold, the regret there)."""
    def score(one: Labelled) -> float | None:
        return fitted.of(one.features, one.tags) if fitted else one.features.get(raw)

    records = [Record(math.nan if (s := score(one)) is None else s, one.right) for one in known]
    threshold = certify(records, max_regret=MAX_REGRET).threshold
    taken = [one for one in new if threshold is not None and (s := score(one)) is not None and s >= threshold]
    return len(taken) / len(new), sum(not one.right for one in taken) / len(new)


def synthetic(n: int, seed: int) -> list[Labelled]:
    made = drafts(n, seed)
    return [Labelled(*row) for row in zip(made.features, made.right, made.tags, strict=True)]


def read(path: Path) -> Iterator[Labelled]:
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Labelled(row["features"], row["right"], row.get("tags", {}))


async def order_lines() -> tuple[list[Labelled], list[Labelled]]:
    """The example's own drafter on its labelled lines: 600 to fit and certify on, 1,000 new."""
    from sqlalchemy import text

    from orchestrator import Pipeline, Task
    from orchestrator.config.loader import load_pipeline
    from orchestrator.store.engine import Store

    loaded = load_pipeline(ROOT / "pipelines" / "order_lines" / "pipeline.yaml")
    names = loaded.steps[0].features
    query = text("select run_id, features_json from step")
    found: dict[str, list[Labelled]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite:///{folder}/ledger.db")
        for name in ("calibration", "held_out"):
            lines = (ROOT / "examples" / "order_lines" / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
            tasks = [Task(**json.loads(line)) for line in lines.splitlines()]
            async with Pipeline(loaded, store=store, mode="cascade", calibrating=True) as pipeline:
                drafted = [one async for one in pipeline.collect(tasks)]
            with store.read() as connection:
                kept = {row.run_id: row.features_json for row in connection.execute(query)}
            found[name] = [
                Labelled(features_from_json(kept[one.run_id], names), bool(one.draft_ok), {})
                for one in sorted(drafted, key=lambda one: str(one.task.id))
            ]
        await store.aclose()
    return found["calibration"], found["held_out"]


if __name__ == "__main__":
    main()
