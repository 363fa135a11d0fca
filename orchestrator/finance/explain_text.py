"""An explained run for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from orchestrator.finance.explain_words import MOST, Quoted, printable


def text_of(found: dict[str, Any], *, full: bool = False, features: bool = False) -> str:
    """What `explain` gives, as paragraphs; texts are whole where `full`."""
    quoted = Quoted(found["said"], None if full else MOST)
    lines = [f"run {found['run_id']} of {found['pipeline']} version {found['version']}, taken in {found['created_at']}"]
    lines.append(f"task {found['task_digest']}, configuration {found['config_id']}")
    if found["source_run_id"]:
        lines.append(f"served from the cache: the answer is of run {found['source_run_id']}")
    if found["again_of"]:
        lines.append(f"does again what gave no answer as run {', run '.join(found['again_of'])}: see the calls there")
    if found["done_again"]:
        lines.append(f"its task was done again, as run {found['done_again']}: this one can be no success any more")
    lines += quoted.task()
    for one in found["steps"]:
        lines += [*_step(one), *quoted.of_step(one["step"], one["status"])]
    lines += quoted.resolved()
    lines += ["", "calls" if found["calls"] else "no calls"]
    for one in found["calls"]:
        lines += [*_call(one), *(f"      {line}" for line in quoted.answer(one["call_id"]))]
    lines += [f"spot check of {c['step']}: {c['state']}, chosen with probability {c['propensity']:g}"
              for c in found["spot_checks"]]
    if found["history"]:
        lines += ["", "what is known of its success, in order", *_history(found)]
    lines += ["", *_ending(found["outcome"], found["calls"])]
    if features:
        lines += [line for one in found["steps"] for line in _measured(one)]
    elif any(one["measured"] for one in found["steps"]):
        lines += ["", "the numbers kept of each draft: --features"]
    return "\n".join(map(printable, lines)) + "\n"


def _step(one: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"step {one['step']}: {one['status']}; action {one['action'] or 'none'} by rule {one['rule'] or '-'}"
    if one["explanation"]:
        yield f"  why: {one['explanation']}"
    if one["confidence"] is not None:
        how = "certified" if one["certified"] else "UNCERTIFIED"
        what = f"confidence {one['compared']}" if one["compared"] else "confidence"
        yield f"  {what} {one['confidence']:.6g}, threshold {_number(one['threshold'])} ({how})"
    if one["verdict"]:
        yield f"  verdict: {one['verdict']}; draft right: {_truth(one['draft_ok'])}"
    for field, given in one["answered"].items():
        yield f"  answer:{field} = {given['place']}, which is {given['value']!r} (of {given['of']} in the schema)"


def _measured(one: dict[str, Any]) -> Iterator[str]:
    """The numbers kept of a draft, by the names that rules give them."""
    yield from ("", f"numbers kept of the draft of step {one['step']}")
    yield from (f"  {name} = {_number(value)}" for name, value in one["measured"].items() if value is not None)


def _call(one: dict[str, Any]) -> Iterator[str]:
    usage = one["usage"]
    tokens = "no usage" if usage is None else ", ".join(f"{n} {name}" for name, n in usage.items() if n) or "0 tokens"
    answered = f" (answered by {one['model_answered']})" if one["model_answered"] not in (None, one["model"]) else ""
    cost = one["cost"] or f"unknown, at most {one['bound'] or 'unknown'}"
    error = f"; {one['error']}" if one["error"] else ""
    tier = f", tier {one['tier']}" if one["tier"] else ""
    account = f", account {one['account']}" if one["account"] else ""
    asked = f"  {one['step']} {one['role']} attempt {one['attempt']}: {one['model']}{answered}"
    yield f"{asked}, {tokens}{tier}{account}, cost {cost} ({one['provenance'] or one['state']}){error}"
    yield from (f"      {line}" for line in _answer(one))
    yield from (f"      {line}" for line in _bill(one))
    if one["budgets"]:
        yield f"      budgets: {', '.join(one['budgets'])}"
    yield f"      {_place(one)}"


def _answer(one: dict[str, Any]) -> Iterator[str]:
    """What the rows tell of its answer; its text is kept for a while at most."""
    if one["finish_reason"] not in (None, "stop"):
        yield f"the answer ended by {one['finish_reason']!r}"
    if one["followed_by"] == "asked_again":
        what = "its value broke the output schema" if one["role"] == "redo" else "its verdict could not be read"
        yield f"{what}: asked once more"
    elif one["followed_by"] == "redone":
        yield ("its verdict was not served (rejected, unreadable or against the output schema: where content is kept, "
               "the step's why says which): redo")


def _bill(one: dict[str, Any]) -> Iterator[str]:
    """tokens x price a million = cost, a line a class."""
    bill = one["bill"]
    if bill is None:
        if one["provenance"] == "provider":
            yield "the cost is the provider's own figure"
        return
    for part in bill["classes"]:
        yield f"{part['tokens']:,} {part['class']} x {part['per_million']} a million = {part['cost']}"
    source = f", source: {bill['source']}" if bill["source"] else ""
    if bill["adds_up"] is None:
        yield f"price {bill['price']}: not in the ledger, or not for this tier"
    else:
        doubt = "" if bill["adds_up"] else ": this does NOT come to the cost of the call"
        yield f"price {bill['price']}, valid from {bill['valid_from']}{source}{doubt}"


def _place(one: dict[str, Any]) -> str:
    """Its seal, and the close it belongs to."""
    seal = one["seal"]
    sealed = f"seal: number {seal['number']} of writer {seal['writer']}, {seal['state']}" if seal else "no seal"
    return f"{sealed}; closed in {one['close']['period']}" if one["close"] else sealed


def _history(found: dict[str, Any]) -> Iterator[str]:
    for one in found["history"]:
        mark = "*" if one["counts"] else " "
        by = one["source"] if one["by"] in ("outcome", one["source"]) else f"{one['source']} ({one['by']})"
        of = "" if one["run_id"] == found["run_id"] else f" of run {one['run_id']}"
        counts = "this counts" if one["counts"] else "does not count"
        yield f" {mark} {one['at']}  {by}{of}: {_verdict(one['success'])}; {counts}: {one['why']}"
        if one["reason"]:
            yield f"      {one['reason']}"
        if one["by"] != "outcome" and not of:
            yield f"      {_place({**one, 'close': None})}"


def _ending(found: dict[str, Any] | None, calls: Sequence[dict[str, Any]]) -> list[str]:
    if found is None:
        return ["outcome: none yet"]
    by = f" ({found['success_source']})" if found["success"] is not None else ""
    saved = f", saved {found['saved']}" if found["saved"] else ""
    said = f"outcome: {found['status']}, success {_truth(found['success'])}{by}, {_costs(found, calls)}{saved}"
    return [said, f"  ended {found['ended_at']}; {_place(found)}"]


def _costs(found: dict[str, Any], calls: Sequence[dict[str, Any]]) -> str:
    """What the outcome says is of its end; calls that were settled later, as spot checks are, come on top."""
    later = [
        one for one in calls
        if one["role"] == "spot_check" or (one["ended_at"] is not None and one["ended_at"] > found["ended_at"])
    ]
    if not later:
        return f"cost {found['cost'] or 'unknown'}"
    costs = [found["cost"], *(one["cost"] for one in later)]
    known = [str(cost).split(" ") for cost in costs if cost is not None]
    if len(known) < len(costs) or len({currency for _, currency in known}) > 1:
        every = "unknown, or of several currencies"
    else:
        every = f"{sum(Decimal(amount) for amount, _ in known):f} {known[0][1]}"
    what = "checks" if all(one["role"] == "spot_check" for one in later) else "calls"
    return f"cost when it ended {found['cost'] or 'unknown'}; with later {what} {every}"


def _verdict(value: bool | None) -> str:
    return "unknown" if value is None else "success" if value else "failure"


def _truth(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)
