"""Does a running vLLM that serves a model folder give the answers of the embedded runtime?

    VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 python -m vllm.entrypoints.openai.api_server \
        --model examples/order_lines/models/drafter --served-model-name drafter --host 127.0.0.1 --port 8100 \
        --max-model-len 1024 --dtype bfloat16
    python examples/order_lines/check_vllm.py drafter --port 8100

Prints how many greedy answers agree, how far the token log-probabilities lie apart, and how many answers under
`response_format` (output.json, or the repair schema) parse.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from typing import Any

from evaluate import SECRET, held_out
from generate import HERE
from prompts import ROOT, Messages, check_messages, draft_messages
from runtime import Embedded, parsed

from orchestrator.cascade.prompts import repair_schema

OUTPUT = json.loads((ROOT / "pipelines" / "order_lines" / "output.json").read_text())


def ask(port: int, model: str, messages: Messages, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """The first choice of a greedy chat completion with log-probabilities."""
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 64, "logprobs": True}
    body["chat_template_kwargs"] = {"enable_thinking": False}
    if schema is not None:
        form = {"name": "answer", "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return dict(json.load(reply)["choices"][0])


def compare(port: int, name: str, kind: str, messages: list[Messages], schema: dict[str, Any]) -> None:
    embedded = Embedded(HERE / "models" / name)
    local = embedded.answers([embedded.prompt(m) for m in messages], 16)
    served = [ask(port, name, m) for m in messages]
    same = [a.text == b["message"]["content"] for a, b in zip(local, served, strict=True)]
    gaps = [
        abs(x - y["logprob"])
        for a, b, equal in zip(local, served, same, strict=True) if equal
        for x, y in zip(a.logprobs, b["logprobs"]["content"], strict=False)
    ]  # fmt: skip
    strict = [ask(port, name, m, schema)["message"]["content"] for m in messages[:20]]
    shaped = sum(isinstance(parsed(text), dict) for text in strict)
    equal = sum(text == b["message"]["content"] for text, b in zip(strict, served, strict=False))
    print(
        f"{name} {kind}: {sum(same)} of {len(same)} greedy answers agree, token log-probabilities differ by "
        f"{max(gaps):.3f} at most; with response_format {shaped} of {len(strict)} parse, {equal} equal the free answer"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("drafter", "validator"))
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--lines", type=int, default=50)
    args = parser.parse_args()
    tasks = held_out(args.lines)
    texts = [task["input"]["text"] for task in tasks]
    compare(args.port, args.model, "draft", [draft_messages(text) for text in texts], OUTPUT)
    if args.model == "validator":
        wrong = [{**task["expected"], "qty": task["expected"]["qty"] + 1} for task in tasks]
        messages = [check_messages(text, draft, "repair", SECRET) for text, draft in zip(texts, wrong, strict=True)]
        compare(args.port, args.model, "repair", messages, repair_schema(OUTPUT))


if __name__ == "__main__":
    main()
