"""A pipeline as one node of your own LangGraph graph, with your own state keys.

    python -m examples.langgraph_node.mail_room                in the root of the checkout, offline

    START -> open_letter -> order_lines (the pipeline) -> reply -> END
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from orchestrator import Outcome, Pipeline

PIPELINE = Path(__file__).resolve().parents[2] / "pipelines" / "order_lines" / "pipeline.yaml"
LETTERS = (
    "From: ann@example.org\n\nurgent; 20 pc. nylon washer, 6,95 PLN each / 139,- in total, send 8 Aug",
    "From: bob@example.org\n\n500 pc. white Gear @ eur 14.50; total 7,250.00 / del. 24.08.",
)


class Mail(TypedDict, total=False):
    letter: str
    sender: str
    order_text: dict[str, str]
    order: dict[str, Any] | None
    outcome: Outcome
    reply: str


def open_letter(state: Mail) -> Mail:
    head, _, body = state["letter"].partition("\n\n")
    return {"sender": head.removeprefix("From: "), "order_text": {"text": body}}


def reply(state: Mail) -> Mail:
    order, sender = state["order"], state["sender"]
    if order is None:
        return {"reply": f"{sender}: a colleague will come back to you."}
    goods = f"{order['qty']} x {order['item']} at {order['unit_price']} {order['currency']}"
    return {"reply": f"{sender}: we have noted {goods}, to be sent on {order['ship']}."}


def mail_room(pipeline: Pipeline) -> Any:
    """The caller's graph. The node reads `order_text` and writes `order` and `outcome`."""
    graph = StateGraph(Mail)
    graph.add_node("open_letter", open_letter)
    graph.add_node("order_lines", pipeline.as_node(input="order_text", output="order", outcome="outcome"))
    graph.add_node("reply", reply)
    graph.add_edge(START, "open_letter")
    graph.add_edge("open_letter", "order_lines")
    graph.add_edge("order_lines", "reply")
    graph.add_edge("reply", END)
    return graph.compile()


def main() -> None:
    asyncio.run(read_letters())


async def read_letters() -> None:
    async with Pipeline.load(PIPELINE, store="memory:") as pipeline:
        graph = mail_room(pipeline)
        for letter in LETTERS:
            done = await graph.ainvoke({"letter": letter})
            print(f"{done['reply']}  ({done['outcome'].status}, {done['outcome'].cost_usd} USD)")


if __name__ == "__main__":
    main()
