"""`drafter bench` against a real vLLM: figures that price a call, in a file that is a price book."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli import run_command
from orchestrator.price_book import load_book
from orchestrator.records import Usage
from tests.live_drafter import Live, vllm_pipeline


def test_bench_measures_a_price_that_the_book_can_hold(live: Live, tmp_path: Path) -> None:
    pipeline, book = vllm_pipeline(tmp_path / "pipeline", live.url), tmp_path / "prices.yaml"
    asked = ["--seconds", "3", "--in-flight", "8", "--words", "120", "--price", "2.50", "--write", str(book)]
    assert run_command(["drafter", "bench", str(pipeline), *asked]) in (0, None)
    (entry,) = load_book(book).prices
    gpu = entry.gpu_hour
    assert gpu is not None
    assert entry.model == live.config.target
    assert 0 <= gpu.cache_read_weight <= gpu.input_weight < 1  # reading a token is less work than writing one
    written = Usage(output=int(gpu.tokens_per_s * 3600))
    assert abs(entry.cost(written).nano - 2_500_000_000) <= 2_500_000_000 / int(gpu.tokens_per_s * 3600) + 1
