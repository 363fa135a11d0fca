"""A certificate lapses when what it was made for changes, and only then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.config.fingerprint import differences, fingerprint_digest, step_fingerprint
from orchestrator.config.loader import load_pipeline
from orchestrator.errors import ConfigError
from tests.config_files import ENV, write_pipeline

CERTIFIED = ("{from: logprob.mean, threshold: -0.05}", "{from: logprob.mean, certificate: c.json}")


def fingerprint(path: Path) -> dict[str, str]:
    loaded = load_pipeline(path, env=ENV)
    return step_fingerprint(loaded, loaded.steps[-1])


def problem(path: Path) -> str | None:
    return load_pipeline(path, env=ENV).steps[0].confidence.problem


def certify(path: Path, **changes: object) -> None:
    body = {
        "kind": "certificate", "threshold": -0.1, "signal": "logprob.mean", "reference": "label",
        "guarantee": "regret <= 3% with 90% confidence", "fingerprint": fingerprint(path), **changes,
    }
    (path.parent / "c.json").write_text(json.dumps(body))


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("prompt.md", "{{ task.input.text }}", "Please: {{ task.input.text }}", ["prompt"]),
        ("prompt.md", "Answer in JSON.", "Answer.", ["system"]),
        ("output.json", '"number"', '"integer"', ["schema"]),
        ("task.json", '"required": ["text"]', '"required": []', ["task"]),
        ("pipeline.yaml", "vllm:tiny", "vllm:small", ["drafter"]),
        ("pipeline.yaml", "use: vllm:tiny", "use: vllm:tiny\n    revision: abc", ["drafter"]),
        ("pipeline.yaml", "use: vllm:tiny", "use: vllm:tiny\n    temperature: 0.1", ["drafter_params"]),
        ("pipeline.yaml", "use: vllm:tiny", "use: vllm:tiny\n    thinking: off", ["drafter_params"]),
        ("pipeline.yaml", "use: vllm:tiny", "use: vllm:tiny\n    extra_body: {top_k: 1}", ["drafter_params"]),
        ("pipeline.yaml", "openai/gpt-x", "openai/gpt-y", ["validator"]),
        ("pipeline.yaml", "{api_key:", "{top_p: 0.5, api_key:", ["validator_params"]),
        ("pipeline.yaml", "{model: validator}", "{model: validator, mode: redo}", ["validate_mode"]),
        ("pipeline.yaml", "{model: validator}", "{model: validator, on_reject: fail}", ["on_reject"]),
        ("pipeline.yaml", "{model: drafter}", "{model: drafter, max_attempts: 3}", ["max_attempts"]),
        ("pipeline.yaml", "[schema, logprob]", "[schema, logprob, finish]", ["signals"]),
        ("pipeline.yaml", "from: logprob.mean", "from: logprob.min", ["confidence_source"]),
        ("pipeline.yaml", "prices: prices.yaml", "guards: ['shop:stop']", ["guards"]),
        ("policy.yaml", "attempt < 2", "attempt < 3", ["rules_before_confidence"]),
        ("policy.yaml", 'residency == "local"', 'residency == "home"', ["rules_before_confidence"]),
        ("policy.yaml", "confidence < threshold", "confidence < threshold - 0.1", ["rules_before_confidence"]),
    ],
)
def test_what_changes_drafts_signals_confidence_or_verdict_is_named(
    tmp_path: Path, file: str, old: str, new: str, changed: list[str]
) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    before = fingerprint(path)
    rewrite(tmp_path / file, old, new)
    assert differences(before, fingerprint(path)) == changed
    assert fingerprint_digest(before) != fingerprint_digest(fingerprint(path))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pipeline.yaml", "prices: prices.yaml", "budget: {per_day: 5 USD}\nowner: me\nmode: shadow"),
        ("pipeline.yaml", "use: vllm:tiny", 'use: vllm:tiny\n    endpoints: ["http://127.0.0.1:9000/v1"]'),
        ("pipeline.yaml", "use: vllm:tiny", "use: vllm:tiny\n    timeout: 5s\n    retries: 0\n    max_in_flight: 3"),
        ("pipeline.yaml", "{api_key:", '{api_base: "https://proxy.example", api_key:'),
        ("pipeline.yaml", "prices: prices.yaml", "limits: {escalation: {share: 0.3}}\ncontent: {keep: 1d}"),
        ("policy.yaml", "name: broken", "name: torn"),
        ("policy.yaml", "otherwise: accept", "  - {name: look, sample: 0.1, then: spot_check}\notherwise: accept"),
        ("prices.yaml", "book: test", "book: other"),
    ],
)
def test_budgets_limits_owner_retention_endpoints_and_later_rules_change_nothing(
    tmp_path: Path, file: str, old: str, new: str
) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    before = fingerprint(path)
    rewrite(tmp_path / file, old, new)
    assert differences(before, fingerprint(path)) == []


def test_an_embedded_model_is_known_by_its_files_wherever_they_lie(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "weights").mkdir(parents=True)
    (one / "weights" / "model.onnx").write_bytes(b"weights")
    path = write_pipeline(one, bend=("vllm:tiny", "embedded:weights"))
    shutil.copytree(one, two)
    assert fingerprint(path) == fingerprint(two / "pipeline.yaml")
    (two / "weights" / "model.onnx").write_bytes(b"others!")
    assert differences(fingerprint(path), fingerprint(two / "pipeline.yaml")) == ["drafter"]


def test_a_step_that_reads_an_earlier_one_depends_on_its_settings(tmp_path: Path) -> None:
    second = "  - {id: reply, draft: {model: drafter}, policy: policy.yaml, when: steps.extract.value.total > 1.0}\n"
    path = write_pipeline(tmp_path, bend=("prices: prices.yaml\n", second))
    before = fingerprint(path)
    rewrite(tmp_path / "prompt.md", "{{ task.input.text }}", "Please: {{ task.input.text }}")
    assert differences(before, fingerprint(path)) == ["earlier_steps"]


def test_a_missing_certificate_is_a_problem_and_no_error(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    told = problem(path)
    assert told is not None
    assert f"certificate not found: {tmp_path / 'c.json'}" in told
    assert "orchestrator calibrate" in told


def test_a_fitting_certificate_is_no_problem_and_a_lapsed_one_names_what_changed(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    certify(path)
    assert problem(path) is None
    rewrite(tmp_path / "prompt.md", "Answer in JSON.", "Answer.")
    assert problem(path) == f"{tmp_path / 'c.json'} has lapsed: system changed since it was made"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"threshold": None}, "certifies no threshold"), ({"signal": "logprob.min"}, "certifies 'logprob.min'")],
)
def test_a_certificate_of_something_else_counts_for_nothing(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    certify(path, **changes)
    assert words in (problem(path) or "")


@pytest.mark.parametrize(
    "changes", [{"kind": "note"}, {"threshold": "high"}, {"fingerprint": None}, {"reference": "hope"}]
)
def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path, changes: dict[str, object]) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    certify(path, **changes)
    with pytest.raises(ConfigError, match=r"c\.json:1: ") as found:
        problem(path)
    assert next(iter(changes)) in str(found.value)


def test_a_threshold_that_is_no_number_never_accepts_by_accident(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    certify(path)
    rewrite(tmp_path / "c.json", "-0.1", "NaN")
    with pytest.raises(ConfigError, match="NaN is not JSON"):
        problem(path)


def test_a_new_threshold_is_a_new_configuration(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=CERTIFIED)
    certify(path)
    before = load_pipeline(path, env=ENV).config_id
    certify(path, threshold=-0.2)
    assert load_pipeline(path, env=ENV).config_id != before
