"""Kills file runs with SIGKILL at random moments and accounts for every request the provider saw.

`python -m tests.kill_harness --kills 50 --tasks 2000` prints the account. Children are forked from a process that
has everything imported, so that most of each short life is spent running tasks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.pipelines import POLICY, write_pipeline, write_tasks

LATENCY_MS = 4
SIBLINGS = """SELECT count(*) FROM call WHERE state = 'unsettled' AND run_id IN
    (SELECT run_id FROM run WHERE owner_id IN (SELECT owner_id FROM owner WHERE pid <> ?))"""
ASKED = "SELECT count(*) FROM call WHERE owner_id IN (SELECT owner_id FROM owner WHERE pid = ?)"
IN_FLIGHT = f"{ASKED} AND state = 'intent'"
UNDER_WAY, DEEP = 1500, 20_000
"""Bytes of the provider's log: that say a run is past its probes and asking for drafts; and within which it is killed
(100 requests or so), however fast the machine is."""
CHECKED = {"name": "checked", "when": 'task.input.text.endsWith("7")', "then": "escalate"}


@dataclass(frozen=True)
class Account:
    """What is left when all is done; `missing`, `repeated` and `open_calls` must be empty or 0."""

    kills: int
    outcomes: int
    written: int
    requests_seen: int
    calls_recorded: int
    unsettled: int
    missing: list[str]
    repeated: int
    open_calls: int
    siblings_unsettled: int = 0


class Provider:
    """The loopback server as a process of its own, with its own log of what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "provider.log"
        port_file = folder / "port"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.loopback", "--port-file", str(port_file), "--log", str(self.log),
             "--latency-ms", str(LATENCY_MS), "--models", "drafter,validator", "--seconds", "3600"],
        )
        while not port_file.exists() or not port_file.read_text().strip():
            if self._process.poll() is not None:
                raise RuntimeError("the loopback server did not start")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}/v1"

    def seen(self) -> list[str]:
        written = self.log.read_text().splitlines(keepends=True)  # the last one may be half written
        lines = [json.loads(line) for line in written if line.endswith("\n")]
        return [line["id"] for line in lines if line["path"].endswith("chat/completions")]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def kill_and_resume(folder: Path, *, kills: int, tasks: int, seed: int = 0) -> Account:
    """Run one file, killed `kills` times, then to its end."""
    provider = Provider(folder)
    try:
        pipeline = _pipeline(folder, provider.url)
        file = write_tasks(folder / "tasks.jsonl", tasks)
        draw = random.Random(seed)
        for number in range(kills):
            before = provider.log.stat().st_size
            kill_under_way(_fork(pipeline, file, folder), folder, provider, before, draw, in_flight=number == 0)
        _finish(_fork(pipeline, file, folder))
        return _account(folder, provider, kills, [folder / "tasks.out.jsonl"])
    finally:
        provider.stop()


def kill_one_of_four(folder: Path, *, tasks: int) -> Account:
    """Four processes on one store, each with its own file; one is killed under load, then run again."""
    provider = Provider(folder)
    try:
        pipeline = _pipeline(folder, provider.url)
        files = []
        for worker in range(4):
            lines = [json.dumps({"id": f"w{worker}-{i}", "input": {"text": f"text {worker} {i}"}})
                     for i in range(tasks)]
            files.append(folder / f"part{worker}.jsonl")
            files[-1].write_text("\n".join(lines) + "\n")
        children = {_fork(pipeline, file, folder): file for file in files}
        while not provider.seen() or not all(_count(folder, ASKED, child) for child in children):
            time.sleep(0.002)
        while not (held := next((child for child in children if _held_in_flight(child, folder)), 0)):
            if all(map(_has_ended, children)):
                raise RuntimeError("all runs ended before one could be killed: give more tasks")
        _kill(held)
        for child in children.keys() - {held}:
            _finish(child)
        touched = _count(folder, SIBLINGS, held)
        _finish(_fork(pipeline, children[held], folder))
        account = _account(folder, provider, 1, [file.with_suffix(".out.jsonl") for file in files])
        return Account(**{**asdict(account), "siblings_unsettled": touched})
    finally:
        provider.stop()


