"""A cascade on real text: train two tiny models, serve both by a real vLLM, certify on one half, measure on the other.

    python -m benchmarks.DATASET FOLDER_OF_THE_DATA [--work FOLDER] [--resume]

DATASET is banking77 or clinc150. Needs vLLM (`bash .ci/vllm.sh`) and two cores; about a quarter of an hour. Prints a
table, and writes records.jsonl (one line a test task) into the work folder, for other benchmarks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.intents import data, results, table
from benchmarks.intents.data import Dataset
from benchmarks.intents.place import ROLES, ROOT, Place, prepared
from orchestrator.models import vllm_command

MAX_REGRET, CONFIDENCE = 0.03, 0.90
TRAINED = "model.safetensors"


def main(dataset: Dataset) -> None:
    args = _arguments(dataset)
    began = time.perf_counter()
    place = prepared(args.work.resolve(), resume=args.resume)
    for role in ROLES:
        train(dataset, place, role, args.data)
    write_tasks(dataset, place, args.data)
    with served(place):
        calibrate(place, args.max_regret)
        run_all(place)
    found = results.read(place)
    results.write_records(place, found)
    text = table.rendered(dataset.name, place, found, seconds=time.perf_counter() - began)
    (place.folder / "table.txt").write_text(text, encoding="utf-8")
    print(text, end="")


def train(dataset: Dataset, place: Place, role: str, folder: Path) -> None:
    """Train a model, unless an earlier run did."""
    if not (place.model(role) / TRAINED).exists():
        with place.timed(f"train the {role}"):
            place.train(dataset.name, role, folder)


def write_tasks(dataset: Dataset, place: Place, folder: Path) -> None:
    """The two halves of the test questions, and both together; the intents as the schema of an answer."""
    questions = dataset.read(folder, "test")
    halves = dict(zip(("certify", "measure"), data.halves(questions), strict=True))
    for part, half in halves.items():
        data.write_tasks(place.tasks(part), half, part)
    whole = "".join(place.tasks(part).read_text(encoding="utf-8") for part in halves)
    place.tasks("all").write_text(whole, encoding="utf-8")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"intent": {"type": "string", "enum": data.intents(questions)}},
        "required": ["intent"], "additionalProperties": False,
    }
    (place.folder / "output.json").write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")


@contextmanager
def served(place: Place) -> Iterator[None]:
    """Both models, each by a vLLM of its own, started at the same time. What a killed run left running is stopped."""
    _stop(place)
    place.new_endpoints()
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        stack.callback(_stop, place)
        with place.timed("start both servers"):
            up = [pool.submit(place.orchestrator, "drafter", "up", "pipeline.yaml", "--model", r) for r in ROLES]
            for one in up:
                one.result()
        yield


def calibrate(place: Place, max_regret: float) -> None:
    """Certify on one half, by the labels, with the validator measured as well."""
    with place.timed("calibrate"):
        said = place.orchestrator(
            "calibrate", "pipeline.yaml", "--labels", "tasks/certify.jsonl", "--validate",
            "--max-regret", f"{max_regret}", "--confidence", f"{CONFIDENCE}", "--store", place.store("calibrate"),
        )
    print(said, flush=True)


def run_all(place: Place) -> None:
    """The cascade on the other half; the drafter alone and the validator alone on both. A store each: an answer out of
    the cache would cost nothing."""
    for mode, tasks in (("draft_only", "all"), ("validate_only", "all"), ("cascade", "measure")):
        with place.timed(f"run, {mode}"):
            place.orchestrator(
                "run", "pipeline.yaml", f"tasks/{tasks}.jsonl", "--mode", mode, "--out", f"runs/{mode}.jsonl",
                "--store", place.store(mode), "--yes", "--json",
            )


def _stop(place: Place) -> None:
    for role in ROLES:
        place.orchestrator("drafter", "down", "pipeline.yaml", "--model", role)


def _arguments(dataset: Dataset) -> argparse.Namespace:
    files = " and ".join(dataset.files)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{dataset.name}", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, help=f"the folder of {files}")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / dataset.name, help="where models and outputs go")
    parser.add_argument("--resume", action="store_true", help="go on with what the work folder holds")
    parser.add_argument("--max-regret", type=float, default=MAX_REGRET)
    args = parser.parse_args()
    args.data = args.data.resolve()
    if missing := [name for name in dataset.files if not (args.data / name).is_file()]:
        parser.error(f"{str(args.data)!r} has no {missing[0]}: name the folder of {dataset.name}'s {files}")
    if not vllm_command.installed(vllm_command.vllm_python()):
        parser.error(f"no vLLM in {str(vllm_command.vllm_python())!r}: `bash .ci/vllm.sh` installs one")
    return args
