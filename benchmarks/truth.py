"""Does the ledger tell what the provider bills? `python -m benchmarks.truth --calls 10000`

A provider of its own process, book and arithmetic (truth_provider.py) serves our real clients: OpenAI's chat, whole
and streamed, and Anthropic's messages through LiteLLM; cached and reasoning tokens, cache writes of two lives, batch,
flex and priority tiers, prompts above a limit; 429s and 500s that are retried, streams cut short, connections closed,
answers without usage, broken or empty answers, time-outs, cancelled tasks, and runs killed by SIGKILL and resumed.

Then its log is laid beside the ledger, call by call. Every billed request must have its row; every `priced` row must
cost what the provider billed; what is not priced must be listed as `estimated` or `unsettled`, and the provider's
bill for these must make up the rest of its total, each below the row's upper bound. Exit code 1 otherwise.
Longer than 300 lines because load and comparison are one story, and are read as one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

BOOK = """\
book: truth-1
prices:
  - model: drafter
    per_million: {input: "0.15", output: "0.60", cache_read: "0.0375", cache_write: "0.1875"}
    tiers:
      flex: {input: "0.075", output: "0.30", cache_read: "0.01875", cache_write: "0.09375"}
      batch: {input: "0.075", output: "0.30", cache_read: "0.01875", cache_write: "0.09375"}
      priority: {input: "0.2625", output: "1.05", cache_read: "0.065625", cache_write: "0.328125"}
    above:
      - prompt_tokens: 400
        per_million: {input: "0.30", output: "0.90", cache_read: "0.075", cache_write: "0.375"}
        tiers:
          flex: {input: "0.15", output: "0.45", cache_read: "0.0375", cache_write: "0.1875"}
          batch: {input: "0.15", output: "0.45", cache_read: "0.0375", cache_write: "0.1875"}
          priority: {input: "0.525", output: "1.575", cache_read: "0.13125", cache_write: "0.65625"}
  - model: streamer
    per_million: {input: "0.04", output: "0.163333"}
  - model: anthropic/claude-judge
    per_million: {input: 3, output: 15, cache_read: "0.30", cache_write: "3.75", cache_write_1h: 6}
    tiers:
      batch: {input: "1.5", output: "7.5", cache_read: "0.15", cache_write: "1.875", cache_write_1h: 3}
    above:
      - prompt_tokens: 400
        per_million: {input: 6, output: "22.5", cache_read: "0.60", cache_write: "7.5", cache_write_1h: 12}
        tiers:
          batch: {input: 3, output: "11.25", cache_read: "0.30", cache_write: "3.75", cache_write_1h: 6}
aliases: {claude-judge: anthropic/claude-judge}
"""
PIPELINE = """\
pipeline: %(name)s
models:
  drafter:
    %(drafter)s
    endpoints: [%(url)s/v1]
    location: local
    max_tokens: 64
    retries: 4
    timeout: 1s
  validator:
    use: litellm:anthropic/claude-judge
    endpoints: [%(url)s]
    location: remote
    api_key: ${TRUTH_KEY}
    max_tokens: 64
    retries: 4
    timeout: 5s
steps:
  - id: label
    prompt: prompt.md
    output: output.json
    draft: {model: drafter}
    signals: [schema]
    policy: policy.yaml
    validate: {model: validator, mode: redo}
prices: prices.yaml
"""
DRAFTERS = {
    "whole": "use: openai:drafter\n    extra_body: {service_tier: priority}",
    "streamed": "use: openai:drafter\n    stream: true\n    extra_body: {service_tier: priority}",
    "local": "use: vllm:streamer\n    stream: true",
}
POLICY = """\
policy: truth
after:
  - {name: broken, when: "!signals.schema.ok && attempt < 2", then: redraft}
  - {name: checked, when: 'task.input.text.endsWith("7")', then: escalate}
otherwise: accept
"""
OUTPUT = """{"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"],
 "additionalProperties": false}"""
PROMPT = "---\nsystem: Label the text.\n---\n{{ task.input.text }}\n"
CONCURRENCY = 64
ROW = """SELECT c.call_id, c.state, coalesce(c.provenance, ''), c.cost_nano, c.bound_nano, c.response_id, c.pipeline,
         c.role, c.error FROM call c"""


@dataclass
class Account:
    """The provider's log beside the ledger; `faults` must stay empty. Money in billionths."""

    requests: int = 0
    billed: int = 0
    ledger: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    provider: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    listed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kills: int = 0
    cancelled: int = 0
    reported: int | None = None


