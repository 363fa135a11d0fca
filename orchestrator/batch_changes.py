"""In what the configuration differs from the one that a task of the file was done under before.

A task that is done stays done, whatever has changed since: so what has changed must be said. What does not touch an
answer (budgets, prices, owners, addresses) is no change here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from orchestrator.config.fingerprint import differences
from orchestrator.config.loader import config_body_json
from orchestrator.store.statements import table
from orchestrator.store.tables import Config

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime

_config = table(Config)
SETTINGS = "settings"
"""All that can be said of a configuration older than its fingerprints."""
_THRESHOLDS = ("threshold", "gate_threshold")


class Changes:
    """Since each configuration of the ledger, asked for once."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._since: dict[str | None, tuple[str, ...]] = {None: (), rt.loaded.config_id: ()}

    async def since(self, config_id: str | None) -> tuple[str, ...]:
        """The names of what changed since then, sorted; none where nothing did that matters to an answer."""
        if config_id is not None and config_id not in self._since:
            self._since[config_id] = await asyncio.to_thread(self._read, config_id)
        return self._since[config_id]

    def _read(self, config_id: str) -> tuple[str, ...]:
        with self._rt.store.read() as connection:
            wanted = select(_config.c.mode, _config.c.body_json).where(_config.c.config_id == config_id)
            row = connection.execute(wanted).first()
        return changed(row.mode, json.loads(row.body_json), self._rt) if row else ()


def changed(mode: str, then: Mapping[str, Any], rt: Runtime) -> tuple[str, ...]:
    """What differs between a configuration that ran in `mode` and the present one, by name."""
    now = json.loads(config_body_json(rt.loaded))
    names = set(_of_steps(then, now))
    if mode != rt.mode:
        names.add("mode")
    if _said(then, "success") != _said(now, "success"):
        names.add("success")
    return tuple(sorted(name.replace("_", " ") for name in names))


def _of_steps(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = then.get("steps", {}), now["steps"]
    if before.keys() != after.keys():
        yield "steps"
    for name in before.keys() & after.keys():
        prints = then.get("fingerprints", {}).get(name)
        if prints is None:
            yield SETTINGS
            continue
        found = differences(prints, now["fingerprints"][name])
        of_policy = before[name].get("policy") != after[name].get("policy")
        yield from (one for one in found if not (one == "rules_before_confidence" and of_policy))
        if of_policy:
            yield "policy"
        if any(before[name].get(one) != after[name].get(one) for one in _THRESHOLDS):
            yield "threshold"
        if _written(then, name, "confidence") != _written(now, name, "confidence"):
            yield "threshold"


def _written(body: Mapping[str, Any], step: str, key: str) -> Any:
    """The threshold that the pipeline's file has for a step."""
    said: Mapping[str, Any] = next((one for one in _said(body, "steps") or () if one.get("id") == step), {})
    return (said.get(key) or {}).get("threshold")


def _said(body: Mapping[str, Any], key: str) -> Any:
    return (body.get("pipeline") or {}).get(key)
