"""The embedded base: its tokenizer loses nothing, and its training is what it says and repeatable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pessimism.data import embedded_world
from pessimism.experiment.params import EmbeddedParams, load_params
from pessimism.models import embedded

SMALL = EmbeddedParams(
    family="qwen3", hidden_size=16, intermediate_size=32, layers=1, attention_heads=2, key_value_heads=1, steps=3,
    batch_size=8, learning_rate=0.01,
)  # fmt: skip


def world_texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    texts = [f"{question}\n\n{answer}" for question, answer in embedded_world.base_corpus(rng, n)]
    return texts + [row["rejected"] for row in embedded_world.preference_rows(rng, n)]


def test_tokenizer_loses_nothing_and_knows_everything() -> None:
    tokenizer = embedded.make_tokenizer()
    seen = set()
    for text in world_texts(1500):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        seen.update(ids)
    assert tokenizer.unk_token_id not in seen
    unused = set(range(len(tokenizer))) - seen - set(tokenizer.all_special_ids)
    assert not unused, tokenizer.convert_ids_to_tokens(sorted(unused))


def test_tokenizer_reads_any_sequence_of_its_own_tokens() -> None:
    tokenizer = embedded.make_tokenizer()
    first = len(tokenizer.all_special_ids)
    ids = np.random.default_rng(0).integers(first, len(tokenizer), size=(200, 30)).tolist()
    for text in tokenizer.batch_decode(ids):
        again = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in again
        assert tokenizer.decode(again) == text


def test_digits_and_words_are_single_tokens() -> None:
    tokenizer = embedded.make_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer("Mia had 5 cups.\n\n12+0=12\n#### 12")["input_ids"]) == [
        "Mia", " had", " 5", " cups", ".", "\n\n", "1", "2", "+", "0", "=", "1", "2", "\n", "####", " 1", "2",
    ]  # fmt: skip
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3


def test_lengths_and_size_fit_the_tiny_scale(checkout: Path) -> None:
    scale = load_params(checkout).scale
    assert scale.embedded is not None
    tokenizer = embedded.make_tokenizer()
    model = embedded.make_model(scale.embedded, tokenizer)
    assert model.num_parameters() <= 1_000_000
    for question, answer in embedded_world.base_corpus(np.random.default_rng(0), 1000):
        prompt = len(tokenizer(question + "\n\n")["input_ids"])
        response = len(tokenizer(answer)["input_ids"]) + 1
        assert prompt <= scale.lengths.prompt
        assert response <= scale.lengths.response
        assert prompt + response <= scale.lengths.sequence


def test_batches_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = [("q" * (number % 7), str(number)) for number in range(320)]
    monkeypatch.setattr(embedded_world, "base_corpus", lambda _, n, *__: corpus[:n])
    batches = embedded.corpus_batches(replace(SMALL, steps=40), np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [8] * 40
    assert sorted(int(row[1]) for batch in batches for row in batch) == list(range(320))


def test_loss_is_the_mean_over_all_tokens_but_padding() -> None:
    tokenizer = embedded.make_tokenizer()
    torch.manual_seed(0)
    model = embedded.make_model(SMALL, tokenizer)
    rows = [("Mia had 5 cups.", "5+3=8"), ("Tom had 2 cups.", "2-1=1\n#### 1")]
    nats = []
    for question, answer in rows:
        ids = tokenizer(f"{question}\n\n{answer}")["input_ids"] + [tokenizer.eos_token_id]
        logps_T_V = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        nats += [-logps_T_V[at - 1, ids[at]].item() for at in range(1, len(ids))]
    assert embedded.token_loss(model, tokenizer, rows).item() == pytest.approx(np.mean(nats), rel=1e-5)


def test_training_repeats_bit_by_bit_and_lowers_the_loss() -> None:
    first, tokenizer = embedded.train_base(SMALL, 42)
    torch.rand(3)
    second, _ = embedded.train_base(SMALL, 42)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other, _ = embedded.train_base(SMALL, 43)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    rows = embedded_world.base_corpus(np.random.default_rng(9), 32)
    longer, _ = embedded.train_base(replace(SMALL, steps=60), 42)
    assert embedded.token_loss(longer, tokenizer, rows) < 0.7 * embedded.token_loss(first, tokenizer, rows)


def test_saved_base_loads_with_its_tokenizer_and_ends_where_it_should(tmp_path: Path) -> None:
    model, tokenizer = embedded.train_base(SMALL, 42)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = world_texts(1)[0]
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id
    assert loaded.generation_config.pad_token_id == tokenizer.pad_token_id
    assert loaded.generation_config.do_sample
