"""Processes by id and start time, and the end of a whole group. Linux: read from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.1
KILL_WAIT_S = 30.0
"""A killed process still gives back its memory, or waits for a device."""


def started_at(pid: int) -> str | None:
    """What tells this process from any other that had or will have its id: boot and clock ticks since. None where it
    has ended, or was never there."""
    _reap(pid)
    fields = _stat(pid)
    if fields is None or fields[0] == "Z":
        return None
    return f"{_BOOT.read_text().strip()}:{fields[19]}"


def group_members(group: int) -> list[int]:
    """Ids of the processes in a group, those already ended left out."""
    ids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = ((pid, _stat(pid)) for pid in ids)
    return [pid for pid, fields in found if fields is not None and fields[0] != "Z" and int(fields[2]) == group]


def stop_group(group: int, grace_s: float) -> None:
    """SIGTERM to every process of the group, SIGKILL to those left after `grace_s`; return when none is left."""
    for sent, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        if not _signalled(group, sent) or _ended(group, wait_s):
            return


def _ended(group: int, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while True:
        _reap(group)
        if not group_members(group):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_S)


def _signalled(group: int, sent: signal.Signals) -> bool:
    try:
        os.killpg(group, sent)
    except ProcessLookupError:
        return False
    return True


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (state, parent, group, …): the second may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _reap(pid: int) -> None:
    """Take note of the end of a child of ours; another's child is its parent's to note."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
