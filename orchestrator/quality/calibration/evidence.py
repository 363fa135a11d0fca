"""What a calibration stands on: drafts whose truth is known, from whichever source, and where it is all done."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from orchestrator.cascade.rules import draw
from orchestrator.quality.records import Loss, Record
from orchestrator.records import Features, Json, Money

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedPipeline, LoadedStep
    from orchestrator.models.client import ModelClient
    from orchestrator.quality.calibration.elsewhere import Elsewhere
    from orchestrator.store.engine import Store
    from orchestrator.store.lapses import Change

Reference = Literal["label", "proof", "validator"]
Bars = Callable[[str, int], contextlib.AbstractContextManager[Callable[[], object]]]
"""Shows long work: (words, how much of it) -> a context manager that gives what is called once a piece."""


@contextlib.contextmanager
def no_bars(words: str, total: int) -> Iterator[Callable[[], object]]:
    """Shows nothing."""
    yield lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One draft whose truth is known. `id` tells records apart from one calibration to the next; `score` is the raw
    confidence (None: not measured). `at` is when it was drafted, in epoch seconds, and `run` the run that it was
    drafted in: a task that is drafted anew is drafted in another. The rest as in `Record`."""

    id: str
    score: float | None
    draft_ok: bool
    validator_ok: bool | None = None
    draft_cost: Money | None = None
    validator_cost: Money | None = None
    propensity: float = 1.0
    features: Features = field(default_factory=dict)
    meta: Mapping[str, Json] = field(default_factory=dict)
    at: float | None = None
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlabelled:
    """A draft of another task of the same stream, whose truth is not known: it says how scores are spread."""

    id: str
    score: float | None
    features: Features = field(default_factory=dict)
    meta: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Such drafts, and how many more there were that tell nothing of today's."""

    drafts: tuple[Unlabelled, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`known` are the drafts that came to the rule that compares the confidence, of `tasks` looked at. `notes` are
    what a reader of the certificate should know of where they come from. `escalations` are what recorded ones of the
    step cost, where the `validator_cost` of each of `known` is that of the validator's own answer (None: such a cost
    stands for that where it is not known). `elsewhere` counts the tasks that did not come to that rule, by what
    decided them; `came` those that did, their truth known or not (None: all are known). `fewer` says why some records
    were left out, for whoever has too few."""

    source: str
    known: tuple[Known, ...]
    tasks: int
    reference: Reference
    traffic: tuple[Unlabelled, ...] = ()
    notes: tuple[str, ...] = ()
    escalations: tuple[Money, ...] | None = ()
    elsewhere: Elsewhere = field(default_factory=dict)
    came: int | None = None
    fewer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The guarantee that is asked for, and how. `step` None: the last. `attempt` None: as the certificate in place
    says. `fit_share` of the records is set apart to fit a confidence on. `traffic`: recorded drafts without a label
    may sharpen the test."""

    max_regret: float
    confidence: float = 0.90
    loss: Loss = "regret"
    step: str | None = None
    gate: bool = False
    attempt: int | None = None
    fit_share: float = 0.4
    traffic: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What stands in the ids under which drafts and validations of one configuration are known in the store; `earlier`
    in those of drafts made before the last change."""

    draft: str
    validation: str
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a calibration is done: the pipeline, the step, the store, and what stands for models and clock. `changes`
    are those by which certificates of the step were revoked, the latest last."""

    loaded: LoadedPipeline
    step: LoadedStep
    store: Store
    asked: Asked
    marks: Marks
    clients: Mapping[str, ModelClient] | None = None
    concurrency: int = 64
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    bars: Bars = no_bars
    changes: tuple[Change, ...] = ()

    @property
    def changed(self) -> Change | None:
        """The last change: what was drafted before it tells nothing of today."""
        return self.changes[-1] if self.changes else None

    @property
    def fits(self) -> bool:
        """Is a confidence fitted, so that a share of the records is set apart?"""
        confidence = self.step.config.confidence
        return self.asked.gate or (confidence is not None and confidence.fitted is not None)


Source = Callable[[Place], Awaitable[Evidence]]
"""Where records come from: labels, the ledger, money spent on validations."""


def as_records(known: Sequence[Known], scores: Sequence[float | None]) -> list[Record]:
    """Records for `certify`, with `scores` in the order of `known`. Costs in more than one currency can't be added:
    then they are unknown."""
    costs = [cost for one in known for cost in (one.draft_cost, one.validator_cost) if cost is not None]
    comparable = len({cost.currency for cost in costs}) <= 1
    return [
        Record(
            score=math.nan if score is None else score, draft_ok=one.draft_ok, validator_ok=one.validator_ok,
            draft_cost=one.draft_cost.nano if one.draft_cost is not None and comparable else None,
            validator_cost=one.validator_cost.nano if one.validator_cost is not None and comparable else None,
            propensity=one.propensity,
        )
        for one, score in zip(known, scores, strict=True)
    ]


def in_order(known: Sequence[Known]) -> tuple[Known, ...]:
    """By their ids, not by who answered first: folds and thinning go by place, and the same records must come to the
    same fit and the same threshold each time."""
    return tuple(sorted(known, key=lambda one: one.id))


def place_of(record_id: str, seed: int) -> float:
    """Where a record stands in [0, 1), the same in every calibration of this seed: splits by it are stable."""
    return draw(str(seed), record_id)
