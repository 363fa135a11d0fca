"""Train the drafter or the validator from scratch on the CPU, and write the folder that vLLM serves.

    PYTHON -m benchmarks.intents.train banking77 drafter FOLDER_OF_THE_DATA OUT

PYTHON is the one that has vLLM, and with it torch.

The drafter is smaller, and sees a part of the training questions. Its mistakes, and the token probabilities that
betray them, are its own.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, dropout
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

from benchmarks.intents import tokens
from benchmarks.intents.data import Dataset, Question, intents
from benchmarks.intents.datasets import DATASETS

HEAD_DIM = 32
EMBEDDING_STD = 0.1  # small ones take many times as long to tell words apart
FORM_WEIGHT = 0.1  # of the tokens of the answer that are always the same; the intent's weighs 1
POOL = 16  # batches drawn at a time and sorted by length, so that little is padding
WARM_UP, FALL = 30, 0.6  # steps up to the full rate; the share of all steps over which it falls to zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Size and schedule of one model. `questions`: how many it is shown, each `passes` times."""

    hidden: int
    layers: int
    questions: int | None
    passes: float
    token_dropout: float = 0.1
    dropout: float = 0.0
    smoothing: float = 0.0
    batch: int = 64
    rate: float = 3e-3
    muon_rate: float = 1e-2
    decay: float = 0.1
    seed: int = 1


RECIPES = {
    "drafter": Recipe(hidden=64, layers=2, questions=3_000, passes=6),
    "validator": Recipe(
        hidden=128, layers=2, questions=None, passes=8, token_dropout=0.15, dropout=0.1, smoothing=0.05, seed=2
    ),
}


@dataclass(frozen=True, slots=True)
class Sample:
    question: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of (samples, width). Padding is on the right, so that causal attention needs no mask. The answers are
    `targets` (samples, 4), said at the places `places`."""

    ids: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=rounded(len(tokenizer), 16), hidden_size=recipe.hidden, intermediate_size=2 * recipe.hidden,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.hidden // HEAD_DIM,
        num_key_value_heads=recipe.hidden // HEAD_DIM, head_dim=HEAD_DIM, max_position_embeddings=512,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
    return model


def rounded(number: int, to: int) -> int:
    return -(-number // to) * to


def samples_of(questions: list[Question], tokenizer: PreTrainedTokenizerFast) -> list[Sample]:
    asked = tokens.question_ids(tokenizer, [q.text for q in questions])
    answers = {intent: tokens.answer_ids(tokenizer, intent) for intent in intents(questions)}
    return [Sample(ids, answers[q.intent]) for ids, q in zip(asked, questions, strict=True)]


def batches(samples: list[Sample], recipe: Recipe, user: int) -> Iterator[Batch]:
    """Pass after pass, each in another order."""
    rng, size = random.Random(recipe.seed), recipe.batch
    while True:
        order = rng.sample(samples, len(samples))
        found = []
        for start in range(0, len(order), size * POOL):
            pool = sorted(order[start : start + size * POOL], key=lambda s: len(s.question))
            found += [pool[at : at + size] for at in range(0, len(pool), size)]
        rng.shuffle(found)
        for rows in found:
            yield padded(rows, recipe.token_dropout, rng, user)


def padded(rows: list[Sample], token_dropout: float, rng: random.Random, user: int) -> Batch:
    """A question loses each of its tokens with probability `token_dropout`: the cheapest of augmentations."""
    whole = []
    for row in rows:
        kept = [i for i in row.question if rng.random() >= token_dropout] or row.question
        whole.append([user, *kept, *row.answer])
    ids = torch.zeros((len(rows), rounded(max(map(len, whole)), 8)), dtype=torch.long)
    for at, sequence in enumerate(whole):
        ids[at, : len(sequence)] = torch.tensor(sequence)
    ends = torch.tensor([len(sequence) for sequence in whole])
    places = ends[:, None] + torch.arange(-5, -1)
    return Batch(ids, places, torch.tensor([row.answer[2:] for row in rows]))


def optimizers(model: Qwen3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, Adam for embeddings, head and norms."""
    inner = {name for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name}
    return [
        torch.optim.Muon(
            [p for name, p in model.named_parameters() if name in inner], lr=recipe.muon_rate,
            weight_decay=recipe.decay, momentum=0.95,
        ),
        torch.optim.AdamW(
            [p for name, p in model.named_parameters() if name not in inner], lr=recipe.rate, betas=(0.9, 0.98),
            weight_decay=recipe.decay,
        ),
    ]


def fit(model: Qwen3ForCausalLM, recipe: Recipe, samples: list[Sample], user: int) -> None:
    steps = int(recipe.passes * len(samples) / recipe.batch)
    optims = optimizers(model, recipe)
    rates = [optim.param_groups[0]["lr"] for optim in optims]
    started = time.time()
    model.train()
    for step, batch in enumerate(islice(batches(samples, recipe, user), steps)):
        share = min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * FALL))
        for optim, rate in zip(optims, rates, strict=True):
            optim.param_groups[0]["lr"] = rate * share
        loss = loss_of(model, batch, recipe)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(f"step {step + 1}/{steps} loss {loss.item():.3f} {time.time() - started:.0f} s", flush=True)
    model.eval()


def loss_of(model: Qwen3ForCausalLM, batch: Batch, recipe: Recipe) -> torch.Tensor:
    """Cross-entropy of the answer's tokens, nearly all of it on the intent."""
    embedded = dropout(model.model.embed_tokens(batch.ids), recipe.dropout)
    hidden = model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    said = hidden[torch.arange(len(batch.ids))[:, None], batch.places]
    logits = model.lm_head(dropout(said, recipe.dropout))
    form = cross_entropy(logits[:, (0, 2, 3)].flatten(0, 1), batch.targets[:, (0, 2, 3)].flatten())
    return FORM_WEIGHT * form + cross_entropy(logits[:, 1], batch.targets[:, 1], label_smoothing=recipe.smoothing)


def train(dataset: Dataset, role: str, folder: Path, out: Path) -> None:
    recipe, questions = RECIPES[role], dataset.read(folder, "train")
    tokenizer = tokens.build([q.text for q in questions], intents(questions))
    shown = random.Random(recipe.seed).sample(questions, recipe.questions or len(questions))
    model = new_model(recipe, tokenizer)
    size = sum(p.numel() for p in model.parameters())
    print(f"{role}: {size:,} parameters, {len(shown):,} questions, {recipe.passes:g} passes", flush=True)
    fit(model, recipe, samples_of(shown, tokenizer), tokenizer.convert_tokens_to_ids(tokens.USER))
    tokens.save(tokenizer, out)
    model.save_pretrained(out)  # last: a folder with weights is complete


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("role", choices=RECIPES)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="1 where other work shares the cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    args.out.mkdir(parents=True, exist_ok=True)
    train(DATASETS[args.dataset], args.role, args.data, args.out)


if __name__ == "__main__":
    main()
