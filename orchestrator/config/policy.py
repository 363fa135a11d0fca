"""The policy file: two lists of rules. `before` sees the task only, `after` sees the draft too."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from orchestrator.config.pipeline import Name, Strict
from orchestrator.config.quantities import SomeShare
from orchestrator.records import Location, ValidateMode

BeforeAction = Literal["escalate", "hand_off", "decline"]
AfterAction = Literal["accept", "redraft", "escalate", "spot_check", "hand_off", "decline"]


class Rule(Strict):
    """`when` is CEL (left out: always); `guard` is an allow-listed callable instead of CEL;
    `sample` is a probability, drawn by a generator keyed by the run's id."""

    name: Name
    when: str | None = None
    guard: str | None = None
    sample: SomeShare | None = None
    message: str | None = None

    @model_validator(mode="after")
    def _one_test(self) -> Rule:
        if self.when is not None and self.guard is not None:
            raise ValueError("a rule has `when:` or `guard:`, not both")
        return self


class BeforeRule(Rule):
    forbid: tuple[Location, ...] = ()
    then: BeforeAction | None = None
    mode: ValidateMode | None = None
    to: Name | None = None

    @model_validator(mode="after")
    def _does_one_thing(self) -> BeforeRule:
        if bool(self.forbid) == bool(self.then):
            raise ValueError("a `before` rule has either `forbid:` or `then:`")
        return self


class AfterRule(Rule):
    then: AfterAction
    mode: ValidateMode | None = None
    to: Name | None = None

    @model_validator(mode="after")
    def _sampled(self) -> AfterRule:
        if self.then == "spot_check" and self.sample is None:
            raise ValueError("`then: spot_check` needs `sample:`, the probability that is logged")
        return self


class PolicyConfig(Strict):
    policy: Name
    before: tuple[BeforeRule, ...] = ()
    after: tuple[AfterRule, ...] = ()
    otherwise: Literal["accept", "escalate", "hand_off", "decline"] = "escalate"
