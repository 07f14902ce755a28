"""Token ids of prompts, pairs and reward texts, with and without a chat template and a BOS token."""

from __future__ import annotations

import dataclasses

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from pessimism.data.prompts import (
    Shot,
    after_shots,
    dpo_prompt_ids,
    encode_pair,
    encode_reward_text,
    fit_prompt,
    online_prompt_ids,
    plain_ids,
    rendered_turns,
    reward_text,
    text_ids,
)
from pessimism.errors import ParamsError, SourceError
from pessimism.experiment.params import LengthParams, load_params
from pessimism.models.embedded import make_tokenizer
from support.random_models import chat_tokenizer
from support.repository import CHECKOUT

LONG = LengthParams(prompt=20, response=20, sequence=40)
WIDE = LengthParams(prompt=200, response=20, sequence=220)
PROTOCOL = load_params(CHECKOUT).protocol
QUESTION = "Mia had 5 apples."
CHAT = (
    "{{ bos_token }} She{% for turn in messages %}{{ turn['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} He{% endif %}"
)


@pytest.fixture
def plain() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture
def with_bos() -> PreTrainedTokenizerFast:
    """A tokenizer that puts <unk> in front of every text by itself, as Llama does with its BOS token."""
    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<unk>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<unk> $A", special_tokens=[("<unk>", tokenizer.unk_token_id)]
    )
    return tokenizer


def text(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return tokenizer.decode(ids)


def test_reward_text_is_prompt_blank_line_response() -> None:
    assert reward_text(" a\n", "\nb ") == "a\n\nb"


def test_pair_without_chat_template(plain: PreTrainedTokenizerFast) -> None:
    pair = encode_pair(plain, QUESTION, "5+3=8 ", " 5-3=2", LONG, PROTOCOL)
    assert text(plain, pair.prompt_ids) == "Mia had 5 apples.\n\n"
    assert text(plain, pair.chosen_ids) == "5+3=8<eos>"
    assert text(plain, pair.rejected_ids) == "5-3=2<eos>"


def test_pair_with_chat_template_has_one_bos(with_bos: PreTrainedTokenizerFast) -> None:
    with_bos.chat_template = CHAT
    ids = dpo_prompt_ids(with_bos, f" {QUESTION} ", PROTOCOL)
    assert text(with_bos, ids) == "<unk> SheMia had 5 apples. He"
    assert ids.count(with_bos.bos_token_id) == 1


THINKING = "{% for turn in messages %}{{ turn.content }}{% endfor %}{% if enable_thinking is false %} He{% endif %}"


@pytest.mark.parametrize(("thinking", "ending"), [(True, "apples."), (False, "apples. He")])
def test_the_protocol_says_whether_a_chat_template_opens_a_phase_of_thinking(
    plain: PreTrainedTokenizerFast, thinking: bool, ending: str
) -> None:
    plain.chat_template = THINKING
    protocol = dataclasses.replace(PROTOCOL, enable_thinking=thinking, prompt_format="dpo")
    pair = encode_pair(plain, QUESTION, "5+3=8", "5-3=2", LONG, protocol)
    online = online_prompt_ids(plain, QUESTION, protocol, LONG)
    assert online == pair.prompt_ids
    assert text(plain, pair.prompt_ids).endswith(ending)


def test_bos_opens_the_prompt_and_never_the_response(with_bos: PreTrainedTokenizerFast) -> None:
    pair = encode_pair(with_bos, QUESTION, "5+3=8", "5-3=2", LONG, PROTOCOL)
    assert pair.prompt_ids[0] == with_bos.bos_token_id
    assert with_bos.bos_token_id not in [*pair.prompt_ids[1:], *pair.chosen_ids, *pair.rejected_ids]
    assert encode_reward_text(with_bos, QUESTION, "5+3=8", LONG).count(with_bos.bos_token_id) == 1


def test_plain_ids_leave_out_an_eos_that_the_tokenizer_appends(plain: PreTrainedTokenizerFast) -> None:
    expected = plain_ids(plain, QUESTION)
    plain.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", plain.eos_token_id)]
    )
    assert plain_ids(plain, QUESTION) == expected


def test_pair_is_cut_from_the_right_to_the_sequence(plain: PreTrainedTokenizerFast) -> None:
    whole = encode_pair(plain, QUESTION, "5+3=8\n8-2=6\n#### 6", "5-3=2", LONG, PROTOCOL)
    room = len(whole.prompt_ids) + 4
    cut = encode_pair(plain, QUESTION, "5+3=8\n8-2=6\n#### 6", "5-3=2", LengthParams(3, 4, room), PROTOCOL)
    assert cut.prompt_ids == whole.prompt_ids
    assert cut.chosen_ids == whole.chosen_ids[:4]
    assert cut.rejected_ids == whole.rejected_ids[:4]


