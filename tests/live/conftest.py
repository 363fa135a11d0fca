"""One real vLLM for all live tests, started and stopped by the package's own `up` and `down`."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models import vllm_command, vllm_server
from orchestrator.models.served import ServedModel
from tests.live_drafter import EXAMPLE, PIPELINE, Live, free_port, served


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    python = vllm_command.vllm_python()
    if not vllm_command.installed(python):
        pytest.skip(f"no vLLM in {python}: `bash .ci/vllm.sh` installs one")
    return python


@pytest.fixture(scope="session")
def live(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    config = served(f"http://127.0.0.1:{free_port()}/v1")
    state_dir = tmp_path_factory.mktemp("state")
    vllm_server.up(config, base=EXAMPLE, state_dir=state_dir, wait_s=600)
    try:
        yield Live(config, state_dir)
    finally:
        vllm_server.down(config, state_dir=state_dir)


@pytest.fixture
async def drafter(live: Live) -> AsyncIterator[ServedModel]:
    client = ServedModel(live.config.target, config=live.config)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def lines() -> list[dict[str, Any]]:
    """The held-out order lines: `input`, `expected`."""
    return [json.loads(line) for line in (EXAMPLE / "data" / "held_out.jsonl").read_text().splitlines()]


@pytest.fixture
def output_schema() -> dict[str, Any]:
    return dict(json.loads((PIPELINE / "output.json").read_text()))
