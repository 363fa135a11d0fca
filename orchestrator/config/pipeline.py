"""The pipeline file: what a person writes, as typed models that forbid unknown keys.

Loading (YAML 1.2, `${NAME}`, paths, line numbers) is `loader.py`; nothing here reads a file.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from orchestrator.config.budget import BudgetConfig as BudgetConfig
from orchestrator.config.budget import SpanLimits as SpanLimits
from orchestrator.config.quantities import InnerShare, Seconds, Share
from orchestrator.config.strict import Strict as Strict
from orchestrator.config.strict import fault as fault
from orchestrator.config.telemetry import TelemetryConfig
from orchestrator.records import Location, Mode, ValidateMode

Thinking = Literal["off", "low", "medium", "high"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
MODEL_KINDS = ("embedded", "vllm", "openai", "litellm", "python")
_SPEAK_OPENAI = {"ollama": 11434, "lmstudio": 1234, "llamacpp": 8080, "llama.cpp": 8080, "sglang": 30000}
"""Servers that are named as a kind, and where each listens unless told otherwise."""


class Serve(Strict):
    """How `drafter up` starts vLLM for this model."""

    data_parallel_size: Annotated[int, Field(ge=1)] = 1
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    dtype: str | None = None
    args: tuple[str, ...] = ()


class ModelConfig(Strict):
    """A model: `use` is `embedded:FOLDER`, `vllm:NAME`, `openai:NAME` (any OpenAI-compatible server),
    `litellm:PROVIDER/NAME` or `python:module:callable` (a ModelClient factory, allow-listed).

    What may hold a secret is left out of dumps; its `repr` shows `${NAME}`, never the value.
    """

    use: Annotated[str, Field(json_schema_extra={"pattern": f"^({'|'.join(MODEL_KINDS)}):.+$"})]
    endpoints: tuple[str, ...] = ()
    revision: str | None = None
    location: Location
    thinking: Thinking | None = None
    max_tokens: Annotated[int, Field(ge=1)] = 512
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    redraft_temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    seed: int = 0
    timeout: Seconds = 60.0
    deadline: Seconds = 300.0
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    max_in_flight: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    max_input_bytes: Annotated[int, Field(ge=1)] | None = None
    structured: bool = True
    stream: bool = False
    api_key: Annotated[str | None, Field(exclude=True)] = None
    litellm_params: dict[str, Any] = Field(default_factory=dict, exclude=True)
    extra_body: dict[str, Any] = Field(default_factory=dict, exclude=True)
    serve: Serve = Serve()
    price: str | None = None
    account: str | None = None

    @field_validator("use")
    @classmethod
    def _known_kind(cls, use: str) -> str:
        kind, _, target = use.partition(":")
        if kind not in MODEL_KINDS:
            near = difflib.get_close_matches(kind, MODEL_KINDS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            if port := _SPEAK_OPENAI.get(kind.lower()):
                address = f"http://127.0.0.1:{port}/v1"
                meant = f"; {kind} speaks OpenAI's protocol: write openai:{target} with `endpoints: [{address}]`"
            raise ValueError(f"{use!r} is not KIND:NAME with a kind of {', '.join(MODEL_KINDS)}{meant}")
        if not target.strip():
            raise ValueError(f"{use!r} names no model after the colon")
        return use

    @model_validator(mode="after")
    def _in_process_has_no_endpoint(self) -> ModelConfig:
        if self.kind == "embedded" and self.endpoints:
            raise fault("an embedded model runs in this process: it has no endpoints", "endpoints")
        return self

    @property
    def kind(self) -> str:
        return self.use.split(":", 1)[0]

    @property
    def target(self) -> str:
        return self.use.split(":", 1)[1]


class DraftConfig(Strict):
    model: Name
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 2


class Compared(Strict):
    """What a threshold stands on: a certificate file, or a plain number."""

    certificate: str | None = None
    threshold: Annotated[float | None, Field(allow_inf_nan=False)] = None

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.certificate is None and self.threshold is None:
            raise ValueError(
                "every draft would escalate: give `certificate:` (see `orchestrator calibrate`) or `threshold:`"
            )
        if self.certificate is not None and self.threshold is not None:
            raise ValueError("give `certificate:` or `threshold:`, not both")
        return self


class ConfidenceConfig(Compared):
    """What the threshold is compared with: one raw signal (`from`), or a fitted probability (`fitted`, a file that
    `orchestrator calibrate` writes).

    `from` names a signal (`agreement`) or a part of its value (`logprob.mean`).
    """

    from_: Annotated[str | None, Field(alias="from")] = None
    fitted: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ConfidenceConfig:
        if (self.from_ is None) == (self.fitted is None):
            raise ValueError("give `from:` (a signal, like logprob.mean) or `fitted:` (a file that `calibrate` writes)")
        return self

    @property
    def signal(self) -> str:
        """What certificates and messages call it."""
        return self.from_ or "fitted"


class GateConfig(Compared):
    """A gate before the draft: a probability, fitted on what is known of the task alone, that its draft will do.

    `before` rules see it as `gate`, and its threshold as `gate_threshold`.
    """

    fitted: str

    @property
    def signal(self) -> str:
        return "gate"


class ValidateConfig(Strict):
    model: Name
    mode: ValidateMode = "repair"
    on_reject: Literal["redo", "hand_off", "fail"] = "redo"


class StepConfig(Strict):
    id: Name
    prompt: str | None = None
    output: str | None = None
    when: str | None = None
    draft: DraftConfig
    signals: tuple[str | dict[str, dict[str, Any]], ...] = ("schema",)
    confidence: ConfidenceConfig | None = None
    gate: GateConfig | None = None
    policy: str
    validate_: Annotated[ValidateConfig | None, Field(alias="validate")] = None
    compare: str = "exact"

    @field_validator("signals")
    @classmethod
    def _one_key_each(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        for entry in entries:
            if isinstance(entry, dict) and len(entry) != 1:
                raise ValueError(f"a signal is a name, or one name with options, not {sorted(entry)}")
        return entries


class CacheConfig(Strict):
    ttl: Seconds


class EscalationLimit(Strict):
    share: Share
    window: Seconds = 3600.0
    then: Literal["pause", "hand_off"] = "pause"
    at_least: Annotated[int, Field(ge=1)] = 50


class Limits(Strict):
    escalation: EscalationLimit | None = None
    task_bytes: Annotated[int, Field(ge=1)] = 1_000_000


class ContentConfig(Strict):
    keep: Seconds | Literal["none"] = 30 * 86400.0


class SuccessConfig(Strict):
    require: str | None = None
    feedback_window: Seconds = 7 * 86400.0


class DriftConfig(Strict):
    """When a certificate is revoked by spot checks: `false_alarm` is the probability of doing so wrongly, ever (by
    default what the certificate itself leaves: 1 - its confidence); `calibration_error` is how far a fitted confidence
    may be from the truth on average."""

    false_alarm: InnerShare | None = None
    calibration_error: InnerShare = 0.05


class LapseHook(Strict):
    """Who is told when a certificate is revoked: a program, given JSON on its standard input, or an address."""

    command: tuple[str, ...] | None = None
    webhook: str | None = None
    timeout: Seconds = 10.0

    @model_validator(mode="after")
    def _one_way(self) -> LapseHook:
        if bool(self.command) == bool(self.webhook):
            raise ValueError("give `command:` (a list: program and arguments) or `webhook:` (an address)")
        return self


def _or_off(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"const": "off"})


class PipelineConfig(Strict):
    """One pipeline file."""

    pipeline: Name
    version: int | str = 1
    owner: str = ""
    cost_center: str = ""
    task: str | None = None
    models: dict[Name, ModelConfig]
    steps: Annotated[tuple[StepConfig, ...], Field(min_length=1)]
    mode: Mode = "cascade"
    cache: Annotated[CacheConfig | None, Field(json_schema_extra=_or_off)] = None
    budget: BudgetConfig = BudgetConfig()
    limits: Limits = Limits()
    on_drafter_outage: Literal["wait", "hand_off", "escalate", "fail"] | None = None
    on_validator_outage: Literal["wait", "hand_off", "fail", "degraded"] | None = None
    content: ContentConfig = ContentConfig()
    success: SuccessConfig = SuccessConfig()
    certificate_lapsed: Literal["escalate", "hand_off"] = "escalate"
    drift: DriftConfig = DriftConfig()
    on_lapse: LapseHook | None = None
    telemetry: TelemetryConfig | None = None
    prices: str | None = None
    tags: tuple[str, ...] = ()
    baseline: Share = 0.0
    residency: Literal["local"] | None = None
    local_networks: tuple[str, ...] = ()
    allow_imports: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()

    @field_validator("cache", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return None if value == "off" else value

    @model_validator(mode="after")
    def _names(self) -> PipelineConfig:
        seen: set[str] = set()
        for i, step in enumerate(self.steps):
            if step.id in seen:
                raise fault(f"two steps are called {step.id!r}: give each its own id", "steps", i, "id")
            seen.add(step.id)
            self._check_model(step.draft.model, "steps", i, "draft", "model")
            if step.validate_:
                self._check_model(step.validate_.model, "steps", i, "validate", "model")
        return self

    def _check_model(self, name: str, *keys: str | int) -> None:
        if name not in self.models:
            near = difflib.get_close_matches(name, self.models, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f", which has {', '.join(sorted(self.models))}"
            raise fault(f"{name!r} is no model of `models:`{meant}", *keys)
