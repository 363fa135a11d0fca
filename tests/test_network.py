"""Invariant 8, local means local: what a local model's client may connect to, and that it connects to nothing else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ConfigError, ModelError, ResidencyError
from orchestrator.models.catalog import client_for
from orchestrator.models.network import AddressRefused, LocalOnly, is_local
from orchestrator.models.served import ServedModel
from orchestrator.records import Request
from tests.loopback import Loopback
from tests.watch import HOSTILE, outside, watched

REQUEST = Request(messages=[{"role": "user", "content": "hello"}])
NO_PROXY = {name: "" for name in HOSTILE if name.lower().endswith("_proxy")}


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://127.9.9.9", "http://[::1]:80/v1", "localhost:8000", "http://localhost/v1",
     "http://[::ffff:127.0.0.1]/v1", "10.1.2.3", "http://10.255.0.1:9/v1", "http://[fd00::7]/v1"],
)
def test_loopback_and_the_configured_networks_are_local(url: str) -> None:
    assert is_local(url, ("10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    "url",
    ["http://8.8.8.8/v1", "http://10.1.2.3/v1", "http://[2001:db8::1]/v1", "http://[::ffff:8.8.8.8]/v1", "0.0.0.0",
     "http://127.0.0.1.nip.invalid/v1", "http://user@8.8.8.8:80", "http://127.0.0.1@8.8.8.8/v1", "", "http://[::1",
     "anthropic (its own address, by LiteLLM)", "http+unix://%2Ftmp%2Fs"],
)
def test_everything_else_is_not_local(url: str) -> None:
    assert not is_local(url, ("192.168.0.0/16",))


def test_a_network_that_is_none_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match=r"'10\.0\.0\.0/40'"):
        LocalOnly(("10.0.0.0/40",))


def test_a_local_model_at_a_foreign_address_is_refused_before_it_is_built() -> None:
    config = ModelConfig(use="vllm:tiny", endpoints=("http://127.0.0.1:1/v1", "http://8.8.8.8/v1"), location="local")
    with pytest.raises(ResidencyError, match=r"8\.8\.8\.8"):
        client_for("drafter", config, target="tiny")
    remote = config.model_copy(update={"location": "remote"})
    assert client_for("drafter", remote, target="tiny").addresses == config.endpoints


def test_a_local_model_is_not_served_through_litellm() -> None:
    config = ModelConfig(use="litellm:openai/tiny", endpoints=("http://127.0.0.1:1/v1",), location="local")
    with pytest.raises(ResidencyError, match="connections of its own"):
        client_for("drafter", config, target="openai/tiny")


async def test_a_name_that_turns_out_foreign_is_refused_at_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def rebound(host: str, port: int, *rest: Any, **named: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.5", port))]

    client = ServedModel("tiny", config=ModelConfig(
        use="vllm:tiny", endpoints=("http://drafter.internal:8000/v1",), location="local",
    ))
    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    try:
        with pytest.raises(AddressRefused, match=r"203\.0\.113\.5") as refused:
            await client.complete(REQUEST, call_id="c1", endpoint=client.endpoints[0], timeout_s=5)
        [probe] = await client.probe()
    finally:
        await client.aclose()
    assert isinstance(refused.value, ModelError)
    assert not refused.value.retryable
    assert not refused.value.sent
    assert refused.value.exit_code == 2
    assert not probe.ok
    assert "203.0.113.5" in probe.detail


async def test_a_redirect_is_not_followed() -> None:
    async with Loopback(plan=["redirect"] * 2) as server:
        for stream in (False, True):
            client = ServedModel("tiny", config=ModelConfig(
                use="vllm:tiny", endpoints=(server.url,), location="local", stream=stream,
            ))
            with pytest.raises(ModelError, match="307"):
                await client.complete(REQUEST, call_id="c1", endpoint=server.url, timeout_s=5)
            await client.aclose()
        assert len(server.seen) == 2


def test_a_local_model_contacts_nobody_else_whatever_the_environment_says(tmp_path: Path) -> None:
    contacts = watched(["tests/scripts/ask_local_models.py", "served"], log=tmp_path / "contacts")
    assert [one.event for one in contacts].count("socket.connect") >= 2
    assert outside(contacts) == []


def test_litellm_fetches_no_tables_and_reports_to_nobody(tmp_path: Path) -> None:
    script = ["tests/scripts/ask_local_models.py", "frontier"]
    contacts = watched(script, log=tmp_path / "contacts", env=NO_PROXY)
    assert [one.event for one in contacts].count("socket.connect") >= 2
    assert outside(contacts) == []


def test_the_watch_sees_a_connection_to_elsewhere(tmp_path: Path) -> None:
    script = tmp_path / "leak.py"
    script.write_text(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect(('203.0.113.1', 9))\n"
    )
    [leak] = outside(watched([str(script)], log=tmp_path / "contacts"))
    assert (leak.host, leak.port) == ("203.0.113.1", 9)
