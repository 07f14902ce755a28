"""Stop strings: which token completes one, what is left of the text, and what the online loss takes of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pessimism.experiment.params import Params, load_params
from pessimism.models.compute.generation import FULL, Rollouts, sample_responses
from pessimism.models.compute.stopping import StopAtTexts, first_stop, ids_within, up_to_stop
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online.rollout import trained_response_ids
from support.repository import CHECKOUT

PROTOCOL = load_params(CHECKOUT).protocol
BLANK = ("\n\n",)
MERGES = [("Ċ", "Ċ"), (".", "ĊĊ"), ("Ã", "©")]


@pytest.fixture(scope="module")
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and three tokens of more: a blank line, one after a full stop, and an accented letter."""
    tokens = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def ids_of(tokenizer: PreTrainedTokenizerFast, *pieces: str) -> list[int]:
    """Ids of pieces that are tokenised apart, so that a blank line may be one token, two, or part of one."""
    return [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]


SPELLINGS = {
    "one token": (["It is 8", "\n\n", "Next"], "It is 8", 8, 7),
    "two tokens": (["It is 8", "\n", "\n", "Next"], "It is 8", 9, 7),
    "a token that begins in the text": (["It is 8", ".\n\n", "Next"], "It is 8.", 8, 7),
    "a token that goes on": (["It is 8", "\n", "\n\n", "Next"], "It is 8", 9, 7),
    "after a letter of two bytes": (["é", "\n\n", "é"], "é", 2, 1),
    "at once": (["\n\n", "Next"], "", 1, 0),
    "twice": (["8", "\n\n", "9", "\n\n"], "8", 2, 1),
}


@pytest.mark.parametrize(("pieces", "text", "completed", "within"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_response_ends_with_the_token_that_completes_the_stop_string(
    bytes_tokenizer: PreTrainedTokenizerFast, pieces: list[str], text: str, completed: int, within: int
) -> None:
    ids = ids_of(bytes_tokenizer, *pieces)
    assert up_to_stop(bytes_tokenizer, ids, BLANK) == (ids[:completed], text, "\n\n")
    assert ids_within(bytes_tokenizer, ids[:completed], text) == within


@pytest.mark.parametrize(("pieces", "text", "completed", "within"), SPELLINGS.values(), ids=SPELLINGS)
def test_the_sampler_ends_a_row_where_the_text_is_cut(
    bytes_tokenizer: PreTrainedTokenizerFast, pieces: list[str], text: str, completed: int, within: int
) -> None:
    ids = ids_of(bytes_tokenizer, *pieces)
    prompt = ids_of(bytes_tokenizer, "\n\n", "Q\n")
    criteria = StopAtTexts(bytes_tokenizer, BLANK, start=len(prompt))
    other = ids_of(bytes_tokenizer, "x") * len(ids)
    told = [criteria(torch.tensor([prompt + row[:n] for row in (ids, other)]), None) for n in range(1, completed + 1)]
    assert [row.tolist() for row in told] == [[n == completed, False] for n in range(1, completed + 1)]


def test_the_end_of_the_prompt_is_no_part_of_a_stop_string(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = ids_of(bytes_tokenizer, "Q\n")
    criteria = StopAtTexts(bytes_tokenizer, BLANK, start=len(prompt))
    assert not criteria(torch.tensor([prompt + ids_of(bytes_tokenizer, "\n")]), None).any()
    assert not criteria(torch.tensor([prompt + ids_of(bytes_tokenizer, "\n", "8")]), None).any()


def test_the_first_stop_string_counts_and_of_two_at_one_place_the_longer() -> None:
    assert first_stop("8\nQ: 9\n\n", ("\n\n", "\nQ:")) == "\nQ:"
    assert first_stop("8\nQ: 9", ("\n", "\nQ:")) == "\nQ:"
    assert first_stop("8 9", ("\n", "\nQ:")) == ""


def test_a_text_without_a_stop_string_is_left_as_it_is(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [*ids_of(bytes_tokenizer, "It is 8\n"), bytes_tokenizer.eos_token_id]
    assert up_to_stop(bytes_tokenizer, ids, BLANK) == (ids, "It is 8\n", "")


@pytest.mark.parametrize(
    ("retokenize", "score_eos", "expected"),
    [
        (False, False, [["8"], ["8"], ["8"], ["8"]]),
        (False, True, [["8", ".\n\n"], ["8", "<eos>"], ["8"], ["8", "\n", "\n"]]),
        (True, False, [["8", "."], ["8"], ["8"], ["8"]]),
        (True, True, [["8", ".\n\n"], ["8", "<eos>"], ["8"], ["8", "\n\n"]]),
    ],
)
def test_the_online_loss_takes_a_stop_string_as_it_takes_an_end(
    bytes_tokenizer: PreTrainedTokenizerFast, retokenize: bool, score_eos: bool, expected: list[list[str]]
) -> None:
    """Of responses ended by a stop string, an end token, nothing, and a stop string of two tokens."""
    eight, stop, end = ids_of(bytes_tokenizer, "8"), ids_of(bytes_tokenizer, ".\n\n"), [bytes_tokenizer.eos_token_id]
    feeds = ids_of(bytes_tokenizer, "\n", "\n")
    ids, texts = [eight + stop, eight + end, eight, eight + feeds], ["8.", "8", "8", "8"]
    finished, stops = [True, True, False, True], ["\n\n", "", "", "\n\n"]
    drawn = Rollouts([[1]] * 4, ids, texts, finished, stops)
    protocol = dataclasses.replace(PROTOCOL, retokenize_responses=retokenize, score_eos=score_eos)
    known = {"<eos>": end, "8": eight, ".": ids_of(bytes_tokenizer, "."), ".\n\n": stop}
    known |= {"\n": feeds[:1], "\n\n": ids_of(bytes_tokenizer, "\n\n")}
    wanted = [[token for piece in row for token in known[piece]] for row in expected]
    assert trained_response_ids(drawn, bytes_tokenizer, protocol) == wanted


def test_sampled_responses_are_those_without_stop_strings_up_to_the_first(tiny_world: Params) -> None:
    model, tokenizer = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")
    chosen = [f"Mia had {n} apples.\n\n" for n in range(2, 8)]
    model.generation_config.eos_token_id = [tokenizer.pad_token_id]  # so that padding looks like an end, as in Qwen3
    plain = sample_responses(model, tokenizer, chosen, tiny_world, range(6), FULL)
    stop = tokenizer.decode(plain.response_ids[0][4:6])
    tasks = dataclasses.replace(tiny_world.scale.tasks, stop=(stop,))
    params = dataclasses.replace(tiny_world, scale=dataclasses.replace(tiny_world.scale, tasks=tasks))
    stopped = sample_responses(model, tokenizer, chosen, params, range(6), FULL)
    assert stopped.stops[0] == stop and stopped.finished[0]
    assert len(stopped.response_ids[0]) <= 6
    for row in range(6):
        assert stopped.texts[row] == plain.texts[row].partition(stop)[0]
        length = len(stopped.response_ids[row])
        assert stopped.response_ids[row] == plain.response_ids[row][:length]
        if not stopped.stops[row]:
            assert stopped.response_ids[row] == plain.response_ids[row]
            assert stopped.finished[row] == plain.finished[row]
    assert stopped.rows(1, 3) == Rollouts(
        *(getattr(stopped, field.name)[1:3] for field in dataclasses.fields(Rollouts))
    )
