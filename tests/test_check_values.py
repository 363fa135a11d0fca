"""`check` names literals and thresholds that can never be reached, in real pipelines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from orchestrator.cascade.signals.signal_set import KINDS, compile_signals
from orchestrator.check import CheckReport, check_pipeline
from orchestrator.check.measures import MEASURES
from orchestrator.check.ranges import out_of_range
from orchestrator.records import TokenLogprobs
from tests.config_files import ENV, write_pipeline
from tests.drafts import SURE, draft_of, task_of, unread

FROM = "{from: logprob.mean, threshold: -0.05}"
META = {"residency": {"enum": ["local", "any"]}, "amount": {"type": "number", "default": 0}}
OUTPUT = {
    "type": "object", "required": ["category", "total"],
    "properties": {"category": {"enum": ["refund", "order"]}, "total": {"type": "number"}},
}
NEVER_ABOVE_0 = "logprob.mean is at most 0: no draft can reach 0.8; a probability of 80% is -0.223"


def pipeline_of(
    folder: Path, *, before: str = "", after: str = "", bend: tuple[str, str] | None = None, add: str = ""
) -> Path:
    """The small pipeline with labels in its schemas, and one more rule in front of those of its policy."""
    path = write_pipeline(folder, bend=bend, add=add)
    task = json.loads((folder / "task.json").read_text())
    task["properties"]["meta"]["properties"] = META
    (folder / "task.json").write_text(json.dumps(task))
    (folder / "output.json").write_text(json.dumps(OUTPUT))
    text = (folder / "policy.yaml").read_text()
    text = text.replace("before:\n", f"before:\n{before}", 1).replace("after:\n", f"after:\n{after}", 1)
    (folder / "policy.yaml").write_text(text)
    return path


def check(path: Path) -> CheckReport:
    return check_pipeline(path, env=ENV)


def told(report: CheckReport, level: str) -> str:
    return "\n".join(f"{f.where}: {f.message}" for f in report.findings if f.level == level)


def test_a_rule_that_would_keep_nothing_at_home_is_an_error(tmp_path: Path) -> None:
    path = pipeline_of(tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy.read_text().replace('== "local"', '== "Local"'))
    report = check(path)
    assert report.exit_code == 2
    assert told(report, "error") == (
        "step extract, policy.yaml: before rule 'stays_home': "
        'has(task.meta.residency) && task.meta.residency == "Local": '
        "task.meta.residency is never \"Local\": did you mean 'local'?"
    )


def test_the_same_rule_with_the_label_of_the_schema_is_no_error(tmp_path: Path) -> None:
    report = check(pipeline_of(tmp_path, after="  - {name: big, when: 'task.meta.amount > 890', then: escalate}\n"))
    assert told(report, "error") == ""
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ('value.category == "complaint"', "value.category is never \"complaint\": there are 'refund', 'order'"),
        ('value.category in ["refunds", "order"]', "did you mean 'refund'?"),
        ('value.total == true', "value.total is a number, never true"),
        ('task.meta.amount > "890"', 'task.meta.amount is a number, never "890": write 890'),
        ('signals.schema.ok == "true"', "write true"),
        ('signals.logprob.value.mean < "x"', "signals.logprob.value.mean is a number or null, never \"x\""),
    ],
)
def test_a_label_or_a_type_that_a_field_can_not_have_is_an_error(tmp_path: Path, when: str, says: str) -> None:
    report = check(pipeline_of(tmp_path, after=f"  - {{name: odd, when: '{when}', then: escalate}}\n"))
    assert told(report, "error").startswith(f"step extract, policy.yaml: after rule 'odd': {when}: ")
    assert says in told(report, "error")
    assert report.count("error") == 1


def test_signals_guards_and_the_requirement_of_success_are_looked_at_too(tmp_path: Path) -> None:
    check_of = "arithmetic: {check: 'value.category != \"refunds\"'}"
    path = pipeline_of(
        tmp_path, bend=("[schema, logprob]", f"\n      - schema\n      - logprob\n      - {check_of}"),
        add="success: {require: 'value.category == \"ordr\"'}\n",
    )
    path.write_text(path.read_text().replace("    draft:", "    when: 'task.meta.amount == \"many\"'\n    draft:"))
    errors = told(check(path), "error")
    assert "step extract, when: task.meta.amount == \"many\": task.meta.amount is a number, never \"many\"" in errors
    assert "step extract: signal 'arithmetic': value.category != \"refunds\": " in errors
    assert "success.require: value.category == \"ordr\": value.category is never \"ordr\": did you mean" in errors


def test_a_threshold_on_a_log_probability_above_0_is_a_warning(tmp_path: Path) -> None:
    report = check(pipeline_of(tmp_path, bend=("threshold: -0.05", "threshold: 0.8")))
    assert f"step extract: `confidence:` has the threshold 0.8: {NEVER_ABOVE_0}" in told(report, "warning")
    assert report.exit_code == 0


def test_a_rule_with_a_number_that_the_confidence_never_reaches_is_a_warning(tmp_path: Path) -> None:
    rules = (
        "  - {name: unsure, when: 'confidence < 0.8', then: escalate}\n"
        "  - {name: lucky, when: '0.8 <= signals.logprob.value.mean', then: accept}\n"
    )
    warnings = told(check(pipeline_of(tmp_path, after=rules)), "warning")
    assert f"step extract, policy.yaml: after rule 'unsure': confidence < 0.8: {NEVER_ABOVE_0}" in warnings
    assert f"after rule 'lucky': 0.8 <= signals.logprob.value.mean: {NEVER_ABOVE_0}" in warnings


def test_a_limit_of_the_signal_itself_that_no_draft_keeps_is_a_warning(tmp_path: Path) -> None:
    entry = "[schema, logprob: {name: sure, min_mean: 0.8, span_min_min: -1, min_margin_min: 0.8}]"
    path = pipeline_of(tmp_path, bend=("[schema, logprob]", entry))
    path.write_text(path.read_text().replace("from: logprob.mean", "from: sure.mean"))
    warnings = told(check(path), "warning")
    assert "step extract: signal 'sure' has min_mean: 0.8: sure.mean is at most 0: no draft can reach 0.8" in warnings
    assert warnings.count("is at most") == 1


@pytest.mark.parametrize(
    ("signals", "confidence", "says"),
    [
        ("[schema, agreement]", "{from: agreement, threshold: 80}",
         "agreement is at most 1: no draft can reach 80; a probability of 80% is 0.8"),
        ("[schema, agreement]", "{from: agreement, threshold: -0.05}",
         "agreement is at least 0: every draft reaches -0.05"),
        ("[schema, logprob]", "{from: logprob.span.min, threshold: 80}",
         "logprob.span.min is at most 0: no draft can reach 80; a probability of 80% is -0.223"),
    ],
)
def test_each_signal_has_its_own_range(tmp_path: Path, signals: str, confidence: str, says: str) -> None:
    path = pipeline_of(tmp_path, bend=(FROM, confidence))
    path.write_text(path.read_text().replace("[schema, logprob]", signals))
    assert says in told(check(path), "warning")


@pytest.mark.parametrize(
    ("signals", "confidence"),
    [
        ("[schema, logprob]", FROM), ("[schema, logprob]", "{from: logprob.min, threshold: 0}"),
        ("[schema, logprob]", "{from: logprob.margin_min, threshold: 0.8}"),
        ("[schema, agreement]", "{from: agreement, threshold: 1}"),
        ("[schema, agreement]", "{from: agreement, threshold: 0}"),
        ("[schema, python: {name: own, call: 'tests.config_files:line_of'}]", "{from: own, threshold: 80}"),
        ("[schema, logprob]", "{fitted: not_made_yet.json, threshold: 80}"),
    ],
)
def test_a_threshold_that_may_be_reached_is_no_warning(tmp_path: Path, signals: str, confidence: str) -> None:
    path = pipeline_of(tmp_path, bend=(FROM, confidence), add="allow_imports: [tests.config_files]\n")
    path.write_text(path.read_text().replace("[schema, logprob]", signals))
    report = check(path)
    assert [f.message for f in report.findings if " is at most " in f.message or " is at least " in f.message] == []


def fitted(folder: Path, *, role: str = "draft", model: dict[str, Any] | None = None, feature: str = "lp_mean") -> None:
    """A confidence file as `calibrate` leaves it."""
    logistic = {"kind": "logistic", "fill": [0], "means": [0], "scales": [1], "weights": [1], "intercept": 0}
    platt = {"kind": "platt", "slope": 1.0, "offset": 0.0}
    (folder / "fit.json").write_text(json.dumps({
        "kind": "confidence", "format": 1, "pipeline": "small", "step": "extract", "role": role, "features": [feature],
        "model": model or logistic, "calibration": {"kind": "none"} if model else platt,
        "fitted_on": {}, "measured": {}, "fingerprint": {},
    }))


def test_a_fitted_confidence_and_a_gate_are_probabilities(tmp_path: Path) -> None:
    both = "{fitted: fit.json, threshold: 80}\n    gate: {fitted: g.json, threshold: 95}"
    gated = "  - {name: gated, when: 'gate < 90', then: escalate}\n"
    path = pipeline_of(tmp_path, bend=(FROM, both), before=gated)
    fitted(tmp_path, role="gate", feature="task_chars")
    (tmp_path / "fit.json").rename(tmp_path / "g.json")
    fitted(tmp_path)
    warnings = told(check(path), "warning")
    assert "the fitted confidence is at most 1: no draft can reach 80; a probability of 80% is 0.8" in warnings
    assert "`gate:` has the threshold 95: the gate is at most 1: no task can reach 95" in warnings
    assert "before rule 'gated': gate < 90: the gate is at most 1: no task can reach 90" in warnings


def test_a_raw_signal_kept_by_a_fit_has_the_range_of_the_signal(tmp_path: Path) -> None:
    path = pipeline_of(tmp_path, bend=(FROM, "{fitted: fit.json, threshold: 0.8}"))
    fitted(tmp_path, model={"kind": "signal"})
    said = "the fitted confidence, which is lp_mean, is at most 0: no draft can reach 0.8"
    assert said in told(check(path), "warning")


def test_a_number_within_the_range_says_nothing_and_one_far_outside_is_no_percentage() -> None:
    log_probability = {"maximum": 0.0}
    assert out_of_range("logprob.min", log_probability, 0.0) == ""
    assert out_of_range("logprob.min", {}, 80.0) == ""
    assert out_of_range("logprob.min", log_probability, 1.0).endswith("a probability of 100% is 0")
    assert out_of_range("logprob.min", log_probability, 1000.0) == "logprob.min is at most 0: no draft can reach 1000"


def test_what_signals_measure_is_what_check_compares_with() -> None:
    """Each kind but `python`, on drafts that are sound, broken, empty, refused, and without log-probabilities."""
    span = TokenLogprobs(
        n=3, mean=0.0, total=0.0, q0=-2.0, q10=0.0, q25=0.0, q50=0.0, margin_mean=-1.0, margin_min=None
    )
    sound = {"category": "refund", "total": 1}
    drafts = [
        draft_of(sound, span=span), draft_of(sound, logprobs=None), unread("{"), draft_of({**sound, "category": ""}),
        draft_of("I'm sorry, but I can't help with that."), draft_of("TBD", finish_reason="length", span=SURE),
    ]
    entries: list[Any] = [
        "schema", "logprob", "finish", "length", "refusal", {"arithmetic": {"check": 'value.category == "refund"'}},
        {"regex": {"pattern": "^r", "field": "category"}}, {"agreement": {"k": 2}},
    ]
    signals = compile_signals(entries, output_schema=OUTPUT)
    assert {*signals.names, "python"} == {*MEASURES, "python"} == {*KINDS}
    seen: dict[str, set[str]] = {name: set() for name in signals.names}
    for draft in drafts:
        for samples in ([draft], [draft, replace(drafts[0], sample=1)]):
            for name, signal in signals.measure_sync(draft, task_of("x"), samples).items():
                assert jsonschema_rs.is_valid(dict(MEASURES[name]), signal.value), (name, signal.value)
                seen[name].add(json.dumps(signal.value))
    assert [name for name, values in seen.items() if len(values) < 2] == []
