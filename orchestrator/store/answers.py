"""Answers by the key of their request: the cache, and what a resumed run reads instead of asking again.

An entry under a request key may be served to any run of its tenant; one under `RUN_ID:request key` only to that run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, bindparam, func, select

from orchestrator.records import TOKEN_CLASSES, Answer, Money, TokenLogprobs, Usage
from orchestrator.store.entries import CallSettlement, StoredAnswer, entry
from orchestrator.store.statements import Transaction, among, chunks, table, updating, upserting
from orchestrator.store.tables import AnswerRow, OutcomeRow, Run

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

_answer, _run, _outcome = table(AnswerRow), table(Run), table(OutcomeRow)
_KEEP = upserting(
    AnswerRow, "tenant", "memo_key", "call_id", "run_id", "pipeline", "created_at", "expires_at", "cost_nano",
    "currency", "answer", "signals",
)
_a = _answer.c
_RECALL = select(
    _a.memo_key, _a.expires_at, _a.call_id, _a.run_id, _a.cost_nano, _a.currency, _a.answer, _a.signals
).where(_a.tenant == bindparam("of_tenant"), among(_a.memo_key))
_SERVED_FROM = (
    select(_run.c.source_run_id).where(among(_run.c.run_id), _run.c.source_run_id.is_not(None))
)
_MADE_BY = _answer.delete().where(among(_a.run_id))
_SIGNALS = updating(AnswerRow, "signals", by=["tenant", "memo_key", "run_id"])


@entry
class CacheStats:
    """`entries` and `expired` count answers, `size_bytes` is their stored size, `saved` what hits did not cost."""

    entries: int
    expired: int
    size_bytes: int
    hits: int
    saved: tuple[Money, ...]


def keep(transaction: Transaction, kept: Sequence[tuple[CallSettlement, Any]]) -> None:
    """Store the answers of settled calls; a newer answer to the same request replaces the older one."""
    rows = {}
    for s, call in kept:
        if (k := s.keep) is not None:
            cost = (s.cost.nano, s.cost.currency) if s.cost is not None else (None, None)
            rows[k.tenant, k.memo_key] = (
                k.tenant, k.memo_key, s.call_id, call.run_id, call.pipeline, s.ended_at, k.expires_at, *cost,
                pack(k.answer), None,
            )
    transaction.many(_KEEP, [rows[place] for place in sorted(rows)])


def keep_signals(transaction: Transaction, rows: Sequence[tuple[bytes, str, str, str]]) -> None:
    """Lay (signals, tenant, memo key, run id) beside the answers they were measured on: only where this very run made
    the answer, since another process may have replaced it meanwhile."""
    transaction.many(_SIGNALS, rows)


def recall(connection: Connection, keys: Sequence[tuple[str, str]], now: float) -> dict[tuple[str, str], StoredAnswer]:
    """The unexpired answers among (tenant, memo key) pairs."""
    by_tenant: dict[str, list[str]] = {}
    for tenant, memo_key in keys:
        by_tenant.setdefault(tenant, []).append(memo_key)
    found: dict[tuple[str, str], StoredAnswer] = {}
    for tenant, wanted in by_tenant.items():
        for some in chunks(wanted):
            for memo_key, expires_at, *row in connection.execute(_RECALL, {"of_tenant": tenant, "among": some}).all():
                if expires_at is None or expires_at > now:
                    found[tenant, memo_key] = _stored(*row)
    return found


def _stored(
    call_id: str, run_id: str, cost_nano: int | None, currency: str | None, answer: bytes, signals: bytes | None
) -> StoredAnswer:
    cost = None if cost_nano is None or currency is None else Money(nano=cost_nano, currency=currency)
    return StoredAnswer(answer=unpack(answer), signals=signals, call_id=call_id, run_id=run_id, cost=cost)


def evict(transaction: Transaction, run_ids: Sequence[str]) -> None:
    """Remove the answers that failed runs made, and those they were served from the cache."""
    for some in chunks(run_ids):
        sources = transaction.execute(_SERVED_FROM, {"among": some}).scalars()
        for rows in chunks(sorted({*some, *sources})):
            transaction.execute(_MADE_BY, {"among": rows})


def cache_stats(connection: Connection, pipeline: str | None, tenant: str | None, now: float) -> CacheStats:
    """What the cache holds, and what its hits did not cost."""
    a, o = _answer.c, _outcome.c
    held = connection.execute(
        select(
            func.count(), func.coalesce(func.sum(func.length(a.answer)), 0),
            func.count().filter(a.expires_at <= now),
        ).where(_served_by_cache(), *_chosen(a, pipeline, tenant))
    ).one()
    saved = connection.execute(
        select(func.count(), func.sum(o.saved_nano), o.saved_currency)
        .where(o.saved_nano.is_not(None), *_chosen(o, pipeline, tenant)).group_by(o.saved_currency)
    ).all()
    hits = connection.execute(
        select(func.count()).where(o.from_cache.is_(True), *_chosen(o, pipeline, tenant))
    ).scalar_one()
    return CacheStats(
        entries=held[0], size_bytes=int(held[1]), expired=held[2], hits=hits,
        saved=tuple(Money(nano=int(nano), currency=currency) for _, nano, currency in saved),
    )


def cache_purge(transaction: Transaction, pipeline: str | None, tenant: str | None, expired_only: bool) -> int:
    """Remove what the cache may serve; answers kept for resuming stay. Returns how many."""
    chosen = [_served_by_cache(), *_chosen(_answer.c, pipeline, tenant)]
    if expired_only:
        chosen.append(_answer.c.expires_at <= transaction.now)
    return transaction.execute(_answer.delete().where(*chosen)).rowcount


def own_entries() -> ColumnElement[bool]:
    """Entries that only their own run may read."""
    return _answer.c.memo_key.startswith(_answer.c.run_id.concat(":"))


def _served_by_cache() -> ColumnElement[bool]:
    return ~own_entries()


def _chosen(columns: Any, pipeline: str | None, tenant: str | None) -> list[ColumnElement[bool]]:
    chosen = [] if pipeline is None else [columns.pipeline == pipeline]
    return chosen if tenant is None else [*chosen, columns.tenant == tenant]


# -- an answer as bytes: JSON lists, half the size of JSON objects; what its call's row holds is left out --------------


def pack(answer: Answer) -> bytes:
    used = {name: tokens for name in TOKEN_CLASSES if (tokens := getattr(answer.usage, name))}
    return orjson.dumps([
        2, answer.text, answer.finish_reason, [used, answer.usage.estimated],
        answer.model,
        _pack_logprobs(answer.logprobs), _pack_logprobs(answer.value_logprobs),
        answer.cost and [answer.cost.nano, answer.cost.currency], round(answer.latency_ms, 1),
    ])


def unpack(body: bytes) -> Answer:
    layout, text, finish_reason, usage, model, logprobs, value_logprobs, cost, latency_ms = orjson.loads(body)
    return Answer(
        text=text, finish_reason=finish_reason, model=model,
        usage=_first_usage(usage) if layout == 1 else _usage(usage),
        logprobs=_unpack_logprobs(logprobs), value_logprobs=_unpack_logprobs(value_logprobs),
        cost=Money(nano=cost[0], currency=cost[1]) if cost else None, latency_ms=latency_ms,
    )


def _usage(packed: list[Any]) -> Usage:
    used, estimated = packed
    return Usage(**used, estimated=estimated)


def _first_usage(packed: list[Any]) -> Usage:
    """As it was laid out before there were more classes than five."""
    i, read, write, output, reasoning, estimated = packed
    return Usage(input=i, cache_read=read, cache_write=write, output=output, reasoning=reasoning, estimated=estimated)


def _pack_logprobs(p: TokenLogprobs | None) -> list[float | None] | None:
    return None if p is None else [p.n, p.mean, p.total, p.q0, p.q10, p.q25, p.q50, p.margin_mean, p.margin_min]


def _unpack_logprobs(values: list[Any] | None) -> TokenLogprobs | None:
    if values is None:
        return None
    n, mean, total, q0, q10, q25, q50, margin_mean, margin_min = values
    return TokenLogprobs(
        n=n, mean=mean, total=total, q0=q0, q10=q10, q25=q25, q50=q50, margin_mean=margin_mean, margin_min=margin_min
    )
