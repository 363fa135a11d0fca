"""`check` finds, without spending, what would go otherwise than written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.check import CheckReport, check_pipeline
from orchestrator.check.live import live_findings
from orchestrator.check.residency import misspelt
from orchestrator.models.client import Probe
from tests.config_files import ENV, write_pipeline, write_scripted
from tests.loopback import Loopback


def check(path: Path, **options: bool) -> CheckReport:
    return check_pipeline(path, env=ENV, **options)


def told(report: CheckReport, level: str) -> str:
    return "\n".join(f"{f.where}: {f.message}" for f in report.findings if f.level == level)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


def test_a_sound_pipeline_has_no_error_and_shows_what_paths_resolve_to(tmp_path: Path) -> None:
    report = check(write_pipeline(tmp_path))
    assert told(report, "error") == ""
    assert report.exit_code == 0
    assert report.resolved["steps.extract.policy"] == tmp_path / "policy.yaml"


def test_a_file_that_does_not_load_is_the_only_error(tmp_path: Path) -> None:
    report = check(write_pipeline(tmp_path, bend=("prompt:", "promt:")))
    assert [f.level for f in report.findings] == ["error"]
    assert "did you mean 'prompt'?" in told(report, "error")
    assert report.exit_code == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("policy.yaml", "this is a policy file, not a pipeline (give the pipeline whose step names it under "
                        "`policy:`)"),
        ("prices.yaml", "this is a price book, not a pipeline (give the pipeline that names it under `prices:`; "
                        "`orchestrator prices show` shows what the book holds)"),
    ],
)
def test_another_file_given_for_a_pipeline_is_called_what_it_is(tmp_path: Path, name: str, says: str) -> None:
    path = write_pipeline(tmp_path).parent / name
    (tmp_path / "prices.yaml").write_text("book: b\nprices: []\n")
    report = check(path)
    assert [f.message for f in report.findings] == [f"{path}:1: {says}"]
    assert report.summary == f"{path}: 1 error, 0 warnings"


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("policy.yaml", "!signals.schema.ok", "!signals.shema.ok", "did you mean 'schema'"),
        ("policy.yaml", "!signals.schema.ok &&", "task.input.txt == 1.0 &&", "did you mean 'text'"),
        ("policy.yaml", "has(task.meta.residency) && ", "", "ask has(task.meta.residency) first"),
        ("policy.yaml", "has(task.meta.residency) && ", "signals.schema.ok && ", "signals"),
        ("policy.yaml", "attempt < 2", "attempt <", "signals.schema.ok && attempt <"),
        ("policy.yaml", "attempt < 2", "value.totl > 1.0", "did you mean 'total'"),
        ("pipeline.yaml", "[schema, logprob]", "[schema, logprb]", "did you mean 'logprob'?"),
        ("pipeline.yaml", "[schema, logprob]", "[schema]", "names no signal of this step"),
        ("pipeline.yaml", "from: logprob.mean", "from: logprob.men", "did you mean 'mean'"),
        ("pipeline.yaml", "confidence:", "compare: shop:same\n    confidence:", "'shop:same' may not be imported"),
        ("pipeline.yaml", "prices: prices.yaml", "guards: ['shop:stop']", "'shop:stop' may not be imported"),
        ("pipeline.yaml", "prices: prices.yaml", "success: {require: signals.schema.okay}", "okay"),
        ("pipeline.yaml", "    prompt: prompt.md\n", "", "the task schema declares no `input.messages`"),
        ("pipeline.yaml", "    validate: {model: validator}\n", "mode: shadow\n", "there is no `validate:`"),
        ("pipeline.yaml", "prices: prices.yaml", "prices: prices.yaml\nbudget: {per_day: 1 USD}", "is refused"),
    ],
)
def test_what_is_wrong_between_the_files_is_an_error(
    tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    path = write_pipeline(tmp_path)
    rewrite(tmp_path / file, old, new)
    report = check(path)
    assert words in told(report, "error")
    assert report.exit_code == 2


def test_without_a_confidence_every_draft_would_escalate(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=("    confidence: {from: logprob.mean, threshold: -0.05}\n", ""))
    assert "every draft would escalate: rule 'not_sure'" in told(check(path), "error")


def test_a_plain_threshold_is_marked_uncertified(tmp_path: Path) -> None:
    assert "UNCERTIFIED: the threshold -0.05 is a plain number" in told(check(write_pipeline(tmp_path)), "warning")


def test_a_missing_certificate_says_that_every_draft_would_escalate(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=("threshold: -0.05", "certificate: c.json"))
    words = told(check(path), "warning")
    assert "every draft that reaches not_sure would escalate: certificate not found" in words


def test_an_unpriced_model_is_told(tmp_path: Path) -> None:
    assert "no price for 'tiny': its cost is unknown" in told(check(write_pipeline(tmp_path)), "warning")


def test_a_prompt_that_reads_what_the_schema_has_not_is_told(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    (tmp_path / "prompt.md").write_text("{{ task.input.txt }} {{ input.items }}")
    words = told(check(path), "warning")
    assert "reads `task.input.txt`" in words
    assert "write `task.input['items']`" in words


def test_what_happens_to_a_task_without_its_residency_field_or_with_it_misspelt_is_shown(tmp_path: Path) -> None:
    report = check(write_pipeline(tmp_path))
    assert "meta {}: forbids nothing: the task may go to validator" in told(report, "info")
    assert "meta {'residency': 'local'}: forbids remote" in told(report, "info")
    assert "meta {'residancy': 'local'}: forbids nothing: the task may go to validator" in told(report, "warning")


def test_a_closed_task_schema_refuses_the_misspelt_field(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    rewrite(tmp_path / "task.json", '"meta": {', '"meta": {"additionalProperties": false, ')
    report = check(path)
    assert "meta {'residancy': 'local'}: refused: " in told(report, "info")
    assert "residancy" not in told(report, "warning")


def test_a_default_of_the_task_schema_counts_where_the_field_is_missing(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    rewrite(tmp_path / "task.json", '"residency": {"type": "string"}', '"residency": {"default": "local"}')
    assert "meta {}: forbids remote" in told(check(path), "info")


def test_a_rule_that_cant_be_evaluated_forbids_and_says_so(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    rewrite(tmp_path / "policy.yaml", "has(task.meta.residency) && ", "")
    assert "meta {}: forbids remote (" in told(check(path), "info")


def test_an_unconditional_forbid_needs_no_field(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    rewrite(tmp_path / "policy.yaml", """when: 'has(task.meta.residency) && task.meta.residency == "local"', """, "")
    assert "forbids remote models for every task" in told(check(path), "info")


def test_a_misspelling_is_near_and_another_word() -> None:
    assert [misspelt(word) for word in ("residency", "site", "xyz")] == ["residancy", "sete", "xyx"]


def test_residency_lists_every_address_with_what_it_is(tmp_path: Path) -> None:
    path = write_pipeline(
        tmp_path, bend=("vllm:tiny", 'vllm:tiny\n    endpoints: ["http://10.1.2.3:8000/v1", "http://127.0.0.1/v1"]'),
        add="local_networks: [10.0.0.0/8]\n",
    )
    rewrite(path, "{api_key:", '{api_base: "https://api.example/v1", api_key:')
    found = {(a.model, a.address, a.verdict) for a in check(path, residency=True).addresses}
    assert found == {
        ("drafter", "http://10.1.2.3:8000", "in local_networks"), ("drafter", "http://127.0.0.1", "loopback"),
        ("validator", "https://api.example", "a name, looked up as it connects"),
    }


def test_live_asks_each_endpoint_and_an_unreachable_one_is_exit_code_3(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=("vllm:tiny", 'vllm:tiny\n    endpoints: ["http://127.0.0.1:9/v1"]'))
    report = check(path, live=True)
    assert "model drafter at http://127.0.0.1:9/v1: can't be used" in told(report, "warning")
    assert report.exit_code == 3


def test_live_says_what_an_endpoint_serves_and_whether_it_gives_log_probabilities(tmp_path: Path) -> None:
    report = check(write_scripted(tmp_path), live=True)
    assert "model drafter at scripted: speaks scripted, serves drafter, gives log-probabilities" in told(report, "info")
    assert report.exit_code == 0


async def test_live_asks_a_real_server_for_its_models_and_for_log_probabilities(tmp_path: Path) -> None:
    async with Loopback(models=("tiny",)) as server:
        path = write_pipeline(tmp_path, bend=("vllm:tiny", f'vllm:tiny\n    endpoints: ["{server.url}"]'))
        report = await asyncio.to_thread(check, path, live=True)
    assert f"model drafter at {server.url}: speaks openai, serves tiny, gives log-probabilities" in told(report, "info")
    assert report.exit_code == 0


async def test_live_names_what_a_server_serves_instead(tmp_path: Path) -> None:
    async with Loopback(models=("other",)) as server:
        path = write_pipeline(tmp_path, bend=("vllm:tiny", f'vllm:tiny\n    endpoints: ["{server.url}"]'))
        report = await asyncio.to_thread(check, path, live=True)
    assert "'tiny' is not among the models served: other" in told(report, "warning")


def test_an_endpoint_without_log_probabilities_is_an_error_where_signals_need_them() -> None:
    probes = {"drafter": (Probe(endpoint="e", ok=True, logprobs=False),)}
    (needed,) = live_findings(probes, frozenset({"drafter"}))
    (unneeded,) = live_findings(probes, frozenset())
    assert (needed.level, unneeded.level) == ("error", "info")


def test_no_finding_shows_a_secret(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=("vllm:tiny", 'vllm:tiny\n    api_key: "${TEST_KEY}"'))
    report = check(path, live=True, residency=True)
    assert ENV["TEST_KEY"] not in repr(report)
