"""How prompts and responses become token ids, for every model and stage.

Prompt and response of a policy are tokenised apart and then joined: the ids of a prompt do not depend on what follows.
What a row spells is text, never a special token: a response about ``<|im_end|>`` does not end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import TYPE_CHECKING

from pessimism.errors import ParamsError, SourceError, in_one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pessimism.experiment.params import LengthParams, Protocol


OTHER_TEMPLATE = "change chat_template in a local copy of the tokenizer (source: path), or choose another model"
PROBE = "What is <2> & 'two'?"
"""A turn that shows what a chat template does with a text."""
ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Shot:
    """A solved problem that is shown before another: the problem as it is posed, and its solution."""

    prompt: str
    solution: str


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one preference pair; the two responses share the prompt."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def fit_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, lengths: LengthParams) -> str:
    """A prompt that leaves about half of the sequence to its response: of a longer one, the end.

    Without it a long prompt would fill the sequence, and a pair's two texts would be cut to the same ids. It is cut
    where a token begins, as a text: decoded tokens would not always be tokenised as they were. Its own tokens may then
    differ by a few at the cut.
    """
    text, room = prompt.strip(), lengths.sequence // 2
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    tokens = encoded["offset_mapping"]
    if len(tokens) <= room:
        return text
    # Deviation: the notebook cuts from the right whatever is lost; TRL would drop such a pair unseen.
    first, _ = tokens[-room]
    return text[first:].strip()


def dpo_prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, protocol: Protocol, shots: Sequence[Shot] = ()
) -> list[int]:
    """Ids of a preference prompt: one user turn of the tokenizer's chat template, or plain text and a blank line.

    Shots are turns before it, of the user and the assistant by turns, or text. The template writes its own special
    tokens, so the tokenizer must not add them a second time. A template that knows no ``enable_thinking``, unlike
    Qwen3's, ignores it.

    Raises:
        SourceError: as :func:`rendered_turns`.
    """
    if not tokenizer.chat_template:
        opened = [Shot(shot.prompt.strip() + "\n\n", shot.solution) for shot in shots]
        return plain_ids(tokenizer, after_shots(prompt.strip() + "\n\n", opened))
    turns = [text.strip() for shot in shots for text in (shot.prompt, shot.solution)] + [prompt.strip()]
    text, starts = rendered_turns(tokenizer, turns, protocol.enable_thinking)
    within = [range(start, start + len(turn)) for start, turn in zip(starts, turns, strict=True)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    special = _special_ids(tokenizer)
    ids: list[int] = []
    for token, (first, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        spelled = token in special and any(first in turn for turn in within)
        ids += text_ids(tokenizer, text[first:last]) if spelled else [token]
    return ids


def after_shots(prompt: str, shots: Sequence[Shot]) -> str:
    """Shots and a prompt as one text: a solution follows its problem, after a space where none is, and a blank line."""
    parts = [(shot.prompt, "" if shot.prompt[-1:].isspace() else " ", shot.solution.strip(), "\n\n") for shot in shots]
    return "".join(chain.from_iterable(parts)) + prompt


def rendered_turns(tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], thinking: bool) -> tuple[str, list[int]]:
    """What the chat template makes of turns, the first and the last of which are the user's, and where each begins.

    Args:
        thinking: whether a template that can open a phase of thinking may.

    Raises:
        SourceError: the template fails on them, or leaves a turn out, or changes it.
    """
    text, probed = _rendered(tokenizer, turns, thinking), _rendered(tokenizer, [PROBE] * len(turns), thinking)
    starts, read, written = [], 0, 0
    for turn in turns:
        found = probed.find(PROBE, read)
        start = written + found - read
        if found < 0 or not text.startswith(turn, start):
            raise SourceError(
                f"the chat template of {tokenizer.name_or_path!r} makes {text[:80]!r} of the turn {turn[:40]!r}; "
                f"expected the whole turn in it, as it is: {OTHER_TEMPLATE}"
            )
        starts.append(start)
        read, written = found + len(PROBE), start + len(turn)
    return text, starts


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], thinking: bool) -> str:
    messages = [{"role": role, "content": turn} for role, turn in zip(cycle(ROLES), turns, strict=False)]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
            )
        )
    except Exception as error:  # whatever the template's own code raises
        raise SourceError(
            f"the chat template of {tokenizer.name_or_path!r} fails on {_spelled_turns(turns)}: {in_one_line(error)}; "
            f"expected one that needs no system turn and takes texts: {OTHER_TEMPLATE}"
        ) from error


def _spelled_turns(turns: Sequence[str]) -> str:
    return "a user's turn" if len(turns) == 1 else f"{len(turns)} turns of user and assistant"


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text alone, without special tokens, also where it spells one."""
    return _unspecial_ids(tokenizer, text, add_special_tokens=False)


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text that opens a sequence, with the special tokens that the tokenizer puts in front by itself."""
    ids = _unspecial_ids(tokenizer, text, add_special_tokens=True)
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def _unspecial_ids(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> list[int]:
    """Ids of a text of which none is special, but for those that the tokenizer adds, which stand for no character.

    A vocabulary of whole words, as the embedded world's, has ``<eos>`` among its words: it is spelled out instead.
    """
    options = {"add_special_tokens": add_special_tokens, "split_special_tokens": True, "return_offsets_mapping": True}
    encoded, special = tokenizer(text, **options), _special_ids(tokenizer)
    ids: list[list[int]] = []
    for token, (first, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        spelled = first < last and token in special and token != tokenizer.unk_token_id
        ids += tokenizer(list(text[first:last]), add_special_tokens=False)["input_ids"] if spelled else [[token]]
    return list(chain.from_iterable(ids))


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}


def online_prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    protocol: Protocol,
    lengths: LengthParams,
    shots: Sequence[Shot] = (),
) -> list[int]:
    """Ids of a verifiable problem's prompt, as the online phase and the probes pose it: at most ``lengths.prompt``.

    Raises:
        ParamsError: with its shots it is longer: what is cut off would be of them, or of the problem.
        SourceError: as :func:`rendered_turns`.
    """
    if protocol.prompt_format == "plain":
        ids = plain_ids(tokenizer, after_shots(prompt, shots))
    else:
        ids = dpo_prompt_ids(tokenizer, prompt, protocol, shots)
    if shots and len(ids) > lengths.prompt:
        raise ParamsError(
            f"found a problem of {len(ids)} tokens with its {len(shots)} shots ({prompt.strip()[:40]!r}); expected at "
            f"most lengths.prompt ({lengths.prompt}), or shots would be cut: raise it in the scale file, or lower "
            "tasks.shots"
        )
    return ids[: lengths.prompt] if protocol.prompt_cut == "right" else ids[-lengths.prompt :]


def encode_pair(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    chosen: str,
    rejected: str,
    lengths: LengthParams,
    protocol: Protocol,
) -> EncodedPair:
    """Ids of one preference pair in the format DPO trains on (Eq. 1): every response ends in EOS unless it was cut.

    Prompt and response together are cut to ``lengths.sequence`` tokens from the right.

    Raises:
        SourceError: the tokenizer has no EOS token, or its chat template alone fills half of the sequence.
    """
    prompt_ids = dpo_prompt_ids(tokenizer, fit_prompt(tokenizer, prompt, lengths), protocol)
    room = lengths.sequence - len(prompt_ids)
    if room < 1:
        raise SourceError(
            f"the chat template of {tokenizer.name_or_path!r} makes a prompt of {len(prompt_ids)} tokens; expected "
            f"fewer than lengths.sequence ({lengths.sequence}): raise it in the scale file"
        )
    return EncodedPair(
        prompt_ids=prompt_ids,
        chosen_ids=_response_ids(tokenizer, chosen)[:room],
        rejected_ids=_response_ids(tokenizer, rejected)[:room],
    )


def reward_text(prompt: str, response: str) -> str:
    """What a reward model reads: prompt, blank line, response."""
    return f"{prompt.strip()}\n\n{response.strip()}"


def encode_reward_text(
    tokenizer: PreTrainedTokenizerBase, prompt: str, response: str, lengths: LengthParams
) -> list[int]:
    """Ids of :func:`reward_text`, cut to ``lengths.sequence`` tokens from the right, without EOS."""
    return plain_ids(tokenizer, reward_text(fit_prompt(tokenizer, prompt, lengths), response))[: lengths.sequence]


def _response_ids(tokenizer: PreTrainedTokenizerBase, response: str) -> list[int]:
    if tokenizer.eos_token_id is None:
        raise SourceError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no EOS token; expected one that ends responses: "
            "choose another model under policy.name of the scale file"
        )
    return [*text_ids(tokenizer, response.strip()), tokenizer.eos_token_id]
