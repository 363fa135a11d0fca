"""What the stages work with: the compiled pipeline, its models, the caller and the store. Built once a loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.canonical import canonical
from orchestrator.cascade.backlog import Backlog
from orchestrator.cascade.calls import Caller
from orchestrator.cascade.compare import Compare, compile_compare
from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.cascade.keys import model_identity
from orchestrator.cascade.lapse import Watch, look_a_last_time
from orchestrator.cascade.model import Model
from orchestrator.cascade.outages import Outages
from orchestrator.cascade.policy import CompiledPolicy, compile_policy
from orchestrator.cascade.render import Renderer
from orchestrator.cascade.signals import SignalSet, compile_signals, confidence_of
from orchestrator.cascade.spent import Spent
from orchestrator.config.loader import LoadedPipeline, LoadedStep, config_body_json
from orchestrator.config.pipeline import PipelineConfig, StepConfig
from orchestrator.config.plugins import load_callable
from orchestrator.config.schema import validator
from orchestrator.config.telemetry import wanted
from orchestrator.expressions import Expression, compile_expression
from orchestrator.models.catalog import client_of
from orchestrator.models.limits import EndpointGate, EndpointPool, retrying
from orchestrator.records import Features, Mode, Outcome, Request, Signal, Task
from orchestrator.store.entries import Again, ConfigEntry

if TYPE_CHECKING:
    from orchestrator.models.client import ModelClient
    from orchestrator.store.engine import Store
    from orchestrator.telemetry import Telemetry

NO_CACHE_KEEP_S = 7 * 86400.0
"""How long an answer kept only for resuming may wait for its run to be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, compiled: everything its stages need, and nothing they must look up. `measured` says which signals and
    features they are: what is kept of them beside an answer is good as long as it is the same."""

    index: int
    loaded: LoadedStep
    renderer: Renderer
    signals: SignalSet
    policy: CompiledPolicy
    compare: Compare
    when: Expression | None
    drafter: Model
    validator: Model | None
    features: tuple[str, ...]
    measured: bytes
    keeps_answers: bool
    fitted: FittedConfidence | None
    gate: FittedConfidence | None

    @property
    def config(self) -> StepConfig:
        return self.loaded.config

    @property
    def id(self) -> str:
        return self.loaded.config.id

    @property
    def threshold(self) -> float | None:
        """The number confidence is compared with; None where nothing (valid) certifies one."""
        return self.loaded.confidence.value

    @property
    def gate_threshold(self) -> float | None:
        """The number the gate is compared with, before the draft; None where nothing (valid) certifies one."""
        return self.loaded.gate.value

    @property
    def certified(self) -> bool:
        return self.loaded.confidence.certificate_path is not None and not self.loaded.confidence.problem

    def confidence(self, signals: Mapping[str, Signal], features: Features, task: Task) -> float | None:
        """What the threshold is compared with: one raw signal, or the fitted probability that the draft is right."""
        source = self.config.confidence
        if source is None:
            return None
        if source.from_ is not None:
            return confidence_of(signals, source.from_)
        return self.fitted.of(features, task.meta) if self.fitted is not None else None

    def request(self, view: Mapping[str, Any], sample: int) -> Request:
        """The draft request of a task."""
        messages, logprobs = self.renderer.messages(view), self.signals.needs_logprobs
        return self.drafter.request(messages, self.loaded.output_schema, sample, logprobs=logprobs)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A task that this process is at work on: the digest of its content, and the outcome to come."""

    digest: str
    outcome: asyncio.Future[Outcome]


@dataclass(slots=True)
class Runtime:
    """One pipeline at work in one event loop. `revoked` says of a step why its certificate counts for nothing any more,
    though its file still stands. `calibrating` runs serve nobody: what they validate is no escalation. What ended as
    `again` says is done again when its task comes. `afterwards` is what spot checks and baselines have cost; `looked`
    counts what the former found: whether the draft was right."""

    loaded: LoadedPipeline
    store: Store
    steps: tuple[Step, ...]
    models: dict[str, Model]
    calls: Caller
    apart: Caller
    clock: Callable[[], float]
    mode: Mode
    require: Expression | None
    guards: tuple[tuple[str, Callable[..., Any]], ...]
    task_schema: Any
    outages: Outages
    telemetry: Telemetry | None = None
    in_file: bool = False
    strict_config: bool = False
    again: Again | None = None
    calibrating: bool = False
    inflight: dict[tuple[str, str], UnderWay] = field(default_factory=dict)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    share_at: float = 0.0
    escalations_paused: bool = False
    revoked: dict[str, str] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    backlog: Backlog = field(default_factory=Backlog)
    afterwards: Spent = field(default_factory=Spent)
    looked: Counter[bool] = field(default_factory=Counter)

    @property
    def config(self) -> PipelineConfig:
        return self.loaded.config

    @property
    def keeps_content(self) -> bool:
        return self.config.content.keep != "none"

    def let_go(self, tenant: str, task_key: str, outcome: Outcome | None) -> None:
        """The task is no longer under way: who waits for it gets the outcome, or is told that there is none."""
        ended = self.inflight.pop((tenant, task_key), None)
        if ended is None or ended.outcome.done():
            return
        if outcome is not None:
            ended.outcome.set_result(outcome)
        else:
            ended.outcome.cancel()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Start what no answer waits for; closing does."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def quiet(self) -> None:
        """Wait until nothing is at work in the background, and every spot check answered by then is weighed."""
        await self._idle()
        self.in_background(look_a_last_time(self))
        await self._idle()

    async def _idle(self) -> None:
        while self.background:  # what is waited for may start more
            await asyncio.gather(*self.background, return_exceptions=True)

    async def aclose(self) -> None:
        await self.quiet()
        await self.disconnect()

    async def disconnect(self, *, leave: Collection[str] = ()) -> None:
        """Close what is open to models (but to those named `leave`) and to telemetry; what is under way is lost."""
        for name, model in self.models.items():
            if name not in leave:
                await model.client.aclose()
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)


