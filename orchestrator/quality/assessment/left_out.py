"""Lines of a log that are left out: counted by the kind of reason, the first of them kept with theirs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.quality.assessment.request_logs import BadLine

SHOWN = 20
BREAKS_SCHEMA = "whose answer breaks the output schema"


@dataclass(slots=True)
class LeftOut:
    """`lines` are the first `SHOWN`; `counts` and `firsts` are of all, by the kind of reason."""

    lines: list[BadLine] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, BadLine] = field(default_factory=dict)

    def add(self, line: BadLine) -> None:
        self.counts[line.kind] += 1
        self.firsts.setdefault(line.kind, line)
        if len(self.lines) < SHOWN:
            self.lines.append(line)

    def notes(self) -> list[str]:
        """What a reader should know of them. Answers that no draft could equal are told apart: they are no faults of
        the log."""
        others = [(kind, n) for kind, n in self.counts.most_common() if kind != BREAKS_SCHEMA]
        notes = []
        if others:
            first = next(one for kind, one in self.firsts.items() if kind != BREAKS_SCHEMA)
            kinds, n = ", ".join(f"{n} {kind}" for kind, n in others), sum(n for _, n in others)
            one = f"1 line left out: {_told(first)}"
            notes.append(one if n == 1 else f"{n} lines left out: {kinds} (first: {_told(first)})")
        if broken := self.counts[BREAKS_SCHEMA]:
            answers = "1 answer left out breaks" if broken == 1 else f"{broken} answers left out break"
            notes.append(f"{answers} the step's output schema ({_told(self.firsts[BREAKS_SCHEMA])})")
        return notes


def _told(line: BadLine) -> str:
    return f"line {line.number}: {line.why}"
