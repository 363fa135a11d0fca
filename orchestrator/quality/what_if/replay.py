"""One recorded run under another policy: what would have been done with its task and its draft.

The rules are the real ones, compiled as for a run. `before` rules draw as they drew; `after` rules draw anew, so that
what is drawn now has nothing to do with what was drawn, and seen, then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.cascade.policy import CompiledPolicy, compile_policy, enforce
from orchestrator.cascade.policy_views import AfterView, GateReading
from orchestrator.cascade.rules import CompiledRule
from orchestrator.cascade.signals import compile_signals, task_features
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.feature_names import TASK_FEATURES, signal_names
from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.config.pipeline import Compared
from orchestrator.config.policy import AfterRule, PolicyConfig
from orchestrator.quality.history.recorded import RecordedDraft
from orchestrator.quality.what_if.rebuilt import DraftShape, confidence_at, draft_of, signals_of, steps_of, task_of
from orchestrator.records import Decision, Json, Task, ValidateMode

Kind = Literal["accept", "escalate", "hand_off", "unknown"]
_PLAIN = re.compile(r"(?<![\w.])confidence\s*(<|>=)\s*threshold\b(?!\s*[-+*/%.])")
_CONTENT = frozenset({"task", "steps", "value"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a policy does with one run. `drafted`: the drafter goes first. `anew`: the validator does the task itself
    (redo). `check` is the probability of a spot check. `why` says why an unknown move is one; a task that is declined
    counts as handed off."""

    kind: Kind
    rule: str
    drafted: bool = True
    anew: bool = True
    check: float = 0.0
    why: str = ""