def reconcile(store: Path, log: Path) -> Account:
    """Joined on the call's id, which every request carried in `X-Client-Request-Id`."""
    account = Account()
    bills = {line["id"]: line for line in map(json.loads, log.read_text().splitlines())}
    account.requests, account.billed = len(bills), sum(line["nano"] for line in bills.values())
    account.fates.update(line["fate"] for line in bills.values())
    if len(bills) != len(log.read_text().splitlines()):
        account.faults.append("the provider saw one call id twice")
    connection = sqlite3.connect(store)
    rows = connection.execute(ROW).fetchall()
    connection.close()
    for call_id, state, provenance, cost, bound, response, pipeline, role, error in rows:
        bill = bills.pop(call_id, None)
        nano = bill["nano"] if bill else 0
        kind = provenance if state == "settled" else state
        account.rows[kind] += 1
        account.ledger[kind] += cost or 0
        account.provider[kind] += nano
        if kind == "priced" and cost != nano:
            account.faults.append(f"{call_id}: the provider billed {nano}, the ledger says {cost}")
        if response and bill and response != bill["response"]:
            account.faults.append(f"{call_id}: response {bill['response']}, the ledger says {response}")
        if kind not in ("priced", "estimated", "unsettled"):
            account.faults.append(f"{call_id}: {kind}")
        if nano > (bound or 0):
            account.faults.append(f"{call_id}: billed {nano}, above its bound {bound}")
        if kind in ("estimated", "unsettled"):
            shown = "unknown" if cost is None else f"{cost * 1e-9:.9f}"
            account.listed.append(f"{kind:9} {call_id} {pipeline} {role}: ledger {shown}, at most "
                                  f"{(bound or 0) * 1e-9:.9f}, billed {nano * 1e-9:.9f} ({error or 'no usage told'})")
    account.faults += [f"{call_id}: billed {bill['nano']} and in no row" for call_id, bill in bills.items()]
    if account.billed != account.ledger["priced"] + account.provider["estimated"] + account.provider["unsettled"]:
        account.faults.append("the provider's total is not the sum of what is priced and what is listed apart")
    return account


def reported(store: Path) -> int:
    """The total that reports say, through their own way in."""
    from sqlalchemy import create_engine

    from orchestrator.finance.charges import read_charges
    from orchestrator.finance.period import Period

    engine = create_engine(f"sqlite:///{store}")
    with engine.connect() as connection:
        charges = read_charges(connection, period=Period(), grain="period")
        found = sum(one.cost.nano for one in charges if one.cost is not None)
    engine.dispose()
    return found


