"""Greedy answers with token log-probabilities from the ONNX folder of a model, in batches, on the CPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og
from prompts import Messages
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

MAX_NEW = 64


@dataclass
class Answer:
    """Text, and the natural log of the probability of each token, the closing one included."""

    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


class Embedded:
    """One model folder in this process."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        config = og.Config(str(folder))
        options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model = og.Model(config)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.fast: Tokenizer = self.tokenizer.backend_tokenizer
        self.pad, self.end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id

    def prompt(self, messages: Messages) -> list[int]:
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.fast.encode(text).ids

    def answers(self, prompts: list[list[int]], batch: int = 16) -> list[Answer]:
        """Answers in the order of the prompts; those of like length are decoded together."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, Answer] = {}
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            found.update(zip(rows, self._together([prompts[i] for i in rows]), strict=True))
        return [found[i] for i in range(len(prompts))]

    def _together(self, prompts: list[list[int]]) -> list[Answer]:
        answers = [Answer() for _ in prompts]
        for tokens, logprobs in self._steps(prompts):
            for answer, token, logprob in zip(answers, tokens, logprobs, strict=True):
                if self.end not in answer.ids[-1:]:
                    answer.ids.append(token)
                    answer.logprobs.append(logprob)
        for answer in answers:
            answer.text = self.fast.decode(answer.ids, skip_special_tokens=True)
        return answers

    def _steps(self, prompts: list[list[int]]) -> Iterator[tuple[list[int], list[float]]]:
        """Each step's tokens and their log-probabilities. Padding is on the right, which this runtime masks exactly;
        on the left it does not, and spoils the answers."""
        width = max(map(len, prompts))
        params = og.GeneratorParams(self.model)
        params.set_search_options(batch_size=len(prompts), max_length=width + MAX_NEW, do_sample=False)
        generator = og.Generator(self.model, params)
        generator.append_tokens(np.array([p + [self.pad] * (width - len(p)) for p in prompts], dtype=np.int32))
        while not generator.is_done():
            logits = np.asarray(generator.get_logits()).reshape(len(prompts), -1)
            generator.generate_next_token()
            tokens = generator.get_next_tokens()
            top = logits.max(axis=1)
            total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
            yield tokens.tolist(), (logits[np.arange(len(prompts)), tokens] - total).tolist()


def parsed(text: str) -> Any:
    """The answer as JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def auroc(scores: list[float], right: list[bool]) -> float:
    """Share of (right, wrong) pairs in which the right one scores higher; ties count half. NaN without both kinds."""
    good = np.array([s for s, r in zip(scores, right, strict=True) if r])
    bad = np.array([s for s, r in zip(scores, right, strict=True) if not r])
    if not len(good) or not len(bad):
        return math.nan
    return float((good[:, None] > bad).mean() + (good[:, None] == bad).mean() / 2)
