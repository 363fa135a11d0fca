"""What a policy needs of the validator and the drafter, and what of it was seen, pooled."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.quality.what_if.groups import Group


@dataclass(frozen=True, slots=True)
class Need:
    """How much of each part a policy buys for one task: 1 of what it surely asks for, else the probability."""

    draft: float = 0.0
    verdict: float = 0.0
    alone: float = 0.0


@dataclass(slots=True)
class Pool:
    """Those of a cell that need one part: `seen` of them with known cost; `owed` is how much the others need.
    `by_chance`: nothing but a draw tells the seen from the others."""

    by_chance: bool = True
    seen: int = 0
    total: int = 0
    squares: int = 0
    owed: float = 0.0
    unseen: int = 0

    def add(self, group: Group, part: int, share: float) -> None:
        if group.knows(part):
            self.seen += group.n
            self.total += group.sums.total(part)
            self.squares += group.sums.squares(part)
        else:
            self.owed, self.unseen = self.owed + share * group.n, self.unseen + group.n

    @property
    def mean(self) -> float:
        return self.total / self.seen

    @property
    def weight(self) -> float:
        """How much of what was not seen each that was seen stands for."""
        return self.owed / self.seen if self.seen else 0.0

    @property
    def variance(self) -> float:
        if self.seen < 2:
            return 0.0
        found = (self.seen * self.squares - self.total**2) / (self.seen * (self.seen - 1))
        return found if found > 1e-12 * self.mean**2 else 0.0