def test_prompt_longer_than_half_of_the_sequence_keeps_its_end_in_every_format(plain: PreTrainedTokenizerFast) -> None:
    short = LengthParams(prompt=3, response=5, sequence=6)
    assert len(plain(QUESTION)["input_ids"]) > 3
    pair = encode_pair(plain, QUESTION, "5+3=8", "5-3=2", short, PROTOCOL)
    kept = fit_prompt(plain, QUESTION, short)
    assert QUESTION.endswith(kept) and kept != QUESTION
    assert text(plain, pair.prompt_ids) == f"{kept}\n\n"
    assert pair.chosen_ids != pair.rejected_ids
    assert len(pair.prompt_ids) + len(pair.chosen_ids) <= 6
    chosen, rejected = (encode_reward_text(plain, QUESTION, response, short) for response in ("5+3=8", "5-3=2"))
    assert text(plain, chosen).startswith(f"{kept}\n\n5")
    assert len(chosen) <= 6 and chosen != rejected


def test_reward_ids_are_the_joined_text_cut_from_the_right_without_eos(plain: PreTrainedTokenizerFast) -> None:
    response = "5+3=8\n8-2=6\n#### 6"
    ids = encode_reward_text(plain, QUESTION, response, LONG)
    assert text(plain, ids) == f"Mia had 5 apples.\n\n{response}"
    assert encode_reward_text(plain, QUESTION, response, LengthParams(2, 2, len(ids) - 2)) == ids[:-2]


PARTS = "{% for turn in messages %}{% for part in turn.content %}{{ part.text }}{% endfor %}{% endfor %}<|im_end|>"
FAILING = {
    "content parts": (PARTS, "makes '<|im_end|>' of the turn"),
    "a system turn": (
        "{{ raise_exception('No system turn') }}",
        "fails on a user's turn: TemplateError: No system turn;",
    ),
    "an index": ("{{ messages[1].content + '' }}", "fails on a user's turn: UndefinedError"),
    "other letters": ("{{ messages[0].content | upper }}", "makes 'MIA HAD 5 APPLES.' of the turn"),
}


@pytest.mark.parametrize(("template", "message"), FAILING.values(), ids=FAILING)
def test_a_template_that_loses_or_changes_a_turn_is_refused(template: str, message: str) -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(SourceError, match=message):
        encode_pair(tokenizer, QUESTION, "5+3=8", "5-3=2", LONG, PROTOCOL)


@pytest.mark.parametrize("turn", ["user", "assistant", "<", "What is <2> & 'two'?"])
def test_a_turn_that_the_template_spells_itself_is_found_where_it_stands(turn: str) -> None:
    text, (start,) = rendered_turns(chat_tokenizer(), [turn], thinking=True)
    assert text[:start] == "<|im_start|>user\n\n" and text[start:].startswith(f"{turn}<|im_end|>")


def test_a_token_that_a_text_spells_is_text_and_no_second_end() -> None:
    tokenizer = chat_tokenizer()
    end, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    spelling = "Mia had <|im_end|> 5 apples.<|im_start|>"
    pair = encode_pair(tokenizer, spelling, f"5<|im_end|> {spelling}", "5-3=2", LONG, PROTOCOL)
    assert pair.prompt_ids.count(end) == 1 and pair.prompt_ids.count(start) == 2
    assert pair.prompt_ids != encode_pair(tokenizer, QUESTION, "5", "6", LONG, PROTOCOL).prompt_ids
    assert not {end, start} & {*pair.chosen_ids, *encode_reward_text(tokenizer, spelling, spelling, LONG)}
    assert not {end, start} & {*plain_ids(tokenizer, spelling), *text_ids(tokenizer, spelling)}
    assert fit_prompt(tokenizer, spelling, LengthParams(5, 5, 8)) == "5 apples.<|im_start|>"


@pytest.mark.parametrize("word", ["<eos>", "<pad>"])
def test_a_special_token_among_the_words_of_the_embedded_world_is_text_there(word: str) -> None:
    """Its vocabulary is of whole words: split from special tokens, they are found again among those."""
    tokenizer = make_tokenizer()
    special = tokenizer.convert_tokens_to_ids(word)
    text = f"5+3=8\n{word}\n#### 8{word}"
    pair = encode_pair(tokenizer, f"{QUESTION}{word}", text, "8", LONG, PROTOCOL)
    found = [*pair.prompt_ids, *pair.chosen_ids[:-1], *plain_ids(tokenizer, text), *plain_ids(tokenizer, word)]
    assert special not in found and tokenizer.unk_token_id in found
    assert pair.chosen_ids[-1] == tokenizer.eos_token_id


def test_a_text_without_special_tokens_has_the_ids_of_the_whole_rendered_prompt() -> None:
    tokenizer = chat_tokenizer()
    text, _ = rendered_turns(tokenizer, [QUESTION], PROTOCOL.enable_thinking)
    assert dpo_prompt_ids(tokenizer, QUESTION, PROTOCOL) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert text_ids(tokenizer, QUESTION) == tokenizer(QUESTION, add_special_tokens=False)["input_ids"]


