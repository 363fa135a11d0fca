"""Run by tests/test_network.py under a watch: `served` (plain, streamed, probed) or `frontier` (LiteLLM)."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.config.pipeline import ModelConfig
from orchestrator.models.catalog import client_for
from orchestrator.models.client import ModelClient
from orchestrator.records import Request
from tests.loopback import Loopback

SCHEMA = {
    "type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"], "additionalProperties": False,
}
REQUEST = Request(messages=[{"role": "user", "content": "hello"}], schema=SCHEMA, logprobs=True)


def served(url: str, *, stream: bool) -> ModelClient:
    config = ModelConfig(use="vllm:tiny", endpoints=(url,), location="local", stream=stream)
    return client_for("drafter", config, target="tiny")


def frontier(provider: str, base: str) -> ModelClient:
    config = ModelConfig(
        use=f"litellm:{provider}", endpoints=(base,), location="remote", litellm_params={"api_key": "secret-key"}
    )
    return client_for("validator", config, target=provider)


async def main(kind: str) -> None:
    async with Loopback() as server:
        if kind == "served":
            clients = [served(server.url, stream=False), served(server.url, stream=True)]
        else:
            clients = [frontier("openai/tiny", server.url), frontier("anthropic/claude-opus-4-8", server.root)]
        for client in clients:
            for _ in range(2):
                await client.complete(REQUEST, call_id="c1", endpoint=client.endpoints[0], timeout_s=60)
            await client.probe()
            await client.aclose()
        if kind == "served":  # LiteLLM reads accounts from the environment: that is how its users configure it
            headers = str([seen.headers for seen in server.seen])
            assert "leak" not in headers, headers
            assert "from-the-environment" not in headers, headers
        assert len(server.seen) == 4


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
