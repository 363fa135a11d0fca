"""The hook of a lapse: a program or an address, told once, bounded in time, never able to stop anything."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestrator.cascade.hook import run_hook
from orchestrator.config.pipeline import LapseHook

TOLD = {"event": "certificate_lapsed", "reason": "because"}


async def told(folder: Path, networks: tuple[str, ...] | None = None, **hook: Any) -> str | None:
    return await run_hook(LapseHook(**hook), TOLD, folder=folder, local_networks=networks)


@asynccontextmanager
async def listening(
    status: int = 200, headers: dict[str, str] | None = None, after: asyncio.Event | None = None
) -> AsyncIterator[tuple[str, list[Any]]]:
    """An address on 127.0.0.1, and what it was sent."""
    seen: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        seen.append((request.method, request.content_type, await request.json()))
        if after is not None:
            await after.wait()
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/hook/secret-path", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook/secret-path", seen
    finally:
        await runner.cleanup()


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_a_program_reads_json_and_runs_beside_the_pipeline(tmp_path: Path) -> None:
    code = "import sys, json; open('seen', 'w').write(json.load(sys.stdin)['reason'])"
    assert await told(tmp_path, command=python(code)) is None
    assert (tmp_path / "seen").read_text() == "because"


async def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    code = "import sys; open('seen', 'w').write(sys.argv[1])"
    assert await told(tmp_path, command=(*python(code), "$(touch never); `touch never` > never")) is None
    assert (tmp_path / "seen").read_text() == "$(touch never); `touch never` > never"
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(("code", "said"), [
    ("import sys; sys.exit('no mail server')", "ended with 1: no mail server"),
    ("import sys; sys.stderr.write('x' * 10_000 + 'the end'); sys.exit(3)", "the end"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "ended with -15"),
])
async def test_a_program_that_fails_says_how(tmp_path: Path, code: str, said: str) -> None:
    problem = await told(tmp_path, command=python(code))
    assert problem is not None
    assert problem.endswith(said)
    assert len(problem) < 500


async def test_a_program_need_not_read_what_it_is_told(tmp_path: Path) -> None:
    assert await told(tmp_path, command=python("import os; os.close(0)")) is None


async def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    problem = await told(tmp_path, command=("no-such-program",))
    assert problem is not None
    assert problem.startswith("'no-such-program' can't be started")


async def test_a_program_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    problem = await told(tmp_path, command=python("import signal; signal.pause()"), timeout="1s")
    assert problem == "it took longer than 1 s"


async def test_a_program_that_is_given_up_is_stopped_with_its_children(tmp_path: Path) -> None:
    """Both hold a pipe: it comes to its end once both are gone."""
    os.mkfifo(tmp_path / "held")
    reading = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    code = "import os, signal; held = open('held', 'w'); os.fork(); held.write('x'); held.flush(); signal.pause()"
    hook = asyncio.create_task(told(tmp_path, command=python(code), timeout="60s"))
    keep = os.open(tmp_path / "held", os.O_WRONLY)
    said = b""
    while said != b"xx":
        said += await asyncio.to_thread(os.read, reading, 1)
    os.close(keep)
    hook.cancel()
    await asyncio.gather(hook, return_exceptions=True)
    assert await asyncio.to_thread(os.read, reading, 1) == b""
    os.close(reading)


async def test_a_webhook_gets_the_same_by_post(tmp_path: Path) -> None:
    async with listening() as (url, seen):
        assert await told(tmp_path, webhook=url) is None
        assert await told(tmp_path, networks=(), webhook=url) is None
    assert seen == [("POST", "application/json", TOLD)] * 2


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_an_answer_that_is_no_success_is_a_failure_and_no_redirect_is_followed(
    tmp_path: Path, status: int
) -> None:
    async with listening() as (other, elsewhere), listening(status, {"Location": other}) as (url, seen):
        problem = await told(tmp_path, webhook=url)
    assert problem is not None
    assert problem.endswith(f"answered {status}")
    assert "secret" not in problem
    assert (len(seen), elsewhere) == (1, [])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/secret", "http://nowhere.invalid/secret"])
async def test_an_address_nobody_answers_at_is_a_failure_that_keeps_its_secret(tmp_path: Path, url: str) -> None:
    problem = await told(tmp_path, webhook=url)
    assert problem is not None
    assert "secret" not in problem


async def test_where_tasks_stay_home_so_does_the_hook(tmp_path: Path) -> None:
    """TEST-NET-3: refused at the socket, before a packet leaves."""
    problem = await told(tmp_path, networks=("10.0.0.0/8",), webhook="http://203.0.113.7/secret")
    assert problem == "http://203.0.113.7 can't be reached: AddressRefused"


async def test_an_address_that_never_answers_is_given_up(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with listening(after=never) as (url, _):
        problem = await told(tmp_path, webhook=url, timeout="1s")
        never.set()
    assert problem == "it took longer than 1 s"