def build(
    loaded: LoadedPipeline, store: Store, *, clock: Callable[[], float],
    clients: Mapping[str, ModelClient] | None = None, in_file: bool = False,
) -> Runtime:
    """Compile `loaded` for work on `store`. `clients` replace models by name (tests: `testing.ScriptedModel`)."""
    config = loaded.config
    models = {name: _model(loaded, name, (clients or {}).get(name)) for name in config.models}
    keep = config.content.keep
    cache = config.cache.ttl if config.cache and keep != "none" else None
    telemetry = _telemetry(config)
    caller = partial(
        Caller, store=store, pipeline=config.pipeline, book=loaded.book, budget=config.budget, clock=clock,
        cost_center=config.cost_center, telemetry=telemetry,
    )
    return Runtime(
        loaded=loaded, store=store, models=models, clock=clock, mode=config.mode,
        calls=caller(cache_ttl_s=cache, keep_s=keep if isinstance(keep, float) else NO_CACHE_KEEP_S),
        apart=caller(cache_ttl_s=None, keep_s=None),  # for what serves nobody: no answer is kept, so none is read back
        steps=tuple(_step(loaded, i, models) for i in range(len(loaded.steps))),
        require=compile_expression(config.success.require) if config.success.require else None,
        guards=tuple((g, load_callable(g, config.allow_imports)) for g in config.guards),
        task_schema=validator(loaded.task_schema) if loaded.task_schema is not None else None,
        outages=Outages(clock), telemetry=telemetry, in_file=in_file,
    )


def _telemetry(config: PipelineConfig) -> Telemetry | None:
    """None, and nothing of it is even imported, unless it is configured."""
    found = wanted(config.telemetry)
    if found is None:
        return None
    from orchestrator.telemetry import telemetry_of

    return telemetry_of(
        found, pipeline=config.pipeline, version=str(config.version), tags=config.tags,
        direct=config.residency == "local",
    )


def config_entry(loaded: LoadedPipeline, recorded_as: str, now: float) -> ConfigEntry:
    """The configuration as the ledger keeps it: secrets stay unexpanded, `recorded_as` is the mode it ran in."""
    c = loaded.config
    return ConfigEntry(
        config_id=loaded.config_id, pipeline=c.pipeline, version=str(c.version), owner=c.owner,
        cost_center=c.cost_center, mode=recorded_as, body_json=config_body_json(loaded), created_at=now,
    )


def _model(loaded: LoadedPipeline, name: str, replaced: ModelClient | None) -> Model:
    config = loaded.config.models[name]
    client = replaced or client_of(loaded, name)
    gates = [
        EndpointGate(e, max_in_flight=config.max_in_flight, tokens_per_minute=config.tokens_per_minute)
        for e in client.endpoints
    ]
    return Model(
        alias=name, config=config, client=client, pool=EndpointPool(gates),
        retrying=retrying(retries=config.retries, deadline_s=config.deadline),
        identity=model_identity(client.name, client.revision, config),
    )


def _step(loaded: LoadedPipeline, index: int, models: Mapping[str, Model]) -> Step:
    step, config = loaded.steps[index], loaded.config
    allow = config.allow_imports
    compare = compile_compare(step.config.compare, allow)
    signals = compile_signals(
        step.config.signals, output_schema=step.output_schema, output_model=step.output_model, allow_imports=allow,
        compare=compare,
    )
    return Step(
        index=index, loaded=step,
        renderer=Renderer(step.prompt, step.system),
        signals=signals,
        policy=compile_policy(step.policy, allow_imports=allow),
        compare=compare,
        when=compile_expression(step.config.when) if step.config.when else None,
        drafter=models[step.config.draft.model],
        validator=models[step.config.validate_.model] if step.config.validate_ else None,
        features=step.features, keeps_answers=config.content.keep != "none",
        measured=_measured(signals, step),
        fitted=FittedConfidence(step.confidence.fitted) if step.confidence.fitted else None,
        gate=FittedConfidence(step.gate.fitted) if step.gate.fitted else None,
    )


def _measured(signals: SignalSet, step: LoadedStep) -> bytes:
    allowed = [[value for _, value in one.places] for one in step.answers]
    said = signals.fingerprint_json + canonical([step.features, allowed])
    return hashlib.blake2b(said, digest_size=12).hexdigest().encode()