ALWAYS_VALIDATE = Move(kind="escalate", rule="always validate", drafted=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A policy over the recorded runs of one step. `threshold` is what confidence is compared with, None where nothing
    certifies one (`problem` says why)."""

    loaded: LoadedPipeline
    step: LoadedStep
    policy: CompiledPolicy
    shape: DraftShape
    threshold: float | None
    problem: str | None
    gate_threshold: float | None
    fitted: FittedConfidence | None
    gate: FittedConfidence | None
    same_before: bool
    same_redrafts: bool
    reads_content: bool

    @property
    def compares_plainly(self) -> bool:
        """Is which of confidence and threshold is greater all that its rules ask of the two?"""
        asked = [rule.config.when or "" for rule in self.policy.afters if rule.reads_confidence]
        return bool(asked) and not any(reads_confidence(_PLAIN.sub("true", when)) for when in asked)

    def at(self, threshold: float) -> Replay:
        """The same policy with another threshold."""
        return replace(self, threshold=threshold, problem=None)

    def confidence(self, draft: RecordedDraft, contents: Mapping[str, Json]) -> float | None:
        return self._confidence(draft, contents, set()) if draft.features else None

    def move(self, draft: RecordedDraft, contents: Mapping[str, Json]) -> Move:
        """What becomes of it. Never raises: what can't be told is a move of kind `unknown`."""
        missed: set[str] = set()
        task = task_of(contents, missed)
        steps = {} if self.shape.alone else steps_of(contents, self.step.config.id, missed)
        base = {"task": task, "steps": steps}
        before = self.policy.before(base, run_id=draft.run_id, gate=self._gate(draft, contents, missed))
        forbid = before.forbid
        if missed:
            if not (self.same_before and draft.features) or self._may_forbid_validator:
                return _unknown(_not_kept(missed))
            forbid = frozenset()  # the same rules let it pass then
            missed.clear()
        elif before.action is not None:
            return self._undrafted(before.action, forbid)
        elif self._location(self.step.config.draft.model) in forbid:
            return self._undrafted(Decision(action="escalate", rule="forbid", explanation=""), forbid)
        if not draft.features:
            return _unknown(f"no draft was made of it ({draft.rule or draft.status})")
        if draft.attempts > 1 and not self.same_redrafts:
            return _unknown("its first draft was not kept")
        return self._after(draft, contents, base, forbid, missed)

    def _after(
        self, draft: RecordedDraft, contents: Mapping[str, Json], base: Mapping[str, Any], forbid: frozenset[str],
        missed: set[str],
    ) -> Move:
        value, parsed = draft_of(draft, self.shape, contents, missed)
        signals = signals_of(draft, self.shape, missed)
        said = self.policy.after(AfterView(
            base=base, signals=signals, value=value, parsed=parsed, attempt=draft.attempts,
            confidence=self._confidence(draft, contents, missed), threshold=self.threshold,
            certificate_problem=self.problem, lapsed=self.loaded.config.certificate_lapsed,
            run_id=f"what-if:{draft.run_id}",
        ))
        if missed:
            return _unknown(_not_kept(missed))
        validator = self._validator(said)
        possible = validator is not None and self._location(validator) not in forbid
        decision = enforce(
            said, escalation_possible=possible, redraft_possible=draft.attempts < self.step.config.draft.max_attempts,
            spot_check_possible=possible, signals=signals, parsed=parsed,
        )
        match decision.action:
            case "accept" | "spot_check":
                return Move(kind="accept", rule=decision.rule, check=decision.propensity or 0.0)
            case "escalate":
                return self._escalated(decision)
            case "redraft":
                return _unknown(f"rule {decision.rule!r} wants a further draft, which was never made")
        return Move(kind="hand_off", rule=decision.rule)

    def _undrafted(self, decision: Decision, forbid: frozenset[str]) -> Move:
        validator = self._validator(decision)
        if decision.action != "escalate" or validator is None or self._location(validator) in forbid:
            return Move(kind="hand_off", rule=decision.rule, drafted=False)
        own = self.step.config.validate_
        if own is None or validator != own.model:
            return _unknown(f"rule {decision.rule!r} asks {validator!r}, whose answers were never recorded")
        return Move(kind="escalate", rule=decision.rule, drafted=False)

    def _escalated(self, decision: Decision) -> Move:
        own = self.step.config.validate_
        mode: ValidateMode = decision.mode or (own.mode if own else "redo")
        if own is None or (decision.to and decision.to != own.model):
            return _unknown(f"rule {decision.rule!r} asks {decision.to!r}, whose answers were never recorded")
        if mode not in ("redo", own.mode):
            return _unknown(f"rule {decision.rule!r} validates by {mode!r}, which was never recorded")
        return Move(kind="escalate", rule=decision.rule, anew=mode == "redo")

    def _validator(self, decision: Decision) -> str | None:
        own = self.step.config.validate_
        return decision.to or (own.model if own else None)

    @property
    def _may_forbid_validator(self) -> bool:
        own = self.step.config.validate_
        return own is not None and any(self._location(own.model) in rule.config.forbid for rule in self.policy.forbids)

    def _location(self, model: str) -> str:
        return self.loaded.config.models[model].location

    def _confidence(self, draft: RecordedDraft, contents: Mapping[str, Json], missed: set[str]) -> float | None:
        source = self.step.config.confidence
        if source is None:
            return None
        if source.from_ is not None:
            return confidence_at(draft, source.from_, self.shape, missed)
        return self.fitted.of(draft.features, _meta(draft, contents)) if self.fitted is not None else None

    def _gate(self, draft: RecordedDraft, contents: Mapping[str, Json], missed: set[str]) -> GateReading | None:
        if not self.policy.reads_gate:
            return None
        numbers: Mapping[str, float | None] = draft.features
        said = contents.get("task")
        if said is not None:
            found = task_features(Task(input=said["input"], meta=said["meta"]))
            numbers = dict(zip(TASK_FEATURES, found, strict=True))
        elif not numbers:
            missed.add("the task's content")
        return GateReading(
            probability=self.gate.of(numbers, _meta(draft, contents)) if self.gate is not None else None,
            threshold=self.gate_threshold, problem=self.step.gate_problem,
            lapsed=self.loaded.config.certificate_lapsed,
        )


def replaying(
    loaded: LoadedPipeline, step: LoadedStep, policy: PolicyConfig, *, threshold: float | None = None
) -> Replay:
    """`policy` over the recorded runs of `step`, with the step's own threshold unless another is given.

    Raises ConfigError, with the rule's name, for what does not compile.
    """
    config = loaded.config
    compiled = compile_policy(policy, allow_imports=config.allow_imports)
    signals = compile_signals(
        step.config.signals, output_schema=step.output_schema, allow_imports=config.allow_imports
    )
    schema = step.output_schema
    rules: Sequence[CompiledRule[Any]] = [*compiled.forbids, *compiled.deciders, *compiled.afters]
    return Replay(
        loaded=loaded, step=step, policy=compiled,
        shape=DraftShape(
            step=step.config.id, kinds=tuple(signal_names(step.config)), required=signals.required,
            structured=schema is not None, text=schema is not None and schema.get("type") not in ("object", "array"),
            alone=len(loaded.steps) == 1,
        ),
        threshold=_threshold(step.config.confidence, step.certificate, step.certificate_problem)
        if threshold is None else threshold,
        problem=step.certificate_problem if threshold is None else None,
        gate_threshold=_threshold(step.config.gate, step.gate_certificate, step.gate_problem),
        fitted=FittedConfidence(step.confidence_artefact) if step.confidence_artefact else None,
        gate=FittedConfidence(step.gate_artefact) if step.gate_artefact else None,
        same_before=_said(policy.before) == _said(step.policy.before),
        same_redrafts=_redrafts_alike(policy, step.policy),
        reads_content=compiled.reads_gate or any(
            rule.config.guard or not rule.reads.isdisjoint(_CONTENT) for rule in rules
        ),
    )


def _threshold(
    compared: Compared | None, certificate: Mapping[str, Any] | None, problem: str | None
) -> float | None:
    if compared is None or problem:
        return None
    found = compared.threshold if certificate is None else certificate["threshold"]
    return None if found is None else float(found)


def _redrafts_alike(policy: PolicyConfig, recorded: PolicyConfig) -> bool:
    """Would both have had the same drafts made anew? Where their rules are the same up to the last that redrafts, and
    that one stands among those that recorded runs have in common: before the confidence is compared."""
    return _said(up_to := _until_last_redraft(policy)) == _said(_until_last_redraft(recorded)) and not any(
        rule.when is not None and reads_confidence(rule.when) for rule in up_to
    )


def _until_last_redraft(policy: PolicyConfig) -> Sequence[AfterRule]:
    last = max((i for i, rule in enumerate(policy.after) if rule.then == "redraft"), default=-1)
    return policy.after[: last + 1]


def _said(rules: Sequence[Any]) -> list[Any]:
    return [rule.model_dump(mode="json", exclude={"name", "message"}) for rule in rules]


def _meta(draft: RecordedDraft, contents: Mapping[str, Json]) -> Mapping[str, Any]:
    said = contents.get("task")
    return draft.tags if said is None else said["meta"]


def _not_kept(missed: set[str]) -> str:
    return f"not kept: {', '.join(sorted(missed))}"


def _unknown(why: str) -> Move:
    return Move(kind="unknown", rule="", why=why)
