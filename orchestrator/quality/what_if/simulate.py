"""`orchestrator simulate`: what another policy would have done with the runs that are recorded.

ledger -> each run under both policies -> who is right and what it costs -> figures with intervals, or a refusal

**Where nothing could ever have shown whether a draft is right that would now be accepted, it refuses**, and names the
rule that would have to explore.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from orchestrator.cascade.policy import broken
from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.config.policy import PolicyConfig
from orchestrator.errors import InputError
from orchestrator.quality.history.recorded import PAGE, Readable, RecordedDraft, each_recorded
from orchestrator.quality.what_if.cases import Case, always_draft, case_of
from orchestrator.quality.what_if.frontier import Frontier, frontier
from orchestrator.quality.what_if.nothing import nothing_to_replay
from orchestrator.quality.what_if.rebuilt import draft_of, signals_of
from orchestrator.quality.what_if.replay import ALWAYS_VALIDATE, Move, Replay, replaying
from orchestrator.quality.what_if.what_if import Figure, PolicyFigures, figures, unsupported
from orchestrator.records import Json, Money
from orchestrator.store.outcomes import contents_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What became of the question. `policies`: the present one, the proposed one where there is one, always draft,
    always validate. `not_told` counts, by reason, runs whose move under a policy can't be known. Times are epoch
    seconds; costs are in `currency`."""

    pipeline: str
    step: str
    runs: int
    first_at: float
    last_at: float
    currency: str
    reference: Mapping[str, int]
    policies: tuple[PolicyFigures, ...]
    not_told: Mapping[str, Mapping[str, int]]
    frontier: Frontier
    threshold: float | None
    notes: tuple[str, ...]
    confidence: float = 0.95

    def named(self, name: str) -> PolicyFigures | None:
        return next((one for one in self.policies if one.name == name), None)


@dataclass(slots=True)
class _Read:
    """The ledger, gone through once."""

    cases: list[Case] = field(default_factory=list)
    present: list[Move] = field(default_factory=list)
    proposed: list[Move] = field(default_factory=list)
    surest: list[Move] = field(default_factory=list)
    doubtful: list[Move] = field(default_factory=list)
    truths: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    currency: str = ""
    first_at: float = math.inf
    last_at: float = -math.inf


async def simulate(
    store: Readable, loaded: LoadedPipeline, *, policy: PolicyConfig | None = None, threshold: float | None = None,
    step: str | None = None, since: float | None = None, until: float | None = None, confidence: float = 0.95,
) -> Simulation:
    """What `policy` (by default the step's own) at `threshold` (by default the step's own) would have been worth on
    the runs that ended in [since, until), beside the present policy, always drafting and always validating.

    Raises InputError where there is nothing to replay, and where the proposed policy would accept drafts whose truth
    could never be seen; ConfigError for a policy that does not compile.
    """
    chosen = _step(loaded, step)
    present = replaying(loaded, chosen, chosen.policy)
    proposed = replaying(loaded, chosen, policy or chosen.policy, threshold=threshold)
    found = await asyncio.to_thread(_read, store, loaded, present, proposed, since, until)
    if not found.cases:
        raise await asyncio.to_thread(nothing_to_replay, store, loaded, chosen, found.left_out, (since, until))
    asked = policy is not None or threshold is not None
    if asked:
        _refuse_unsupported(found.cases, found.proposed, chosen)
    return _simulation(loaded, chosen, found, proposed, present, asked=asked, confidence=confidence)


def _step(loaded: LoadedPipeline, step: str | None) -> LoadedStep:
    names = [one.config.id for one in loaded.steps]
    if step is not None and step not in names:
        raise InputError(f"the pipeline has no step {step!r}: it has {', '.join(map(repr, names))}")
    chosen = next(one for one in loaded.steps if one.config.id == (step or names[-1]))
    if chosen.config.validate_ is None:
        raise InputError(f"step {chosen.config.id!r} has no validator: there is nothing to weigh its drafts against")
    return chosen


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(
    store: Readable, loaded: LoadedPipeline, present: Replay, proposed: Replay, since: float | None,
    until: float | None,
) -> _Read:
    found, step = _Read(), present.step
    content = present.reads_content or proposed.reads_content
    surest, doubtful = proposed.at(-math.inf), proposed.at(math.inf)
    with store.read() as connection:
        drafts = each_recorded(connection, loaded, step.config.id, since=since, until=until)
        for page in _pages(drafts, PAGE):
            contents = contents_of(connection, [one.run_id for one in page]) if content else {}
            for draft in page:
                if draft.from_cache or draft.mode == "validate_only":
                    found.left_out[draft.mode if draft.mode == "validate_only" else "cache"] += 1
                    continue
                found.currency = found.currency or _currency(draft)
                said = contents.get(draft.run_id, {})
                _take(found, draft, said, present)
                found.present.append(present.move(draft, said))
                found.proposed.append(proposed.move(draft, said))
                found.surest.append(surest.move(draft, said))
                found.doubtful.append(doubtful.move(draft, said))
    return found


