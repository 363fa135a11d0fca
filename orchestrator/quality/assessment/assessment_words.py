"""What `assess` prints: figures first, the recommendation last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.quality.assessment.savings import Share

if TYPE_CHECKING:
    from orchestrator.quality.assessment.assess import Assessment

WORTH_TELLING = 0.05
"""So much more could be accepted with more requests, as a share of the drafts."""

_RECORDED = "what the validator's answer to it did"


def words(done: Assessment) -> str:
    c, m = done.certificate, done.measured
    lines = [*_source(done), *done.notes, f"drafts that agree: {done.drafts_right:.1%}"]
    if c.threshold is None:
        lines.append(f"no threshold is certified for {c.max_regret:.4g} at {c.confidence:.4g} confidence")
    else:
        lines.append(f"threshold {c.threshold:.6g}, certified on {c.n} of them: {c.guarantee}")
    lines += _outlook(done)
    lines.append(f"measured on {m.n} others, with 95% intervals:")
    lines.append(f"  still validated: {m.validated} of the tasks")
    lines.append(f"  regret: {m.regret} of the tasks get a draft that differs from the answer that was given")
    lines += _money(done)
    return "\n".join([*lines, f"recommendation: {done.recommendation.replace('_', ' ')} ({done.why})"])


def _source(done: Assessment) -> list[str]:
    compared = f"{done.source}, {done.drafted} drafts compared with the answers that were given"
    if not done.kept:
        return [compared]
    return [
        f"{compared}, {done.kept} of them kept from before",
        "(if another model made those under the drafter's name, give the model another `revision:`: then all are "
        "drafted anew)",
    ]


def _outlook(done: Assessment) -> list[str]:
    c = done.certificate
    if done.could_accept < c.coverage + WORTH_TELLING:
        return []
    return [
        f"it accepts {c.coverage:.1%} of those {c.n}: with many more requests about {done.could_accept:.0%} could be "
        "accepted (by hindsight on these: an outlook, no guarantee)"
    ]


def _money(done: Assessment) -> list[str]:
    m = done.measured
    if m.share is None or m.always is None:
        return ["  cost: unknown, no logged request has a price; shares only"]
    lines = [f"  always validating those {m.priced}: {m.always}"]
    if m.cost is not None:
        lines.append(f"  the cascade, drafts included: {_saving(m.cost)}")
    else:
        lines.append(f"  the cascade's validations: {m.bill} of that; what drafts cost is not known")
    lines.append(f"  ({_priced(done)})")
    if m.in_redo is not None and m.in_redo.value < m.share.value:
        which = "the cascade" if m.cost is not None else "its validations"
        lines.append(f"  in mode redo, where an escalation is the validator's own answer, {which}: {m.in_redo} of that")
    return lines


def _priced(done: Assessment) -> str:
    if done.escalation is None:
        return f"an escalated task is taken to cost {done.own_cost or _RECORDED}"
    if not done.own_cost:
        return done.escalation.words
    return f"{done.escalation.words}; that answer is taken to cost {done.own_cost}"


def _saving(cost: Share) -> str:
    words = f"{cost} of that, a saving of {1.0 - cost.value:.1%}"
    if cost.low is None or cost.high is None:
        return f"{words}; too few, or too unequal in cost, for an interval"
    return f"{words} ({1.0 - cost.high:.1%} to {1.0 - cost.low:.1%})"
