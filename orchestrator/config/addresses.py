"""Which addresses are local: loopback, and the networks a pipeline names."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ConfigError

DEFAULT_ENDPOINTS = {"vllm": "http://127.0.0.1:8000/v1", "openai": "https://api.openai.com/v1"}
"""Where a model of these kinds is looked for when it names no endpoint."""

_BASE_KEYS = ("api_base", "base_url")


def networks(names: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """`local_networks` as networks. Raises ConfigError on what is none, or is the whole internet."""
    found = []
    for name in names:
        try:
            network = ip_network(name, strict=False)
        except ValueError as error:
            raise ConfigError(f"local_networks: {name!r} is not a network: {error}", key="local_networks") from None
        if network.prefixlen == 0:
            raise ConfigError(f"local_networks: {name!r} is every address there is", key="local_networks")
        found.append(network)
    return tuple(found)


def host_of(url: str) -> str:
    """The host of an http or https URL, lower case. Raises ConfigError on anything else."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"an endpoint is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("an endpoint is a URL like http://127.0.0.1:8000/v1")
    return host


def is_local(host: str, local: Sequence[IPv4Network | IPv6Network]) -> bool | None:
    """True or False of an address; None of a host name, whose address is only known when it is looked up."""
    if host == "localhost":
        return True
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # an IPv4 address in IPv6 clothes is judged as what it reaches
    return address.is_loopback or any(address in network for network in local)


def configured_addresses(model: ModelConfig) -> tuple[str, ...]:
    """The base URLs a model's file names, or the default of its kind. Empty: in-process, or known to LiteLLM alone."""
    if model.endpoints:
        return model.endpoints
    if model.kind in DEFAULT_ENDPOINTS:
        return (DEFAULT_ENDPOINTS[model.kind],)
    if model.kind == "litellm":
        return tuple(str(model.litellm_params[key]) for key in _BASE_KEYS if model.litellm_params.get(key))
    return ()


def check_location(name: str, model: ModelConfig, local: Sequence[IPv4Network | IPv6Network]) -> None:
    """Raises ConfigError where `location: local` is claimed and an address says otherwise.

    A host name passes only where `local_networks` is given: the client looks at what it resolves to as it connects.
    """
    found = [(url, is_local(host_of(url), local)) for url in configured_addresses(model)]
    if model.location != "local":
        return
    if model.kind == "litellm":
        raise ConfigError(
            f"models.{name}: {model.use!r} is declared local, and LiteLLM opens connections of its own",
            hint="write `use: openai:NAME` for a local server, or `location: remote`",
        )
    for url, verdict in found:
        if verdict is False or (verdict is None and not local):
            raise ConfigError(
                f"models.{name}: declared local, and {host_of(url)!r} is neither loopback nor in `local_networks:`",
                key=f"models.{name}.location",
                hint="add its network to `local_networks:`, or write `location: remote`",
            )
