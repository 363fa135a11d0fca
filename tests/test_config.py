"""Configuration: each kind of bad input is one clear error with file, line, key and the nearest valid key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.config.checked import validated
from orchestrator.config.loader import config_body_json, load_pipeline, model_target
from orchestrator.config.policy import PolicyConfig
from orchestrator.config.prices import PriceBook
from orchestrator.config.yaml12 import parse_yaml, read_yaml
from orchestrator.errors import ConfigError, ResidencyError
from tests.config_files import ENV, line_of, write_pipeline


def load(path: Path) -> object:
    return load_pipeline(path, env=ENV)


def test_a_file_that_is_not_utf8_is_named_with_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(b"pipeline: p\nowner: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"pipeline\.yaml:2: not UTF-8: byte 0xe9 at offset 22"):
        load(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfpolicy: p\n")
    assert read_yaml(tmp_path / "p.yaml").data == {"policy": "p"}


def test_an_oversized_file_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("# " + "x" * 1_000_000)
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        load(path)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    with pytest.raises(ConfigError, match="no such file") as found:
        load(tmp_path / "pipelin.yaml")
    assert "pipeline.yaml" in found.value.hint


@pytest.mark.parametrize(
    ("bend", "line_text", "words"),
    [
        (("prompt:", "promt:"), "promt:", "unknown key 'steps[0].promt'; did you mean 'prompt'?"),
        (("location: local", "locaton: local"), "locaton", "did you mean 'location'?"),
        (("{model: drafter}", "{modle: drafter}"), "modle", "'steps[0].draft.modle'; did you mean 'model'?"),
        (("{model: drafter}", "{model: draftr}"), "draftr", "no model of `models:`; did you mean 'drafter'?"),
        (("vllm:tiny", "vlm:tiny"), "vlm:", "did you mean 'vllm'?"),
        (("vllm:tiny", "ollama:qwen3"), "use: ollama:qwen3", "write openai:qwen3 with `endpoints: [http://127.0.0.1:11434"),
        (("vllm:tiny", "tiny"), "use: tiny", "'tiny' is not KIND:NAME"),
        (("location: local", "location: lokal"), "lokal", "'lokal' is none of local, remote; did you mean 'local'?"),
        (("threshold: -0.05", "threshold: low"), "threshold: low", "steps[0].confidence.threshold"),
        ((", threshold: -0.05", ""), "from: logprob", "every draft would escalate"),
        (("signals: [schema, logprob]", "signals: [{a: {}, b: {}}]"), "signals", "a signal is a name"),
        (("signals: [schema, logprob]", "signals: 3"), "signals", "steps[0].signals"),
        (("prompt: prompt.md", "prompt: prmpt.md"), "prmpt", "'prmpt.md' is not there"),
        (("prices: prices.yaml", "prices: book.yaml"), "book.yaml", "'book.yaml' is not there"),
        (("vllm:tiny", "embedded:weights"), "weights", "'weights' is not there: it resolves to"),
        (("prompt: prompt.md", "when: steps.extract.value == 1"), "when:", "step 'extract' reads itself"),
        (("prompt: prompt.md", "when: steps.other.value == 1"), "when:", "'other', which does not exist"),
        (("task: task.json", "task: shop:Order"), "task:", "may not be imported"),
        (("pipeline: small", "pipeline: [small]"), "pipeline:", "(it is ['small'])"),
    ],
)
def test_a_bent_pipeline_says_file_line_key_and_value(
    tmp_path: Path, bend: tuple[str, str], line_text: str, words: str
) -> None:
    path = write_pipeline(tmp_path, bend=bend)
    with pytest.raises(ConfigError) as found:
        load(path)
    message = str(found.value)
    assert f"{path}:{line_of(path, line_text)}: " in message
    assert words in message
    assert found.value.exit_code == 2


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, add="mod: cascade\nbudget: {per_day: 50}\ncache: {ttl: soon}\n")
    with pytest.raises(ConfigError) as found:
        load(path)
    message = str(found.value)
    assert "unknown key 'mod'; did you mean 'mode'?" in message
    assert "budget.per_day: 50 is not an amount of money" in message
    assert "cache.ttl: 'soon' is not a duration" in message
    assert message.count(f"{path}:") == 3


def test_a_broken_step_is_not_also_called_missing(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=("location: local", "location: here"))
    with pytest.raises(ConfigError) as found:
        load(path)
    assert str(found.value).count(str(path)) == 1


def test_later_steps_may_read_earlier_ones_and_not_the_other_way(tmp_path: Path) -> None:
    second = """  - id: reply
    draft: {model: drafter}
    policy: policy.yaml
    when: steps.extract.value.total > 1.0
