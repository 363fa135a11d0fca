"""What `assess` prints: figures first, the recommendation last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.quality.assessment.assess import Assessment


def words(done: Assessment) -> str:
    c, m = done.certificate, done.measured
    lines = [f"{done.source}, {done.drafted} drafts compared with the answers that were given", *done.notes]
    lines.append(f"drafts that agree: {done.drafts_right:.1%}")
    if c.threshold is None:
        lines.append(f"no threshold is certified for {c.max_regret:.4g} at {c.confidence:.4g} confidence")
    else:
        lines.append(f"threshold {c.threshold:.6g}, certified on {c.n} of them: {c.guarantee}")
    lines.append(f"measured on {m.n} others, with 95% intervals:")
    lines.append(f"  still validated: {m.validated} of the tasks")
    lines.append(f"  regret: {m.regret} of the tasks get a draft that differs from the answer that was given")
    lines += _money(done)
    return "\n".join([*lines, f"recommendation: {done.recommendation.replace('_', ' ')} ({done.why})"])


def _money(done: Assessment) -> list[str]:
    m = done.measured
    if m.bill is None or m.always is None:
        return ["  cost: unknown, no logged request has a price; shares only"]
    lines = [f"  always validating those {m.priced}: {m.always}"]
    if m.cost is not None:
        saving = 1.0 - m.cost.value
        lines.append(f"  the cascade, drafts included: {m.cost} of that, a saving of {saving:.1%}")
        if m.cost.low is not None and m.cost.high is not None:
            lines[-1] += f" ({1.0 - m.cost.high:.1%} to {1.0 - m.cost.low:.1%})"
        else:
            lines[-1] += "; too few, or too unequal in cost, for an interval"
    else:
        lines.append(f"  the cascade's validations: {m.bill} of that; what drafts cost is not known")
    lines.append("  (an escalated task is taken to cost what the logged request did)")
    return lines
