"""A model server on 127.0.0.1 that speaks OpenAI's and Anthropic's protocols for real, and fails on demand.

In-process: `async with Loopback(plan=["429", "ok"]) as server:` and `server.url`, `server.seen`.
As a process: `python -m tests.loopback --port-file PORT --log LOG [--plan 429,ok] [--latency-ms 5] [--instant]`.

What happens to a request is said, in this order, by the next entry of `plan`, the header `x-fault`, a model called
`fault-NAME`, or `fault:NAME` in its text; NAME is one of FAULTS. Its log is its own account of what it was asked: one
JSON line a request, appended (O_APPEND) before anything is answered, so it outlives both ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tests.loopback_shapes import chat_reply, events, label, messages_reply, spoiled

STATUS_FAULTS: dict[str, tuple[int, dict[str, str], str]] = {
    "429": (429, {"Retry-After": "0.05"}, "slow down"),
    "429-bare": (429, {}, "slow down"),
    "429-ms": (429, {"retry-after-ms": "70", "Retry-After": "9"}, "slow down"),
    "500": (500, {}, "it broke"),
    "503": (503, {}, "too busy"),
    "408": (408, {}, "request timeout"),
    "409": (409, {}, "conflict"),
    "400": (400, {}, "temperature must be a number"),
    "404": (404, {}, "the model does not exist"),
    "401": (401, {}, "incorrect API key"),
    "403": (403, {}, "not allowed"),
    "redirect": (307, {"Location": "http://127.0.0.1:1/v1/chat/completions"}, "moved"),
    "overflow": (400, {}, "This model's maximum context length is 1024 tokens. However, your prompt contains 4000."),
    "overflow-openai": (400, {}, "context_length_exceeded"),
}
BODY_FAULTS = (
    "broken-json", "wrong-type", "empty-choices", "empty-message", "no-usage", "other-model", "negative-usage",
    "truncated", "thinking", "not-object",
)
WIRE_FAULTS = ("hang", "close", "cut", "cut-stream", "end-stream", "hang-stream", "error-stream")
FAULTS = (*STATUS_FAULTS, "429-date", *BODY_FAULTS, *WIRE_FAULTS)

_IN_TEXT = re.compile(r"fault:([a-z0-9-]+)")
Reply = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it."""

    id: str
    path: str
    digest: str
    headers: dict[str, str]
    body: dict[str, Any]