"""
    path = write_pipeline(tmp_path, bend=("prices: prices.yaml\n", second))
    assert [step.config.id for step in load_pipeline(path, env=ENV).steps] == ["extract", "reply"]
    (tmp_path / "prompt.md").write_text("{{ task.input.text }} {{ steps.reply.value }}")
    with pytest.raises(ConfigError, match="step 'extract' reads 'reply', which comes later"):
        load(path)


@pytest.mark.parametrize(
    ("prompt", "line", "words"),
    [
        ("{{ tsk.input.text }}", 1, "names 'tsk'; did you mean 'task'?"),
        ("---\nsystem: x\n---\nHello\n{{ task.input.text", 5, "the template is wrong"),
        ("---\nsystem: x\n---\n{% include 'other' %}", 4, "include, import and extends"),
        ("---\nsystem: x\n{{ task.input.text }}", 1, "front matter starts and does not end"),
        ("---\nsytem: x\n---\nHello", 2, "unknown key 'sytem'; did you mean 'system'?"),
        ("---\nsystem: '{{ who }}'\n---\nHello", 2, "names 'who'"),
    ],
)
def test_a_bad_prompt_is_named_with_its_line(tmp_path: Path, prompt: str, line: int, words: str) -> None:
    path = write_pipeline(tmp_path)
    (tmp_path / "prompt.md").write_text(prompt)
    with pytest.raises(ConfigError) as found:
        load(path)
    assert words in str(found.value)
    assert (found.value.file, found.value.line) == (str(tmp_path / "prompt.md"), line)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ('{"type": "object",}', "not JSON"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("[1]", "a JSON Schema is an object"),
        ('{"type": "objekt"}', "not a JSON Schema"),
        ('{"$ref": "https://example.com/schema.json"}', "leaves the schema"),
        ('{"minimum": NaN}', "NaN is not JSON"),
    ],
)
def test_a_bad_schema_is_refused_and_nothing_is_fetched(tmp_path: Path, schema: str, words: str) -> None:
    path = write_pipeline(tmp_path)
    (tmp_path / "output.json").write_text(schema)
    with pytest.raises(ConfigError, match=words) as found:
        load(path)
    assert found.value.file == str(tmp_path / "output.json")


def test_the_configuration_id_does_not_depend_on_a_secret_and_does_on_what_matters(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    first = load_pipeline(path, env=ENV).config_id
    assert load_pipeline(path, env={"TEST_KEY": "another"}).config_id == first
    path.write_text("# a comment\n" + path.read_text())
    assert load_pipeline(path, env=ENV).config_id == first
    (tmp_path / "prompt.md").write_text("Another prompt: {{ task.input.text }}")
    assert load_pipeline(path, env=ENV).config_id != first


def test_a_local_pipeline_refuses_a_remote_model(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, add="residency: local\n")
    with pytest.raises(ResidencyError, match="model 'validator' is remote"):
        load(path)


@pytest.mark.parametrize(
    ("endpoint", "networks", "accepted"),
    [
        ("http://127.0.0.1:8000/v1", "", True),
        ("http://localhost:8000/v1", "", True),
        ("http://[::1]:8000/v1", "", True),
        ("http://10.1.2.3:8000/v1", "", False),
        ("http://10.1.2.3:8000/v1", "10.0.0.0/8", True),
        ("http://11.1.2.3:8000/v1", "10.0.0.0/8", False),
        ("http://[::ffff:8.8.8.8]/v1", "10.0.0.0/8", False),
        ("http://drafter.internal/v1", "", False),
        ("http://127.0.0.1.evil.example/v1", "", False),
        ("ftp://127.0.0.1/v1", "", False),
        ("http://127.0.0.1:99999/v1", "", False),
        ("http://127.0.0.1:8000/v1", "0.0.0.0/0", False),
        ("http://127.0.0.1:8000/v1", "home", False),
    ],
)
def test_a_model_is_local_only_by_its_address(tmp_path: Path, endpoint: str, networks: str, accepted: bool) -> None:
    path = write_pipeline(
        tmp_path, bend=("vllm:tiny", f'vllm:tiny\n    endpoints: ["{endpoint}"]'), add=f"local_networks: [{networks}]\n"
    )
    if accepted:
        load(path)
    else:
        with pytest.raises(ConfigError):
            load(path)


def test_paths_resolve_against_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "weights").mkdir()
    write_pipeline(tmp_path / "here", bend=("vllm:tiny", "embedded:../weights"))
    monkeypatch.chdir(tmp_path)
    loaded = load_pipeline("here", env=ENV)
    assert loaded.resolved["steps.extract.prompt"] == tmp_path / "here" / "prompt.md"
    assert loaded.resolved["models.drafter.use"] == tmp_path / "weights"
    assert model_target(loaded, "drafter") == str(tmp_path / "weights")
    assert model_target(loaded, "validator") == "openai/gpt-x"


def test_a_policy_that_names_an_unknown_model_is_named_in_its_own_file(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy.read_text().replace("then: escalate}", "then: escalate, to: validatr}"))
    with pytest.raises(ConfigError, match="did you mean 'validator'") as found:
        load(path)
    assert (found.value.file, found.value.line) == (str(policy), line_of(policy, "validatr"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policy: p\nafter: [{name: a, then: acept}]", "did you mean 'accept'?"),
        ("policy: p\nafter: [{name: a, then: spot_check}]", "needs `sample:`"),
        ("policy: p\nbefore: [{name: a}]", "either `forbid:` or `then:`"),
        ("policy: p\nafter: [{name: a, when: 'true', guard: 'm:f', then: accept}]", "`when:` or `guard:`, not both"),
        ("policy: p\nafter: [{name: a, sample: 0.0, then: spot_check}]", "sample"),
        ("policy: p\nothrwise: accept", "did you mean 'otherwise'?"),
    ],
)
def test_a_bad_policy_is_told_by_rule(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.yaml:2") as found:
        validated(PolicyConfig, parse_yaml(text, Path("p.yaml")))
    assert words in str(found.value)


def test_two_prices_from_the_same_day_are_refused() -> None:
    prices = "{input: 1, output: 2}"
    text = f"book: b\nprices:\n  - {{model: m, per_million: {prices}}}\n  - {{model: m, per_million: {prices}}}"
    with pytest.raises(ConfigError, match=r"b\.yaml:4: prices\[1\]\.model: 'm' has two prices"):
        validated(PriceBook, parse_yaml(text, Path("b.yaml")))


PLACES = [
    ("models",), ("models", "drafter"), ("models", "drafter", "use"), ("models", "drafter", "endpoints"), ("steps",),
    ("steps", 0), ("steps", 0, "signals"), ("steps", 0, "confidence"), ("steps", 0, "draft", "model"), ("budget",),
    ("cache",), ("content",), ("local_networks",), ("tags",), ("limits", "escalation"), ("steps", 0, "prompt"),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["off", "1d", "vllm:x", "."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "ttl", "use", "x"]), inner),
    max_leaves=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), ANYTHING)
def test_whatever_stands_anywhere_is_taken_or_refused_with_its_file(
    tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    path = write_pipeline(tmp_path)
    at = data = read_yaml(path).data
    for key in place[:-1]:
        at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
    at[place[-1]] = value
    path.write_text(json.dumps(data))
    refusal: ConfigError | None = None
    try:
        load_pipeline(path, env=ENV)
    except ConfigError as error:
        refusal = error
    assert refusal is None or refusal.file is not None


def test_the_configuration_body_is_json(tmp_path: Path) -> None:
    loaded = load_pipeline(write_pipeline(tmp_path), env=ENV)
    assert json.loads(config_body_json(loaded))["pipeline"]["pipeline"] == "small"
