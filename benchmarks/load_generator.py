"""A bare load generator: recorded request bodies, byte for byte, to an OpenAI-compatible server. Nothing else.

    python benchmarks/load_generator.py URL BODIES.jsonl --concurrency 128

BODIES holds one request body a line. Prints one JSON line: requests, seconds from the first request sent to the last
reply read, and the tokens the server says it generated. Any answer but 200 ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson


async def generate(url: str, bodies: list[bytes], concurrency: int) -> dict[str, float]:
    """Send every body once, at most `concurrency` at a time; each worker takes the next as soon as it is free."""
    left, tokens = iter(bodies), 0

    async def work(session: aiohttp.ClientSession, left: Iterator[bytes]) -> None:
        nonlocal tokens
        for body in left:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
                reply.raise_for_status()
                tokens += orjson.loads(await reply.read())["usage"]["completion_tokens"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(work(session, left) for _ in range(concurrency)))
        return {"requests": len(bodies), "seconds": time.perf_counter() - began, "output_tokens": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the address of chat completions, to the last word")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--concurrency", type=int, default=128)
    args = parser.parse_args()
    bodies = args.bodies.read_bytes().splitlines()
    print(json.dumps(asyncio.run(generate(args.url, bodies, args.concurrency))))


if __name__ == "__main__":
    main()
