"""Who writes: every open store is an owner with a lease, and only what a lapsed owner left is taken over.

An owner is lapsed when its lease ran out, or when it ran on this host and its process is gone.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select

from orchestrator.store import budgets, lines, settlements
from orchestrator.store.entries import entry
from orchestrator.store.own_tables import Owner
from orchestrator.store.statements import Transaction, insert, table
from orchestrator.store.tables import CallRow

RECOVERED = "recovered: its process ended before an answer was stored"

_owner, _call = table(Owner), table(CallRow)
_ASKING = select(_call.c.owner_id).where(_call.c.state == "intent").distinct()


@cache
def host() -> str:
    """This machine and process namespace: where a process id means something.

    Two containers may share a host name and a store; their process ids are not each other's.
    """
    boot = _read("/proc/sys/kernel/random/boot_id")[:8]
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return "/".join(part for part in (socket.gethostname(), boot, namespace) if part)


def process_started(pid: int) -> str | None:
    """When process `pid` started, in the kernel's own unit; None where there is no such process (or it is a zombie).

    A process id is used again; with its start it is not. Where there is no /proc the start is unknown: "".
    """
    if sys.platform == "linux":
        stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return stat[19] if stat and stat[0] not in "ZXx" else None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


@entry
class Recovered:
    """What recovery found: owners whose lease had lapsed, and their calls without an answer, now `unsettled`."""

    owners: int
    calls: int


def new_owner_id() -> str:
    return f"o_{secrets.token_hex(6)}"


def renew(transaction: Transaction) -> None:
    """Extend the lease of this owner, registering it the first time."""
    pid = os.getpid()
    fresh = insert(_owner, transaction.dialect).values(
        owner_id=transaction.owner_id, host=host(), pid=pid, process_started=process_started(pid) or "",
        started_at=transaction.now, lease_until=transaction.now + transaction.lease_s,
    )
    transaction.execute(fresh.on_conflict_do_update(
        index_elements=["owner_id"], set_={"lease_until": fresh.excluded.lease_until, "recovered_at": None}
    ))


def lapsed(transaction: Transaction, owner_ids: Iterable[str]) -> set[str]:
    """Which of `owner_ids` have lapsed. One without a row closed its store: it has, too."""
    wanted = set(owner_ids) - {transaction.owner_id}
    if not wanted:
        return set()
    rows = transaction.execute(select(_owner).where(_owner.c.owner_id.in_(wanted))).all()
    return wanted - {row.owner_id for row in rows if not _has_lapsed(row, transaction.now)}


def _has_lapsed(row: Any, now: float) -> bool:
    if row.lease_until < now:
        return True
    return bool(row.host == host() and process_started(row.pid) != row.process_started)


def recover(transaction: Transaction) -> Recovered:
    """Settle what lapsed owners left: their open calls become `unsettled`, each at its upper bound.

    One that was recovered while it lived, and that asked again before it died, is recovered once more; so is one with
    open calls and no row."""
    asking = set(transaction.execute(_ASKING).scalars()) - {transaction.owner_id}
    rows = transaction.execute(select(_owner).where(
        or_(_owner.c.recovered_at.is_(None), _owner.c.owner_id.in_(asking)), _owner.c.owner_id != transaction.owner_id
    )).all()
    gone = [row for row in rows if _has_lapsed(row, transaction.now)]
    taken = [row.owner_id for row in gone if _take(transaction, row)]
    taken += sorted(asking - {row.owner_id for row in rows})
    return Recovered(owners=len(taken), calls=sum(unsettle(transaction, owner_id) for owner_id in taken))


def _take(transaction: Transaction, row: Any) -> bool:
    """Mark the owner as recovered, unless another process did, or it renewed its lease, in the meantime."""
    mark = _owner.update().where(
        _owner.c.owner_id == row.owner_id, _owner.c.recovered_at.is_not_distinct_from(row.recovered_at),
        _owner.c.lease_until == row.lease_until,
    )
    return transaction.execute(mark.values(recovered_at=transaction.now)).rowcount == 1


def unsettle(transaction: Transaction, owner_id: str) -> int:
    """Make every open call of `owner_id` unsettled; what it reserved counts as spent."""
    lost = settlements.open_calls(transaction, owner_id)
    budgets.move(transaction, [
        budgets.AccountMove(scope, released=row.bound_nano, spent=row.bound_nano, pipeline=row.pipeline)
        for row in lost if row.scopes for scope in row.scopes.split()
    ])
    lines.count_given_up(transaction, lost)
    settlements.end(transaction, [(row, settlements.lost(transaction.now), RECOVERED) for row in lost])
    return len(lost)


def leave(transaction: Transaction) -> None:
    """The last act of an owner: nothing of it stays open, and its row goes, unless it is the head of a chain: then it
    stands for an owner that has lapsed and was recovered."""
    unsettle(transaction, transaction.owner_id)
    mine = _owner.c.owner_id == transaction.owner_id
    transaction.execute(_owner.delete().where(mine, _owner.c.sealed == 0))
    transaction.execute(_owner.update().where(mine).values(lease_until=0.0, recovered_at=transaction.now))
