"""What may have made a difference: said beside it, never counted for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from decimal import Decimal

from orchestrator.finance.breakdown import Charge
from orchestrator.finance.invoice.records import Figures, RowStatus
from orchestrator.finance.phrases import amount, counted


def reasons(
    status: RowStatus, model: str, invoice: Figures, ledger: Figures, difference: Decimal | None,
    tokens: Mapping[str, int] | None, calls: Sequence[Charge], local: Mapping[str, int],
) -> Iterator[str]:
    """The likely first. `local` are the day's calls of local models, by model: no provider bills them."""
    if ledger.unsettled:
        most = f", {amount(ledger.bound)} at most" if ledger.bound else ""
        fits = ledger.bound and difference is not None and Decimal(0) < difference <= ledger.bound
        words = ": they may be all of it" if fits else ""
        yield f"{counted(ledger.unsettled, 'call')} of ours without an answer{most}{words}"
    if ledger.unpriced:
        yield f"{counted(ledger.unpriced, 'call')} of ours without a price"
    if ledger.estimated:
        yield f"{counted(ledger.estimated, 'call')} of ours with estimated usage (cut short or without usage)"
    if status == "missing_here":
        yield _missing_here(model, local)
    elif status == "missing_there":
        yield "the invoice has no such line: another account, not exported yet, or a missing alias"
    elif status in ("price", "matched") and invoice.cost is not None:
        versions = sorted({line.price_version for line in calls if line.price_version})
        by = f"priced by {', '.join(versions) or 'no price of the book'}"
        yield f"{_tokens_say(tokens)}: {by}"
    elif status == "tokens" and ledger.calls:
        yield "tokens differ: usage of other programs, calls around midnight UTC, or lost answers"
    tiers = sorted({line.tier for line in calls if line.tier})
    if status == "price" and tiers:
        yield f"service tiers: {', '.join(tiers)}"


def _tokens_say(tokens: Mapping[str, int] | None) -> str:
    if tokens is None:
        return "the file tells no tokens, so it may be the price or the usage"
    return "tokens differ too" if any(tokens.values()) else "the tokens agree, so the price does not"


def _missing_here(model: str, local: Mapping[str, int]) -> str:
    why = "another key's or program's usage, or a missing alias"
    if local.get(model):
        of = counted(local[model], "call")
        return f"the ledger has {of} of this model on this day from a local server, set apart: {why}"
    held = counted(sum(local.values()), "call")
    aside = f" (its {held} of local models on this day are set apart)" if local else ""
    return f"the ledger has no billed call of this model on this day{aside}: {why}"


def alias_notes(billed: Set[str], used: Set[str]) -> Iterator[str]:
    """Names that one side has and the other has not, and that look like one model: for a person to decide."""
    for name in sorted(billed - used):
        for other in sorted(_alike(name, used - billed)):
            yield (
                f"{name!r} of the invoice and {other!r} of the ledger may be one model: if they are, write under "
                f"`aliases:` in the price book  {name}: {other}  and give the book by --prices"
            )


def _alike(name: str, others: Iterable[str]) -> Iterator[str]:
    plain = _plain(name)
    for other in others:
        bare = _plain(other.rpartition("/")[2])
        if plain == bare or plain.startswith(f"{bare}-") or bare.startswith(f"{plain}-"):
            yield other


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "-").replace(".", "-").replace("_", "-")
