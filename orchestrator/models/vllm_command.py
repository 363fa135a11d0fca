"""The command that serves a pipeline's model with vLLM, on this machine or, printed, on another."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.config.addresses import configured_addresses
from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ConfigError

PYTHON_VARIABLE = "ORCHESTRATOR_VLLM_PYTHON"
OWN_ENVIRONMENT = Path(".venv-vllm") / "bin" / "python"

_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_OFFLINE = {"HF_HUB_OFFLINE": "1"}
_CPU = {"VLLM_CPU_KVCACHE_SPACE": "2"}  # GiB; the package's own default reserves more than a laptop has
_WHICH = (
    "import importlib.metadata as m\n"
    "names = {(d.metadata['Name'] or '').lower() for d in m.distributions()}\n"
    "print('vllm' if 'vllm' in names else 'vllm-cpu' if 'vllm-cpu' in names else '')"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model's first endpoint says that its server listens."""

    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.url.startswith("https:") else 80)

    @property
    def health(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}/health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What to run. `environment` adds to the caller's own and holds no secret: `api_key` goes by VLLM_API_KEY.
    `distribution` is the package that gives vLLM here: `vllm`, `vllm-cpu`, or empty where there is none."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    address: Address
    model: str
    distribution: str

    def shell(self) -> str:
        """One line for a shell, a systemd unit (`ExecStart=/usr/bin/env …`) or a container."""
        return shlex.join(["env", *(f"{k}={v}" for k, v in self.environment.items()), *self.argv])


def address(config: ModelConfig) -> Address:
    """Raises ConfigError where vLLM is not what serves the model."""
    if config.kind != "vllm":
        raise ConfigError(f"`use: {config.use}` is not served by vLLM", hint="`drafter` commands need `use: vllm:NAME`")
    return Address(configured_addresses(config)[0])


def serving(config: ModelConfig, *, base: Path, python: Path | None = None) -> Serving:
    """How to serve `config` with the vLLM that `python` has (by default `vllm_python()`'s).

    `base` is the pipeline file's folder: a model that is a folder is named from there. Raises ConfigError where vLLM
    is not what serves the model, or `python` does not run.
    """
    at = address(config)
    python = python or vllm_python()
    distribution = installed(python)
    folder = base / Path(config.target).expanduser()
    local = folder.is_dir()
    command = _command(python, distribution, str(folder.resolve()) if local else config.target)
    return Serving(
        argv=(*command, *_options(config, at, revision=None if local else config.revision)),
        environment={**_QUIET, **(_OFFLINE if local else {}), **(_CPU if distribution == "vllm-cpu" else {})},
        address=at,
        model=config.target,
        distribution=distribution,
    )


def vllm_python() -> Path:
    """$ORCHESTRATOR_VLLM_PYTHON, else .venv-vllm of the working folder, else this interpreter."""
    if named := os.environ.get(PYTHON_VARIABLE):
        return Path(named)
    own = Path.cwd() / OWN_ENVIRONMENT
    return own if own.is_file() else Path(sys.executable)


def installed(python: Path) -> str:
    """The distribution that gives `python` a vLLM: `vllm`, `vllm-cpu` (no CUDA), or nothing."""
    try:
        done = subprocess.run([str(python), "-c", _WHICH], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{str(python)!r} does not run: {error}", hint=f"correct {PYTHON_VARIABLE}") from error
    return done.stdout.strip()


def _command(python: Path, distribution: str, model: str) -> tuple[str, ...]:
    """Up to the options. Where no vLLM is: the one for a machine that has it."""
    if distribution == "vllm-cpu":  # its `vllm` command asks for a distribution called vllm, and fails
        return (str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", model)
    beside = python.with_name("vllm")
    return (str(beside) if beside.is_file() else "vllm", "serve", model)


def _options(config: ModelConfig, at: Address, revision: str | None) -> list[str]:
    serve = config.serve
    chosen = {
        "--served-model-name": config.target,
        "--host": at.host,
        "--port": at.port,
        "--data-parallel-size": serve.data_parallel_size if serve.data_parallel_size > 1 else None,
        "--tensor-parallel-size": serve.tensor_parallel_size if serve.tensor_parallel_size > 1 else None,
        "--max-model-len": serve.max_model_len,
        "--dtype": serve.dtype,
        "--revision": revision,
    }
    return [part for name, value in chosen.items() if value is not None for part in (name, str(value))] + [*serve.args]
