"""A model in this process, on the CPU: onnxruntime-genai behind the ModelClient protocol.

complete() -> a worker thread's queue -> batches of what is waiting -> answers. Nothing connects anywhere.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.digest import folder_digest
from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import CallTimedOut, ConfigError, RequestRefused
from orchestrator.models import chat_template
from orchestrator.models.client import Probe
from orchestrator.models.embedded_worker import ENDPOINT, Done, Job, Worker
from orchestrator.models.logprobs import summarise, value_span
from orchestrator.records import Answer, Location, Request, TokenLogprobs, Usage

if TYPE_CHECKING:
    from orchestrator.models.embedded_engine import Generated

_THINK, _THINK_END = "<think>", "</think>"


class EmbeddedModel:
    """`folder` is what onnxruntime-genai's model builder wrote: genai_config.json, model.onnx, a tokenizer.

    Greedy at temperature 0; otherwise drawn from the request's own seed, whatever else runs in the batch. A JSON
    Schema is enforced while thinking is off (and `structured` is not false); it can't hold back a thought.
    Raises ConfigError where the folder is no such model or the extra is not installed.
    """

    location: Location = "local"
    addresses: tuple[str, ...] = ()

    def __init__(self, folder: str, *, config: ModelConfig) -> None:
        self.folder, self._config = _model_folder(folder), config
        self.name = self.folder.name
        self._render = chat_template.load(self.folder)
        self._worker: Worker | None = None

    @cached_property
    def revision(self) -> str | None:
        """As configured, else the digest of the folder: other weights, other cache keys."""
        return self._config.revision or folder_digest(self.folder)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (ENDPOINT,)

    async def complete(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> Answer:
        """One answer. `latency_ms` includes the wait for a batch.

        Raises ContextOverflow before anything is generated where prompt and `max_tokens` exceed the context,
        RequestRefused where the template or the grammar can't take the request, CallTimedOut after `timeout_s`.
        """
        started = time.perf_counter()
        job = Job(text=self._rendered(request), request=request, schema=self._schema(request), seed=self._seed(request))
        if self._worker is None:
            self._worker = Worker(self.folder)
        self._worker.submit(job)
        try:
            async with asyncio.timeout(timeout_s):
                done = await asyncio.wrap_future(job.future)
        except TimeoutError:
            raise CallTimedOut(f"{self.name!r} gave no answer within {timeout_s:g} s", endpoint=ENDPOINT) from None
        return to_answer(done, request, self.name, (time.perf_counter() - started) * 1000)

    async def probe(self) -> tuple[Probe, ...]:
        return (Probe(
            endpoint=ENDPOINT, ok=True, models=(self.name,), logprobs=True,
            protocol=f"onnxruntime-genai {version('onnxruntime-genai')}", detail=f"{self.folder} ({self.revision})",
        ),)

    async def aclose(self) -> None:
        """Stop the worker; what still waits is cancelled. A later complete() starts another."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.close)

    def _rendered(self, request: Request) -> str:
        thinking = None if request.thinking is None else request.thinking != "off"
        try:
            return self._render(request.messages, thinking)
        except Exception as error:  # a template may fail in any way on messages it was not written for
            raise RequestRefused(f"the template of {self.name!r} refused the messages: {error}", sent=False) from error

    def _schema(self, request: Request) -> str | None:
        """Keys in the schema's own order, which is the order the grammar asks of the answer."""
        enforced = request.schema is not None and self._config.structured and request.thinking in (None, "off")
        return json.dumps(request.schema) if enforced else None

    def _seed(self, request: Request) -> tuple[int, int]:
        seed = self._config.seed if request.seed is None else request.seed
        return seed & 0xFFFF_FFFF_FFFF_FFFF, request.sample


def _model_folder(folder: str) -> Path:
    path = Path(folder)
    if not (path / "genai_config.json").is_file():
        found = "is not a folder" if not path.is_dir() else "holds no genai_config.json"
        raise ConfigError(
            f"{folder!r} {found}: `embedded:` needs a model in ONNX",
            hint="python -m onnxruntime_genai.models.builder -m HF_FOLDER -o OUT -p int4 -e cpu",
        )
    if importlib.util.find_spec("onnxruntime_genai") is None:
        raise ConfigError(
            f"`embedded:{folder}` needs onnxruntime-genai, which is not installed",
            hint="pip install 'draftgate[embedded]'",
        )
    return path.resolve()


def to_answer(done: Done, request: Request, model: str, latency_ms: float) -> Answer:
    """What was thought is split off: billed as reasoning, never part of the answer or its log-probabilities."""
    made = done.generated
    thought = _thought(made, request)
    text = "".join(made.pieces[thought:])
    whole, values = _summaries(text, made, thought) if request.logprobs else (None, None)
    return Answer(
        text=text.lstrip("\n") if thought else text,
        finish_reason=made.finish_reason,
        usage=Usage(input=done.prompt_tokens, output=made.count - thought, reasoning=thought),
        model=model,
        endpoint=ENDPOINT,
        logprobs=whole,
        value_logprobs=values,
        latency_ms=latency_ms,
    )


def _thought(made: Generated, request: Request) -> int:
    """How many of the first tokens are a thought; all, where it was cut off by `max_tokens`."""
    if request.thinking == "off":
        return 0
    end = next((i + 1 for i, piece in enumerate(made.pieces) if _THINK_END in piece), 0)
    return len(made.pieces) if not end and made.text.lstrip().startswith(_THINK) else end


def _summaries(text: str, made: Generated, thought: int) -> tuple[TokenLogprobs | None, TokenLogprobs | None]:
    pieces, chosen, seconds = made.pieces[thought:], made.logprobs[thought:], made.seconds[thought:]
    if not pieces:
        return None, None
    span = value_span(text, pieces)
    return summarise(pieces, chosen, seconds), summarise(
        [pieces[i] for i in span], [chosen[i] for i in span], [seconds[i] for i in span]
    )
