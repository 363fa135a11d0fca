"""What the validator could note while it reads a draft: the token it would have written, and where the draft errs.

Training only. A verdict is one token about thirty; notes say at each of the thirty what it should rest on, and cut the
training time many times over. Nothing of this is asked of the model in use.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tokens import FENCE_CLOSES, FENCE_OPENS, KEYS
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Notes:
    """By position in the prompt: the right next token, and whether what was read of this field is wrong."""

    following: dict[int, int] = field(default_factory=dict)
    wrong: dict[int, bool] = field(default_factory=dict)


def notes_on(tokenizer: PreTrainedTokenizerFast, prompt: list[int], right: list[int], wrong: bool) -> Notes:
    """`right` is the right answer's tokens; a draft of another shape gets one note, at its end."""
    opens, closes = (tokenizer.convert_tokens_to_ids(piece) for piece in (FENCE_OPENS, FENCE_CLOSES))
    start = prompt.index(tokenizer.convert_tokens_to_ids("\u010a"), prompt.index(opens)) + 1
    end = len(prompt) - 1 - prompt[::-1].index(closes)
    notes = Notes(wrong={end: wrong})
    keys = set(tokenizer.convert_tokens_to_ids(list(KEYS)))
    read, due = _fields(prompt[start:end], keys), _fields(right, keys)
    if [key for key, _ in read] != [key for key, _ in due] or (not wrong and read != due):
        return notes
    at = start
    for (_, written), (_, proper), (following, _) in zip(read, due, [*due[1:], (None, [])], strict=True):
        for count in range(len(written) + 1):
            good = written[:count] == proper[:count]
            notes.wrong.setdefault(at + count, not good)
            if good and (count < len(proper) or following is not None):
                notes.following[at + count] = proper[count] if count < len(proper) else following
        at += len(written) + 1
        if following is not None:
            notes.wrong[at] = written != proper
    return notes


def _fields(ids: list[int], keys: set[int]) -> list[tuple[int, list[int]]]:
    """Each structural token with the tokens up to the next."""
    found: list[tuple[int, list[int]]] = []
    for token in ids:
        if token in keys:
            found.append((token, []))
        elif found:
            found[-1][1].append(token)
    return found
