"""The work folder: where everything the benchmark makes lies, and the commands that are run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

from orchestrator.models import vllm_command

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROLES = ("drafter", "validator")
GIVEN = ("pipeline.yaml", "policy.yaml", "prices.yaml", "prompt.md", "task.json")
MADE = ("models", "runs", "tasks", "output.json", "certificate.json", "records.jsonl", "table.txt")


@dataclass(frozen=True, slots=True)
class Place:
    """`folder` holds the pipeline and all that is made; `environment` is that of the commands; `took` is how long each
    part took, in seconds."""

    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    took: dict[str, float] = field(default_factory=dict)

    @property
    def pipeline(self) -> Path:
        return self.folder / "pipeline.yaml"

    @property
    def endpoints(self) -> Path:
        return self.folder / "endpoints.json"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.json"

    def model(self, role: str) -> Path:
        return self.folder / "models" / role

    def tasks(self, name: str) -> Path:
        return self.folder / "tasks" / f"{name}.jsonl"

    def outcomes(self, name: str) -> Path:
        return self.folder / "runs" / f"{name}.jsonl"

    def store(self, name: str) -> str:
        return f"sqlite:///{self.folder / 'runs' / f'{name}.db'}"

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """What is done inside is named so in the table of times."""
        began = time.perf_counter()
        yield
        self.took[part] = self.took.get(part, 0.0) + time.perf_counter() - began

    def orchestrator(self, *words: str | Path) -> str:
        """Run `orchestrator WORDS` in the work folder; what it printed. It ends the benchmark where it fails."""
        return self._run(["orchestrator", *map(str, words)], [sys.executable, "-m", "orchestrator"], self.folder)

    def train(self, dataset: str, role: str, data: Path) -> None:
        """Run the training under the Python that has vLLM, and with it torch; what it prints goes to stderr."""
        words = ["benchmarks.intents.train", dataset, role, str(data), str(self.model(role))]
        self._run(words, [self.environment[vllm_command.PYTHON_VARIABLE], "-m", words[0]], ROOT, show=True)

    def new_endpoints(self) -> None:
        """A free port for each server, under the variables that pipeline.yaml names; the next run finds them here."""
        with ExitStack() as stack:
            sockets = {role: stack.enter_context(socket()) for role in ROLES}
            for one in sockets.values():
                one.bind(("127.0.0.1", 0))
            urls = {variable(role): f"http://127.0.0.1:{one.getsockname()[1]}/v1" for role, one in sockets.items()}
        self.endpoints.write_text(json.dumps(urls), encoding="utf-8")
        self.environment.update(urls)

    def _run(self, words: Sequence[str], program: Sequence[str], cwd: Path, *, show: bool = False) -> str:
        print(f"$ {' '.join(words)}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [*program, *words[1:]], cwd=cwd, env=self.environment, stdout=sys.stderr if show else subprocess.PIPE,
            text=True, check=False,
        )
        if done.returncode:
            sys.exit(f"`{' '.join(words)}` ended with {done.returncode}\n{done.stdout or ''}")
        return done.stdout or ""


def variable(role: str) -> str:
    return f"INTENTS_{role.upper()}"


def prepared(folder: Path, *, resume: bool) -> Place:
    """The work folder with the pipeline in it. Without `resume`, what an earlier run made there is removed first; its
    servers' addresses are kept, so that those it left running can be stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        for name in MADE:
            _remove(folder / name)
    for name in ("models", "runs", "tasks"):
        (folder / name).mkdir(exist_ok=True)
    for name in GIVEN:
        shutil.copyfile(HERE / name, folder / name)
    place = Place(folder)
    if place.endpoints.exists():
        place.environment.update(json.loads(place.endpoints.read_text(encoding="utf-8")))
    else:
        place.new_endpoints()
    place.environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    place.environment.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other on two cores
    place.environment[vllm_command.PYTHON_VARIABLE] = str(vllm_command.vllm_python().absolute())
    place.environment["ORCHESTRATOR_STATE_DIR"] = str(folder / "servers")
    place.environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return place


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
