"""One recorded run under another policy: what would have been done with its task and its draft.

The rules are the real ones, compiled as for a run. `before` rules draw as they drew; `after` rules draw anew, so that
what is drawn now has nothing to do with what was drawn, and seen, then.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.cascade.bounds import enforce
from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.cascade.policy import CompiledPolicy
from orchestrator.cascade.policy_views import AfterView, BeforeDecision, GateReading
from orchestrator.cascade.rules import draw
from orchestrator.cascade.signals import task_features
from orchestrator.config.feature_names import TASK_FEATURES
from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.quality.history.recorded import RecordedDraft
from orchestrator.quality.what_if.plainness import compares_plainly
from orchestrator.quality.what_if.rebuilt import DraftShape, Rebuilt, confidence_at
from orchestrator.records import Decision, Json, Task, ValidateMode

Kind = Literal["accept", "escalate", "hand_off", "unknown"]


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


@dataclass(frozen=True, slots=True)
class Bar:
    """What confidence is compared with; None where nothing certifies a threshold, and `problem` says why."""

    threshold: float | None
    problem: str | None = None


SUREST_BAR, DOUBTFUL_BAR = Bar(-math.inf), Bar(math.inf)
ALWAYS_VALIDATE = Move(kind="escalate", rule="always validate", drafted=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A policy over the recorded runs of one step, `bar` with its threshold. `asks_little`: its `after` rules ask of a
    draft no more than whether signals are ok, its attempt, and which of confidence and threshold is greater; `samples`
    are those of them that draw, and `answered` what they said so far. `asks_task_alone`: its `before` rules draw
    nothing and call nothing, so that they say one thing, `of_nothing`, of all runs of which no content is kept."""

    loaded: LoadedPipeline
    step: LoadedStep
    policy: CompiledPolicy
    shape: DraftShape
    bar: Bar
    fitted: FittedConfidence | None
    gate: FittedConfidence | None
    same_before: bool
    same_redrafts: bool
    reads_content: bool
    asks_little: bool
    samples: tuple[tuple[str, float], ...]
    asks_task_alone: bool
    answered: dict[Hashable, Move] = field(default_factory=dict, compare=False)
    of_nothing: list[tuple[BeforeDecision, frozenset[str]]] = field(default_factory=list, compare=False)

    @property
    def compares_plainly(self) -> bool:
        """Is which of confidence and threshold is greater all that its rules ask of the two?"""
        asked = [rule.config.when or "" for rule in self.policy.afters if rule.reads_confidence]
        return bool(asked) and all(compares_plainly(when) for when in asked)

    def rebuilt(self, draft: RecordedDraft, contents: Mapping[str, Json]) -> Rebuilt:
        """The run, for this policy and any other over the same step."""
        missed: set[str] = set()
        confidence = self._confidence(draft, contents, missed) if draft.features else None
        return Rebuilt(draft, contents, self.shape, confidence=confidence, unknown=frozenset(missed))

    def moves(self, run: Rebuilt, bars: Sequence[Bar]) -> tuple[Move, ...]:
        """What becomes of it, if its confidence is held against each of `bars`. Never raises: what can't be told is a
        move of kind `unknown`."""
        forbid = self._before(run)
        if isinstance(forbid, Move):
            return (forbid,) * len(bars)
        if not self.asks_little:
            return tuple(self._decided(run, forbid, bar) for bar in bars)
        drawn = tuple([draw(_anew(run.draft), name, run.draft.attempts) < sample for name, sample in self.samples])
        alike = (forbid, run.oks, run.unknown, run.parsed, run.draft.attempts, drawn)
        return tuple([self._as_before(alike, run, forbid, bar) for bar in bars])

    def _before(self, run: Rebuilt) -> Move | frozenset[str]:
        """What the `before` rules forbid, where the draft is what decides; else the move."""
        draft = run.draft
        before, missed = self._asked_before(run)
        forbid = before.forbid
        if missed:
            if not (self.same_before and draft.features) or self._may_forbid_validator:
                return _unknown(_not_kept(missed))
            forbid = frozenset()  # the same rules let it pass then
        elif before.action is not None:
            return self._undrafted(before.action, forbid)
        elif self._location(self.step.config.draft.model) in forbid:
            return self._undrafted(Decision(action="escalate", rule="forbid", explanation=""), forbid)
        if not draft.features:
            return _unknown(f"no draft was made of it ({draft.rule or draft.status})")
        if draft.attempts > 1 and not self.same_redrafts:
            return _unknown("its first draft was not kept")
        return forbid

    def _asked_before(self, run: Rebuilt) -> tuple[BeforeDecision, frozenset[str]]:
        """What the `before` rules say, and what they looked for that is not kept."""
        blank = self.asks_task_alone and not run.contents
        if blank and self.of_nothing:
            return self.of_nothing[0]
        run.missed.clear()
        gate = self._gate(run.draft, run.contents, run.missed)
        found = self.policy.before(run.base, run_id=run.draft.run_id, gate=gate), frozenset(run.missed)
        if blank:
            self.of_nothing.append(found)
        return found

    def _decided(self, run: Rebuilt, forbid: frozenset[str], bar: Bar) -> Move:
        draft = run.draft
        run.missed.clear()
        said = self.policy.after(AfterView(
            base=run.base, signals=run.signals, value=run.value, parsed=run.parsed, attempt=draft.attempts,
            confidence=run.confidence, threshold=bar.threshold, certificate_problem=bar.problem,
            lapsed=self.loaded.config.certificate_lapsed, run_id=_anew(draft),
        ))
        if missed := run.missed | run.unknown:
            return _unknown(_not_kept(missed))
        decision = enforce(
            said, escalation_possible=lambda to: self._may_see(to, forbid),
            redraft_possible=draft.attempts < self.step.config.draft.max_attempts,
            spot_check_possible=self._may_see(None, forbid), signals=run.signals, parsed=run.parsed,
        )
        match decision.action:
            case "accept" | "spot_check":
                return Move(kind="accept", rule=decision.rule, check=decision.propensity or 0.0)
            case "escalate":
                return self._escalated(decision)
            case "redraft":
                return _unknown(f"rule {decision.rule!r} wants a further draft, which was never made")
        return Move(kind="hand_off", rule=decision.rule)

    def _as_before(self, alike: Hashable, run: Rebuilt, forbid: frozenset[str], bar: Bar) -> Move:
        """Where the rules ask of a draft no more than this, runs alike in it move alike."""
        c, t = run.confidence, bar.threshold
        asked = (alike, bar, c is None, c is not None and t is not None and (c < t, c >= t))
        found = self.answered.get(asked)
        if found is None:
            found = self.answered[asked] = self._decided(run, forbid, bar)
        return found

    def _undrafted(self, decision: Decision, forbid: frozenset[str]) -> Move:
        if decision.action != "escalate" or not self._may_see(decision.to, forbid):
            return Move(kind="hand_off", rule=decision.rule, drafted=False)
        own = self.step.config.validate_
        if own is None or decision.to not in (None, own.model):
            return _unknown(f"rule {decision.rule!r} asks {decision.to!r}, whose answers were never recorded")
        return Move(kind="escalate", rule=decision.rule, drafted=False)

    def _escalated(self, decision: Decision) -> Move:
        own = self.step.config.validate_
        mode: ValidateMode = decision.mode or (own.mode if own else "redo")
        if own is None or (decision.to and decision.to != own.model):
            return _unknown(f"rule {decision.rule!r} asks {decision.to!r}, whose answers were never recorded")
        if mode not in ("redo", own.mode):
            return _unknown(f"rule {decision.rule!r} validates by {mode!r}, which was never recorded")
        return Move(kind="escalate", rule=decision.rule, anew=mode == "redo")

    def _may_see(self, to: str | None, forbid: frozenset[str]) -> bool:
        """May the validator that a rule names (None: the step's own) be sent this task?"""
        own = self.step.config.validate_
        model = to or (own.model if own else None)
        return model is not None and self._location(model) not in forbid

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
            threshold=self.step.gate.value, problem=self.step.gate.problem,
            lapsed=self.loaded.config.certificate_lapsed,
        )


def _meta(draft: RecordedDraft, contents: Mapping[str, Json]) -> Mapping[str, Any]:
    said = contents.get("task")
    return draft.tags if said is None else said["meta"]


def _anew(draft: RecordedDraft) -> str:
    """By what an `after` rule draws now."""
    return f"what-if:{draft.run_id}"


def _not_kept(missed: AbstractSet[str]) -> str:
    return f"not kept: {', '.join(sorted(missed))}"


def _unknown(why: str) -> Move:
    return Move(kind="unknown", rule="", why=why)
