"""Every cost once more: a call's from its stored usage and stored price, a run's from its calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, and_, func, or_, select

from orchestrator.config.prices import PriceEntry
from orchestrator.finance.period import Period
from orchestrator.finance.scope import within
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import call, outcome, run, stream
from orchestrator.records import AFTERWARDS, TOKEN_CLASSES, Money
from orchestrator.store.calls import usage_of
from orchestrator.store.statements import table
from orchestrator.store.tables import Price

price = table(Price)


@dataclass(slots=True)
class StoredPrices:
    """The prices of the ledger, by the version that calls name."""

    entries: dict[str, PriceEntry] = field(default_factory=dict)
    findings: list[Discrepancy] = field(default_factory=list)

    @classmethod
    def read(cls, connection: Connection) -> StoredPrices:
        prices = cls()
        for row in connection.execute(select(price).order_by(price.c.version)):
            _, _, digest = row.version.rpartition("#")
            if sha256(row.body_json.encode()).hexdigest()[: len(digest)] != digest:
                prices._find(row.version, "it is not what its name has the digest of")
            try:
                prices.entries[row.version] = PriceEntry.model_validate_json(row.body_json)
            except ValidationError as error:
                prices._find(row.version, f"it can't be read: {error.error_count()} errors")
        return prices

    def _find(self, version: str, words: str) -> None:
        self.findings.append(Discrepancy(kind="price", table="price", row=version, words=f"price {version}: {words}"))


@dataclass(slots=True)
class CallCosts:
    """Calls by how far their cost can be derived again."""

    derived: int = 0
    by_provider: int = 0
    price_not_kept: int = 0


def call_costs(
    connection: Connection, prices: StoredPrices, period: Period, counts: CallCosts
) -> Iterator[Discrepancy]:
    """Calls that ended in the period whose cost is not their usage times their price."""
    c = call.c
    columns = (c.call_id, c.run_id, c.provenance, c.tier, c.cost_nano, c.currency, c.price_version, c.seal_no,
               *(c[f"{name}_tokens"] for name in TOKEN_CLASSES))
    priced = select(*columns).where(c.cost_nano.is_not(None), within(c.ended_at, period))
    for row in stream(connection, priced):
        if row.provenance == "provider":
            counts.by_provider += 1
        elif row.price_version is None:
            if row.cost_nano:
                yield _of_call(row, f"it cost {_money(row)} and names no price")
        elif (entry := prices.entries.get(row.price_version)) is None:
            if row.seal_no is not None:  # a sealed call's price was kept, no later than the call
                yield _of_call(row, f"its price {row.price_version} is gone from `price`")
            counts.price_not_kept += 1
        else:
            counts.derived += 1
            usage = usage_of(row)
            if not entry.covers(usage, row.tier):
                yield _of_call(row, f"it cost {_money(row)}; {row.price_version} says nothing of tier {row.tier!r}")
                continue
            due = entry.cost(usage, row.tier)
            if (due.nano, due.currency) != (row.cost_nano, row.currency):
                yield _of_call(row, f"it cost {_money(row)}, says the row; its tokens times {row.price_version} "
                                    f"come to {due}")


def run_costs(connection: Connection, period: Period) -> Iterator[Discrepancy]:
    """Runs whose outcome cost more than their calls come to: a call of them is gone, or was made cheaper.

    A run that was resumed after a crash may have calls that its outcome did not count: those are no finding.
    """
    c, o = call.c, outcome.c
    sums = (
        select(c.run_id, c.currency, func.sum(c.cost_nano).label("cost"))
        .where(c.role.not_in(AFTERWARDS), c.cost_nano.is_not(None))
        .group_by(c.run_id, c.currency).subquery("sums")
    )
    joined = outcome.outerjoin(sums, and_(sums.c.run_id == o.run_id, sums.c.currency == o.currency))
    short = select(o.run_id, o.cost_nano, o.currency, func.coalesce(sums.c.cost, 0).label("calls")).select_from(
        joined
    ).where(o.cost_nano > func.coalesce(sums.c.cost, 0), within(o.ended_at, period))
    for row in stream(connection, short):
        come_to = Money(nano=int(row.calls), currency=row.currency)
        yield Discrepancy(
            kind="run", table="outcome", row=row.run_id,
            words=f"run {row.run_id}: its outcome cost {_money(row)}, its calls come to {come_to}: one of them is gone "
                  "or was changed",
        )


def runs_as_ended(connection: Connection, period: Period) -> Iterator[Discrepancy]:
    """Runs that say another pipeline, tenant, configuration or tags than their outcome, or that are gone: reports
    group by the run."""
    o, r = outcome.c, run.c
    names = ("pipeline", "tenant", "config_id", "tags_json")
    other = or_(*(o[name] != r[name] for name in names))
    rows = select(
        o.run_id, r.run_id.label("run"), *(o[name].label(f"o_{name}") for name in names),
        *(r[name].label(f"r_{name}") for name in names),
    ).select_from(outcome.outerjoin(run, r.run_id == o.run_id)).where(
        or_(r.run_id.is_(None), other), within(o.ended_at, period)
    )
    for row in stream(connection, rows):
        if row.run is None:
            yield Discrepancy(kind="removed", table="run", row=row.run_id, words=f"run {row.run_id}: it has an "
                              "outcome, and its row in `run` is gone")
            continue
        for name in names:
            said, ended = getattr(row, f"r_{name}"), getattr(row, f"o_{name}")
            if said != ended:
                yield Discrepancy(kind="changed", table="run", row=row.run_id,
                                  words=f"run {row.run_id}: its {name} is {said!r}, and was {ended!r} when it ended")


def _of_call(row: Any, words: str) -> Discrepancy:
    return Discrepancy(
        kind="cost", table="call", row=row.call_id, number=row.seal_no,
        words=f"call {row.call_id} of run {row.run_id}: {words}",
    )


def _money(row: Any) -> str:
    return str(Money(nano=row.cost_nano, currency=row.currency or "?"))
