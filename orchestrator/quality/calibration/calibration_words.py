"""What `calibrate` prints: figures first, the recommendation last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.quality.calibration.elsewhere import elsewhere_words
from orchestrator.quality.calibration.ways import Way
from orchestrator.quality.records import Certificate

if TYPE_CHECKING:
    from orchestrator.quality.calibration.calibrate import Calibration


def words(done: Calibration) -> str:
    c = done.certificate
    gate = done.signal == "gate"
    compared = "the fitted confidence" if done.signal == "fitted" else done.signal
    into = "drafts are for the gate to sort" if gate else f"of them reached a rule that compares {compared}"
    others = elsewhere_words(done.elsewhere)
    came = done.reached if done.came is None else done.came
    lines = [f"{done.source}, {came} {into}", *filter(None, [others]), *done.notes]
    if came != done.reached:
        lines[0] += f"; it stands on {done.reached} of those, whose truth is known or taken for the worst"
    if done.fitted is not None:
        lines += [*done.fit_words.splitlines(), f"written to {done.fitted}"]
        lines += [f"reliability diagram: {done.diagram}"] if done.diagram is not None else []
        lines.append(f"certified on {c.given} other records")
    if c.traffic:
        lines.append(f"{c.traffic} drafts without a label tell how confidences are spread, which sharpens the test")
    lines += _measured(c)
    lines += [
        f"{c.loss} if every draft were accepted: {c.base_loss:.1%}; to keep it within {c.max_regret:.1%} at least "
        f"{c.least_escalation:.1%} must escalate",
        _tested(c),
        f"guarantee: {c.guarantee}",
        f"written to {done.path}",
        *_kept(done),
        *(_way(way) for way in done.ways),
    ]
    if done.ways and done.escalations:
        lines.append(f"of the cascade beside the gate: {done.escalations}")
    if gate:
        lines.append("other drafts come to the threshold behind the gate now, so its certificate lapses: calibrate it")
    lines.append(f"recommendation: {c.recommendation.replace('_', ' ')} ({'; '.join(c.reasons)})")
    if done.whole_cost is not None and c.recommendation == "cascade":
        lines.append(
            f"with the tasks that other rules decide in it, the whole step costs about {done.whole_cost:.3g} x always "
            "validating"
        )
    return "\n".join(lines)


def _measured(c: Certificate) -> list[str]:
    lines = []
    if c.draft_accuracy is not None:
        lines.append(f"drafts right: {c.draft_accuracy:.1%}")
        if c.draft_accuracy == 0.0:
            lines.append("not one draft is right: are the labels in the form that `compare` reads?")
    if c.validator_accuracy is not None:
        lines.append(f"validator right: {c.validator_accuracy:.1%}")
    else:
        lines.append("validator not asked: it counts as right, so that the bound holds all the more")
    return lines


def _tested(c: Certificate) -> str:
    if c.threshold is None:
        return "threshold: none certified, every draft escalates"
    return (
        f"threshold {c.threshold:.6g}: accepts {c.accepted} of {c.n} ({c.coverage:.1%}), {c.regretted:g} of them "
        f"lost; p = {c.p_value:.3g} against {c.delta:.3g}"
    )


def _kept(done: Calibration) -> list[str]:
    """Where the one before is, if it had a threshold; and what it means that this has none."""
    if not done.kept:
        return []
    if done.certificate.threshold is not None:
        return [f"the one before is kept as {' and '.join(map(str, done.kept))}"]
    what = "task that comes to the gate" if done.signal == "gate" else "draft that comes to the threshold"
    happens = "is handed off (certificate_lapsed: hand_off)" if done.unsure == "hand_off" else "escalates"
    kept = " and ".join(str(path) for path in done.kept)
    under = "under its own name" if len(done.kept) == 1 else "under their own names"
    counts = "stays revoked" if done.revoked else f"counts as it did once put back {under}"
    return [f"from now on every {what} {happens}; the one before is kept as {kept}, and {counts}"]


def _way(way: Way) -> str:
    cost = "unknown cost" if way.cost is None else f"{way.cost} a thousand tasks"
    certified = "" if way.certified else ", nothing certified"
    return f"{way.name}: {cost}, {way.validated:.1%} validated{certified}"
