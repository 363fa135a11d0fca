"""Tell somebody: a program of the user's, given JSON on its standard input, or an address that is sent it.

Bounded in time, no shell, no redirect followed. **A hook that fails changes nothing else**: why is returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from orchestrator.config.pipeline import LapseHook
from orchestrator.config.secrets import shown_address
from orchestrator.errors import OrchestratorError

_SHOWN = 300
"""Bytes of what a program says on its standard error that are kept."""


async def run_hook(
    hook: LapseHook, told: Mapping[str, Any], *, folder: Path, local_networks: tuple[str, ...] | None
) -> str | None:
    """Send `told`. None where it arrived, else what went wrong, fit to be shown.

    A program runs in `folder`, where the pipeline file lies. `local_networks` None: a webhook may lie anywhere; else
    it may be reached at loopback and in these networks only, as a local model.
    """
    body = orjson.dumps(told)
    try:
        async with asyncio.timeout(hook.timeout):
            if hook.command is not None:
                return await _run(hook.command, body, folder)
            assert hook.webhook is not None
            return await _post(hook.webhook, body, local_networks)
    except TimeoutError:
        return f"it took longer than {hook.timeout:g} s"


async def _run(command: tuple[str, ...], body: bytes, folder: Path) -> str | None:
    with tempfile.TemporaryFile() as errors:  # not a pipe: a child that the program leaves behind would hold it open
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=errors, cwd=folder,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"{command[0]!r} can't be started: {error}"
        try:
            await process.communicate(body)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode == 0:
            return None
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _SHOWN))
        said = errors.read().decode(errors="replace").strip()
        return f"{command[0]!r} ended with {process.returncode}" + (f": {said}" if said else "")


async def _post(url: str, body: bytes, local_networks: tuple[str, ...] | None) -> str | None:
    import aiohttp

    from orchestrator.models.network import open_session

    shown = shown_address(url)  # the rest of an address may be a secret, and errors quote it
    try:
        async with (
            open_session(local=local_networks is not None, networks=local_networks or ()) as session,
            session.post(
                url, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as answer,
        ):
            return None if answer.status < 300 else f"{shown} answered {answer.status}"
    except (aiohttp.ClientError, OrchestratorError, OSError, ValueError) as error:
        return f"{shown} can't be reached: {type(error).__name__}"
