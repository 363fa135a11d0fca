"""What a policy is asked about, and what it answers before the draft: views of a task, its gate and its draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.records import Decision, Json, Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeDecision:
    """What the task alone decides. `action` is None where the drafter may go on. `forbid` holds locations.

    `problems` are the rules that could not be evaluated, in words.
    """

    forbid: frozenset[str]
    action: Decision | None
    explanation: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReading:
    """What a step's gate says of a task: the probability that its draft will do, and what that is compared with.

    `threshold` None: nothing valid certifies one, and `problem` says why. `lapsed` is the pipeline's
    `certificate_lapsed`.
    """

    probability: float | None
    threshold: float | None
    problem: str | None = None
    lapsed: Literal["escalate", "hand_off"] = "escalate"

    def bindings(self) -> dict[str, Any]:
        return {"gate": self.probability, "gate_threshold": self.threshold}

    @property
    def fault(self) -> str | None:
        """Why no rule can compare it."""
        if self.threshold is None:
            return self.problem or "there is no threshold"
        return "the gate is unknown" if self.probability is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterView:
    """What the `after` rules see. `base` binds `task` and `steps`, as `before` sees them.

    `threshold` None: nothing valid certifies one, and `certificate_problem` says why. `guarantee` is the
    certificate's, in words ("regret <= 3% with 90% confidence"). `lapsed` is the pipeline's `certificate_lapsed`.
    """

    base: Mapping[str, Any]
    signals: Mapping[str, Signal]
    value: Json
    parsed: bool
    confidence: float | None
    threshold: float | None
    attempt: int
    run_id: str
    certified: bool = False
    certificate_problem: str | None = None
    guarantee: str = ""
    lapsed: Literal["escalate", "hand_off"] = "escalate"

    def bindings(self) -> dict[str, Any]:
        return {
            **self.base, "signals": self.signals, "value": self.value, "confidence": self.confidence,
            "threshold": self.threshold, "attempt": self.attempt,
        }

    def comparison(self) -> str:
        """"confidence -0.31 < threshold -0.12 (certified: regret <= 3% with 90% confidence)", as far as known."""
        c, t = self.confidence, self.threshold
        if c is None or t is None:
            return "confidence is unknown" if c is None else f"confidence {c:.4g}, no threshold"
        shown = (f"{c:.4g}", f"{t:.4g}")
        if shown[0] == shown[1] and c != t:
            shown = (repr(c), repr(t))
        kind = "UNCERTIFIED threshold"
        if self.certified:
            kind = f"certified: {self.guarantee}" if self.guarantee else "certified"
        return f"confidence {shown[0]} {'<' if c < t else '>='} threshold {shown[1]} ({kind})"
