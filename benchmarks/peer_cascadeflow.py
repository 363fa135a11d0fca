"""The peer in the same place: cascadeflow 1.2, one accepted draft a task, nothing stored. Called by overhead.py.

    python -m venv /tmp/venv-peer && /tmp/venv-peer/bin/pip install cascadeflow==1.2.0 openai
    python benchmarks/overhead.py --peer /tmp/venv-peer/bin/python

or alone: PYTHON peer_cascadeflow.py URL TASKS, with URL ending in /v1. Prints calls a second on its last line, and
exits with a message where an answer is not an accepted draft. It inherits the core it is pinned to.

Set up for the least work it can be given: its vLLM provider (its OpenAI one has no base_url in 1.2), complexity told
instead of detected, quality thresholds at zero without its optional checks, no logging; one agent for all tasks.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

from cascadeflow import CascadeAgent, ModelConfig, QualityConfig

IN_FLIGHT = 64
LABELS = {'{"label":"a"}', '{"label":"b"}', '{"label":"c"}'}
LEVELS = ("trivial", "simple", "moderate", "hard", "expert")


def main() -> None:
    logging.disable(logging.CRITICAL)
    print(f"{asyncio.run(measure(sys.argv[1], int(sys.argv[2]))):.1f}")


async def measure(url: str, tasks: int) -> float:
    """Tasks a second, after a warm-up that is not counted."""
    peer = agent(url)
    await through(peer, min(200, tasks))
    started = time.perf_counter()
    await through(peer, tasks)
    return tasks / (time.perf_counter() - started)


def agent(url: str) -> CascadeAgent:
    quality = QualityConfig(
        confidence_thresholds=dict.fromkeys(LEVELS, 0.0), min_length_thresholds=dict.fromkeys(LEVELS, 1),
        require_specifics_for_complex=False, max_hedging_ratio=1.0, min_specificity_score=0.0,
        enable_hallucination_detection=False, log_decisions=False,
    )
    models = [
        ModelConfig(name=name, provider="vllm", base_url=url, cost=cost)
        for name, cost in (("drafter", 0.0001), ("validator", 0.01))
    ]
    return CascadeAgent(models=models, quality_config=quality, enable_tool_complexity_routing=False)


async def through(peer: CascadeAgent, tasks: int) -> None:
    left = iter(range(tasks))

    async def worker() -> None:
        for number in left:
            result = await peer.run(f"text {number}", max_tokens=32, temperature=0.0, complexity_hint="trivial")
            if result.content not in LABELS or not result.draft_accepted or result.model_used != "drafter":
                raise SystemExit(f"not an accepted draft: {result!r}")

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    main()
