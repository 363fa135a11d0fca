"""Secrets come from the environment, reach the client, and nothing that is shown or stored."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from orchestrator.config.loader import config_body_json, load_pipeline
from orchestrator.errors import ConfigError
from tests.config_files import ENV, line_of, write_pipeline


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    with pytest.raises(ConfigError, match="the environment variable 'TEST_KEY' is not set, or empty") as found:
        load_pipeline(path, env={})
    assert found.value.line == line_of(path, "TEST_KEY")


@pytest.mark.parametrize(
    "settings", ['{api_key: "sk-abcdef"}', '{aws_session_token: "sk-abcdef"}', "{a: {clientSecret: sk-abcdef}}"]
)
def test_a_secret_written_into_the_file_is_refused_and_not_repeated(tmp_path: Path, settings: str) -> None:
    path = write_pipeline(tmp_path, bend=('{api_key: "${TEST_KEY}"}', settings))
    with pytest.raises(ConfigError, match="a secret is written into the file") as found:
        load_pipeline(path, env=ENV)
    assert "sk-abcdef" not in str(found.value)


@pytest.mark.parametrize("address", ["http://u:${TEST_KEY}@127.0.0.1/v1", "http://127.0.0.1/v1?key=${TEST_KEY}"])
def test_an_address_holds_no_credentials_because_it_is_stored(tmp_path: Path, address: str) -> None:
    path = write_pipeline(tmp_path, bend=("vllm:tiny", f'vllm:tiny\n    endpoints: ["{address}"]'))
    with pytest.raises(ConfigError, match="an address holds no user, password or query") as found:
        load_pipeline(path, env=ENV)
    assert ENV["TEST_KEY"] not in str(found.value)


def test_a_value_of_the_wrong_type_is_not_quoted_where_secrets_stand(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path, bend=('litellm_params: {api_key: "${TEST_KEY}"}', "api_key: [sk-abcdef]"))
    with pytest.raises(ConfigError, match="not shown") as found:
        load_pipeline(path, env=ENV)
    assert "sk-abcdef" not in str(found.value)


def test_secrets_reach_the_client_and_nothing_that_is_shown_or_stored(tmp_path: Path) -> None:
    loaded = load_pipeline(write_pipeline(tmp_path), env=ENV)
    key = loaded.config.models["validator"].litellm_params["api_key"]
    assert key == ENV["TEST_KEY"]
    shown = [repr(loaded), repr(loaded.config), repr(key), loaded.config.model_dump_json(), config_body_json(loaded)]
    assert not [text for text in shown if ENV["TEST_KEY"] in text]
    assert "${TEST_KEY}" in config_body_json(loaded)
    assert repr(copy.deepcopy(key)) == repr(pickle.loads(pickle.dumps(key))) == "'${TEST_KEY}'"
