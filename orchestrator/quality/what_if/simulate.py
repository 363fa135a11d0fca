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
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection

from orchestrator.cascade.bounds import broken
from orchestrator.config.certificate import known_as
from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.config.policy import PolicyConfig
from orchestrator.errors import InputError
from orchestrator.quality.history.recorded import PAGE, RecordedDraft, each_recorded
from orchestrator.quality.what_if.cases import always_draft, case_of
from orchestrator.quality.what_if.frontier import Frontier, frontier
from orchestrator.quality.what_if.groups import Group, KeptRuns, merged
from orchestrator.quality.what_if.notes import of_cost, of_quality
from orchestrator.quality.what_if.nothing import nothing_to_replay
from orchestrator.quality.what_if.order import against_validating
from orchestrator.quality.what_if.rebuilt import Rebuilt
from orchestrator.quality.what_if.replay import ALWAYS_VALIDATE, DOUBTFUL_BAR, SUREST_BAR, Move, Replay
from orchestrator.quality.what_if.replaying import replaying
from orchestrator.quality.what_if.what_if import Figure, PolicyFigures, figures, unsupported
from orchestrator.records import Money
from orchestrator.store.lapses import listed
from orchestrator.store.outcomes import contents_of
from orchestrator.store.statements import Readable

T = TypeVar("T")
PRESENT, PROPOSED, SUREST, DOUBTFUL = range(4)
"""Moves of a run: of either policy, and of the proposed one where confidence passes any threshold, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What became of the question. `policies`: the present one, the proposed one where there is one, always draft,
    always validate. `not_told` counts, by reason, runs whose move under a policy can't be known. `notes` say what the
    figures rest on and leave open. Times are epoch seconds; costs are in `currency`."""

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


@dataclass(slots=True)
class _Read:
    """The ledger, gone through once."""

    kept: KeptRuns = field(default_factory=KeptRuns)
    truths: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    currency: str = ""
    revoked: str = ""
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
    if not found.kept.n:
        raise await asyncio.to_thread(nothing_to_replay, store, loaded, chosen, found.left_out, (since, until))
    asked = policy is not None or threshold is not None
    if asked:
        _refuse_unsupported(found.kept.groups(PROPOSED), chosen)
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
    bars = (proposed.bar, *((SUREST_BAR, DOUBTFUL_BAR) if proposed.compares_plainly else ()))
    alike = proposed.policy.config == present.policy.config
    with store.read() as connection:
        found.revoked = _revoked(connection, loaded, step)
        drafts = each_recorded(connection, loaded, step.config.id, since=since, until=until)
        for page in _pages(drafts, PAGE):
            contents = contents_of(connection, [one.run_id for one in page]) if content else {}
            for draft in page:
                if draft.from_cache or draft.mode == "validate_only":
                    found.left_out[draft.mode if draft.mode == "validate_only" else "cache"] += 1
                    continue
                found.currency = found.currency or _currency(draft)
                said = contents.get(draft.run_id, {})
                run = present.rebuilt(draft, said)
                if alike:
                    moves = present.moves(run, (present.bar, *bars))
                else:
                    moves = (*present.moves(run, (present.bar,)), *proposed.moves(run, bars))
                _take(found, run, present, moves)
    return found


def _revoked(connection: Connection, loaded: LoadedPipeline, step: LoadedStep) -> str:
    """When and why spot checks revoked the step's present certificate; empty where they did not."""
    certificate = step.confidence.certificate
    present = [(step.config.id, digest) for digest in known_as(certificate)] if certificate else []
    return next((
        f"revoked on {datetime.fromtimestamp(lapse.at, UTC).date()}: {lapse.reason}"
        for lapse in listed(connection, loaded.config.pipeline) if (lapse.step, lapse.certificate) in present
    ), "")


def _take(found: _Read, run: Rebuilt, replay: Replay, moves: tuple[Move, ...]) -> None:
    own, draft = replay.step.config.validate_, run.draft
    assert own is not None
    found.kept.add(case_of(
        draft, confidence=run.confidence, broken=_is_broken(run), mode=own.mode, currency=found.currency,
    ), moves)
    found.truths[draft.truth or "none"] += 1
    found.first_at, found.last_at = min(found.first_at, draft.ended_at), max(found.last_at, draft.ended_at)