def _take(found: _Read, draft: RecordedDraft, contents: Mapping[str, Json], replay: Replay) -> None:
    own = replay.step.config.validate_
    assert own is not None
    found.cases.append(case_of(
        draft, confidence=replay.confidence(draft, contents), broken=_is_broken(draft, contents, replay),
        mode=own.mode, currency=found.currency,
    ))
    found.truths[draft.truth or "none"] += 1
    found.first_at, found.last_at = min(found.first_at, draft.ended_at), max(found.last_at, draft.ended_at)


def _is_broken(draft: RecordedDraft, contents: Mapping[str, Json], replay: Replay) -> bool:
    """May no rule accept it? What was accepted was not."""
    if not draft.features or draft.action in ("accept", "spot_check"):
        return False
    missed: set[str] = set()
    _, parsed = draft_of(draft, replay.shape, contents, missed)
    return broken(signals_of(draft, replay.shape, missed), parsed) is not None


def _currency(draft: RecordedDraft) -> str:
    spent: Iterable[Money | None] = (draft.validator_cost, draft.alone_cost, draft.draft_cost)
    return next((cost.currency for cost in spent if cost is not None and cost.nano), "")


def _pages(drafts: Iterator[T], size: int) -> Iterator[list[T]]:
    while page := list(islice(drafts, size)):
        yield page


# -- what came of it ---------------------------------------------------------------------------------------------------


def _refuse_unsupported(cases: Sequence[Case], moves: Sequence[Move], step: LoadedStep) -> None:
    found = unsupported(cases, moves)
    if not found:
        return
    accepted = sum(move.kind == "accept" for move in moves)
    who = "; ".join(f"{count:,} by {decided}" for decided, count in found.most_common())
    sampling = [rule.name for rule in step.policy.after if rule.then == "spot_check"]
    rule = f"spot-check rule {sampling[0]!r}" if sampling else "a spot-check rule"
    explore = (
        f"let {rule} reach them first, and simulate once it has run for a while (with --since from then on)" if sampling
        else "write `{name: explore, sample: 0.02, then: spot_check}` as the last of `after:`, let it run for a while, "
        "and simulate with --since from then on"
    )
    raise InputError(
        f"{found.total():,} of the {accepted:,} drafts that the proposed policy accepts were decided where no spot "
        f"check could reach them (propensity 0): {who}. Whether they are right can never be known: {rule} would have "
        "to explore there", hint=explore,
    )


def _simulation(
    loaded: LoadedPipeline, step: LoadedStep, found: _Read, proposed: Replay, present: Replay, *, asked: bool,
    confidence: float,
) -> Simulation:
    cases = found.cases
    everything = {
        "present": found.present, **({"proposed": found.proposed} if asked else {}),
        "always draft": always_draft(cases), "always validate": [ALWAYS_VALIDATE] * len(cases),
    }
    policies = tuple(_supported(name, cases, moves, confidence) for name, moves in everything.items())
    return Simulation(
        pipeline=loaded.config.pipeline, step=step.config.id, runs=len(cases), first_at=found.first_at,
        last_at=found.last_at, currency=found.currency, reference=dict(found.truths), policies=policies,
        not_told={
            name: dict(Counter(move.why for move in moves if move.kind == "unknown"))
            for name, moves in everything.items()
        },
        frontier=_frontier(found, proposed, confidence), threshold=proposed.threshold,
        notes=tuple(_notes(found, policies, present, proposed)), confidence=confidence,
    )


def _supported(name: str, cases: Sequence[Case], moves: Sequence[Move], confidence: float) -> PolicyFigures:
    """Its figures; without a quality where that rests on drafts that can never be known to be right."""
    found = figures(name, cases, moves, confidence)
    unseen = unsupported(cases, moves).total()
    if not unseen:
        return found
    return replace(found, quality=Figure(value=None, note=f"{unseen:,} accepted drafts can never be seen"))


def _frontier(found: _Read, proposed: Replay, confidence: float) -> Frontier:
    """None where the policy does not compare confidence with a threshold, or compares more than which is greater."""
    if not proposed.compares_plainly:
        return Frontier(points=(), distinct=0, left_out=0)
    return frontier(found.cases, found.surest, found.doubtful, confidence)


def _notes(
    found: _Read, policies: Sequence[PolicyFigures], present: Replay, proposed: Replay
) -> Iterator[str]:
    if cached := found.left_out["cache"]:
        yield f"{cached:,} runs were answered from the cache: they follow the runs that made those answers"
    if undrafted := found.left_out["validate_only"]:
        yield f"{undrafted:,} runs in mode validate_only are left out: they drafted nothing"
    if assumed := sum(case.assumed_right for case in found.cases):
        yield f"{assumed:,} labelled tasks never came to the validator: there it counts as right"
    if missed := sum(case.look == "missed" or case.unanswered is not None for case in found.cases):
        yield f"{missed:,} drafts were to be looked at and were not: every interval allows for both ways they may be"
    for one in policies:
        if one.extrapolated:
            yield (
                f"{one.name}: the cost of {one.extrapolated:,} calls is taken from tasks that came to be validated "
                "otherwise, and may be another"
            )
    if present.threshold is None and present.problem:
        yield f"the present policy has no threshold: {present.problem}"
    if not proposed.compares_plainly:
        yield "no frontier: the policy does not come down to whether confidence < threshold"
