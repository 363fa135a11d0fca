"""What all tests share: no tracing, no proxies, no keys from the machine they run on."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("no deadlines", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadlines")

for name in list(os.environ):
    if name.startswith(("LANGSMITH_", "LANGCHAIN_", "OTEL_", "OPENAI_", "ANTHROPIC_", "ORCHESTRATOR_STORE")):
        del os.environ[name]
for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing that a test forgets to name lands in the checkout."""
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path))