def _is_broken(run: Rebuilt) -> bool:
    """May no rule accept it? What was accepted was not."""
    if not run.draft.features or run.draft.action in ("accept", "spot_check"):
        return False
    return broken(run.signals, run.parsed) is not None


def _currency(draft: RecordedDraft) -> str:
    spent: Iterable[Money | None] = (draft.validator_cost, draft.alone_cost, draft.draft_cost)
    return next((cost.currency for cost in spent if cost is not None and cost.nano), "")


def _pages(drafts: Iterator[T], size: int) -> Iterator[list[T]]:
    while page := list(islice(drafts, size)):
        yield page


# -- what came of it ---------------------------------------------------------------------------------------------------


def _refuse_unsupported(proposed: Sequence[Group], step: LoadedStep) -> None:
    found = unsupported(proposed)
    if not found:
        return
    accepted = sum(group.n for group in proposed if group.move.kind == "accept")
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
    runs = found.kept.groups(PRESENT)
    everything = {
        "present": runs, **({"proposed": found.kept.groups(PROPOSED)} if asked else {}),
        "always draft": merged(replace(group, move=always_draft(group.like)) for group in runs),
        "always validate": merged(replace(group, move=ALWAYS_VALIDATE) for group in runs),
    }
    policies = tuple(_supported(name, groups, confidence) for name, groups in everything.items())
    return Simulation(
        pipeline=loaded.config.pipeline, step=step.config.id, runs=found.kept.n, first_at=found.first_at,
        last_at=found.last_at, currency=found.currency, reference=dict(found.truths), policies=policies,
        not_told={
            name: dict(_counted((group.move.why, group.n) for group in groups if group.move.kind == "unknown"))
            for name, groups in everything.items()
        },
        frontier=_frontier(found, proposed, confidence), threshold=proposed.bar.threshold,
        notes=tuple(_notes(found, runs, policies, present, proposed)), confidence=confidence,
    )


def _counted(counts: Iterable[tuple[str, int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, n in counts:
        found[name] += n
    return found


def _supported(name: str, groups: Sequence[Group], confidence: float) -> PolicyFigures:
    """Its figures; without a quality where that rests on drafts that can never be known to be right."""
    found = figures(name, groups, confidence)
    if name in ("present", "proposed"):
        found = replace(found, gain=against_validating(groups, confidence))
    unseen = unsupported(groups).total()
    if not unseen:
        return found
    return replace(found, quality=Figure(value=None, note=f"{unseen:,} accepted drafts can never be seen"), gain=None)


def _frontier(found: _Read, proposed: Replay, confidence: float) -> Frontier:
    """None where the policy does not compare confidence with a threshold, or compares more than which is greater."""
    if not proposed.compares_plainly:
        return Frontier(points=(), distinct=0, left_out=0)
    return frontier(found.kept, surest=SUREST, doubtful=DOUBTFUL, confidence=confidence)


def _notes(
    found: _Read, runs: Sequence[Group], policies: Sequence[PolicyFigures], present: Replay, proposed: Replay
) -> Iterator[str]:
    if cached := found.left_out["cache"]:
        yield f"{cached:,} runs were answered from the cache: they follow the runs that made those answers"
    if undrafted := found.left_out["validate_only"]:
        yield f"{undrafted:,} runs in mode validate_only are left out: they drafted nothing"
    yield from of_quality(runs, policies)
    yield from of_cost(policies)
    if present.bar.threshold is None and present.bar.problem:
        yield f"the present policy has no threshold: {present.bar.problem}"
    elif found.revoked:
        happens = "is handed off" if present.loaded.config.certificate_lapsed == "hand_off" else "escalates"
        yield (
            f"present: as if its certificate were in force, and it was {found.revoked}; until it is calibrated anew, "
            f"every draft that comes to its threshold {happens}"
        )
    if not proposed.compares_plainly:
        yield "no frontier: the policy does not come down to whether confidence < threshold"
