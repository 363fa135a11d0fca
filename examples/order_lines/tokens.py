"""The tokenizer of both models: byte-level BPE, each digit alone, each constant piece of the prompts one token.

The constant pieces (sentences of the instructions, keys of the output) are added tokens, so that the long
instructions a large model needs cost a tiny one a dozen positions. Change the prompt and the models must be trained
again.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from generate import SEEDS, compact, line
from prompts import INSTRUCTIONS, SYSTEM, check_messages, draft_messages
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
PAD, END = SPECIAL[0], SPECIAL[-1]
BPE_VOCABULARY = 1_000
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# The word splitting of the Qwen family, which every runtime knows; it already takes digits one by one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KEYS = ('{"item":"', '","qty":', ',"unit_price":', ',"currency":"', '","total":', ',"ship":"', '"}')
FENCE_OPENS, FENCE_CLOSES = "\n\nDRAFT ", "\nDRAFT "
ANSWER_PIECES = (
    *KEYS, FENCE_OPENS, FENCE_CLOSES, '{"verdict":"', '","reasons":[', '],"value":', "null}", "approved", "rejected",
    "repaired", '"item"', '"qty"', '"unit_price"', '"currency"', '"total"', '"ship"', '"format"',
)  # fmt: skip


def constant_pieces() -> list[str]:
    """Every sentence of the instructions with the space that follows it, and the fixed parts of the answers."""
    texts = [SYSTEM, *(f"\n\n{text}" for text in INSTRUCTIONS.values())]
    sentences = [piece for text in texts for piece in re.findall(r".+?(?:\.\s+(?=\S)|$)", text, re.S)]
    return list(dict.fromkeys([*sentences, *ANSWER_PIECES]))


def corpus(count: int = 8_000) -> list[str]:
    """Order lines, answers and checks of them, from the training seed."""
    rng = random.Random(SEEDS["train"])
    texts: list[str] = []
    for _ in range(count):
        drawn = line(rng)
        answer = compact(drawn.answer)
        texts += [drawn.text, answer]
        if rng.random() < 0.05:
            texts.append(check_messages(drawn.text, answer, "repair", rng.randbytes(64))[1]["content"])
    return texts


def build() -> PreTrainedTokenizerFast:
    """Train the tokenizer; always the same for the same prompts and seed."""
    inner = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    inner.decoder = decoders.ByteLevel()
    pieces = constant_pieces()
    pattern = re.compile("|".join(re.escape(piece) for piece in sorted(pieces, key=len, reverse=True)))
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator((part for text in corpus() for part in pattern.split(text)), trainer)
    inner.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def shipped_or_built(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer the weights in `folder` were trained with; a new one where there is none."""
    shipped = folder / "drafter"
    return PreTrainedTokenizerFast.from_pretrained(shipped) if (shipped / "tokenizer.json").exists() else build()


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Tokenizer files that transformers 4 and 5, vLLM and onnxruntime-genai all read."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    loaded_from = ("is_local", "local_files_only")
    config = {key: x for key, x in json.loads(path.read_text()).items() if key not in loaded_from} | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": CHAT_TEMPLATE,
    }
    path.write_text(json.dumps(config, indent=2) + "\n")


def prompt_ids(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> list[int]:
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def answer_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


if __name__ == "__main__":
    made = build()
    sample = line(random.Random(1))
    print(len(made), sample.text)
    print(made.convert_ids_to_tokens(prompt_ids(made, draft_messages(sample.text))))
    print(made.convert_ids_to_tokens(answer_ids(made, compact(sample.answer))))
    print(made.convert_ids_to_tokens(prompt_ids(made, check_messages(sample.text, sample.answer, "repair", b"x"))))
