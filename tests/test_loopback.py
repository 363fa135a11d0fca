"""The loopback provider itself: its log is what the ledger is held against, so it must not lie."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.loopback import Loopback, read_log

ROOT = Path(__file__).parent.parent
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


async def post(url: str, call_id: str) -> int:
    headers = {"X-Client-Request-Id": call_id}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json=BODY, headers=headers) as response,
    ):
        await response.read()
        return response.status


async def test_a_request_is_logged_before_it_is_answered(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Loopback(plan=["hang"], log=log) as server:
        call = asyncio.ensure_future(post(server.url, "c1"))
        await server.arrived.wait()
        assert [line["id"] for line in read_log(log)] == ["c1"]
        assert not call.done()
    with pytest.raises(aiohttp.ClientError):
        await call


@pytest.mark.parametrize("instant", [(), ("--instant",)])
async def test_it_runs_as_a_process_whose_log_outlives_a_kill(tmp_path: Path, instant: tuple[str, ...]) -> None:
    port, log = tmp_path / "port", tmp_path / "log"
    arguments = ["--port-file", str(port), "--log", str(log), "--plan", "ok,500", "--seconds", "60", *instant]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.loopback", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        url = f"http://127.0.0.1:{port.read_text()}/v1"
        statuses = [await post(url, f"c{i}") for i in range(3)]
    finally:
        process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipe is closed after the loop is
    assert statuses == ([200, 200, 200] if instant else [200, 500, 200])
    assert [line["id"] for line in read_log(log)] == ["c0", "c1", "c2"]
    assert {line["path"] for line in read_log(log)} == {"/v1/chat/completions"}


def test_a_line_of_the_log_that_is_half_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb", buffering=0) as file:
        file.write(b'{"id":"c0"}\n{"id":')
        assert read_log(log) == [{"id": "c0"}]
        file.write(b'"c1"}\n')
    assert read_log(log) == [{"id": "c0"}, {"id": "c1"}]


async def test_the_same_question_has_the_same_answer(tmp_path: Path) -> None:
    async with Loopback() as server, aiohttp.ClientSession() as session:
        texts = set()
        for _ in range(2):
            async with session.post(f"{server.url}/chat/completions", json=BODY) as response:
                texts.add((await response.json())["choices"][0]["message"]["content"])
    assert texts == {'{"label":"b"}'}
