"""A policy, compiled: two lists of rules in, one decision with its explanation out. Pure: no I/O, no clock.

**Fail closed.** A `before` rule that cannot be evaluated forbids remote models for that task; an `after` rule that
cannot be evaluated escalates; nothing accepts a draft with a required signal that is not ok; what cannot be escalated
is handed off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from orchestrator.cascade.bounds import broken
from orchestrator.cascade.policy_views import AfterView, BeforeDecision, GateReading
from orchestrator.cascade.rules import CompiledRule, compile_rule, draw
from orchestrator.config.policy import AfterRule, BeforeRule, PolicyConfig
from orchestrator.declared_fields import AFTER, BEFORE, DeclaredFields
from orchestrator.errors import ConfigError, ExpressionError
from orchestrator.expressions import check_expression
from orchestrator.records import Action, Decision, Fate, ValidateMode

OTHERWISE = "otherwise"
_PLAIN = "confidence < threshold"


@dataclass(slots=True)
class _Path:
    """How far `after` has come. `propensity`: the probability with which a rule so far would have spot-checked."""

    view: AfterView
    seen_confidence: bool = False
    propensity: float | None = None

    def reaches(self, sample: float) -> None:
        before = self.propensity
        self.propensity = sample if before is None else 1.0 - (1.0 - before) * (1.0 - sample)


class _Would(NamedTuple):
    """What a rule does with a draft if it is drawn, with probability `chance`; `propensity` is the path's up to it."""

    action: Action
    name: str
    words: str
    propensity: float | None
    chance: float = 1.0
    mode: ValidateMode | None = None
    to: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPolicy:
    """A policy ready to decide. May be shared between threads."""

    config: PolicyConfig
    forbids: tuple[CompiledRule[BeforeRule], ...]
    deciders: tuple[CompiledRule[BeforeRule], ...]
    afters: tuple[CompiledRule[AfterRule], ...]

    @property
    def reads_gate(self) -> bool:
        return any(rule.reads_gate for rule in (*self.forbids, *self.deciders))

    def before(
        self, view: Mapping[str, Any], *, run_id: str = "", gate: GateReading | None = None
    ) -> BeforeDecision:
        """Decide on the task alone. `view` binds `task` ({input, meta} or a Task) and `steps`. Never raises.

        Every `forbid` is evaluated first; then the first rule that matches decides. Without a `gate`, as in a
        calibration, no task is stopped by one: the rules that decide by it are passed over.
        """
        if gate is not None:
            view = {**view, **gate.bindings()}
        forbid: set[str] = set()
        problems: list[str] = []
        reasons: list[str] = []
        for rule in self.forbids:
            if _holds_before(rule, view, run_id, problems):
                forbid.update(rule.config.forbid)
                reasons.append(f"{rule.name}: {rule.words}: forbids {', '.join(rule.config.forbid)}")
        action = self._decider(view, run_id, problems, gate)
        if problems:
            forbid.add("remote")
        words = "; ".join([*problems, *reasons, *([action.explanation] if action else [])])
        if action is not None:
            action = replace(action, forbid=frozenset(forbid), explanation=words)
        return BeforeDecision(
            forbid=frozenset(forbid), action=action, explanation=words or "no `before` rule matched",
            problems=tuple(problems),
        )

    def _decider(
        self, view: Mapping[str, Any], run_id: str, problems: list[str], gate: GateReading | None
    ) -> Decision | None:
        for rule in self.deciders:
            known = len(problems)
            then = rule.config.then
            assert then is not None
            if rule.reads_gate and gate is None:
                continue
            if rule.reads_gate and gate is not None and gate.fault:
                return _decided(gate.lapsed, rule.config, f"{rule.name}: {rule.words}: {gate.fault}")
            if _holds_before(rule, view, run_id, problems):
                words = f"{rule.name}: {rule.words}" + (f": {rule.config.message}" if rule.config.message else "")
                return _of_gate(_decided(then, rule.config, words), gate if rule.reads_gate else None)
            if len(problems) > known and then in ("hand_off", "decline"):
                # the task may be one that no model should answer, and only a person can tell
                return _decided("hand_off", rule.config, f"{rule.name} might have said {then}")
        return None

    def after(self, view: AfterView) -> Decision:
        """Decide on the draft: the first rule that matches, else `otherwise`. Never raises, always explains.

        With a draw, the rules behind it are asked as well, for the `fates` that the draft might have had. What is
        possible (redrafts left, escalation allowed), and the chances that follow, are `enforce`'s to say.
        """
        path, bindings = _Path(view), view.bindings()
        chosen: _Would | None = None
        fates: list[Fate] = []
        for rule in self.afters:
            would = _apply(rule, bindings, path)
            if would is None:
                continue
            fates.append(Fate(would.action, would.chance, would.to))
            if chosen is None and (would.chance == 1.0 or draw(view.run_id, rule.name, view.attempt) < would.chance):
                chosen = would
            if would.chance == 1.0:
                break
        else:
            fates.append(Fate(self.config.otherwise))
            chosen = chosen or _Would(self.config.otherwise, OTHERWISE, _passed_over(path), path.propensity)
        assert chosen is not None, "what draws nothing decides"
        return _settled(chosen, path, tuple(fates))

    def check(self, fields: DeclaredFields) -> list[str]:
        """What is wrong with the rules' expressions under the declared fields; a `before` rule sees the task only."""
        return [*self._check("before", replace(fields, roots=BEFORE)), *self._check("after", fields)]

    def _check(self, part: Literal["before", "after"], fields: DeclaredFields) -> Iterator[str]:
        rules: Sequence[BeforeRule | AfterRule] = self.config.before if part == "before" else self.config.after
        for rule in rules:
            for problem in check_expression(rule.when, fields=fields) if rule.when is not None else ():
                yield f"{part} rule {rule.name!r}: {problem}"


