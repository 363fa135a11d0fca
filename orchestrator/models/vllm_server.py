"""A local vLLM: started, remembered, waited for, stopped.

`up` starts it in a session of its own, so that it outlives the shell; what it is stands in a state folder, so that
`status` and `down` find it from another shell. **A process is ours only while its id and start time are those
remembered**: an id that the system gave to somebody else since is never signalled.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ConfigError, InputError, ServerFailed
from orchestrator.models.processes import started_at, stop_group
from orchestrator.models.vllm_command import PYTHON_VARIABLE, Address, Serving, address, serving, vllm_python

STATE_VARIABLE = "ORCHESTRATOR_STATE_DIR"
LOG_LINES = 30
_POLL_S = 0.5
_SAY_EVERY_S = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What is remembered of a server that was started here. `started` tells its process from a later one of that id."""

    pid: int
    started: str
    url: str
    model: str
    argv: tuple[str, ...]
    log: str
    since: float

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """`state`: `running` (healthy), `starting` (alive, not healthy yet), `stopped`, or `elsewhere` (something answers
    at the endpoint that was not started here)."""

    state: Literal["running", "starting", "stopped", "elsewhere"]
    url: str
    model: str
    server: ServerState | None = None


def up(
    config: ModelConfig, *, base: Path, state_dir: Path | None = None, wait_s: float = 900.0, print_only: bool = False,
    say: Say | None = None,
) -> ServerState | None:
    """Start vLLM for `config` and wait until it is healthy; a healthy one of ours with the same command is kept.

    `base` is the pipeline file's folder. `print_only` writes the command to stdout, starts nothing and returns None.
    Raises ConfigError (no vLLM, an endpoint that is not here), InputError (port taken), ServerFailed with the end of
    the log (exit code 3) where it dies or is not healthy within `wait_s`.
    """
    plan = serving(config, base=base)
    if print_only:
        print(plan.shell())
        return None
    say = say or _to_stderr
    place = _place(state_dir, plan.address)
    known = _remembered(place)
    if known is not None and known.alive:
        if known.argv != plan.argv:
            raise InputError(
                f"process {known.pid} already serves {known.model!r} at {known.url} with other options",
                hint="orchestrator drafter down PIPELINE, then up again",
            )
        say(f"already started (process {known.pid})")
    else:
        known = _start(plan, place, api_key=config.api_key)
        say(f"starting {plan.model} at {plan.address.url} (process {known.pid}); log: {known.log}")
    _wait(known, plan.address, wait_s, say)
    return known


def status(config: ModelConfig, *, state_dir: Path | None = None) -> ServerStatus:
    """Whether the model's server runs, and whether it was started here."""
    at = address(config)
    known = _remembered(_place(state_dir, at))
    ours = known is not None and known.alive
    healthy = _healthy(at)
    state: Literal["running", "starting", "stopped", "elsewhere"]
    state = ("running" if healthy else "starting") if ours else ("elsewhere" if healthy else "stopped")
    return ServerStatus(state=state, url=at.url, model=config.target, server=known if ours else None)


def down(config: ModelConfig, *, state_dir: Path | None = None, grace_s: float = 20.0) -> bool:
    """Stop the server started here: SIGTERM to its group, SIGKILL after `grace_s`. False where none ran."""
    place = _place(state_dir, address(config))
    known = _remembered(place)
    ours = known is not None and known.alive
    if known is not None and ours:
        stop_group(known.pid, grace_s)
    place.unlink(missing_ok=True)
    return ours


def _start(plan: Serving, place: Path, *, api_key: str | None) -> ServerState:
    if not sys.platform.startswith("linux"):
        raise ConfigError("`drafter up` starts vLLM on Linux only", hint="--print shows the command for elsewhere")
    _check_installed(plan)
    _check_address(plan.address)
    log = place.with_suffix(".log")
    environment = {**plan.environment, **os.environ, **({"VLLM_API_KEY": api_key} if api_key else {})}
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        pid = os.posix_spawnp(
            plan.argv[0], plan.argv, environment, setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
        )
    finally:
        os.close(output)
    state = ServerState(
        pid=pid, started=started_at(pid) or "", url=plan.address.url, model=plan.model, argv=plan.argv, log=str(log),
        since=time.time(),
    )
    place.touch(mode=0o600)
    place.write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
    return state


def _check_installed(plan: Serving) -> None:
    if not plan.distribution:
        raise ConfigError(
            f"no vLLM in {str(vllm_python())!r}",
            hint=f"pip install 'draftgate[vllm]' there, or name the Python that has it in {PYTHON_VARIABLE}",
        )


def _check_address(at: Address) -> None:
    """Whether the server could listen where the endpoint says."""
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((at.host, at.port))
        except OSError as error:
            raise InputError(
                f"vLLM can't listen at {at.url}: {error.strerror or error}",
                hint="the port is taken or the address is not this machine's: change the model's `endpoints:`",
            ) from error


def _wait(server: ServerState, at: Address, wait_s: float, say: Say) -> None:
    began = said = time.monotonic()
    try:
        while not _healthy(at):
            now = time.monotonic()
            if not server.alive:
                raise ServerFailed(f"vLLM ended before it was healthy\n{log_end(server)}", endpoint=at.url)
            if now - began > wait_s:
                raise ServerFailed(f"vLLM was not healthy within {wait_s:g} s\n{log_end(server)}", endpoint=at.url)
            if now - said > _SAY_EVERY_S:
                said = now
                say(f"waiting for {at.health}: {now - began:.0f} s")
            time.sleep(_POLL_S)
    except BaseException:  # Ctrl-C too: nobody is left to wait for it
        stop_group(server.pid, grace_s=5.0)
        raise
    say(f"{server.model} is healthy at {at.url} after {time.monotonic() - began:.0f} s")


def _healthy(at: Address) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(at.health, timeout=5.0) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, reset, timed out, or an HTTP error
        return False


def log_end(server: ServerState) -> str:
    """The last lines of the server's log, under its path."""
    lines = Path(server.log).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"the end of {server.log}:", *(f"  {line}" for line in lines[-LOG_LINES:])])


def _place(state_dir: Path | None, at: Address) -> Path:
    """One file an endpoint: two servers can't share a port either."""
    folder = state_dir or Path(os.environ.get(STATE_VARIABLE) or Path.home() / ".local" / "state" / "orchestrator")
    return folder / f"vllm-{at.host.replace(':', '_')}-{at.port}.json"


def _remembered(place: Path) -> ServerState | None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return ServerState(**{**found, "argv": tuple(found["argv"])})
    except (OSError, ValueError, TypeError, KeyError):  # none, or not ours to read
        return None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
