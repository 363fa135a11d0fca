"""The peer's own accept/reject on recorded tasks: cascadeflow 1.2. Run by decision_peers.py, in the peer's environment.

    PYTHON peer_decisions.py TASKS.jsonl > DECISIONS.jsonl

A task is {id, question, draft, confidence, answer}; a decision {id, drafted, validated, accepted, quality}:
drafted, validated   which models the agent asked
accepted             the agent served the draft
quality              its QualityValidator alone accepts the draft, given the self-reported confidence (null without one)

The agent is driven as its users drive it, with its defaults: routing by its complexity detection, quality by
`QualityConfig.for_cascade()`. Two models of its vLLM provider are served from the records at 127.0.0.1. The texts came
without log-probabilities, so that its confidence is the estimate that it makes from text.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from cascadeflow import CascadeAgent, ModelConfig, QualityConfig, QualityValidator

Task = dict[str, Any]


class Recorded(BaseHTTPRequestHandler):
    """Answers a chat request with the recorded text of the asked model, and notes who was asked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tasks: dict[str, Task]
    asked: list[str]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        task = self.tasks[request["messages"][-1]["content"]]
        self.asked.append(request["model"])
        text = task["draft"] if request["model"] == "drafter" else task["answer"]
        tokens = {"prompt_tokens": len(task["question"]) // 4, "completion_tokens": len(text) // 4}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        self._send({
            "id": task["id"], "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice],
            "usage": tokens | {"total_tokens": sum(tokens.values())},
        })

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": role, "object": "model"} for role in ("drafter", "validator")]})

    def log_message(self, format: str, *args: object) -> None:
        """Not a line a request."""

    def _send(self, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def main() -> None:
    logging.disable(logging.CRITICAL)
    with open(sys.argv[1], encoding="utf-8") as lines:
        tasks = [json.loads(line) for line in lines]
    Recorded.tasks, Recorded.asked = {task["question"]: task for task in tasks}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorded) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        asyncio.run(decide(tasks, f"http://127.0.0.1:{server.server_port}/v1"))
        server.shutdown()


async def decide(tasks: list[Task], url: str) -> None:
    """One after the other, for its thresholds adapt to what they saw."""
    agent = CascadeAgent(models=[
        ModelConfig(name=name, provider="vllm", base_url=url, cost=cost)
        for name, cost in (("drafter", 0.00024), ("validator", 0.0247))
    ])
    judge = QualityValidator(QualityConfig.for_cascade())
    for task in tasks:
        Recorded.asked.clear()
        result = await agent.run(task["question"], max_tokens=512, temperature=0.0)
        quality = None
        if task["confidence"] is not None:
            quality = bool(judge.validate(task["draft"], task["question"], task["confidence"]).passed)
        print(json.dumps({
            "id": task["id"], "drafted": "drafter" in Recorded.asked, "validated": "validator" in Recorded.asked,
            "accepted": result.model_used == "drafter", "quality": quality,
        }))


if __name__ == "__main__":
    main()
