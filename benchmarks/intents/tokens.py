"""The tokenizer of both models: byte-level BPE of the training questions, in lower case; every intent is one token.

So an answer is four tokens, of which one says the intent: its log-probability is the model's confidence in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
OPENS, CLOSES = '{"intent":"', '"}'
VOCABULARY = 2_000
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build(texts: Sequence[str], intents: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer; always the same for the same texts."""
    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, USER, ASSISTANT, END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    inner.add_tokens([AddedToken(piece, normalized=False) for piece in (OPENS, CLOSES, *intents)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def question_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each question alone, as they stand between <|user|> and <|end|>."""
    asked = [tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False) for text in texts]
    return [ids[1:-1] for ids in tokenizer(asked, add_special_tokens=False)["input_ids"]]


def answer_ids(tokenizer: PreTrainedTokenizerFast, intent: str) -> list[int]:
    """What stands after a question: <|end|><|assistant|>{"intent":"NAME"}<|end|>, six tokens.

    Raises ValueError where the intent is not one token.
    """
    ids: list[int] = tokenizer.encode(f"{END}{ASSISTANT}{OPENS}{intent}{CLOSES}{END}", add_special_tokens=False)
    if len(ids) != 6:
        raise ValueError(f"{intent!r} makes {len(ids)} tokens of an answer: one is needed for the intent")
    return ids


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Tokenizer files that vLLM reads."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE
    }
    path.write_text(json.dumps(config, indent=2) + "\n")