def compile_policy(policy: PolicyConfig, *, allow_imports: Sequence[str] = ()) -> CompiledPolicy:
    """Compile every rule. Raises ConfigError, with the rule's name, on what does not compile or may not be imported."""
    for name in (names := [rule.name for rule in (*policy.before, *policy.after)]):
        if names.count(name) > 1 or name == OTHERWISE:
            raise ConfigError(f"policy {policy.policy!r}: the name {name!r} is taken: give each rule its own", key=name)
    before = [compile_rule(policy.policy, rule, allow_imports) for rule in policy.before]
    after = [compile_rule(policy.policy, rule, allow_imports) for rule in policy.after]
    for rules, known, place in ((before, BEFORE, "before the draft"), (after, AFTER, "after the draft")):
        for rule in rules:
            if unknown := ", ".join(sorted(rule.reads - known)):
                raise ConfigError(f"policy {policy.policy!r}, rule {rule.name!r} reads {unknown}: {place} it can't")
    return CompiledPolicy(
        config=policy,
        forbids=tuple(rule for rule in before if rule.config.forbid),
        deciders=tuple(rule for rule in before if rule.config.then),
        afters=tuple(after),
    )


def _holds_before(
    rule: CompiledRule[BeforeRule], view: Mapping[str, Any], run_id: str, problems: list[str]
) -> bool:
    try:
        return rule.matches(view) and (rule.config.sample is None or _drawn(rule, run_id))
    except ExpressionError as error:
        problems.append(f"{rule.name} cannot be evaluated ({error}): remote models are forbidden for this task")
        return False


def _drawn(rule: CompiledRule[BeforeRule], run_id: str) -> bool:
    if not run_id:
        raise ExpressionError("a sample is drawn by the run's id, and none was given")
    return draw(run_id, rule.name) < (rule.config.sample or 0.0)


def _apply(rule: CompiledRule[AfterRule], bindings: Mapping[str, Any], path: _Path) -> _Would | None:
    """What one `after` rule would do with the draft, if it is drawn; None where its test does not hold."""
    view, config = path.view, rule.config
    if rule.reads_confidence:
        path.seen_confidence = True
        if view.threshold is None:
            why = view.certificate_problem or "there is no threshold"
            return _Would(view.lapsed, rule.name, f"{rule.name}: {rule.words}: {why}", path.propensity)
        if view.confidence is None:
            words = f"{rule.name} cannot be evaluated: confidence is unknown"
            return _Would("escalate", rule.name, words, path.propensity)
    try:
        if not rule.matches(bindings, view.value):
            return None
    except ExpressionError as error:
        return _Would("escalate", rule.name, f"{rule.name} cannot be evaluated ({error})", path.propensity)
    words = f"{rule.name}: {rule.words}"
    if rule.reads_confidence:
        words = f"{rule.name}: {view.comparison()}" if rule.words == _PLAIN else f"{words}; {view.comparison()}"
    if config.sample is not None:
        if config.then == "spot_check":
            path.reaches(config.sample)
        words += f"; drawn with probability {config.sample:g}"
    return _Would(
        config.then, rule.name, words, path.propensity, config.sample or 1.0, config.mode, config.to, config.message
    )


def _passed_over(path: _Path) -> str:
    words = "otherwise: no rule matched"
    if path.seen_confidence:
        words += f"; {path.view.comparison()}"
    if path.propensity is not None:
        words += f"; not drawn for a spot check (probability {path.propensity:g})"
    return words


def _settled(chosen: _Would, path: _Path, fates: tuple[Fate, ...]) -> Decision:
    """The decision, with its numbers; accepting is refused here to a broken draft, whatever rule says so."""
    view, action, words = path.view, chosen.action, chosen.words
    fault = broken(view.signals, view.parsed) if action in ("accept", "spot_check") else None
    if fault:
        action, words = "escalate", f"{words}; not accepted: {fault}"
    return Decision(
        action=action, rule=chosen.name, explanation=words, confidence=view.confidence, threshold=view.threshold,
        certified=view.certified and view.threshold is not None, propensity=chosen.propensity,
        spot_check=action == "spot_check", mode=chosen.mode, to=chosen.to, message=chosen.message,
        compared=path.seen_confidence, fates=fates,
    )


def _decided(action: Action, rule: BeforeRule, words: str) -> Decision:
    return Decision(
        action=action, rule=rule.name, explanation=words, mode=rule.mode, to=rule.to, message=rule.message
    )


def _of_gate(decision: Decision, gate: GateReading | None) -> Decision:
    """`decision` with the numbers that a gate's rule compared."""
    if gate is None:
        return decision
    words = f"{decision.explanation} (gate {gate.probability:.4g}, threshold {gate.threshold:.4g})"
    return replace(decision, confidence=gate.probability, threshold=gate.threshold, explanation=words)