def test_tokenizer_without_eos_is_refused(plain: PreTrainedTokenizerFast) -> None:
    plain.eos_token = None
    with pytest.raises(SourceError, match="has no EOS token"):
        encode_pair(plain, QUESTION, "5+3=8", "5-3=2", LONG, PROTOCOL)


SHOTS = [Shot("What is 1+1?", "1+1=2"), Shot(" What is 2+1?\n", "2+1=3")]
CHATTING = dataclasses.replace(PROTOCOL, prompt_format="dpo")


def test_shots_are_turns_of_the_chat_template_and_the_problem_is_the_last() -> None:
    tokenizer = chat_tokenizer()
    ids = online_prompt_ids(tokenizer, f"{QUESTION}\n\n", CHATTING, WIDE, SHOTS)
    turns = ["user", "What is 1+1?", "assistant", "1+1=2", "user", "What is 2+1?", "assistant", "2+1=3"]
    pairs = zip(["user", "assistant"] * 2, turns[1::2], strict=True)
    messages = [{"role": role, "content": content} for role, content in pairs]
    messages.append({"role": "user", "content": QUESTION})
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert ids == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (ids.count(start), ids.count(end)) == (6, 5)


@pytest.mark.parametrize("place", ["a shot's problem", "a shot's solution", "the problem"])
def test_a_token_that_any_turn_spells_is_text(place: str) -> None:
    tokenizer = chat_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    spelled = {
        name: f"Mia had {'<|im_end|>' if name == place else ''} 5" for name in ("a shot's problem", "the problem")
    }
    solution = f"5{'<|im_end|>' if place.endswith('solution') else ''} 6"
    shots = [Shot(spelled["a shot's problem"], solution)]
    assert online_prompt_ids(tokenizer, spelled["the problem"], CHATTING, WIDE, shots).count(end) == 3


@pytest.mark.parametrize(
    ("template", "prompt", "expected"),
    [
        ("plain", "Q: how many?\n\n", "What is 1+1? 1+1=2\n\n What is 2+1?\n2+1=3\n\nQ: how many?\n\n"),
        ("dpo", "Q: how many?\n\n", "What is 1+1?\n\n1+1=2\n\nWhat is 2+1?\n\n2+1=3\n\nQ: how many?\n\n"),
    ],
)
def test_shots_are_text_where_the_format_has_no_template(
    plain: PreTrainedTokenizerFast, template: str, prompt: str, expected: str
) -> None:
    protocol = dataclasses.replace(PROTOCOL, prompt_format=template)
    assert online_prompt_ids(plain, prompt, protocol, WIDE, SHOTS) == plain_ids(plain, expected)
    if template == "plain":
        assert after_shots(prompt, SHOTS) == expected


def test_without_shots_a_prompt_is_what_it_was() -> None:
    """Its whole rendering, or the text as it is."""
    tokenizer = chat_tokenizer()
    messages = [{"role": "user", "content": QUESTION}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    expected = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert online_prompt_ids(tokenizer, QUESTION, CHATTING, WIDE) == expected
    assert online_prompt_ids(tokenizer, f"{QUESTION}\n\n", PROTOCOL, WIDE) == plain_ids(tokenizer, f"{QUESTION}\n\n")


@pytest.mark.parametrize("format_", ["plain", "dpo"])
def test_a_prompt_that_would_lose_of_its_shots_is_refused(format_: str) -> None:
    tokenizer, protocol = chat_tokenizer(), dataclasses.replace(PROTOCOL, prompt_format=format_)
    length = len(online_prompt_ids(tokenizer, QUESTION, protocol, WIDE, SHOTS))
    fits, less = (dataclasses.replace(WIDE, prompt=prompt) for prompt in (length, length - 1))
    assert len(online_prompt_ids(tokenizer, QUESTION, protocol, fits, SHOTS)) == length
    with pytest.raises(ParamsError, match=rf"found a problem of {length} tokens with its 2 shots .* \({length - 1}\)"):
        online_prompt_ids(tokenizer, QUESTION, protocol, less, SHOTS)
    assert len(online_prompt_ids(tokenizer, QUESTION, protocol, dataclasses.replace(WIDE, prompt=3))) == 3


def test_a_template_that_changes_an_assistants_turn_is_refused() -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = (
        "{% for turn in messages %}{{ turn.content[:4] if turn.role == 'assistant' else turn.content }}{% endfor %}"
    )
    assert online_prompt_ids(tokenizer, QUESTION, CHATTING, WIDE)
    with pytest.raises(SourceError, match=r"of the turn '1\+1=2'; expected the whole turn in it"):
        online_prompt_ids(tokenizer, QUESTION, CHATTING, WIDE, SHOTS)
