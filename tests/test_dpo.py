"""DPO training on a tiny model: what it changes, what it must not change, and that it repeats."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from trl import DPOConfig

from pessimism.errors import DataError, NonFiniteError, ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import Params
from pessimism.models import training
from pessimism.models.adapters import WEIGHTS_FILE, lora_config, save_adapter, trainable_parameters
from pessimism.models.loading import device, load_policy_base, load_tokenizer
from pessimism.models.pair_trainer import PairTrainer
from pessimism.offline import training as offline
from pessimism.offline.first_loss import first_loss_tolerance
from pessimism.offline.objectives.dpo import OBJECTIVE
from pessimism.offline.trainer import ReferencedDpoTrainer
from support.pair_training import BETA, CELL, policy_trainer, referenced, train_policy, with_dpo
from support.stage_files import write_stage_files


def with_dropout(params: Params, rate: float) -> Params:
    policy = dataclasses.replace(params.scale.policy, lora_dropout=rate)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, policy=policy))


def test_training_changes_every_adapter_weight_and_no_base_weight(referenced_world: Params) -> None:
    base = load_policy_base(referenced_world)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model, record = train_policy(with_dropout(referenced_world, 0.1), base=base)
    after = {name.replace(".base_layer", ""): tensor for name, tensor in model.get_base_model().state_dict().items()}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 4 * 2
    start = policy_trainer(with_dropout(referenced_world, 0.1)).model.state_dict()
    for name, parameter in trained.items():
        assert (parameter.detach() != start[name]).float().mean() > 0.9, name
    assert record["hyperparameters"]["trainable_parameters"] == sum(parameter.numel() for parameter in trained.values())
    assert record["hyperparameters"]["steps"] == len(record["losses"]) == 6
    assert record["pairs"] == 48


def test_first_loss_is_ln_2_with_dropout_on_and_training_lowers_the_loss(referenced_world: Params) -> None:
    params = with_dpo(with_dropout(referenced_world, 0.1), epochs=4)
    _, record = train_policy(params)
    assert record["losses"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert np.mean(record["losses"][-6:]) < 0.6


@pytest.mark.parametrize("shift", [0.5, float("nan")])
def test_a_reference_that_is_not_the_bases_is_refused(referenced_world: Params, shift: float) -> None:
    wrong = dataclasses.replace(
        referenced(referenced_world, "train"), chosen_logps=referenced(referenced_world, "train").chosen_logps + shift
    )
    with pytest.raises(DataError, match=r"first loss is .*; expected 0.693147"):
        train_policy(referenced_world, train=wrong)


@pytest.mark.parametrize(
    ("dtype", "quantization", "noise"),
    [("float32", "none", 0.003), ("float32", "nf4", 0.3), ("mixed", "nf4", 0.3), ("bfloat16", "nf4", 0.9)],
)
def test_the_first_loss_may_differ_by_rounding_which_grows_with_beta(
    referenced_world: Params, dtype: str, quantization: str, noise: float
) -> None:
    policy = dataclasses.replace(referenced_world.scale.policy, dtype=dtype, quantization=quantization)
    start = referenced(referenced_world, "train").unmoved()
    # -log sigmoid of +x and of -x: their mean is log(2 cosh(x / 2)), their difference x.
    raised, shifted = math.log(math.cosh(noise)), 2 * 2 * noise / math.sqrt(100)
    allowed = first_loss_tolerance(OBJECTIVE, 2.0, policy, start, 100)
    assert allowed == pytest.approx(raised + shifted, rel=1e-3)
    assert first_loss_tolerance(OBJECTIVE, 0.4, policy, start, 100) < allowed / 4


def test_trainer_computes_no_reference_of_its_own(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = policy_trainer(referenced_world)
    forwards = []
    original = trainer.model.forward
    monkeypatch.setattr(trainer.model, "forward", lambda *a, **k: forwards.append(1) or original(*a, **k))
    trainer.train()
    assert len(forwards) == 6


@pytest.mark.parametrize(
    "parts",
    [{"batch_size": 4, "accumulation": 4}, {"batch_size": 16, "accumulation": 1, "micro_batch_size": 4}],
    ids=["accumulation", "micro batches"],
)
def test_accumulated_gradients_are_those_of_the_large_batch(referenced_world: Params, parts: dict[str, int]) -> None:
    large_model, large = train_policy(with_dpo(referenced_world, batch_size=16, accumulation=1))
    small_model, small = train_policy(with_dpo(referenced_world, **parts))
    assert large["hyperparameters"]["steps"] == small["hyperparameters"]["steps"] == 3
    assert small["losses"] == pytest.approx(large["losses"], abs=1e-5)
    for a, b in zip(trainable_parameters(large_model), trainable_parameters(small_model), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_gradient_checkpointing_changes_nothing(referenced_world: Params) -> None:
    plain_model, plain = train_policy(referenced_world)
    checkpointed_model, checkpointed = train_policy(with_dpo(referenced_world, gradient_checkpointing=True))
    assert checkpointed_model.is_gradient_checkpointing and not plain_model.is_gradient_checkpointing
    assert checkpointed["losses"] == pytest.approx(plain["losses"], abs=1e-6)
    for a, b in zip(trainable_parameters(plain_model), trainable_parameters(checkpointed_model), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_two_trainings_write_the_same_bytes_whatever_ran_before(referenced_world: Params) -> None:
    params = with_dropout(referenced_world, 0.1)
    for directory in ("first", "second"):
        torch.rand(7)
        np.random.rand(3)
        model, record = train_policy(params, directory)
        save_adapter(model, "default", Path(directory))
        records.write_json(Path(directory) / "training.json", record)
    files = sorted(path.name for path in Path("first").iterdir())
    assert files == ["adapter_config.json", WEIGHTS_FILE, "training.json"]
    for name in files:
        assert (Path("first") / name).read_bytes() == (Path("second") / name).read_bytes()


def test_seeds_are_paired_over_betas_where_the_protocol_says_so(referenced_world: Params) -> None:
    lora = lora_config(referenced_world.scale.policy, 32, 48, "CAUSAL_LM")

    def seed(percentile: int, number: int, paired: bool) -> int:
        params = dataclasses.replace(
            referenced_world, protocol=dataclasses.replace(referenced_world.protocol, paired_seeds=paired)
        )
        return offline.offline_hyperparameters(
            params, DpoCell(f"p{percentile}", number), BETA, 48, 10_000, lora, 100
        ).seed

    assert seed(20, 0, paired=True) == seed(80, 0, paired=True) != seed(20, 1, paired=True)
    assert len({seed(20, 0, paired=False), seed(80, 0, paired=False), seed(20, 1, paired=False)}) == 3


def test_nulls_of_the_scale_become_the_papers_values(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    params = with_dpo(referenced_world, batch_size=None, accumulation=None, learning_rate=None)
    lengths = dataclasses.replace(params.scale.lengths, sequence=640)
    params = dataclasses.replace(params, scale=dataclasses.replace(params.scale, lengths=lengths))
    lora = lora_config(dataclasses.replace(params.scale.policy, lora_rank=None), 5120, 48_504, "CAUSAL_LM")
    chosen = offline.offline_hyperparameters(params, CELL, BETA, 48_504, 14_000_000_000, lora, 83_886_080)
    assert (chosen.batch_size, chosen.accumulation, chosen.steps, chosen.warmup_steps) == (8, 28, 217, 14)
    assert chosen.learning_rate == pytest.approx(6.905e-5, rel=1e-4)
    assert chosen.clip_norm == pytest.approx(1.1320, abs=5e-5)
    assert chosen.weight_decay == pytest.approx(0.004541, abs=5e-7)
    assert (chosen.lora_rank, chosen.beta) == (64, BETA)


def test_defaults_of_trl_that_would_change_results_are_overridden(referenced_world: Params) -> None:
    defaults, ours = DPOConfig(output_dir="defaults", use_cpu=True), policy_trainer(referenced_world).args
    # Where a default has changed, read the trainer again before changing the number here.
    assert (defaults.bf16, defaults.disable_dropout, defaults.max_length) == (True, True, 1024)
    assert (defaults.gradient_checkpointing, defaults.learning_rate, defaults.save_strategy) == (True, 1e-6, "steps")
    assert (ours.bf16, ours.fp16, ours.disable_dropout, ours.max_length) == (False, False, False, None)
    assert (ours.loss_type, ours.beta, ours.label_smoothing, ours.use_weighting) == (["sigmoid"], BETA, 0.0, False)
    assert (ours.ld_alpha, ours.f_divergence_type, ours.loss_weights) == (None, "reverse_kl", None)
    assert (ours.precompute_ref_log_probs, ours.sync_ref_model) == (False, False)
    assert (ours.activation_checkpointing, ours.save_strategy, ours.eval_strategy) == (False, "no", "no")
    assert (ours.lr_scheduler_type, ours.warmup_steps, ours.weight_decay) == ("linear", 2, pytest.approx(48**-0.5))
    assert (ours.max_grad_norm, ours.num_train_epochs) == (0.5, 1)
    assert (ours.report_to, ours.push_to_hub, ours.dataloader_drop_last) == ([], False, False)


def test_no_trainer_reports_to_the_hub(referenced_world: Params) -> None:
    from huggingface_hub import constants

    assert constants.HF_HUB_DISABLE_TELEMETRY


def test_another_precision_of_the_users_own_settings_is_refused(
    referenced_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate puts them before what the trainer is told."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ParamsError, match="found mixed precision 'bf16'.*--mixed_precision no"):
        train_policy(referenced_world)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_trainer_runs_where_the_reference_was_measured(referenced_world: Params) -> None:
    assert policy_trainer(referenced_world).args.device.type == device().type


def test_lora_dropout_is_alive_in_training(referenced_world: Params) -> None:
    layers = [
        module
        for module in policy_trainer(with_dropout(referenced_world, 0.1)).model.modules()
        if isinstance(module, torch.nn.Dropout)
    ]
    assert {layer.p for layer in layers} == {0.1}


def test_adapter_is_float32_even_where_trl_rounds_it(referenced_world: Params) -> None:
    trainer = policy_trainer(referenced_world)
    for parameter in trainable_parameters(trainer.model):
        parameter.data = parameter.data.bfloat16()
    training.prepare(trainer, "test")
    assert {parameter.dtype for parameter in trainable_parameters(trainer.model)} == {torch.float32}


def test_validation_is_eq_1_on_the_trained_policy(referenced_world: Params) -> None:
    model, record = train_policy(with_dpo(referenced_world, epochs=2))
    val, tokenizer = referenced(referenced_world, "val"), load_tokenizer(referenced_world, "policy")
    margins = []
    for pair, ref_chosen, ref_rejected in zip(val.pairs, val.chosen_logps, val.rejected_logps, strict=True):
        ratios = []
        for ids, ref in ((pair.chosen_ids, ref_chosen), (pair.rejected_ids, ref_rejected)):
            tokens = torch.tensor([pair.prompt_ids + ids])
            with torch.no_grad():
                logps = model(input_ids=tokens).logits[0, :-1].log_softmax(dim=-1)
            start = len(pair.prompt_ids)
            ratios.append(float(logps[start - 1 :].gather(1, tokens[0, start:, None]).sum()) - ref)
        margins.append(BETA * (ratios[0] - ratios[1]))
    expected = {
        "pairs": len(val.pairs),
        "loss": np.mean([math.log1p(math.exp(-margin)) for margin in margins]),
        "reward_accuracy": np.mean([margin > 0 for margin in margins]),
        "reward_margin": np.mean(margins),
    }
    assert record["validation"] == pytest.approx(expected, abs=1e-3)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_pairs_are_read_as_they_were_measured(referenced_world: Params) -> None:
    table = records.read_table(layout.REFERENCE_LOGPS)
    val = referenced(referenced_world, "val")
    rows = table[table["split"] == "val"]
    assert (val.rejected_logps == rows["rejected_logps"]).all()
    assert [pair.chosen_ids for pair in val.pairs] == [list(ids) for ids in rows["chosen_ids"]]
    assert len(val.pairs) + len(referenced(referenced_world, "train").pairs) == len(table)
    with pytest.raises(DataError, match="found no val pairs in data/reference/dpo_logps.parquet"):
        referenced(referenced_world, "val", table[table["split"] == "train"])


def test_lost_rows_are_noticed(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferencedDpoTrainer, "_prepare_dataset", lambda self, dataset, *_: dataset.select(range(40)))
    with pytest.raises(DataError, match="trained on 40 pairs; expected 48"):
        train_policy(referenced_world)


def test_another_number_of_steps_than_derived_is_noticed(
    referenced_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two GPUs, where every batch is twice as large."""
    build = offline.build_trainer

    def on_two_gpus(kind: type, chosen: offline.OfflineHyperparameters, *rest: object, **own: object) -> PairTrainer:
        return build(kind, dataclasses.replace(chosen, batch_size=2 * chosen.batch_size), *rest, **own)

    monkeypatch.setattr(offline, "build_trainer", on_two_gpus)
    with pytest.raises(DataError, match="trained for 3 optimiser steps; expected 6: .*CUDA_VISIBLE_DEVICES"):
        train_policy(referenced_world)


