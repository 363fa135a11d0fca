"""What an assessment looks at: drafts beside the frontier model's answers to the same requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.quality.assessment.request_logs import BadLine
from orchestrator.quality.calibration.evidence import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One draft and what became of it. `reached`: it came to the rule that compares the confidence;
    `accepted_anyway`: a rule before that one accepted it. What is neither goes to the validator."""

    known: Known
    reached: bool
    accepted_anyway: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that was seen, from where, with what a reader should know of it. `kept` of the drafts were there before.
    `own_cost` says what stands for the cost of the validator's own answer, where the ledger does not hold it.
    `lines_left_out` counts them by the kind of reason, and `bad_lines` are the first."""

    source: str
    seen: tuple[Seen, ...]
    own_cost: str = ""
    kept: int = 0
    notes: tuple[str, ...] = ()
    lines_left_out: Mapping[str, int] = field(default_factory=dict)
    bad_lines: tuple[BadLine, ...] = ()