class Provider:
    """The provider's process."""

    def __init__(self, folder: Path) -> None:
        self.log, port = folder / "provider.log", folder / "port"
        self.log.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.truth_provider", "--log", str(self.log), "--port-file", str(port)],
            cwd=Path(__file__).parent.parent,
        )
        while not port.exists():
            if self._process.poll() is not None:
                raise RuntimeError("the provider did not start")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port.read_text()}"

    def requests(self) -> int:
        return self.log.read_bytes().count(b"\n")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def run(folder: Path, *, calls: int, kills: int, cancel: int, seed: int = 0) -> Account:
    """At least `calls` calls: file runs, `kills` of them killed and resumed, then `cancel` tasks given up midway."""
    import orchestrator.batch
    import orchestrator.graph  # noqa: F401 - imported before the forks, so that children start at once
    from orchestrator.models.frontier import load

    load()
    os.environ["TRUTH_KEY"] = "none-needed"  # LiteLLM asks for one
    provider = Provider(folder)
    try:
        draw = random.Random(seed)
        killed = 0
        share = {"whole": 0.4, "streamed": 0.4, "local": 0.2}
        for name, drafter in DRAFTERS.items():
            pipeline = _write(folder / name, name, drafter, provider.url)
            tasks = _tasks(folder / f"{name}.jsonl", name, max(8, int(calls * share[name] / 1.2)), draw)
            for _ in range(kills // len(DRAFTERS)):
                killed += _kill_midway(_fork(pipeline, tasks, folder), provider, draw)
            while os.waitstatus_to_exitcode(os.waitpid(_fork(pipeline, tasks, folder), 0)[1]) == 3:
                pass  # exit code 3, an outage: the same command resumes
        more = max(0, calls - provider.requests() - cancel)
        if more:
            _write_and_run(folder, provider.url, more, draw)
        given_up = asyncio.run(_cancelled(folder / "whole" / "pipeline.yaml", folder, cancel))
    finally:
        provider.stop()
    account = reconcile(folder / "store.db", provider.log)
    account.kills, account.cancelled = killed, given_up
    account.reported = reported(folder / "store.db")
    if account.reported != account.ledger["priced"] + account.ledger["estimated"]:
        account.faults.append(f"reports say {account.reported}, the rows {sum(account.ledger.values())}")
    return account


def _write_and_run(folder: Path, url: str, calls: int, draw: random.Random) -> None:
    tasks = _tasks(folder / "more.jsonl", "more", calls, draw)
    pipeline = _write(folder / "more", "more", DRAFTERS["whole"], url)
    os.waitpid(_fork(pipeline, tasks, folder), 0)


async def _cancelled(pipeline: Path, folder: Path, count: int) -> int:
    """Tasks whose draft never comes, given up while it is awaited."""
    from orchestrator.pipeline import Pipeline

    async def one(i: int) -> bool:
        try:
            async with asyncio.timeout(0.3):
                await loaded.arun({"id": f"stall-{i}", "input": {"text": f"stall {i}"}})
        except TimeoutError:
            return True
        return False

    async with Pipeline.load(pipeline, store=f"sqlite:///{folder}/store.db") as loaded:
        return sum(await asyncio.gather(*map(one, range(count))))


def _kill_midway(child: int, provider: Provider, draw: random.Random) -> bool:
    """SIGKILL while requests are under way. False: the run had ended by itself."""
    before = provider.requests()
    while provider.requests() < before + 40:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.005)
    time.sleep(draw.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _fork(pipeline: Path, tasks: Path, folder: Path) -> int:
    from orchestrator.batch import RunOptions, run_file
    from orchestrator.errors import OrchestratorError

    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = run_file(RunOptions(
            pipeline=pipeline, tasks=tasks, out=tasks.with_suffix(".out.jsonl"), store=f"sqlite:///{folder}/store.db",
            concurrency=CONCURRENCY, yes=True,
        )).exit_code
    except OrchestratorError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    finally:
        os._exit(code)


def _write(folder: Path, name: str, drafter: str, url: str) -> Path:
    folder.mkdir()
    for file, text in (
        ("prices.yaml", BOOK), ("policy.yaml", POLICY), ("output.json", OUTPUT), ("prompt.md", PROMPT),
        ("pipeline.yaml", PIPELINE % {"name": name, "drafter": drafter, "url": url}),
    ):
        (folder / file).write_text(text)
    return folder / "pipeline.yaml"


def _tasks(path: Path, name: str, count: int, draw: random.Random) -> Path:
    texts = (f"{'word ' * draw.choice((3, 20, 60, 400))}{name} {i}" for i in range(count))
    lines = [json.dumps({"id": f"{name}-{i}", "input": {"text": text}}) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n")
    return path


def show(account: Account) -> str:
    """A table of the account."""
    def units(nano: int) -> str:
        return f"{nano // 10**9}.{nano % 10**9:09}"

    fates = ", ".join(f"{fate} {n:,}" for fate, n in account.fates.most_common())
    lines = [
        f"the provider saw {account.requests:,} requests and billed {units(account.billed)} USD",
        f"  ({fates}; {account.kills} runs killed, {account.cancelled} tasks cancelled)",
        "", f"{'rows':10} {'calls':>7} {'ledger, USD':>16} {'provider, USD':>16}",
    ]
    for kind in sorted(account.rows):
        lines.append(f"{kind:10} {account.rows[kind]:7,} {units(account.ledger[kind]):>16} "
                     f"{units(account.provider[kind]):>16}")
    lines += [
        f"{'total':10} {sum(account.rows.values()):7,} {units(sum(account.ledger.values())):>16} "
        f"{units(sum(account.provider.values())):>16}",
        "", f"reports say {units(account.reported or 0)} USD",
        f"difference in priced rows: {units(abs(account.ledger['priced'] - account.provider['priced']))} USD",
    ]
    lines += [f"FAULT {fault}" for fault in account.faults[:20]]
    return "\n".join([*lines, "FAILED" if account.faults else "every bill is in the ledger"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--cancel", type=int, default=200)
    parser.add_argument("--list", type=Path, help="write the estimated and unsettled rows to this file")
    asked = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        account = run(Path(folder), calls=asked.calls, kills=asked.kills, cancel=asked.cancel)
    print(show(account))
    print(f"in {time.perf_counter() - started:.0f} s")
    if asked.list:
        asked.list.write_text("\n".join(account.listed) + "\n")
        print(f"{len(account.listed):,} estimated and unsettled rows are listed in {asked.list}")
    return 1 if account.faults else 0


if __name__ == "__main__":
    sys.exit(main())
