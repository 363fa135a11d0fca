"""docs/yaml.md says of every key what it means and what its default is: no more, no fewer, none wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter

from orchestrator.config import pipeline as p
from orchestrator.config import policy, prices
from orchestrator.config.yaml12 import parse_yaml

DOCS = Path(__file__).parent.parent / "docs" / "yaml.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "Pipeline": p.PipelineConfig, "models.NAME": p.ModelConfig, "models.NAME.serve": p.Serve, "steps[]": p.StepConfig,
    "steps[].draft": p.DraftConfig, "steps[].confidence": p.ConfidenceConfig, "steps[].validate": p.ValidateConfig,
    "steps[].gate": p.GateConfig, "drift": p.DriftConfig, "on_lapse": p.LapseHook, "telemetry": p.TelemetryConfig,
    "cache": p.CacheConfig, "budget": p.BudgetConfig,
    "budget.tenants": p.SpanLimits, "limits": p.Limits, "limits.escalation": p.EscalationLimit,
    "content": p.ContentConfig, "success": p.SuccessConfig, "Policy": policy.PolicyConfig,
    "before[]": policy.BeforeRule, "after[]": policy.AfterRule, "Price book": prices.PriceBook,
    "prices[]": prices.PriceEntry, "prices[].per_million": prices.TokenPrices, "prices[].gpu_hour": prices.GpuHour,
    "prices[].above[]": prices.Above, "accounts.NAME": prices.Account, "rates[]": prices.Rate,
}
ROW = re.compile(r"^\| `([^`]+)` \| (.+) \| (.+) \|$")


def documented() -> dict[str, dict[str, str]]:
    """The default cell of each key, by section."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif row := ROW.match(line):
            assert len(row[2]) > 5, f"{section}: {row[1]} says nothing"
            found.setdefault(section, {})[row[1]] = row[3]
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_with_its_default(section: str) -> None:
    model, rows = SECTIONS[section], documented()[section]
    assert set(rows) == {field.alias or name for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        cell = rows[field.alias or name]
        if field.is_required():
            assert cell == "required", name
        else:
            assert _read(cell, field) == field.get_default(call_default_factory=True), name


def test_no_model_is_left_out() -> None:
    def below(model: type[BaseModel]) -> set[type[BaseModel]]:
        found = {model}
        for inner in re.findall(r"\b([A-Z]\w+)\b", str([f.annotation for f in model.model_fields.values()])):
            known = getattr(p, inner, None) or getattr(policy, inner, None) or getattr(prices, inner, None)
            if isinstance(known, type) and issubclass(known, BaseModel) and known not in found:
                found |= below(known)
        return found

    everything = below(p.PipelineConfig) | below(policy.PolicyConfig) | below(prices.PriceBook)
    assert everything == set(SECTIONS.values())
    assert set(documented()) == set(SECTIONS)


def _read(cell: str, field: Any) -> Any:
    text = cell.strip("`")
    if text == "none":
        return None
    value = parse_yaml(f"x: {text}", DOCS).data["x"]
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(kind).validate_python(value)
