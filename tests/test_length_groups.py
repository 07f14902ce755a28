"""Training with little padding: random batches, sorted inside, one row per pair, in groups of similar length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer

from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.models import pair_trainer, training
from pessimism.models.adapters import trainable_parameters
from pessimism.models.compute.batching import SAVING, length_groups
from pessimism.models.compute.length_groups import SortedBatches, group_by_length
from pessimism.models.compute.prefix_sharing import rows_of
from pessimism.offline import trainer as offline_trainer
from support.pair_batches import random_batch, watch_widths
from support.pair_training import (
    policy_trainer,
    reward_trainer,
    train_policy,
    with_dpo,
    with_reward_training,
)
from support.random_models import small_config

LENGTHS = np.random.default_rng(0).integers(5, 90, size=50)


def optimizer_batches(rows: SortedBatches, batch: int) -> list[list[int]]:
    order = list(rows)
    return [order[start : start + batch] for start in range(0, len(order), batch)]


# Order of the rows


@given(rows=st.integers(1, 60), batch=st.integers(1, 32), epoch=st.integers(0, 3))
def test_an_epoch_is_every_row_once(rows: int, batch: int, epoch: int) -> None:
    batches = SortedBatches(LENGTHS[:1].repeat(rows), batch, seed=3)
    batches.set_epoch(epoch)
    assert len(batches) == rows
    assert sorted(batches) == list(range(rows))


def test_what_a_batch_holds_is_random_and_does_not_depend_on_lengths() -> None:
    ours, theirs = (SortedBatches(lengths, 16, seed=3) for lengths in (LENGTHS, LENGTHS[::-1]))
    held = [[set(batch) for batch in optimizer_batches(batches, 16)] for batches in (ours, theirs)]
    assert held[0] == held[1]
    assert list(ours) != list(theirs)
    again, other_seed, other_epoch = (SortedBatches(LENGTHS, 16, seed) for seed in (3, 4, 3))
    other_epoch.set_epoch(1)
    assert list(again) == list(ours)
    for other in (other_seed, other_epoch):
        assert [set(batch) for batch in optimizer_batches(other, 16)] != held[0]


def test_a_batch_begins_with_its_longest_rows() -> None:
    batches = optimizer_batches(SortedBatches(LENGTHS, 16, seed=3), 16)
    assert [len(batch) for batch in batches] == [16, 16, 16, 2]
    for batch in batches:
        assert (np.diff(LENGTHS[batch]) <= 0).all()


def test_the_trainer_takes_this_order_in_every_epoch(referenced_world: Params) -> None:
    trainer = policy_trainer(with_dpo(referenced_world, epochs=2, batch_size=8, accumulation=2))
    seen: list[float] = []
    trainer.data_collator = recording(trainer.data_collator, seen)
    trainer.train()
    batches = SortedBatches(pair_trainer.pair_lengths(trainer.train_dataset, one_row=True), 16, trainer.args.seed)
    expected = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        expected += [trainer.train_dataset[row]["ref_chosen_logps"] for row in batches]
    assert seen == expected
    assert seen[:48] != seen[48:]


def recording(collate: Callable, seen: list[float]) -> Callable:
    def record(rows: list[dict]) -> dict:
        seen.extend(row["ref_chosen_logps"] for row in rows)
        return collate(rows)

    return record


def test_an_optimiser_batch_is_that_of_all_processes(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = policy_trainer(with_dpo(referenced_world, batch_size=8, accumulation=2))
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    assert trainer._get_train_sampler().batch == 2 * 2 * 8


def test_processes_share_every_optimiser_batch() -> None:
    """Two processes, two parts each of three rows: what accelerate hands each of them, in the second epoch."""
    shares = []
    for rank in range(2):
        batches = SortedBatches(LENGTHS[:48], 12, seed=3)
        loader = prepare_data_loader(
            DataLoader(range(48), batch_size=3, sampler=batches),
            num_processes=2,
            process_index=rank,
            put_on_device=False,
        )
        loader.set_epoch(1)
        shares.append([part.tolist() for part in loader])
    alone = SortedBatches(LENGTHS[:48], 12, seed=3)
    alone.set_epoch(1)
    for step, batch in enumerate(optimizer_batches(alone, 12)):
        parts = [share[2 * step + part] for part in range(2) for share in shares]
        assert sum(parts, []) == batch


def test_lengths_are_those_of_what_is_computed(referenced_world: Params) -> None:
    for trainer in (policy_trainer(referenced_world), reward_trainer(referenced_world)):
        dataset = trainer.train_dataset
        batches = [trainer.data_collator([row]) for row in dataset]
        longer = [int(batch["attention_mask"].sum(dim=1).max()) for batch in batches]
        assert pair_trainer.pair_lengths(dataset, one_row=False).tolist() == longer
        rows = [rows_of(batch["input_ids"], batch["attention_mask"].sum(dim=1).tolist(), True) for batch in batches]
        lengths_in_one_row = pair_trainer.pair_lengths(dataset, one_row=True)
        assert lengths_in_one_row.tolist() == [length for row in rows for length in row.lengths]
        assert (
            pair_trainer.pair_lengths(dataset.select([7, 3]), one_row=True).tolist()
            == lengths_in_one_row[[7, 3]].tolist()
        )


@pytest.mark.parametrize("windows", [False, True])
def test_the_trainer_sorts_by_the_rows_that_its_model_computes(
    referenced_world: Params,
    monkeypatch: pytest.MonkeyPatch,
    windows: bool,
) -> None:
    monkeypatch.setattr(pair_trainer, "shares_prefixes", lambda config: not windows)
    trainer = policy_trainer(referenced_world)
    expected = pair_trainer.pair_lengths(trainer.train_dataset, one_row=not windows)
    assert trainer._get_train_sampler().lengths.tolist() == expected.tolist()


def test_sorting_changes_nothing_but_rounding(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    params = with_dpo(referenced_world, batch_size=16, micro_batch_size=4)
    sorted_model, ours = train_policy(params)
    monkeypatch.setattr(pair_trainer, "pair_lengths", lambda pairs, one_row: np.zeros(len(pairs), dtype=int))
    shuffled_model, theirs = train_policy(params)
    check_same(ours["losses"], sorted_model, theirs["losses"], shuffled_model)


def check_same(losses: list[float], model: PreTrainedModel, other_losses: list[float], other: PreTrainedModel) -> None:
    assert losses == pytest.approx(other_losses, abs=1e-5)
    for a, b in zip(trainable_parameters(model), trainable_parameters(other), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("make", [policy_trainer, reward_trainer], ids=["dpo", "reward"])
def test_a_short_last_part_weighs_as_its_rows_do(referenced_world: Params, make: Callable[[Params], Trainer]) -> None:
    """48 pairs in steps of 36, two epochs: the second step of each has parts of 9 and 3, or is 12 at once."""
    found = []
    for part in (9, 36):
        changed = {"batch_size": 36, "micro_batch_size": part, "epochs": 2}
        trainer = make(with_reward_training(with_dpo(referenced_world, accumulation=1, **changed), **changed))
        sizes = watch_pairs(trainer)
        trainer.train()
        assert sizes == 2 * ([9, 9, 9, 9, 9, 3] if part == 9 else [36, 12])
        found.append((training.loss_curve(trainer, steps=4), trainer.model))
    check_same(*found[0], *found[1])


def watch_pairs(trainer: Trainer) -> list[int]:
    """Pairs of every part from here on."""
    seen: list[int] = []
    trainer.model.register_forward_pre_hook(
        lambda _, args, named: seen.append(len(named["input_ids"]) // 2), with_kwargs=True
    )
    return seen


# Groups inside a forward pass


def padded(lengths: list[int], groups: list[list[int]]) -> int:
    return sum(len(rows) * max(lengths[row] for row in rows) for rows in groups)


def test_groups_by_hand() -> None:
    assert length_groups([10, 10, 100, 10]) == [[2], [0, 1, 3]]
    assert length_groups([50, 50, 50]) == [[0, 1, 2]]
    assert length_groups([100, 99, 98, 97]) == [[0, 1, 2, 3]]  # a cut would save 4 tokens of 394, less than SAVING
    assert length_groups([7]) == [[0]]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=80))
def test_groups_hold_every_row_once_and_no_cut_is_left_that_saves_enough(lengths: list[int]) -> None:
    groups = length_groups(lengths)
    assert sorted(sum(groups, [])) == list(range(len(lengths)))
    for rows in groups:
        ordered = [lengths[row] for row in rows]
        assert ordered == sorted(ordered, reverse=True)
        for cut in range(1, len(rows)):
            assert (ordered[0] - ordered[cut]) * (len(rows) - cut) <= SAVING * sum(lengths)
    # Each cut pays for itself.
    assert padded(lengths, groups) <= max(lengths) * len(lengths) - (len(groups) - 1) * SAVING * sum(lengths)


def test_groups_are_for_training_only() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small_config("qwen3")).eval()
    ids, mask = random_batch([70, 9, 33])
    expected = model(input_ids=ids, attention_mask=mask).logits
    group_by_length(model)
    widths = watch_widths(model)
    assert (model(input_ids=ids, attention_mask=mask).logits == expected).all()
    assert widths == [(3, 70)]


@pytest.mark.parametrize(
    ("mask", "options", "message"),
    [
        (None, {}, "found no attention_mask"),
        ([[1, 1, 0], [0, 1, 1], [1, 0, 1]], {}, r"found padding before tokens in rows \[1, 2\]"),
        ([[1, 1, 1]] * 3, {"output_hidden_states": True}, "found output_hidden_states; expected"),
        ([[1, 1, 1]] * 3, {"output_attentions": True}, "found output_attentions; expected"),
        ([[1, 1, 1]] * 3, {"output_router_logits": True}, "found output_router_logits; expected"),
    ],
)
def test_a_batch_that_groups_would_compute_wrongly_is_refused(
    mask: list[list[int]] | None, options: dict[str, bool], message: str
) -> None:
    model = AutoModelForCausalLM.from_config(small_config("qwen3")).train()
    group_by_length(model)
    attention_mask = None if mask is None else torch.tensor(mask)
    with pytest.raises(DataError, match=message):
        model(input_ids=torch.full((3, 3), 5), attention_mask=attention_mask, **options)


def spread_weights(trainer: Trainer) -> None:
    """Weights as in the middle of a training: fresh ones give most of the adapter no gradient."""
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable_parameters(trainer.model):
        parameter.data.normal_(std=0.2, generator=generator)


def loss_and_gradients(trainer: Trainer, batch: dict) -> tuple[float, list[torch.Tensor]]:
    spread_weights(trainer)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.item(), [parameter.grad for parameter in trainable_parameters(trainer.model)]


def with_checkpointing(params: Params, checkpointing: bool) -> Params:
    changes = {"gradient_checkpointing": checkpointing}
    return with_reward_training(with_dpo(params, **changes), **changes)


@pytest.mark.parametrize("make", [policy_trainer, reward_trainer], ids=["dpo", "reward"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_trl_alone(
    referenced_world: Params,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Params], Trainer],
    checkpointing: bool,
) -> None:
    ours = make(with_checkpointing(referenced_world, checkpointing))
    batch = next(iter(ours.get_train_dataloader()))
    widths = watch_widths(ours.model)
    loss, gradients = loss_and_gradients(ours, batch)
    assert sum(rows for rows, _ in widths) == len(batch["input_ids"]) // 2
    monkeypatch.setattr(pair_trainer, "group_by_length", lambda model: None)
    monkeypatch.setattr(offline_trainer, "add_chunked_head", lambda model: None)
    plain = make(referenced_world)
    widths = watch_widths(plain.model)
    expected, expected_gradients = loss_and_gradients(plain, batch)
    assert widths == [tuple(batch["input_ids"].shape)]
    assert loss == pytest.approx(expected, abs=1e-5)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert wanted.abs().max() > 1e-4
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("make", [policy_trainer, reward_trainer], ids=["dpo", "reward"])
def test_prompts_are_computed_once_and_little_of_the_rest_is_padding(
    referenced_world: Params,
    make: Callable[[Params], Trainer],
) -> None:
    trainer = make(referenced_world)
    tokens = trainer.args.num_train_epochs * pair_trainer.pair_lengths(trainer.train_dataset, one_row=True).sum()
    texts = [int(trainer.data_collator([row])["attention_mask"].sum()) for row in trainer.train_dataset]
    widths = watch_widths(trainer.model)
    trainer.train()
    computed = sum(rows * columns for rows, columns in widths)
    assert tokens <= computed <= 1.12 * tokens
    assert computed < trainer.args.num_train_epochs * sum(texts)


def test_the_head_scores_completions_alone(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = policy_trainer(referenced_world)
    rows = []
    plain = offline_trainer.score_positions
    monkeypatch.setattr(
        offline_trainer,
        "score_positions",
        lambda model, states, *rest: rows.append(len(states)) or plain(model, states, *rest),
    )
    trainer.train()
    sides = ("chosen_ids", "rejected_ids")
    assert sum(rows) == sum(len(ids) for side in sides for ids in trainer.train_dataset[side])
    assert len(rows) == 6


def test_without_the_fused_head_the_forward_is_the_models_own(referenced_world: Params) -> None:
    model = policy_trainer(referenced_world).model.eval()
    ids, mask = random_batch([20, 31])
    logits = model(input_ids=ids, attention_mask=mask).logits
    assert logits.shape[:2] == ids.shape
    assert torch.equal(model.generate(ids[:1, :9], max_new_tokens=1, do_sample=False)[0, -1], logits[0, 8].argmax())


def test_what_trl_logs_is_computed_and_not_made_up(referenced_world: Params) -> None:
    trainer = policy_trainer(referenced_world)
    batch = next(iter(trainer.get_train_dataloader()))
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    fused = trainer.model(**inputs, labels=labels, fused_lm_head=True)
    logits = trainer.model.eval()(**inputs).logits[:, :-1]
    logps, scored = logits.log_softmax(dim=-1), labels[:, 1:] != -100
    assert (fused.label_mask == scored).all()
    expected = {
        "log_probs": logps.gather(-1, batch["input_ids"][:, 1:, None])[..., 0],
        "entropy": -(logps.exp() * logps).sum(dim=-1),
        "mean_logits": logits.mean(dim=-1),
        "is_top1": logits.argmax(dim=-1) == batch["input_ids"][:, 1:],
    }
    for name, values in expected.items():
        assert torch.allclose(fused[name].float(), (values * scored).float(), atol=1e-4), name