def test_a_diverging_loss_is_refused(referenced_world: Params) -> None:
    with pytest.raises(NonFiniteError, match=r"the loss of step \d+ is (nan|inf)"):
        train_policy(with_dpo(referenced_world, learning_rate=1e30))


def test_a_validation_that_is_no_number_is_refused(referenced_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "evaluate", lambda *_: {"pairs": 8, "loss": math.nan})
    with pytest.raises(NonFiniteError, match=r"train_dpo .*: found \{'loss': nan\} on the validation pairs"):
        train_policy(referenced_world)


def test_the_stage_tells_its_steps_and_no_logs(referenced_world: Params, checkout: Path, monkeypatch, capfd) -> None:
    import runpy
    import sys

    records.write_json(layout.BETA_GRID, {"p50": BETA})
    write_stage_files("train_dpo")
    monkeypatch.setattr(sys, "argv", ["train_dpo", "--label", "p50", "--seed", "0"])
    runpy.run_path(str(checkout / "stages/train_dpo.py"), run_name="__main__")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "train_dpo p50-s0: step 6 of 6, loss " in captured.err
    assert "'loss'" not in captured.err
    directory = layout.dpo_adapter(CELL)
    assert sorted(path.name for path in directory.iterdir()) == ["adapter_config.json", WEIGHTS_FILE, "training.json"]
    assert len(load_file(directory / WEIGHTS_FILE)) == 16
    assert records.read_json(directory / "training.json")["hyperparameters"]["beta"] == BETA
