"""From the word after `use:` to a client. Nothing connects, and no runtime is imported that is not used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.config.pipeline import ModelConfig
from orchestrator.config.plugins import load_callable
from orchestrator.errors import ConfigError, ResidencyError
from orchestrator.models.client import ModelClient


def client_for(
    name: str, config: ModelConfig, *, target: str, local_networks: tuple[str, ...] = (),
    allow_imports: tuple[str, ...] = (),
) -> ModelClient:
    """The client of the model that the pipeline calls `name`. `target` is what follows the colon of `use:`, its path
    resolved where it is one.

    Raises ResidencyError where a model declared local has an address that is not; ConfigError for what can't be built.
    """
    client: ModelClient = _KINDS[config.kind](name, config, target, local_networks, allow_imports)
    if config.location == "local":
        _check_local(name, client, local_networks)
    return client


def _embedded(name: str, config: ModelConfig, target: str, networks: tuple[str, ...], allow: tuple[str, ...]) -> Any:
    from orchestrator.models.embedded import EmbeddedModel

    return EmbeddedModel(target, config=config)


def _served(name: str, config: ModelConfig, target: str, networks: tuple[str, ...], allow: tuple[str, ...]) -> Any:
    from orchestrator.models.served import ServedModel

    return ServedModel(target, config=config, local_networks=networks)


def _frontier(name: str, config: ModelConfig, target: str, networks: tuple[str, ...], allow: tuple[str, ...]) -> Any:
    if config.location == "local":
        raise ResidencyError(
            f"model {name!r} is `location: local` and uses LiteLLM, which opens connections of its own",
            hint="a local server (vLLM, Ollama, llama.cpp) is `use: vllm:NAME` or `use: openai:NAME` with `endpoints:`",
        )
    from orchestrator.models.frontier import FrontierModel

    return FrontierModel(target, config=config)


def _python(name: str, config: ModelConfig, target: str, networks: tuple[str, ...], allow: tuple[str, ...]) -> Any:
    """`module:callable`, called with the ModelConfig; only where `allow_imports` lists its module."""
    client = load_callable(target, allow)(config)
    if not isinstance(client, ModelClient):
        given = type(client).__name__
        raise ConfigError(f"model {name!r}: {target!r} gave {given!r}, which is no ModelClient", key="use")
    return client


_KINDS: dict[str, Callable[..., Any]] = {
    "embedded": _embedded, "vllm": _served, "openai": _served, "litellm": _frontier, "python": _python,
}


def _check_local(name: str, client: ModelClient, networks: tuple[str, ...]) -> None:
    from orchestrator.models.network import is_local

    for address in client.addresses:
        if not is_local(address, networks):
            raise ResidencyError(
                f"model {name!r} is `location: local`, and its endpoint {address!r} is neither loopback nor in "
                "`local_networks`, or does not resolve",
                hint="correct the endpoint, add its network to `local_networks:`, or declare `location: remote`",
            )
