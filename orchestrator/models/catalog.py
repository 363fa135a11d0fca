"""From the word after `use:` to a client. Nothing connects, and no runtime is imported that is not used."""

from __future__ import annotations

from orchestrator.config.loader import LoadedPipeline, model_target
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
    match config.kind:
        case "embedded":
            from orchestrator.models.embedded import EmbeddedModel

            client: ModelClient = EmbeddedModel(target, config=config)
        case "vllm" | "openai":
            from orchestrator.models.served import ServedModel

            client = ServedModel(target, config=config, local_networks=local_networks)
        case "litellm":
            from orchestrator.models.frontier import FrontierModel

            _refuse_local(name, config)
            client = FrontierModel(target, config=config)
        case _:
            client = _imported(name, config, target, allow_imports)
    if config.location == "local":
        _check_local(name, client, local_networks)
    return client


def client_of(loaded: LoadedPipeline, name: str) -> ModelClient:
    """The client of one model of a loaded pipeline. Raises as `client_for`."""
    config = loaded.config
    return client_for(
        name, config.models[name], target=model_target(loaded, name), local_networks=config.local_networks,
        allow_imports=config.allow_imports,
    )


def _refuse_local(name: str, config: ModelConfig) -> None:
    if config.location == "local":
        raise ResidencyError(
            f"model {name!r} is `location: local` and uses LiteLLM, which opens connections of its own",
            hint="a local server (vLLM, Ollama, llama.cpp) is `use: vllm:NAME` or `use: openai:NAME` with `endpoints:`",
        )


def _imported(name: str, config: ModelConfig, target: str, allow: tuple[str, ...]) -> ModelClient:
    """`module:callable`, called with the ModelConfig; only where `allow_imports` lists its module."""
    client = load_callable(target, allow)(config)
    if not isinstance(client, ModelClient):
        given = type(client).__name__
        raise ConfigError(f"model {name!r}: {target!r} gave {given!r}, which is no ModelClient", key="use")
    return client


def _check_local(name: str, client: ModelClient, networks: tuple[str, ...]) -> None:
    from orchestrator.models.network import is_local

    for address in client.addresses:
        if not is_local(address, networks):
            raise ResidencyError(
                f"model {name!r} is `location: local`, and its endpoint {address!r} is neither loopback nor in "
                "`local_networks`, or does not resolve",
                hint="correct the endpoint, add its network to `local_networks:`, or declare `location: remote`",
            )
