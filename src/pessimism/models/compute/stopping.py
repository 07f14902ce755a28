"""Stop strings: texts that end a response, whichever tokens spell them.

A blank line is one token after some words and two after others, so that no list of tokens would do. The rule is one of
text, for the sampler and for what is made of its ids: a response ends with the token that completes the first stop
string of its decoded text, and its text ends before that string.

Transformers' StopStringCriteria is not used. It reads the end of the prompt too, so that a line feed there and one that
is drawn are a blank line; and where it and the decoded text disagree, the padding after a row cannot be told from its
end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria

UNSEEN = 2
"""Tokens before those that a stop string can take: a decoder may treat the first of a text in its own way."""


class StopAtTexts(StoppingCriteria):
    """Tells which rows of a batch have drawn a stop string.

    Attributes:
        stops: texts of at least one character.
        start: column of the first drawn token.
        tail: last tokens that are decoded; a character takes one token at most, but for those of several bytes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], start: int) -> None:
        self.tokenizer, self.stops, self.start = tokenizer, stops, start
        self.tail = max(len(stop.encode()) for stop in stops) + UNSEEN

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor | None, **_: object) -> torch.Tensor:
        """(B,) whether the last tokens of each row hold a stop string."""
        drawn_B_R = input_ids[:, max(self.start, input_ids.shape[1] - self.tail) :]
        found = [bool(first_stop(text, self.stops)) for text in decoded(self.tokenizer, drawn_B_R.tolist())]
        return torch.tensor(found, device=input_ids.device)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[Sequence[int]]) -> list[str]:
    """Texts of responses, without special tokens."""
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def first_stop(text: str, stops: Sequence[str]) -> str:
    """The stop string that begins first in ``text``, of several at one place the longest; empty where there is none."""
    found = [(text.find(stop), -len(stop), stop) for stop in stops if stop in text]
    return min(found)[2] if found else ""


def up_to_stop(tokenizer: PreTrainedTokenizerBase, ids: list[int], stops: Sequence[str]) -> tuple[list[int], str, str]:
    """A response's ids up to the token that completes its first stop string, its text before that, and the string.

    Without a stop string, the ids and the text as they are, and an empty text.
    """
    (text,) = decoded(tokenizer, [ids])
    if not first_stop(text, stops):
        return ids, text, ""
    length = bisect_left(range(len(ids)), True, key=lambda n: bool(first_stop(_text(tokenizer, ids[:n]), stops)))
    text = _text(tokenizer, ids[:length])
    stop = first_stop(text, stops)
    return ids[:length], text[: text.find(stop)], stop


def ids_within(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> int:
    """How many of the first ids decode to no more than ``text``."""
    lengths = range(len(ids) + 1)
    return bisect_left(lengths, True, key=lambda n: len(_text(tokenizer, ids[:n])) > len(text)) - 1


def _text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    (text,) = decoded(tokenizer, [ids])
    return text
