"""A fitted confidence and a gate at work on the way of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator import Outcome, Pipeline, Task
from orchestrator.config.fingerprint import draft_fingerprint, step_fingerprint
from orchestrator.config.loader import load_pipeline
from orchestrator.errors import ResidencyError
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, write_pipeline

A, B = {"label": "a"}, {"label": "b"}
GATED = {**POLICY, "before": [{"name": "too_hard", "when": "gate < gate_threshold", "then": "escalate"}]}


def artefact(feature: str, weight: float, *, role: str = "draft", **fingerprint: str) -> dict[str, Any]:
    """P(right) = sigmoid(weight * feature)."""
    return {
        "kind": "confidence", "format": 1, "pipeline": "labels", "step": "label", "role": role, "features": [feature],
        "model": {"kind": "logistic", "fill": [0.0], "means": [0.0], "scales": [1.0], "weights": [weight],
                  "intercept": 0.0},
        "calibration": {"kind": "none"}, "fitted_on": {}, "measured": {}, "fingerprint": fingerprint,
    }


def write(folder: Path, name: str, body: dict[str, Any]) -> str:
    """An artefact file fitted on just the drafts that the pipeline in `folder` makes."""
    loaded = load_pipeline(folder / "pipeline.yaml")
    made = draft_fingerprint(step_fingerprint(loaded, loaded.steps[0]))
    (folder / name).write_bytes(orjson.dumps({**body, "fingerprint": made}))
    return name


def fitted(folder: Path, feature: str, weight: float, threshold: float) -> Path:
    step = {"confidence": {"fitted": "confidence.json", "threshold": threshold}}
    path = write_pipeline(folder, step=step)
    write(folder, "confidence.json", artefact(feature, weight))
    return path


def gated(folder: Path, weight: float, **settings: Any) -> Path:
    """Tasks of more than nothing are easier the longer they are (weight > 0)."""
    path = write_pipeline(
        folder, policy=GATED, step={"gate": {"fitted": "gate.json", "threshold": 0.9}}, **settings
    )
    write(folder, "gate.json", artefact("task_chars", weight, role="gate"))
    return path


async def run(path: Path, text: str = "xx", *, logprob: float = -0.1) -> tuple[Outcome, dict[str, ScriptedModel]]:
    clients = {
        "drafter": ScriptedModel([A], name="drafter", logprob=logprob),
        "validator": ScriptedModel([B], name="validator"),
    }
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        return await pipeline.arun(Task(id="t", input={"text": text})), clients


async def test_a_fitted_probability_is_what_the_threshold_is_compared_with(tmp_path: Path) -> None:
    path = fitted(tmp_path / "p", "lp_mean", 10.0, threshold=0.2)
    sure, _ = await run(path, logprob=-0.1)
    unsure, _ = await run(path, logprob=-0.5)
    assert sure.decision is not None
    assert sure.decision.confidence == pytest.approx(0.26894, abs=1e-4)  # sigmoid(-1)
    assert (sure.status, unsure.status) == ("accepted", "redone")


async def test_without_its_file_a_fitted_confidence_escalates(tmp_path: Path) -> None:
    path = fitted(tmp_path / "p", "lp_mean", 10.0, threshold=0.2)
    (tmp_path / "p" / "confidence.json").unlink()
    outcome, _ = await run(path)
    assert outcome.status == "redone"
    assert outcome.decision is not None
    assert "fitted confidence not found" in outcome.decision.explanation


async def test_a_confidence_fitted_on_other_drafts_has_lapsed(tmp_path: Path) -> None:
    path = fitted(tmp_path / "p", "lp_mean", 10.0, threshold=0.2)
    (tmp_path / "p" / "prompt.md").write_text("{{ task.input.text }}, differently\n")
    outcome, _ = await run(path)
    assert outcome.status == "redone"
    assert outcome.decision is not None
    assert "prompt, system changed since it was fitted" in outcome.decision.explanation


async def test_a_gate_sends_what_its_draft_would_not_do_straight_to_the_validator(tmp_path: Path) -> None:
    path = gated(tmp_path / "p", 0.5)
    easy, asked = await run(path, "a long text")
    assert (easy.status, len(asked["drafter"].calls)) == ("accepted", 1)
    hard, asked = await run(path, "x")
    assert (hard.status, len(asked["drafter"].calls)) == ("redone", 0)
    assert hard.decision is not None
    assert hard.decision.explanation == "too_hard: gate < gate_threshold (gate 0.6225, threshold 0.9)"
    assert (hard.decision.confidence, hard.decision.threshold) == (pytest.approx(0.6225, abs=1e-4), 0.9)


@pytest.mark.parametrize(("lapsed", "status"), [("escalate", "redone"), ("hand_off", "handed_off")])
async def test_a_gate_without_its_file_does_what_certificate_lapsed_says(
    tmp_path: Path, lapsed: str, status: str
) -> None:
    path = gated(tmp_path / "p", 0.5, certificate_lapsed=lapsed)
    (tmp_path / "p" / "gate.json").unlink()
    outcome, asked = await run(path, "a long text")
    assert (outcome.status, asked["drafter"].calls) == (status, [])


async def test_a_rule_on_a_gate_that_the_step_has_not_escalates(tmp_path: Path) -> None:
    outcome, asked = await run(write_pipeline(tmp_path / "p", policy=GATED))
    assert (outcome.status, asked["drafter"].calls) == ("redone", [])
    assert outcome.decision is not None
    assert "the step has no `gate:`" in outcome.decision.explanation


async def test_a_gate_may_not_read_what_only_the_draft_tells(tmp_path: Path) -> None:
    path = gated(tmp_path / "p", 0.5)
    write(tmp_path / "p", "gate.json", artefact("task_chars", 0.5))
    body = orjson.loads((tmp_path / "p" / "gate.json").read_bytes())
    (tmp_path / "p" / "gate.json").write_bytes(orjson.dumps({**body, "features": ["lp_mean"], "role": "gate"}))
    with pytest.raises(Exception, match="can't read 'lp_mean'"):
        await run(path)


def test_a_webhook_that_leaves_is_refused_where_everything_must_stay(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", residency="local", on_lapse={"webhook": "https://hooks.example.com/x"})
    with pytest.raises(ResidencyError, match="webhook"):
        load_pipeline(path)
    path = write_pipeline(tmp_path / "p", residency="local", on_lapse={"webhook": "http://127.0.0.1:9/x"})
    assert load_pipeline(path).config.on_lapse is not None
