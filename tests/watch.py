"""Watches every connection a Python process opens, by the interpreter's own audit events.

`python -m tests.watch LOG SCRIPT [ARGS…]` runs a script with each socket.connect, sendto and name look-up written to
LOG as a JSON line, before it happens and whether or not it succeeds. An audit hook can't be taken off again, hence a
process of its own. From a test: `contacts = watched([sys.argv…], log=…)`, then `outside(contacts)` must be empty.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

HOSTILE = {
    "LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "lsv2_pt_0123456789", "LANGSMITH_PROJECT": "leak",
    "LANGSMITH_ENDPOINT": "http://203.0.113.7:1984", "LANGCHAIN_TRACING_V2": "true", "LANGCHAIN_API_KEY": "lsv2_0123",
    "LANGCHAIN_ENDPOINT": "http://203.0.113.7:1984",
    "HTTP_PROXY": "http://203.0.113.8:3128", "HTTPS_PROXY": "http://203.0.113.8:3128",
    "ALL_PROXY": "http://203.0.113.8:3128", "http_proxy": "http://203.0.113.8:3128",
    "https_proxy": "http://203.0.113.8:3128", "all_proxy": "http://203.0.113.8:3128", "NO_PROXY": "", "no_proxy": "",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://203.0.113.9:4318", "OTEL_TRACES_EXPORTER": "otlp",
    "OPENAI_API_KEY": "sk-from-the-environment", "OPENAI_BASE_URL": "http://203.0.113.10/v1",
    "OPENAI_ORG_ID": "org-leak", "OPENAI_PROJECT_ID": "proj-leak",
}
"""An environment that would have a careless program call home (TEST-NET-3 addresses: nobody lives there)."""


@dataclass(frozen=True)
class Contact:
    """One attempt: `event` is socket.connect, socket.sendto, socket.getaddrinfo or socket.gethostbyname."""

    event: str
    host: str
    port: int | str | None = None


def watched(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, timeout_s: float = 400.0
) -> list[Contact]:
    """What `argv` (a script and its arguments) contacts under the hostile environment. Fails if the script does."""
    command = [sys.executable, "-m", "tests.watch", str(log), *argv]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **HOSTILE, **(env or {})}, timeout=timeout_s, capture_output=True,
        text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [Contact(**json.loads(line)) for line in log.read_text().splitlines()]


def outside(contacts: Sequence[Contact], networks: Sequence[str] = ()) -> list[Contact]:
    """Those that are neither loopback, nor in `networks`, nor a socket file."""
    return [one for one in contacts if not _inside(one.host, networks)]


def _inside(host: str, networks: Sequence[str]) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "\0")):
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False  # a name that was asked for: the question alone goes to a name server
    return address.is_loopback or any(address in ip_network(one) for one in networks)


def _install(log: Path) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto"):
            address = arguments[1]
            host, port = address[:2] if isinstance(address, tuple) else (address, None)
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host, port = arguments[0], arguments[1] if len(arguments) > 1 else None
        else:
            return
        host = host.decode(errors="replace") if isinstance(host, bytes) else host or ""
        port = port if isinstance(port, int | str) else None
        os.write(target, json.dumps({"event": event, "host": host, "port": port}).encode() + b"\n")

    sys.addaudithook(note)


def main() -> None:
    log, script, *arguments = sys.argv[1:]
    _install(Path(log))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
