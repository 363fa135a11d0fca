"""Kills a run that does tasks again, with SIGKILL at random moments, and accounts for what became of each task.

`python -m tests.again_harness --kills 50 --tasks 4000` prints the account. Every task is first handed off for want of
money, its draft paid. The cache is off: what is used again is the earlier run's own draft.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.kill_harness import Provider, _count, _finish, _rows, kill_under_way
from tests.pipelines import POLICY, write_pipeline, write_tasks

ESCALATE = {**POLICY, "otherwise": "escalate"}
DRAFTED_AGAIN = """SELECT count(*) FROM (SELECT 1 FROM call WHERE role = 'draft' AND state = 'settled' AND error IS NULL
    GROUP BY request_key HAVING count(*) > 1)"""
TWICE = """SELECT count(*) FROM (SELECT 1 FROM outcome JOIN run USING (run_id) WHERE success
    GROUP BY substr(task_key, 1, 35) HAVING count(*) > 1)"""


@dataclass(frozen=True)
class Account:
    """What is left when all is done: of all but `kills`, `lines`, `done_again` and `unsettled`, nothing."""

    kills: int
    lines: int
    done_again: int
    unsettled: int
    lines_of_a_task: int
    undone: int
    open_handoffs: int
    drafted_again: int
    successes_twice: int
    open_runs: int
    missing: int


def kill_and_do_again(folder: Path, *, kills: int, tasks: int, seed: int = 0) -> Account:
    """Hand all tasks off, then do them again, killed `kills` times, to the end."""
    provider = Provider(folder)
    try:
        file = write_tasks(folder / "tasks.jsonl", tasks)
        _finish(_fork(_pipeline(folder, provider.url, "0.001 USD"), file, folder))
        rich = _pipeline(folder, provider.url, "1 USD")
        draw = random.Random(seed)
        for number in range(kills):
            before = provider.log.stat().st_size
            child = _fork(rich, file, folder, "budget")
            kill_under_way(child, folder, provider, before, draw, in_flight=number == 0)
        _finish(_fork(rich, file, folder, "budget"))
        return _account(folder, provider, kills)
    finally:
        provider.stop()


def _pipeline(folder: Path, url: str, per_task: str) -> Path:
    model = {"endpoints": [url], "retries": 3}
    return write_pipeline(folder / "pipeline", drafter=model, validator=model, policy=ESCALATE,
                          budget={"per_task": per_task})


def _fork(pipeline: Path, file: Path, folder: Path, *again: str) -> int:
    """A child that runs the file and exits with the run's own code."""
    from orchestrator.batch import RunOptions, run_file

    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = run_file(RunOptions(
            pipeline=pipeline, tasks=file, out=folder / "out.jsonl", handed_off=folder / "people.jsonl", yes=True,
            store=f"sqlite:///{folder}/store.db", concurrency=32, again=again,  # type: ignore[arg-type]
        )).exit_code
    except BaseException:  # noqa: BLE001 - a forked child must never return into the harness
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _account(folder: Path, provider: Provider, kills: int) -> Account:
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    waiting = (folder / "people.jsonl").read_text().splitlines()
    recorded = {row[0] for row in _rows(folder, "SELECT call_id FROM call")}
    return Account(
        kills=kills, lines=len(lines), done_again=_count(folder, "SELECT count(*) FROM run WHERE again_of IS NOT NULL"),
        unsettled=_count(folder, "SELECT count(*) FROM call WHERE state = 'unsettled'"),
        lines_of_a_task=sum(n > 1 for n in Counter(line["id"] for line in lines).values()),
        undone=len(waiting) + sum(line["status"] == "handed_off" for line in lines),
        open_handoffs=_count(folder, "SELECT count(*) FROM hand_off WHERE resolved_at IS NULL"),
        drafted_again=_count(folder, DRAFTED_AGAIN), successes_twice=_count(folder, TWICE),
        open_runs=_count(folder, "SELECT count(*) FROM run WHERE NOT done"),
        missing=len(set(provider.seen()) - recorded),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=4000)
    asked = parser.parse_args()
    import orchestrator.batch
    import orchestrator.graph  # noqa: F401 - imported before the forks, so that children start at once

    with tempfile.TemporaryDirectory() as folder:
        account = kill_and_do_again(Path(folder), kills=asked.kills, tasks=asked.tasks)
    print(json.dumps(asdict(account)))


if __name__ == "__main__":
    main()