class Loopback:
    """`reply(body)` gives the answer, a string or a JSON value; `latency_s` comes before each answer; `instant`
    answers every chat request with the same bytes, for benchmarks."""

    def __init__(
        self, *, reply: Reply = label, plan: Iterable[str] = (), models: tuple[str, ...] = ("tiny",),
        latency_s: float = 0.0, log: Path | None = None, instant: bool = False, port: int = 0,
    ) -> None:
        self.reply, self.plan, self.models, self.latency_s = reply, deque(plan), models, latency_s
        self.seen: list[Seen] = []
        self.port = port
        self.arrived = asyncio.Event()
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None
        self._closing = asyncio.Event()
        fixed = {"model": models[0], "messages": [{"role": "user", "content": ""}], "logprobs": True}
        self._instant = orjson.dumps(chat_reply(fixed, self._text(fixed))) if instant else None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    async def __aenter__(self) -> Loopback:
        self._runner = web.ServerRunner(
            web.Server(self._handle, keepalive_timeout=75), access_log=None, shutdown_timeout=0.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing.set()
        await self._runner.cleanup()
        if self._log is not None:
            os.close(self._log)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        if self._log is not None:
            self._append(request, raw)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]})
        if self._instant is not None:
            return web.Response(body=self._instant, content_type="application/json")
        body = orjson.loads(raw)
        self.seen.append(Seen(_id(request), request.path, _digest(raw), dict(request.headers), body))
        self.arrived.set()
        fault = self._fault(request, body)
        if (response := await self._fail(request, fault)) is not None:
            return response
        if body.get("stream"):
            return await self._stream(request, body, fault)
        return await self._answer(request, body, fault)

    def _append(self, request: web.BaseRequest, raw: bytes) -> None:
        line = {"id": _id(request), "path": request.path, "digest": _digest(raw), "at": time.time()}
        os.write(self._log or -1, orjson.dumps(line) + b"\n")

    def _fault(self, request: web.BaseRequest, body: dict[str, Any]) -> str:
        if self.plan:
            return self.plan.popleft()
        if named := request.headers.get("x-fault"):
            return named
        if str(body.get("model", "")).startswith("fault-"):
            return str(body["model"]).removeprefix("fault-")
        found = _IN_TEXT.search(str(body["messages"][-1].get("content")))
        return found[1] if found else "ok"

    async def _fail(self, request: web.BaseRequest, fault: str) -> web.StreamResponse | None:
        if fault == "429-date":
            return _error(429, {"Retry-After": formatdate(time.time() + 30, usegmt=True)}, "slow down")
        if fault in STATUS_FAULTS:
            return _error(*STATUS_FAULTS[fault])
        if fault == "hang":
            await self._closing.wait()
        if fault in ("hang", "close"):
            if request.transport is not None:  # the client may have gone first
                request.transport.abort()
            return web.Response()
        return None

    async def _answer(self, request: web.BaseRequest, body: dict[str, Any], fault: str) -> web.StreamResponse:
        shape = messages_reply if request.path == "/v1/messages" else chat_reply
        raw = orjson.dumps(spoiled(shape(body, self._text(body)), fault))
        if fault == "broken-json":
            raw = raw[:-20]
        if fault != "cut":
            kind = "text/html" if fault == "wrong-type" else "application/json"
            return web.Response(body=raw, content_type=kind, headers={"request-id": f"req_{_id(request)}"})
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(raw))})
        await response.prepare(request)
        await response.write(raw[: len(raw) // 2])
        return _hung_up(request, response)

    async def _stream(self, request: web.BaseRequest, body: dict[str, Any], fault: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        made = spoiled(chat_reply(body, self._text(body)), fault)
        for sent, event in enumerate(events(made, body)):
            if fault.endswith("-stream") and sent == 4:
                return await self._break_off(request, response, fault)
            await response.write(b"data: " + (event[:-9] if fault == "broken-json" and sent == 3 else event) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _break_off(
        self, request: web.BaseRequest, response: web.StreamResponse, fault: str
    ) -> web.StreamResponse:
        if fault == "hang-stream":
            await self._closing.wait()
        if fault == "error-stream":
            await response.write(b'data: {"error": {"message": "the engine died", "type": "fault", "code": 500}}\n\n')
        return response if fault in ("end-stream", "error-stream") else _hung_up(request, response)

    def _text(self, body: dict[str, Any]) -> str:
        said = self.reply(body)
        return said if isinstance(said, str) else orjson.dumps(said).decode()


def _error(status: int, headers: dict[str, str], message: str) -> web.Response:
    code = message if message == "context_length_exceeded" else None
    body = {"type": "error", "error": {"message": message, "type": f"error_{status}", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


def _hung_up(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return response


def _id(request: web.BaseRequest) -> str:
    return request.headers.get("X-Client-Request-Id", "")


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The requests so far; a last line that its writer has not finished yet is left for the next look."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


async def serve(arguments: argparse.Namespace) -> None:
    module, _, name = arguments.reply.partition(":")
    server = Loopback(
        reply=getattr(importlib.import_module(module), name), plan=[p for p in arguments.plan.split(",") if p],
        models=tuple(arguments.models.split(",")), latency_s=arguments.latency_ms / 1000, log=arguments.log,
        instant=arguments.instant, port=arguments.port,
    )
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    async with server:
        partial = arguments.port_file.with_suffix(".partial")
        partial.write_text(str(server.port))
        partial.rename(arguments.port_file)  # whoever waits for the file never reads half of it
        print("ready", flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), arguments.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.loopback")
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--plan", default="")
    parser.add_argument("--models", default="tiny")
    parser.add_argument("--reply", default="tests.loopback_shapes:label")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--instant", action="store_true")
    parser.add_argument("--seconds", type=float, default=600.0, help="it ends by itself after this long")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
