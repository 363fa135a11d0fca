"""Train the tiny drafter and validator from scratch on the CPU, and write the folders of both runtimes.

    pip install -r examples/order_lines/requirements-train.txt
    python examples/order_lines/train.py drafter        2 minutes on two quiet cores
    python examples/order_lines/train.py validator      over an hour; goes on from its checkpoint; needs the drafter

The drafter is small and stopped early: its mistakes, and the token probabilities that betray them, are its own. The
validator is larger, trained longer, and sees drafts, some of them the drafter's, in `judge` and `repair` form.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import tokens
import torch
from export import export
from generate import EMPHASIS, HERE, SEEDS, USUAL, Line, Noise, training_lines
from prompts import draft_messages
from samples import Sample, mixed
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, rms_norm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

POOL = 32  # batches drawn at a time and sorted by length, so that little is padding
IGNORED = -100
NOTE_WEIGHT, VERDICT_WEIGHT, WRONG_WEIGHT = 0.5, 4.0, 3.0  # an answer's token weighs 1
PROBED_LAYER = 4  # whose output the probe of a draft's mistakes reads; the layers above gather them into a verdict
EMBEDDING_STD = 0.1  # with a high rate for embeddings; small ones take many times as long to tell words apart
DRAFTS = 12_000  # lines the drafter answers for the validator's training


Samples = Callable[[random.Random, dict[str, float]], Iterator[Sample]]


@dataclass(frozen=True)
class Recipe:
    """Size and schedule of one model. `stages` are (steps, shares of redo, judge and repair)."""

    hidden: int
    layers: int
    heads: int
    inner: int
    rate: float
    muon_rate: float
    stages: tuple[tuple[int, dict[str, float]], ...]
    seed: int
    batch: int = 64
    bf16: bool = False
    noise: Noise = USUAL


RECIPES = {
    "drafter": Recipe(128, 4, 4, 256, 1e-2, 2e-2, ((360, {"redo": 1.0}),), SEEDS["train"] + 1),
    "validator": Recipe(
        192, 6, 6, 512, 1e-2, 2e-2,
        ((200, {"redo": 1.0}), (2_550, {"redo": 0.3, "judge": 0.15, "repair": 0.55})),
        SEEDS["validator"], bf16=True, noise=EMPHASIS,
    ),
}  # fmt: skip


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=rounded(len(tokenizer), 16),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=recipe.inner,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
    return model


@dataclass(frozen=True)
class Batch:
    """Tensors of one shape; `targets` and `wrong` are IGNORED where there is no loss. Padding is on the right, so
    that causal attention needs no mask."""

    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    wrong: torch.Tensor


def batches(samples: Iterator[Sample], rng: random.Random, size: int) -> Iterator[Batch]:
    while True:
        pool = sorted(islice(samples, size * POOL), key=lambda s: len(s.prompt) + len(s.answer))
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for start in starts:
            yield padded(pool[start : start + size])


def padded(samples: list[Sample]) -> Batch:
    """Widths are rounded up: a new shape costs the CPU kernels a compilation."""
    shape = (len(samples), rounded(max(len(s.prompt) + len(s.answer) for s in samples) - 1, 16))
    ids, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    targets, wrong = torch.full(shape, IGNORED), torch.full(shape, IGNORED)
    for row, sample in enumerate(samples):
        both = sample.prompt + sample.answer
        ids[row, : len(both) - 1] = torch.tensor(both[:-1])
        answer = slice(len(sample.prompt) - 1, len(both) - 1)
        targets[row, answer], weights[row, answer] = torch.tensor(sample.answer), 1.0
        if sample.notes.wrong:
            weights[row, len(sample.prompt)] = VERDICT_WEIGHT  # after '{"verdict":"'
        for at, token in sample.notes.following.items():
            targets[row, at], weights[row, at] = token, NOTE_WEIGHT
        for at, flag in sample.notes.wrong.items():
            wrong[row, at] = int(flag)
    return Batch(ids, targets, weights, wrong)


def rounded(number: int, to: int) -> int:
    return -(-number // to) * to


def optimizers(model: Qwen3ForCausalLM, probe: torch.nn.Linear, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, Adam for embeddings and norms."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(inner, lr=recipe.muon_rate, weight_decay=0.01, momentum=0.95, ns_steps=5),
        torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.AdamW(probe.parameters(), lr=recipe.rate, weight_decay=0.0),
    ]


def rate_at(step: int, steps: int) -> float:
    """Warm up over 30 steps, hold, then fall in a line to zero over the last half."""
    return min(1.0, (step + 1) / 30, 2 * (steps - step) / steps)


def fit(model: Qwen3ForCausalLM, recipe: Recipe, samples: Samples, checkpoint: Path) -> None:
    """Train through all stages; go on from `checkpoint` if it is there, with other lines than before."""
    probe = torch.nn.Linear(recipe.hidden, 1)
    optims = optimizers(model, probe, recipe)
    rates = [optim.param_groups[0]["lr"] for optim in optims]
    steps, done = sum(count for count, _ in recipe.stages), resumed(model, probe, optims, checkpoint)
    started = time.time()
    rng = random.Random(recipe.seed + done)
    model.train()
    for step, batch in enumerate(scheduled(recipe, samples, rng, done), done + 1):
        for optim, rate in zip(optims, rates, strict=True):
            optim.param_groups[0]["lr"] = rate * rate_at(step - 1, steps)
        loss = loss_of(model, probe, batch, recipe.bf16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        if step % 25 == 0:
            print(f"step {step}/{steps} loss {loss.item():.4f} {time.time() - started:.0f} s", flush=True)
        if step % 100 == 0:
            save(checkpoint, model, probe, optims, step)
    checkpoint.unlink(missing_ok=True)
    model.eval()


def save(
    checkpoint: Path, model: Qwen3ForCausalLM, probe: torch.nn.Linear, optims: list[torch.optim.Optimizer], step: int
) -> None:
    states = {"model": model.state_dict(), "probe": probe.state_dict(), "optims": [o.state_dict() for o in optims]}
    torch.save({**states, "step": step}, checkpoint)


def resumed(
    model: Qwen3ForCausalLM, probe: torch.nn.Linear, optims: list[torch.optim.Optimizer], checkpoint: Path
) -> int:
    """The steps already done; 0 without a checkpoint."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint)
    model.load_state_dict(state["model"])
    probe.load_state_dict(state["probe"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    return int(state["step"])


def scheduled(recipe: Recipe, samples: Samples, rng: random.Random, done: int) -> Iterator[Batch]:
    """The batches of each stage, without those already done."""
    for count, shares in recipe.stages:
        yield from islice(batches(samples(rng, shares), rng, recipe.batch), max(0, count - done))
        done = max(0, done - count)


def loss_of(model: Qwen3ForCausalLM, probe: torch.nn.Linear, batch: Batch, bf16: bool) -> torch.Tensor:
    """Weighted cross-entropy of answers and notes, and what the probe of a middle layer misses of wrong drafts."""
    asked = (batch.targets.flatten() != IGNORED).nonzero().flatten()
    spare = rounded(len(asked), 512) - len(asked)  # shapes are rounded for the kernels' sake
    wanted = torch.cat((batch.targets.flatten()[asked], asked.new_full((spare,), IGNORED)))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = model.model(input_ids=batch.ids, use_cache=False, output_hidden_states=True)
        hidden = out.last_hidden_state.flatten(0, 1)
        logits = model.lm_head(hidden[torch.cat((asked, asked.new_zeros(spare)))])
    losses = cross_entropy(logits.float(), wanted, ignore_index=IGNORED, reduction="none")[: len(asked)]
    weights = batch.weights.flatten()[asked]
    loss = (losses * weights).sum() / weights.sum()
    flagged = batch.wrong != IGNORED
    if flagged.any():
        read = out.hidden_states[PROBED_LAYER][flagged].float()
        seen = probe(rms_norm(read, read.shape[-1:])).flatten()
        balance = torch.tensor(WRONG_WEIGHT)
        loss = loss + binary_cross_entropy_with_logits(seen, batch.wrong[flagged].float(), pos_weight=balance)
    return loss


@torch.no_grad()
def answers(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, drawn: list[Line]) -> list[str]:
    """Greedy answers to the draft prompt, 256 at a time."""
    found: list[str] = []
    for start in range(0, len(drawn), 256):
        prompts = [tokens.prompt_ids(tokenizer, draft_messages(d.text)) for d in drawn[start : start + 256]]
        batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        out = model.generate(**batch, max_new_tokens=48, do_sample=False)
        found += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def parsed(text: str) -> Any:
    """The draft as the pipeline shows it to the validator: parsed, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def drafts_of(folder: Path, tokenizer: PreTrainedTokenizerFast) -> list[tuple[Line, Any]]:
    """Drafts of the trained drafter: every wrong one twice, and as many right ones."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    drawn = list(islice(training_lines(random.Random(SEEDS["drafts"]), EMPHASIS), DRAFTS))
    pairs = [(d, parsed(text)) for d, text in zip(drawn, answers(model, tokenizer, drawn), strict=True)]
    wrong = [pair for pair in pairs if pair[1] != pair[0].answer]
    right = [pair for pair in pairs if pair[1] == pair[0].answer]
    print(f"drafter right on {len(right)} of {len(pairs)} lines")
    return 2 * wrong + right[: 2 * len(wrong)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--out", type=Path, default=HERE / "models")
    parser.add_argument("--threads", type=int, default=2, help="1 where other work shares the cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe, tokenizer = RECIPES[args.model], tokens.shipped_or_built(args.out)
    drafts = drafts_of(args.out / "drafter", tokenizer) if args.model == "validator" else []
    model = new_model(recipe, tokenizer)
    samples = partial(mixed, tokenizer, drafts=drafts, noise=recipe.noise)
    fit(model, recipe, samples, args.out / f"{args.model}.checkpoint")
    export(model, tokenizer, args.out / args.model)


if __name__ == "__main__":
    main()
