"""What `orchestrator check` finds out, without spending: what is wrong with the files, and between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.check.checks import CHECKS
from orchestrator.check.compiled import compiled, logprob_models
from orchestrator.check.finding import Finding, fault
from orchestrator.check.lapsed import revoked_certificates
from orchestrator.check.residency import Address, reachable_addresses
from orchestrator.check.spent import budget_findings
from orchestrator.config.loader import load_pipeline
from orchestrator.errors import OrchestratorError
from orchestrator.finance.phrases import counted

if TYPE_CHECKING:
    from orchestrator.models.client import Probe

_UNREACHABLE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What `check` found. `exit_code` is 2 with an error, 3 where an endpoint can't be reached, else 0."""

    path: Path
    findings: tuple[Finding, ...]
    resolved: Mapping[str, Path] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    probes: Mapping[str, tuple[Probe, ...]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        if self.count("error"):
            return 2
        return 0 if all(probe.ok for found in self.probes.values() for probe in found) else _UNREACHABLE

    @property
    def summary(self) -> str:
        found = f"{counted(self.count('error'), 'error')}, {counted(self.count('warning'), 'warning')}"
        return f"{self.path}: {found}"

    def count(self, level: Literal["error", "warning", "info"]) -> int:
        return sum(finding.level == level for finding in self.findings)


def check_pipeline(
    path: Path, *, live: bool = False, residency: bool = False, env: Mapping[str, str] | None = None,
    store: str | None = None,
) -> CheckReport:
    """Check the pipeline at `path`. What is wrong stands in the report; nothing is raised for it.

    `store` is looked into for certificates that were revoked and budgets that are spent; where there is none, none is
    made.
    """
    try:
        loaded = load_pipeline(path, env=env)
    except OrchestratorError as error:
        return CheckReport(path=path, findings=(fault("", error),))
    findings: list[Finding] = []
    revoked = revoked_certificates(loaded, store, findings) if store is not None else {}
    checked = compiled(loaded, findings, revoked=revoked)
    for one in CHECKS:
        findings.extend(one(checked))
    if store is not None:
        findings.extend(budget_findings(loaded, store))
    probes: dict[str, tuple[Probe, ...]] = {}
    if live:
        from orchestrator.check.live import ask_endpoints, live_findings

        probes = ask_endpoints(checked.clients, logprob_models(checked))
        findings.extend(live_findings(probes, logprob_models(checked)))
    return CheckReport(
        path=path, findings=_gravest_last(findings), resolved=loaded.resolved, probes=probes,
        addresses=tuple(reachable_addresses(loaded, checked.clients)) if residency else (),
    )


def _gravest_last(findings: list[Finding]) -> tuple[Finding, ...]:
    """Each once; what has to be mended stands beside the count that ends the list."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda one: ("info", "warning", "error").index(one.level)))
