"""What an assessment looks at: drafts beside the frontier model's answers to the same requests."""

from __future__ import annotations

from dataclasses import dataclass

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
    """All that was seen, from where, with what a reader should know of it."""

    source: str
    seen: tuple[Seen, ...]
    notes: tuple[str, ...] = ()
    bad_lines: tuple[BadLine, ...] = ()
