"""The starter set: every file is what its JSON Schema says, loads, compiles and checks."""

from __future__ import annotations

import shutil
from pathlib import Path

import jsonschema_rs
import pytest

from orchestrator.check import check_pipeline
from orchestrator.config.checked import validated
from orchestrator.config.file_schema import FILES, file_schema
from orchestrator.config.yaml12 import parse_yaml, read_yaml
from orchestrator.scaffold import scaffold, starter_names, starters
from tests.config_files import ENV, write_pipeline

ROOT = starters()
POLICIES = sorted((ROOT / "policies").glob("*.yaml"))
PIPELINES = [ROOT / "pipelines" / name / "pipeline.yaml" for name in starter_names()]



@pytest.mark.parametrize("path", [*POLICIES, *PIPELINES], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_starter_file_fits_its_json_schema(path: Path) -> None:
    kind = "policy" if path.parent.name == "policies" else "pipeline"
    jsonschema_rs.validator_for(file_schema(kind)).validate(read_yaml(path).data)


@pytest.mark.parametrize(
    ("kind", "text", "fits"),
    [
        ("pipeline", "cache: off", True), ("pipeline", "cache: on", False),
        ("pipeline", "budget: {per_day: 50}", False),
        ("pipeline", "budget: {per_day: 50 USD}", True), ("pipeline", "content: {keep: none}", True),
        ("pipeline", "chace: off", False), ("policy", "otherwise: accept", True),
        ("policy", "otherwise: redraft", False),
    ],
)
def test_the_json_schema_says_what_the_loader_says(kind: str, text: str, fits: bool) -> None:
    base = "policy: p\n" if kind == "policy" else (
        "pipeline: p\nmodels: {m: {use: 'vllm:m', location: local}}\n"
        "steps: [{id: s, draft: {model: m}, policy: p.yaml}]\n"
    )
    document = parse_yaml(base + text, Path("x.yaml"))
    assert jsonschema_rs.validator_for(file_schema(kind)).is_valid(document.data) is fits
    if fits:
        validated(FILES[kind], document)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.stem)
def test_a_starter_policy_checks_without_errors(policy: Path, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    shutil.copyfile(policy, tmp_path / "policy.yaml")
    shutil.copyfile(ROOT / "pipelines/order_lines/task.json", tmp_path / "task.json")
    assert [f for f in check_pipeline(path, env=ENV).findings if f.level == "error"] == []


def test_scaffold_rewrites_only_what_leads_out_of_the_copied_set(tmp_path: Path) -> None:
    (path,) = scaffold(tmp_path / "mine", pipeline="order_lines")
    text = path.read_text(encoding="utf-8")
    assert "policy: ../../policies/high_volume.yaml" in text
    assert f"embedded:{ROOT}/examples/order_lines/models/drafter" in text
    assert (tmp_path / "mine" / "policies" / "careful.yaml").is_file()
    assert not (path.parent / "certificates").exists()
    assert (tmp_path / "mine/examples/order_lines/data/calibration.jsonl").is_file()
    assert not (tmp_path / "mine/examples/order_lines/models").exists()
