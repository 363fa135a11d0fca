"""Generation in this process: a batch of prompts in, tokens with their log-probabilities out. Blocking.

A row never depends on its neighbours. Prompts are padded on the right, which the runtime masks exactly: the logits of
a row are bit for bit those of the row alone (fp32, measured and tested). The token is drawn here or by the runtime's
arg-max, never by its sampler, whose seed belongs to the whole batch. A JSON Schema is enforced by the runtime's
grammar (llguidance); the log-probabilities are the model's own, before temperature and grammar, as vLLM gives them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.errors import RequestRefused
from orchestrator.records import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS = 32
"""The runtime's own limit of a batch."""

CACHE_BYTES = 1 << 30
"""Most memory the keys and values of one batch may take; they are allocated in full at its start."""

SMALL_BYTES = 64 << 20
"""Weights below this are fastest on one thread (measured: 0.7 M and 2.6 M parameters, two cores)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What one row of a batch needs. `schema` is JSON text; `temperature` 0 is greedy."""

    tokens: NDArray[np.int32]
    max_tokens: int
    temperature: float = 0.0
    seed: tuple[int, int] = (0, 0)
    schema: str | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(slots=True, kw_only=True)
class Generated:
    """A row's tokens so far. `pieces` join to the text; an end mark's piece is empty. `seconds` holds the best
    log-probability of any token but the chosen one."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Engine:
    """One loaded model. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime_genai as og

        self._og = og
        settings = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        config = og.Config(str(folder))
        config.overlay(json.dumps(_session_options(folder, settings["decoder"].get("session_options", {}))))
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._tokenizer.update_options(add_special_tokens="false")  # the chat template writes its own
        self.context_length = int(settings["context_length"])
        self._pad = int(settings.get("pad_token_id") or 0)
        self._ends = frozenset(int(one) for one in self._tokenizer.eos_token_ids)
        self._row_bytes = _cache_bytes_per_token(settings["decoder"])

    def prompt(self, text: str, request: Request, *, schema: str | None, seed: tuple[int, int]) -> Prompt:
        return Prompt(
            tokens=self._tokenizer.encode(text), max_tokens=request.max_tokens, temperature=request.temperature,
            seed=seed, schema=schema, stop=request.stop, logprobs=request.logprobs,
        )

    def fits(self, batch: Sequence[Prompt], one: Prompt) -> bool:
        """Whether `one` can join `batch`: same grammar, and the longest row stays within context and memory."""
        if not batch:
            return True
        length = _length([*batch, one])
        return (
            len(batch) < MAX_ROWS
            and one.schema == batch[0].schema
            and length <= self.context_length
            and length * (len(batch) + 1) * self._row_bytes <= CACHE_BYTES
        )

    def generate(self, batch: Sequence[Prompt], given_up: Callable[[int], bool]) -> list[Generated]:
        """Run `batch` until every row ended or was given up (asked by index before each token).

        Raises RequestRefused where the runtime can't enforce the schema, RuntimeError where it fails otherwise.
        """
        rows = [_Row(prompt, self._tokenizer.create_stream(), self._ends) for prompt in batch]
        generator = self._prefilled(batch)
        measured = any(prompt.logprobs for prompt in batch)
        sampled = any(prompt.temperature > 0.0 for prompt in batch)
        while any(not row.ended and not given_up(i) for i, row in enumerate(rows)):
            logits = generator.get_logits().reshape(len(rows), -1)
            if sampled:
                generator.set_logits(np.stack([row.drawn(logits[i]) for i, row in enumerate(rows)]))
            generator.generate_next_token()
            tokens = generator.get_next_tokens()
            measures = _measure(logits, tokens) if measured else None
            for i, row in enumerate(rows):
                row.take(int(tokens[i]), measures, i)
        return [row.out for row in rows]

    def _prefilled(self, batch: Sequence[Prompt]) -> Any:
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(batch_size=len(batch), max_length=_length(batch), do_sample=False)
        if (schema := batch[0].schema) is not None:
            params.set_guidance("json_schema", schema)
        try:
            generator = self._og.Generator(self._model, params)
        except RuntimeError as error:
            if schema is None:
                raise
            raise RequestRefused(
                f"the embedded runtime can't enforce this JSON Schema: {error}",
                hint="simplify the schema, or set `structured: false` on the model: then it is only checked",
            ) from error
        width = max(len(prompt.tokens) for prompt in batch)
        padded = np.full((len(batch), width), self._pad, dtype=np.int32)
        for row, prompt in zip(padded, batch, strict=True):
            row[: len(prompt.tokens)] = prompt.tokens
        generator.append_tokens(padded)
        return generator


