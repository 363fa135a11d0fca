"""`check --live`: each endpoint asked what it serves, and whether it gives log-probabilities where they are needed.

A list of models costs nothing. Log-probabilities take an answer of one token, so only local models are asked for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

from orchestrator.check.finding import Finding
from orchestrator.errors import OrchestratorError
from orchestrator.models.client import ModelClient, Probe
from orchestrator.records import Request

TIMEOUT_S = 30.0


def ask_endpoints(
    clients: Mapping[str, ModelClient], need_logprobs: frozenset[str]
) -> dict[str, tuple[Probe, ...]]:
    """What each model's endpoints answer, by the model's name; all are asked at once, each for 30 s at most."""

    async def ask() -> list[tuple[Probe, ...]]:
        asked = (_ask(client, logprobs=name in need_logprobs) for name, client in clients.items())
        return await asyncio.gather(*asked)

    return dict(zip(clients, asyncio.run(ask()), strict=True))


def live_findings(probes: Mapping[str, tuple[Probe, ...]], need_logprobs: frozenset[str]) -> Iterator[Finding]:
    """One finding an endpoint. What is unreachable is told by the exit code; no log-probabilities is an error."""
    for name, found in probes.items():
        for probe in found:
            place = f"model {name} at {probe.endpoint}"
            if not probe.ok:
                yield Finding("warning", place, f"can't be used: {probe.detail}")
            elif name in need_logprobs and probe.logprobs is False:
                words = f"gives no log-probabilities, which the signals need {probe.detail}"
                yield Finding("error", place, words.rstrip())
            else:
                yield Finding("info", place, _words(probe))


async def _ask(client: ModelClient, *, logprobs: bool) -> tuple[Probe, ...]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await client.probe()
            wanted = logprobs and client.location == "local"
            return tuple([await _with_logprobs(client, probe) if wanted else probe for probe in found])
    except TimeoutError:
        detail = f"no answer within {TIMEOUT_S:g} s"
        return tuple(Probe(endpoint=endpoint, ok=False, detail=detail) for endpoint in client.endpoints)
    finally:
        await client.aclose()


async def _with_logprobs(client: ModelClient, probe: Probe) -> Probe:
    if not probe.ok or probe.logprobs is not None:
        return probe
    request = Request(messages=[{"role": "user", "content": "1"}], max_tokens=1, logprobs=True)
    try:
        answer = await client.complete(request, call_id="check", endpoint=probe.endpoint, timeout_s=TIMEOUT_S)
    except OrchestratorError as error:
        return replace(probe, logprobs=False, detail=f"({type(error).__name__}: {error})")
    return replace(probe, logprobs=answer.logprobs is not None)


def _words(probe: Probe) -> str:
    parts = [f"speaks {probe.protocol}"] if probe.protocol else []
    parts += [f"serves {', '.join(probe.models)}"] if probe.models else []
    parts += ["gives log-probabilities"] if probe.logprobs else []
    parts += [probe.detail] if probe.detail else []
    return ", ".join(parts)
