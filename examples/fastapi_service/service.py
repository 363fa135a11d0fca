"""A FastAPI service around one pipeline: opened once, when the service starts, and closed when it stops.

    python -m examples.fastapi_service.service                 starts it, asks it three times, and stops it
    uvicorn examples.fastapi_service.service:app               as a service, in the root of the checkout
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from orchestrator import OrchestratorError, Pipeline, Task

PIPELINE = Path(__file__).resolve().parents[2] / "pipelines" / "order_lines" / "pipeline.yaml"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """`again`: who repeats an order that failed for want of a model or of money has it tried again."""
    store = os.environ.get("ORCHESTRATOR_STORE", "memory:")
    async with Pipeline.load(PIPELINE, store=store, again=("outage", "budget")) as pipeline:
        app.state.pipeline = pipeline
        yield


app = FastAPI(title="order lines", lifespan=lifespan)


class Order(BaseModel):
    """`id` is the idempotency key: the same id is answered again, and paid for once."""

    text: str
    id: str | None = None


class Answered(BaseModel):
    run_id: str
    status: str
    value: Any
    why: str


class Feedback(BaseModel):
    success: bool
    reason: str = ""


@app.post("/orders")
async def orders(order: Order, request: Request) -> Answered:
    pipeline: Pipeline = request.app.state.pipeline
    outcome = await pipeline.arun(Task(id=order.id, input={"text": order.text}))
    why = outcome.decision.explanation if outcome.decision else outcome.error or ""
    return Answered(run_id=outcome.run_id, status=outcome.status, value=outcome.value, why=why)


@app.post("/outcomes/{run_id}", status_code=204)
async def outcomes(run_id: str, feedback: Feedback, request: Request) -> None:
    """What was learned later, for instance that the customer corrected the order."""
    pipeline: Pipeline = request.app.state.pipeline
    await pipeline.arecord_outcome(run_id, success=feedback.success, reason=feedback.reason)


@app.exception_handler(OrchestratorError)
async def refused(request: Request, error: OrchestratorError) -> JSONResponse:
    """Exit code 2 means that the caller's input is wrong: 422. Anything else is the service's own trouble: 503."""
    return JSONResponse({"error": str(error), "hint": error.hint}, status_code=422 if error.exit_code == 2 else 503)


def main() -> None:
    asyncio.run(serve_and_ask())


async def serve_and_ask() -> None:
    """A real server on a free port of this machine, and a client that talks to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await ask(f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            server.should_exit = True
            await serving


async def ask(address: str) -> None:
    # Connections wait in the socket's queue until the pipeline is open, hence the long time-out of the first request.
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as client:
        order = {"id": "web-1", "text": "20 pc. nylon washer, 6,95 PLN each / 139,- in total, send 8 Aug"}
        first = (await client.post("/orders", json=order)).raise_for_status().json()
        print(f"{first['status']}: {first['value']}\n    because {first['why']}")
        again = (await client.post("/orders", json=order)).raise_for_status().json()
        print(f"asked again: the same run, {again['run_id'] == first['run_id']}")
        told = await client.post(f"/outcomes/{first['run_id']}", json={"success": True, "reason": "delivered"})
        print(f"feedback: {told.status_code}")
        wrong = await client.post("/orders", json={"text": ""})
        print(f"an empty order: {wrong.status_code}, {wrong.json()['error']}")


if __name__ == "__main__":
    main()
