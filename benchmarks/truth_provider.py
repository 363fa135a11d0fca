"""A provider that bills by its own book, in its own integers, into its own log. It imports nothing of ours.

Speaks OpenAI's chat (whole and streamed, with and without running usage) and Anthropic's messages on 127.0.0.1. What
becomes of a request is drawn from its `X-Client-Request-Id`; a request that says `stall` gets no answer. The log has
one JSON line a request, appended before anything is answered: what it used, in which tier, and what it is billed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

from aiohttp import web

# Trillionths of a dollar a token: fresh input, cached input, cache write, cache write for an hour, output.
PICO: dict[tuple[str, str, bool], tuple[int, int, int, int, int]] = {
    ("drafter", "standard", False): (150_000, 37_500, 187_500, 0, 600_000),
    ("drafter", "flex", False): (75_000, 18_750, 93_750, 0, 300_000),
    ("drafter", "batch", False): (75_000, 18_750, 93_750, 0, 300_000),
    ("drafter", "priority", False): (262_500, 65_625, 328_125, 0, 1_050_000),
    ("drafter", "standard", True): (300_000, 75_000, 375_000, 0, 900_000),
    ("drafter", "flex", True): (150_000, 37_500, 187_500, 0, 450_000),
    ("drafter", "batch", True): (150_000, 37_500, 187_500, 0, 450_000),
    ("drafter", "priority", True): (525_000, 131_250, 656_250, 0, 1_575_000),
    ("streamer", "standard", False): (40_000, 40_000, 40_000, 0, 163_333),
    ("streamer", "standard", True): (40_000, 40_000, 40_000, 0, 163_333),
    ("claude-judge", "standard", False): (3_000_000, 300_000, 3_750_000, 6_000_000, 15_000_000),
    ("claude-judge", "batch", False): (1_500_000, 150_000, 1_875_000, 3_000_000, 7_500_000),
    ("claude-judge", "standard", True): (6_000_000, 600_000, 7_500_000, 12_000_000, 22_500_000),
    ("claude-judge", "batch", True): (3_000_000, 300_000, 3_750_000, 6_000_000, 11_250_000),
}
LONG_PROMPT = 400
TIERS = {"drafter": ("standard", "standard", "flex", "priority", "batch"), "claude-judge": ("standard", "batch")}
ERRORS = {"429": 429, "500": 500, "503": 503}
FATES = (("429", 4), ("500", 3), ("cut", 4), ("close", 2), ("hang", 1), ("no-usage", 3), ("broken", 1), ("empty", 1))


class Provider:
    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._closing = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        if request.path.endswith("/models"):
            listed = [{"id": name, "object": "model"} for name in ("drafter", "streamer")]
            return web.json_response({"object": "list", "data": listed})
        body = json.loads(raw)
        call = request.headers.get("X-Client-Request-Id", "")
        draw = random.Random(call)
        fate = _fate(body, draw)
        used = _used(body, draw)
        billed = 0 if fate in ERRORS else _bill(used)
        line = {"id": call, "fate": fate, **used, "nano": billed}
        os.write(self._log, json.dumps(line).encode() + b"\n")
        if fate in ERRORS:
            error = {"type": "error", "error": {"type": "busy", "message": "come back later"}}
            return web.json_response(error, status=ERRORS[fate], headers={"Retry-After": "0.05"})
        if fate in ("hang", "close"):
            return await self._leave(request, wait=fate == "hang")
        if body.get("stream"):
            return await _stream(request, body, used, fate)
        reply = (_message if request.path == "/v1/messages" else _chat)(body, used, fate)
        sent = json.dumps(reply).encode()
        headers = {"request-id": used["response"]}
        return web.Response(body=sent[:-20] if fate == "broken" else sent, content_type="application/json",
                            headers=headers)

    async def _leave(self, request: web.BaseRequest, *, wait: bool) -> web.StreamResponse:
        while wait and request.transport is not None and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 0.05)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _fate(body: dict[str, Any], draw: random.Random) -> str:
    if "stall" in json.dumps(body["messages"][-1]):
        return "hang"
    point = draw.randrange(100)
    for fate, share in FATES:
        if point < share:
            return "close" if fate == "cut" and not body.get("stream") else fate
        point -= share
    return "ok"


def _used(body: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """What the request used: parts that make up the whole, in this provider's own words."""
    model = body["model"]
    prompt = max(4, len(json.dumps([body["messages"], body.get("system")])) // 3)
    cached = draw.choice((0, 0, prompt // 2))
    written = draw.choice((0, prompt // 4)) if model != "streamer" else 0
    hour = draw.choice((0, written)) if model == "claude-judge" else 0
    limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or 1)
    output = draw.randint(1, limit)
    thought = draw.choice((0, output // 3)) if model == "drafter" else 0
    return {
        "model": model, "tier": draw.choice(TIERS.get(model, ("standard",))), "prompt": prompt, "cached": cached,
        "written": written, "hour": hour, "output": output, "thought": thought,
        "response": f"resp-{draw.getrandbits(48):012x}",
    }


def _bill(used: dict[str, Any]) -> int:
    """Billionths of a dollar: each kind of token by its price, to the nearest billionth, of two the even one."""
    fresh, cached, write, hour, output = PICO[used["model"], used["tier"], used["prompt"] > LONG_PROMPT]
    lines = (
        (used["prompt"] - used["cached"] - used["written"]) * fresh, used["cached"] * cached,
        (used["written"] - used["hour"]) * write, used["hour"] * hour,
        (used["output"] - used["thought"]) * output, used["thought"] * output,
    )
    return sum(_nearest(pico) for pico in lines)


def _nearest(pico: int) -> int:
    below, over = pico // 1000, pico % 1000
    return below + 1 if over > 500 or (over == 500 and below % 2) else below


def _answer(body: dict[str, Any]) -> str:
    return json.dumps({"label": "abc"[len(json.dumps(body["messages"])) % 3]})


def _usage(used: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_tokens": used["prompt"], "completion_tokens": used["output"],
        "total_tokens": used["prompt"] + used["output"],
        "prompt_tokens_details": {"cached_tokens": used["cached"], "cache_write_tokens": used["written"]},
        "completion_tokens_details": {"reasoning_tokens": used["thought"]},
    }


def _head(used: dict[str, Any]) -> dict[str, Any]:
    tier = "default" if used["tier"] == "standard" else used["tier"]
    return {"id": used["response"], "created": 1, "model": used["model"], "service_tier": tier}


def _chat(body: dict[str, Any], used: dict[str, Any], fate: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": _answer(body)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    reply = {**_head(used), "object": "chat.completion", "choices": [] if fate == "empty" else choices}
    return reply if fate == "no-usage" else {**reply, "usage": _usage(used)}


def _message(body: dict[str, Any], used: dict[str, Any], fate: str) -> dict[str, Any]:
    text = _answer(body)
    block: dict[str, Any] = {"type": "text", "text": text}
    if body.get("tools"):
        block = {"type": "tool_use", "id": "t1", "name": body["tools"][0]["name"], "input": json.loads(text)}
    usage = {
        "input_tokens": used["prompt"] - used["cached"] - used["written"], "cache_read_input_tokens": used["cached"],
        "cache_creation_input_tokens": used["written"], "output_tokens": used["output"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": used["written"] - used["hour"], "ephemeral_1h_input_tokens": used["hour"],
        },
        "service_tier": used["tier"],
    }
    return {
        "id": used["response"], "type": "message", "role": "assistant", "model": used["model"],
        "content": [] if fate == "empty" else [block], "stop_sequence": None,
        "stop_reason": "tool_use" if body.get("tools") else "end_turn", "usage": usage,
    }


async def _stream(
    request: web.BaseRequest, body: dict[str, Any], used: dict[str, Any], fate: str
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    head, text = {**_head(used), "object": "chat.completion.chunk"}, _answer(body)
    options = body.get("stream_options") or {}
    middle = len(text) // 2
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": text[:middle]}, {"content": text[middle:]}, {}]
    for place, delta in enumerate([] if fate == "empty" else deltas):
        if fate == "cut" and place == 2:
            if request.transport is not None:
                request.transport.close()
            return response
        finish = "stop" if place == 2 else None
        chunk = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        if options.get("continuous_usage_stats") and fate != "no-usage":
            chunk["usage"] = {"prompt_tokens": used["prompt"], "completion_tokens": place + 1}
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    if options.get("include_usage") and fate != "no-usage":
        last = {**head, "choices": [], "usage": _usage(used)}
        await response.write(b"data: " + json.dumps(last).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def serve(log: Path, port_file: Path, seconds: float) -> None:
    provider = Provider(log)
    runner = web.ServerRunner(web.Server(provider.handle), access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(site._server.sockets[0].getsockname()[1]))  # type: ignore[union-attr]
    partial.rename(port_file)
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    provider._closing.set()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0, help="it ends by itself after this long")
    asked = parser.parse_args()
    asyncio.run(serve(asked.log, asked.port_file, asked.seconds))


if __name__ == "__main__":
    main()