def kill_under_way(
    child: int, folder: Path, provider: Provider, before: int, draw: random.Random, *, in_flight: bool
) -> None:
    """Kill the run once the provider's log has grown from `before` bytes by so many; `in_flight`: at a moment when it
    has calls in flight for sure."""
    depth = before + draw.randint(UNDER_WAY, DEEP)
    while provider.log.stat().st_size < depth and not _has_ended(child):
        time.sleep(0.002)
    time.sleep(draw.uniform(0.0, 0.01))
    while in_flight and not _held_in_flight(child, folder) and not _has_ended(child):
        time.sleep(0.002)
    _kill(child)


def _held_in_flight(child: int, folder: Path) -> bool:
    """Hold the process still; False where it has no call in flight then: it goes on."""
    os.kill(child, signal.SIGSTOP)
    stopped = os.waitid(os.P_PID, child, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    if stopped and stopped.si_code == os.CLD_STOPPED and _count(folder, IN_FLIGHT, child):
        return True
    os.kill(child, signal.SIGCONT)
    return False


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the run ended before it could be killed: give more tasks")


def _pipeline(folder: Path, url: str) -> Path:
    model = {"endpoints": [url], "retries": 3}
    policy = {**POLICY, "after": [CHECKED, *POLICY["after"]]}
    return write_pipeline(folder / "pipeline", drafter=model, validator=model, policy=policy,
                          step={"confidence": {"from": "logprob.mean", "threshold": -1e9}}, cache={"ttl": "1d"})


def _fork(pipeline: Path, file: Path, folder: Path) -> int:
    """A child that runs the file and exits with the run's own code."""
    from orchestrator.batch import RunOptions, run_file

    child = os.fork()
    if child:
        return child
    code = 70
    try:
        summary = run_file(RunOptions(
            pipeline=pipeline, tasks=file, out=file.with_suffix(".out.jsonl"), store=f"sqlite:///{folder}/store.db",
            concurrency=32, yes=True,
        ))
        code = summary.exit_code
    except BaseException:  # noqa: BLE001 - a forked child must never return into the harness
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"a run to the end exited with {os.waitstatus_to_exitcode(status)}")


def _account(folder: Path, provider: Provider, kills: int, outs: list[Path]) -> Account:
    ids = [json.loads(line)["id"] for out in outs for line in out.read_text().splitlines()]
    seen = provider.seen()
    recorded = {row[0] for row in _rows(folder, "SELECT call_id FROM call")}
    return Account(
        kills=kills, outcomes=_count(folder, "SELECT count(*) FROM outcome"), written=len(set(ids)),
        requests_seen=len(seen), calls_recorded=len(recorded),
        unsettled=_count(folder, "SELECT count(*) FROM call WHERE state = 'unsettled'"),
        missing=sorted(set(seen) - recorded) + [i for i in set(ids) if ids.count(i) > 1][:5],
        repeated=_count(folder, "SELECT count(*) FROM (SELECT 1 FROM call WHERE state = 'settled' AND error IS NULL "
                                "GROUP BY run_id, request_key HAVING count(*) > 1)"),
        open_calls=_count(folder, "SELECT count(*) FROM call WHERE state = 'intent'"),
    )


def _rows(folder: Path, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(folder / "store.db")
    try:
        return connection.execute(query, arguments).fetchall()
    finally:
        connection.close()


def _count(folder: Path, query: str, *arguments: Any) -> int:
    return int(_rows(folder, query, *arguments)[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--workers", action="store_true", help="four processes on one store, one killed")
    asked = parser.parse_args()
    import orchestrator.batch
    import orchestrator.graph  # noqa: F401 - imported before the forks, so that children start at once

    with tempfile.TemporaryDirectory() as folder:
        if asked.workers:
            account = kill_one_of_four(Path(folder), tasks=asked.tasks)
        else:
            account = kill_and_resume(Path(folder), kills=asked.kills, tasks=asked.tasks)
    print(json.dumps(asdict(account)))


if __name__ == "__main__":
    main()
