"""Reference log-probabilities against float64, against TRL, and against what must not change them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from pessimism.data.prompts import encode_reward_text
from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.models.hyperparameters import beta_grid_pairs
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.offline import reference
from support.stage_files import write_stage_files


@pytest.fixture
def policy(tiny_world: Params) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy")


def float64_sum(model: PreTrainedModel, ids: list[int], context: int) -> float:
    """The definition, one token at a time, in float64."""
    with torch.no_grad():
        logps = model.double()(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    model.float()
    return float(sum(logps[position - 1, ids[position]] for position in range(context, len(ids))))


def test_dpo_reference_is_the_response_given_the_prompt_in_float64(policy, tiny_world: Params) -> None:
    model, tokenizer = policy
    val = records.read_table(layout.preferences("val"))
    measured = reference.dpo_reference(model, tokenizer, {"val": val}, tiny_world)
    pairs = reference.encode_pairs(tokenizer, val, tiny_world)
    assert tuple(measured.columns) == reference.REFERENCE_COLUMNS
    assert measured["pair_id"].tolist() == val["pair_id"].tolist()
    for row, pair in zip(measured.itertuples(), pairs, strict=True):
        context = len(pair.prompt_ids)
        assert row.chosen_logps == pytest.approx(
            float64_sum(model, pair.prompt_ids + pair.chosen_ids, context), abs=1e-3
        )
        assert row.rejected_logps == pytest.approx(
            float64_sum(model, pair.prompt_ids + pair.rejected_ids, context), abs=1e-3
        )
        assert [list(getattr(row, column)) for column in reference.ID_COLUMNS] == list(dataclasses.astuple(pair))


@pytest.mark.parametrize(("dtype", "nats"), [(torch.float32, 1e-3), (torch.bfloat16, 1e-2)])
def test_dpo_reference_agrees_with_trl(policy, tiny_world: Params, dtype: torch.dtype, nats: float) -> None:
    model, tokenizer = policy
    model.to(dtype)
    pairs = reference.encode_pairs(tokenizer, records.read_table(layout.preferences("val")), tiny_world)
    ours = np.concatenate(reference.pair_logps(model, pairs, tokenizer.pad_token_id, 5, "test"))
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)([dataclasses.asdict(pair) for pair in pairs])
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    add_fused_lm_head(model)
    with torch.no_grad():
        outputs = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True
        )
    assert ours == pytest.approx(outputs.log_probs.sum(dim=1).numpy(), abs=nats)


def test_sums_do_not_depend_on_batch_size_or_order(policy, tiny_world: Params) -> None:
    model, tokenizer = policy
    pairs = reference.encode_pairs(tokenizer, records.read_table(layout.preferences("val")), tiny_world)
    one_by_one = reference.pair_logps(model, pairs, tokenizer.pad_token_id, 1, "test")[0]
    together = reference.pair_logps(model, pairs, tokenizer.pad_token_id, 64, "test")[0]
    reverse = reference.pair_logps(model, pairs[::-1], tokenizer.pad_token_id, 3, "test")[0][::-1]
    assert together == pytest.approx(one_by_one, abs=1e-4)
    assert reverse == pytest.approx(one_by_one, abs=1e-4)


def test_grid_reference_covers_prompt_and_response_of_the_plain_text(policy, tiny_world: Params) -> None:
    model, tokenizer = policy
    train = records.read_table(layout.preferences("train"))
    measured = reference.grid_reference(model, tokenizer, train, tiny_world)
    assert len(measured) == beta_grid_pairs(len(train))
    assert measured["pair_id"].is_unique
    rows = train.set_index("pair_id")
    for row in measured.itertuples():
        pair = rows.loc[row.pair_id]
        ids = encode_reward_text(tokenizer, pair["prompt"], pair["chosen"], tiny_world.scale.lengths)
        assert row.chosen_float32 == pytest.approx(float64_sum(model, ids, 1), abs=1e-3)
        assert row.chosen_tokens == len(ids)


def test_grid_pairs_are_a_shuffle_that_repeats(policy, tiny_world: Params) -> None:
    model, tokenizer = policy
    train = records.read_table(layout.preferences("train"))
    first = reference.grid_reference(model, tokenizer, train, tiny_world)
    again = reference.grid_reference(model, tokenizer, train, tiny_world)
    assert first.equals(again)
    assert first["pair_id"].tolist() != train["pair_id"].tolist()[: len(first)]
    assert len(train) == 48 and len(first) == first["pair_id"].nunique() == 26  # sqrt(48) ln 48 = 26.8


def test_bfloat16_sums_carry_eight_bits(policy, tiny_world: Params) -> None:
    model, tokenizer = policy
    measured = reference.grid_reference(model, tokenizer, records.read_table(layout.preferences("train")), tiny_world)
    rounded = torch.tensor(measured["chosen_bfloat16"].to_numpy()).bfloat16().float().numpy()
    assert (measured["chosen_bfloat16"] == rounded).all()
    assert (measured["chosen_bfloat16"] != measured["chosen_float32"]).any()
    assert measured["chosen_bfloat16"].to_numpy() == pytest.approx(measured["chosen_float32"].to_numpy(), rel=0.02)


def test_a_sequence_without_a_token_to_score_is_refused(policy) -> None:
    model, tokenizer = policy
    for context in (0, 3):
        with pytest.raises(DataError, match="found no token after the context in sequences.*raise lengths.sequence"):
            reference.sequence_logps(model, [[5, 6, 7]], [context], tokenizer.pad_token_id, 4, "test")


def test_a_model_that_gives_nan_is_refused(policy) -> None:
    model, tokenizer = policy
    model.lm_head.weight.data[7] = float("nan")
    with pytest.raises(NonFiniteError, match="found no finite sum.*set policy.dtype to float32"):
        reference.sequence_logps(model, [[5, 6, 7]], [1], tokenizer.pad_token_id, 4, "test")


def test_the_stage_writes_every_pair(tiny_world: Params, checkout: Path) -> None:
    import runpy

    write_stage_files()
    runpy.run_path(str(checkout / "stages/measure_reference.py"), run_name="__main__")
    table = records.read_table(layout.REFERENCE_LOGPS, reference.REFERENCE_COLUMNS)
    pairs = [records.read_table(layout.preferences(split)) for split in ("train", "val")]
    assert table["pair_id"].tolist() == [pair_id for split in pairs for pair_id in split["pair_id"]]
    assert len(records.read_table(layout.GRID_LOGPS)) == beta_grid_pairs(len(pairs[0]))
