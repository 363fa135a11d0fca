"""A certified pipeline with scripted models, for tests of spot checks and of lapses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.config.fingerprint import step_fingerprint
from orchestrator.config.loader import load_pipeline
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, write_pipeline

A, B = {"label": "a"}, {"label": "b"}
OTHER_DRAFTS = {"created": "2026-02-01", "tried_on": {"attempt": 0, "drafts": "b2:0123"}}
"""What makes a certificate another one, though its threshold be the same."""
LOOK = {"name": "look", "sample": 1.0, "then": "spot_check"}


def watched_policy(sample: float = 1.0) -> dict[str, Any]:
    """The plain rules, and a spot check of what they let through."""
    return {**POLICY, "after": [*POLICY["after"], {**LOOK, "sample": sample}]}


def write_certified(folder: Path, *, certificate: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A pipeline whose certificate is in force: regret at most 0.1 with 90% confidence."""
    confidence = {"from": "logprob.mean", "certificate": "certificate.json"}
    step = {"confidence": confidence, **settings.pop("step", {})}
    path = write_pipeline(folder, step=step, policy=settings.pop("policy", watched_policy()), **settings)
    recertify(path, **(certificate or {}))
    return path


def recertify(path: Path, **fields: Any) -> None:
    """Write the certificate of the pipeline at `path` for what it is at present."""
    loaded = load_pipeline(path)
    body = {
        "kind": "certificate", "format": 1, "threshold": -0.5, "signal": "logprob.mean", "reference": "validator",
        "guarantee": "regret <= 0.1", "loss": "regret", "max_regret": 0.1, "confidence": 0.9, "created": "2026-01-01",
        "validator_accuracy": None, **fields, "fingerprint": step_fingerprint(loaded, loaded.steps[0]),
    }
    (path.parent / "certificate.json").write_text(json.dumps(body))


class Turning:
    """A drafter that is right (as the validator sees it) until told otherwise."""

    def __init__(self) -> None:
        self.value: Any = A

    def __call__(self, request: Any) -> Any:
        return self.value


def both(draft: Callable[[Any], Any], verdict: Callable[[Any], Any] = lambda _: A) -> dict[str, Any]:
    return {
        "drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(verdict, name="validator"),
    }
