"""From a pipeline file to everything a run needs: files read, paths resolved, `${NAME}` in place, names checked.

Nothing is sent and nothing is compiled here. Every fault is a ConfigError with file, line and key, raised before
any money is spent; only a certificate's absence or lapse is no fault, but a `certificate_problem` to be decided on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.canonical import canonical
from orchestrator.config.addresses import check_location, networks
from orchestrator.config.certificate import read_certificate
from orchestrator.config.checked import validated
from orchestrator.config.digest import digest
from orchestrator.config.document import Document
from orchestrator.config.fingerprint import certificate_problem
from orchestrator.config.loaded import LoadedPipeline as LoadedPipeline
from orchestrator.config.loaded import LoadedStep as LoadedStep
from orchestrator.config.order import check_order
from orchestrator.config.pipeline import PipelineConfig, StepConfig
from orchestrator.config.policy import PolicyConfig
from orchestrator.config.prices import PriceBook
from orchestrator.config.prompt import read_prompt
from orchestrator.config.references import References, located
from orchestrator.config.secrets import Environment
from orchestrator.config.yaml12 import read_yaml
from orchestrator.errors import ResidencyError

PIPELINE_FILE = "pipeline.yaml"


def load_pipeline(path: str | Path, *, env: Mapping[str, str] | None = None) -> LoadedPipeline:
    """Load a pipeline file, or the `pipeline.yaml` of a folder. `env` stands for the process's environment.

    Raises ConfigError, and ResidencyError where `residency: local` meets a remote model.
    """
    document = read_yaml(_pipeline_file(Path(path)))
    written = validated(PipelineConfig, document)
    environment = Environment(document, os.environ if env is None else env)
    models = {name: environment.expand(name, model) for name, model in written.models.items()}
    config = written.model_copy(update={"models": models})
    _check_residency(config, document)
    references = References(document, config.allow_imports)
    references.models(config)
    book_path = references.path(("prices",), config.prices)
    task_schema = references.schema(("task",), config.task)
    steps = tuple(_step(references, i, step) for i, step in enumerate(config.steps))
    check_order(steps, document)
    book = validated(PriceBook, read_yaml(book_path)) if book_path else None
    body = _body(document, steps, task_schema, book)
    loaded = LoadedPipeline(
        config=config, path=document.path, steps=steps, book=book, book_path=book_path, task_schema=task_schema,
        config_id=digest(body), resolved=references.resolved, secrets=frozenset(environment.secrets), body=body,
    )
    checked = (replace(step, certificate_problem=certificate_problem(loaded, step)) for step in steps)
    return replace(loaded, steps=tuple(checked))


def config_body_json(loaded: LoadedPipeline) -> str:
    """What `config_id` is the digest of, as canonical JSON: every `${NAME}` unexpanded, so that it may be stored."""
    return canonical(loaded.body).decode()


def model_target(loaded: LoadedPipeline, name: str) -> str:
    """What `use:` names: the resolved folder of an embedded model, else the name after the colon."""
    folder = loaded.resolved.get(f"models.{name}.use")
    return str(folder) if folder else loaded.config.models[name].target


def _pipeline_file(path: Path) -> Path:
    return (path / PIPELINE_FILE if path.is_dir() else path).absolute()


def _step(references: References, index: int, config: StepConfig) -> LoadedStep:
    at = ("steps", index)
    prompt_path = references.path((*at, "prompt"), config.prompt)
    prompt = read_prompt(prompt_path) if prompt_path else None
    policy_path = references.path((*at, "policy"), config.policy)
    assert policy_path is not None
    policy = validated(PolicyConfig, policy_document := read_yaml(policy_path))
    references.known_models(policy, policy_document)
    confidence = config.confidence
    certificate_path = references.path(
        (*at, "confidence", "certificate"), confidence.certificate if confidence else None, must_exist=False
    )
    return LoadedStep(
        config=config,
        prompt=prompt.text if prompt else None,
        system=prompt.system if prompt else None,
        reads=prompt.reads if prompt else frozenset(),
        output_schema=references.schema((*at, "output"), config.output),
        policy=policy,
        policy_path=policy_path,
        certificate=read_certificate(certificate_path) if certificate_path and certificate_path.is_file() else None,
        certificate_path=certificate_path,
    )


def _check_residency(config: PipelineConfig, document: Document) -> None:
    with located(document, ("local_networks",)):
        local = networks(config.local_networks)
    for name, model in config.models.items():
        at = ("models", name, "location")
        with located(document, at):
            check_location(name, model, local)
        if config.residency == "local" and model.location != "local":
            raise ResidencyError(
                f"{document.path}:{document.line(at)}: `residency: local`, and model {name!r} is {model.location}",
                hint="use a local model, or take `residency: local` away",
            )


def _body(
    document: Document, steps: tuple[LoadedStep, ...], task_schema: dict[str, Any] | None, book: PriceBook | None
) -> dict[str, Any]:
    return {
        "pipeline": document.data,
        "task": task_schema,
        "prices": book.book if book else None,
        "steps": {
            step.config.id: {
                "prompt": step.prompt,
                "system": step.system,
                "output": step.output_schema,
                "policy": step.policy.model_dump(mode="json", exclude_defaults=True),
                "threshold": step.certificate.get("threshold") if step.certificate else None,
            }
            for step in steps
        },
    }
