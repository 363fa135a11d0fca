"""The one protocol behind which every model stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from orchestrator.records import Answer, Location, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What `check --live` learned of one endpoint. `logprobs` is None where it was not asked."""

    endpoint: str
    ok: bool
    models: tuple[str, ...] = ()
    logprobs: bool | None = None
    protocol: str = ""
    detail: str = ""


@runtime_checkable
class ModelClient(Protocol):
    """One model, wherever it runs. A client sends each request once: no retries, no cache, no prices.

    `name` is what the price book is asked for; `addresses` are the base URLs it may connect to (empty: in-process).
    """

    name: str
    location: Location
    addresses: tuple[str, ...]

    async def complete(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> Answer:
        """Send `request` once to `endpoint` (one of `endpoints`), with `call_id` as `X-Client-Request-Id`.

        Raises a `ModelError` of the class that says what went wrong; cancellation closes the connection.
        """
        ...

    @property
    def revision(self) -> str | None:
        """Which weights answer, where that is known: another revision, another cache key."""
        ...

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names among which the caller picks the one with the least in flight; at least one."""
        ...

    async def probe(self) -> tuple[Probe, ...]:
        """Ask each endpoint what it serves, without spending."""
        ...

    async def aclose(self) -> None: ...