class _Row:
    """One row of a running batch."""

    def __init__(self, prompt: Prompt, stream: Any, ends: frozenset[int]) -> None:
        self.out = Generated()
        self._prompt, self._stream, self._ends = prompt, stream, ends
        self._random = np.random.default_rng(prompt.seed) if prompt.temperature > 0.0 else None

    @property
    def ended(self) -> bool:
        return self.out.finish_reason != ""

    def drawn(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits whose arg-max is a draw from softmax(logits / temperature): the Gumbel-max trick (Gumbel 1954;
        Maddison et al., 1411.0030). It stays a fair draw from what a grammar masks afterwards."""
        if self._random is None:
            return logits
        noise = self._random.gumbel(size=logits.shape)
        return (logits / self._prompt.temperature + noise).astype(np.float32)

    def take(self, token: int, measures: _Measures | None, index: int) -> None:
        if self.ended:
            return
        out, end = self.out, token in self._ends
        out.pieces.append("" if end else self._stream.decode(token))
        if measures is not None:
            out.logprobs.append(float(measures.chosen[index]))
            out.seconds.append(float(measures.second[index]))
        if end:
            out.finish_reason = "stop"
        elif self._prompt.stop and (cut := _first(out.text, self._prompt.stop)) is not None:
            out.pieces[:] = _clipped(out.pieces, cut)
            out.finish_reason = "stop"
        elif len(out.pieces) >= self._prompt.max_tokens:
            out.finish_reason = "length"


@dataclass(frozen=True, slots=True)
class _Measures:
    chosen: NDArray[np.float32]
    second: NDArray[np.float32]


def _measure(logits: NDArray[np.float32], tokens: NDArray[np.int32]) -> _Measures:
    """Log-probability of the chosen token of each row, and of the best other one."""
    rows = np.arange(len(tokens))
    top = logits.max(axis=1)
    log_total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    chosen = logits[rows, tokens]
    others = logits.copy()
    others[rows, tokens] = -np.inf
    return _Measures(chosen - log_total, others.max(axis=1) - log_total)


def _length(batch: Sequence[Prompt]) -> int:
    """Positions a batch takes: the runtime counts from the padded end of the longest prompt."""
    return max(len(prompt.tokens) for prompt in batch) + max(prompt.max_tokens for prompt in batch)


def _first(text: str, stops: tuple[str, ...]) -> int | None:
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(found) if found else None


def _clipped(pieces: list[str], length: int) -> Iterator[str]:
    for piece in pieces:
        yield piece[:length]
        length = max(0, length - len(piece))


def _session_options(folder: Path, own: dict[str, Any]) -> dict[str, Any]:
    """One thread for small weights, the runtime's choice for others, what the folder says before both. Threads that
    wait sleep: spinning ones would take the core from the rest of the process."""
    options: dict[str, Any] = {"session.intra_op.allow_spinning": "0"}
    if sum(path.stat().st_size for path in folder.glob("*.onnx*")) < SMALL_BYTES:
        options["intra_op_num_threads"] = 1
    return {"model": {"decoder": {"session_options": {k: v for k, v in options.items() if k not in own}}}}


def _cache_bytes_per_token(decoder: dict[str, Any]) -> int:
    """Keys and values of one position in fp32."""
    return int(2 * 4 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"])
