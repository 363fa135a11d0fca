"""From a pipeline file to everything a run needs: files read, paths resolved, `${NAME}` in place, names checked.

Nothing is sent and nothing is compiled here. Every fault is a ConfigError with file, line and key, raised before
any money is spent; only a certificate's absence or lapse is no fault, but a `problem` to be decided on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.canonical import canonical
from orchestrator.config.addresses import check_location, host_of, is_local, networks
from orchestrator.config.certificate import known_as, read_certificate
from orchestrator.config.checked import validated
from orchestrator.config.closed_answers import closed_answers
from orchestrator.config.confidence import read_confidence
from orchestrator.config.digest import digest
from orchestrator.config.document import Document, KeyPath
from orchestrator.config.fingerprint import certificate_problem, gate_problem, step_fingerprint
from orchestrator.config.loaded import LoadedPipeline as LoadedPipeline
from orchestrator.config.loaded import LoadedStep as LoadedStep
from orchestrator.config.loaded import LoadedThreshold
from orchestrator.config.order import check_order
from orchestrator.config.pipeline import ConfidenceConfig, GateConfig, PipelineConfig, StepConfig
from orchestrator.config.policy import PolicyConfig
from orchestrator.config.prices import PriceBook
from orchestrator.config.prompt import read_prompt
from orchestrator.config.references import References, located
from orchestrator.config.secrets import Environment
from orchestrator.config.telemetry import addresses, wanted
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
    config = written.model_copy(update={"models": models, "on_lapse": environment.expand_hook(written.on_lapse)})
    _check_residency(config, document)
    references = References(document, config.allow_imports)
    references.models(config)
    book_path = references.path(("prices",), config.prices)
    task_schema, _ = references.schema(("task",), config.task)
    steps = tuple(_step(references, i, step) for i, step in enumerate(config.steps))
    check_order(steps, document)
    book = validated(PriceBook, read_yaml(book_path)) if book_path else None
    loaded = LoadedPipeline(
        config=config, path=document.path, steps=steps, book=book, book_path=book_path, task_schema=task_schema,
        config_id="", resolved=references.resolved, body={},
    )
    checked = tuple(
        replace(
            step, confidence=replace(step.confidence, problem=certificate_problem(loaded, step)),
            gate=replace(step.gate, problem=gate_problem(loaded, step)),
        )
        for step in steps
    )
    body = _body(document, loaded, book)
    return replace(loaded, steps=checked, body=body, config_id=digest(body))


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
    output_schema, output_model = references.schema((*at, "output"), config.output)
    return LoadedStep(
        config=config,
        prompt=prompt.text if prompt else None,
        system=prompt.system if prompt else None,
        reads=prompt.reads if prompt else frozenset(),
        output_schema=output_schema,
        output_model=output_model,
        answers=closed_answers(output_schema),
        policy=policy,
        policy_path=policy_path,
        confidence=_threshold(references, (*at, "confidence"), config.confidence),
        gate=_threshold(references, (*at, "gate"), config.gate),
    )


def _threshold(references: References, at: KeyPath, config: ConfidenceConfig | GateConfig | None) -> LoadedThreshold:
    """The files that `calibrate` makes may not be there yet."""
    if config is None:
        return LoadedThreshold()
    certificate_path = references.path((*at, "certificate"), config.certificate, must_exist=False)
    fitted_path = references.path((*at, "fitted"), config.fitted, must_exist=False)
    return LoadedThreshold(
        config=config, fitted=_if_made(fitted_path, read_confidence), fitted_path=fitted_path,
        certificate=_if_made(certificate_path, read_certificate), certificate_path=certificate_path,
    )


def _if_made(path: Path | None, read: Callable[[Path], Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return read(path) if path is not None and path.is_file() else None


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
    webhook = config.on_lapse.webhook if config.on_lapse else None
    with located(document, ("on_lapse", "webhook")):
        stays = webhook is None or is_local(host_of(webhook), local)
    if config.residency == "local" and not stays:
        raise ResidencyError(
            f"{document.path}:{document.line(('on_lapse', 'webhook'))}: `residency: local`, and the webhook's address "
            "is neither loopback nor in `local_networks:`",
            hint="name a local address, or `command:`",
        )
    _check_telemetry(config, document)


def _check_telemetry(config: PipelineConfig, document: Document) -> None:
    """`residency: local` sends nothing out: no exporter of telemetry whose address is not local for sure."""
    telemetry = wanted(config.telemetry)
    if telemetry is None:
        return
    found = addresses(telemetry)
    with located(document, ("telemetry", "endpoint")):
        stays = bool(found) and all(is_local(host_of(url), networks(config.local_networks)) for url in found)
    if config.residency == "local" and not stays:
        where = found[0] if found else "whatever exporter the surrounding program set up"
        raise ResidencyError(
            f"{document.path}:{document.line(('telemetry',))}: `residency: local`, and telemetry would go to {where}, "
            "which is neither loopback nor in `local_networks:`",
            hint="name a local `endpoint:` under `telemetry:`, or leave telemetry off",
        )


def _body(document: Document, loaded: LoadedPipeline, book: PriceBook | None) -> dict[str, Any]:
    """What a run's configuration was: the files as they stood, and the digests by which drafts are alike."""
    steps = loaded.steps
    return {
        "pipeline": document.data,
        "fingerprints": {step.config.id: step_fingerprint(loaded, step) for step in steps},
        "features": {step.config.id: step.features for step in steps},
        "task": loaded.task_schema,
        "prices": book.book if book else None,
        "steps": {
            step.config.id: {
                "prompt": step.prompt,
                "system": step.system,
                "output": step.output_schema,
                "policy": step.policy.model_dump(mode="json", exclude_defaults=True),
                "certificate": list(known_as(made)) if (made := step.confidence.certificate) else None,
                "threshold": made["threshold"] if made else None,
                "gate_threshold": gate["threshold"] if (gate := step.gate.certificate) else None,
            }
            for step in steps
        },
    }
