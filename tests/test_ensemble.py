"""The reward ensemble: aggregation by hand, members that survive the disk, scores that depend on the text alone."""

import contextlib
import dataclasses
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel
from trl import RewardConfig

from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import RewardCell
from pessimism.experiment.params import Aggregation, Params
from pessimism.models import adapters
from pessimism.models.adapters import DEFAULT, attach, lora_config, save_adapter, trainable_parameters
from pessimism.models.loading import load_reward_base, load_tokenizer
from pessimism.models.pair_trainer import PairTrainer
from pessimism.models.training import TrainingHyperparameters
from pessimism.reward import assessment, bradley_terry
from pessimism.reward.aggregation import aggregate, disagreement
from pessimism.reward.bootstrap import bootstrap_rows
from pessimism.reward.ensemble import LAYERS, RewardEnsemble, normalize
from support.pair_training import reward_trainer, with_reward_training
from support.random_models import save_random_adapter
from support.stage_files import write_stage_files

SCORES = np.array([[1.0, 4.0], [2.0, 0.0], [6.0, -1.0]])  # (K, B) = (3, 2)


# Aggregation


def test_every_aggregation_by_hand() -> None:
    assert aggregate(SCORES, Aggregation("mean")).tolist() == [3.0, 1.0]
    assert aggregate(SCORES, Aggregation("min")).tolist() == [1.0, -1.0]
    # Population variances: (4 + 1 + 9) / 3 and (9 + 1 + 4) / 3; the sample's, of the lower bound, are 7.
    assert aggregate(SCORES, Aggregation("uwo", 0.5)) == pytest.approx([3 - 7 / 3, 1 - 7 / 3])
    assert aggregate(SCORES, Aggregation("lcb", 0.5)) == pytest.approx([3 - math.sqrt(7) / 2, 1 - math.sqrt(7) / 2])
    expected = [-math.log((math.exp(-2 * a) + math.exp(-2 * b) + math.exp(-2 * c)) / 3) / 2 for a, b, c in SCORES.T]
    assert aggregate(SCORES, Aggregation("log_mean_exp", 2.0)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["uwo", "lcb", "log_mean_exp"])
def test_a_weight_of_zero_is_a_weight_and_gives_the_mean(kind: Any) -> None:
    assert aggregate(SCORES, Aggregation(kind, 0.0)).tolist() == [3.0, 1.0]


def test_log_mean_exp_holds_the_mean_the_variance_and_the_minimum_as_limits() -> None:
    """The error towards the mean falls as w, that towards mean - w/2 variance as w squared, that towards min as 1/w."""
    mean, worst = (aggregate(SCORES, Aggregation(kind)) for kind in ("mean", "min"))
    for small in (1e-3, 1e-4):
        found = aggregate(SCORES, Aggregation("log_mean_exp", small))
        assert np.abs(found - mean).max() == pytest.approx(small / 2 * SCORES.var(axis=0).max(), rel=0.01)
        assert np.abs(found - aggregate(SCORES, Aggregation("uwo", small / 2))).max() < 4 * small**2
    for large in (1e2, 1e6):
        found = aggregate(SCORES, Aggregation("log_mean_exp", large))
        assert found - worst == pytest.approx(np.full(2, math.log(3) / large), rel=1e-6)


def test_disagreement_divides_by_members_minus_one() -> None:
    assert disagreement(SCORES) == pytest.approx([math.sqrt(7), math.sqrt(7)])


@given(
    hnp.arrays(float, st.tuples(st.integers(2, 5), st.integers(1, 6)), elements=st.floats(-50, 50)),
    st.just(0.0) | st.floats(1e-9, 100),
)
def test_pessimistic_aggregations_never_exceed_the_mean(scores: np.ndarray, weight: float) -> None:
    mean, worst = (aggregate(scores, Aggregation(kind)) for kind in ("mean", "min"))
    uwo, lcb, soft = (aggregate(scores, Aggregation(kind, weight)) for kind in ("uwo", "lcb", "log_mean_exp"))
    for found in (worst, uwo, lcb, soft):
        assert (found <= mean + 1e-9).all()
    assert (worst <= soft + 1e-9).all()


def test_normalisation_is_per_member() -> None:
    standard = normalize(SCORES, np.array([1.0, 0.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert standard.tolist() == [[0.0, 3.0], [1.0, 0.0], [1.0, -0.75]]
    with pytest.raises(DataError, match=r"score_sd is \[1.0, 0.0, 1.0\]"):
        normalize(SCORES, np.zeros(3), np.array([1.0, 0.0, 1.0]))


# Bootstrap


def test_bootstrap_draws_n_of_n_with_replacement_and_differs_between_members() -> None:
    rows = bootstrap_rows(1000, 42, (0, 0))
    assert rows.shape == (1000,)
    assert (rows.min() >= 0, rows.max() < 1000) == (True, True)
    assert 600 < len(np.unique(rows)) < 665  # 1 - 1/e = 632 are expected
    assert (rows == bootstrap_rows(1000, 42, (0, 0))).all()
    assert (rows != bootstrap_rows(1000, 42, (0, 1))).any()
    assert (rows != bootstrap_rows(1000, 42, (1, 0))).any()


def test_a_member_trains_on_its_own_bootstrap_sample(tiny_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, tokenizer = records.read_table(layout.preferences("train")), load_tokenizer(tiny_world, "reward")

    class Begun(Exception):
        """Carries what a training was about to train on."""

    def begin(params: Params, chosen: object, base: object, tokenizer: object, train: Dataset, *_: object) -> None:
        raise Begun(train.to_dict())

    monkeypatch.setattr(bradley_terry, "reward_trainer", begin)
    for member in (0, 1):
        with pytest.raises(Begun) as begun:
            base = load_reward_base(tiny_world)
            bradley_terry.train_member(tiny_world, RewardCell(2, member), base, tokenizer, pairs, Path("out"))
        sample = pairs.iloc[bootstrap_rows(len(pairs), 42, (2, member))]
        expected = bradley_terry.reward_dataset(tokenizer, sample, tiny_world.scale.lengths).to_dict()
        assert begun.value.args[0] == expected


# Training


@pytest.fixture
def train(tiny_world: Params) -> Callable[..., tuple]:
    """Train and save one member of a seed of the tiny world."""

    def train_member(
        member: int, params: Params = tiny_world, base: PreTrainedModel | None = None, seed: int = 0
    ) -> tuple:
        cell = RewardCell(seed, member)
        directory = layout.reward_member(cell)
        model, record = bradley_terry.train_member(
            params,
            cell,
            base=load_reward_base(params) if base is None else base,
            tokenizer=load_tokenizer(params, "reward"),
            pairs=records.read_table(layout.preferences("train")),
            directory=directory,
        )
        save_adapter(model, DEFAULT, directory)
        records.write_json(directory / "training.json", record)
        return model, record

    return train_member


def test_training_changes_adapter_and_head_and_no_base_weight(tiny_world: Params, train) -> None:
    base = load_reward_base(tiny_world)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    model, record = train(0, base=base)
    after = model.get_base_model().model.state_dict()
    after = {name.replace(".base_layer", ""): tensor for name, tensor in after.items()}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * 4 * 2 + 1
    assert sum("score" in name for name in names) == 1
    start = reward_trainer(tiny_world).model.state_dict()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert (parameter.detach() != start[name]).float().mean() > 0.9, name
    trained = sum(parameter.numel() for parameter in trainable_parameters(model))
    assert record["hyperparameters"]["trainable_parameters"] == trained
    assert record["pairs"] == 48
    assert record["distinct_pairs"] == len(np.unique(bootstrap_rows(48, 42, (0, 0))))


def test_loss_starts_near_ln_2_and_falls(tiny_world: Params, train) -> None:
    _, record = train(0, with_reward_training(tiny_world, epochs=8))
    assert record["losses"][0] == pytest.approx(math.log(2), abs=0.1)
    assert np.mean(record["losses"][-6:]) < 0.5


def test_a_batch_in_parts_trains_the_member_of_the_whole_batch(tiny_world: Params, train) -> None:
    whole, expected = train(0, with_reward_training(tiny_world, micro_batch_size=None))
    weights = [parameter.detach().clone() for parameter in trainable_parameters(whole)]
    parts, record = train(0, with_reward_training(tiny_world, micro_batch_size=2))
    assert record["hyperparameters"] == expected["hyperparameters"]
    assert record["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    for one, other in zip(weights, trainable_parameters(parts), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_two_trainings_write_the_same_bytes_whatever_ran_before(tiny_world: Params, train) -> None:
    params = with_reward_training(tiny_world, dropout=0.1)
    written = []
    for _ in range(2):
        torch.rand(5)
        train(0, params)
        written.append({path.name: path.read_bytes() for path in layout.reward_member(RewardCell(0, 0)).iterdir()})
    assert written[0] == written[1]
    assert sorted(written[0]) == ["adapter_config.json", "adapter_model.safetensors", "training.json"]


def test_every_member_starts_from_a_head_of_its_own(tiny_world: Params, train) -> None:
    params = with_reward_training(tiny_world, learning_rate=1e-12)
    first, second, of_another_seed = (
        train(member, params, seed=seed)[0].get_base_model().score.weight for seed, member in ((0, 0), (0, 1), (1, 0))
    )
    assert 0.01 < first.std() < 0.04  # initializer_range is 0.02
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, of_another_seed, atol=1e-3)


@pytest.mark.parametrize("ensembles", ["per_seed", "shared"])
def test_the_ensembles_of_two_seeds_are_the_same_bytes_only_where_they_are_shared(
    tiny_world: Params, train, ensembles: str
) -> None:
    params = dataclasses.replace(with_reward_training(tiny_world, dropout=0.1), ensembles=ensembles)
    written = []
    for seed in (0, 1):
        train(2, params, seed=seed)
        written.append({path.name: path.read_bytes() for path in layout.reward_member(RewardCell(seed, 2)).iterdir()})
    same = {name for name, content in written[0].items() if content == written[1][name]}
    assert same == (set(written[0]) if ensembles == "shared" else {"adapter_config.json"})


def test_lost_rows_are_noticed(train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bradley_terry.UnpaddedRewardTrainer, "_prepare_dataset", lambda self, dataset, *_: dataset.select(range(40))
    )
    with pytest.raises(DataError, match="trained on 40 pairs; expected 48"):
        train(0)


def test_another_number_of_steps_than_derived_is_noticed(train, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on two GPUs, where every batch is twice as large."""
    build = bradley_terry.build_trainer

    def on_two_gpus(kind: type, chosen: TrainingHyperparameters, *rest: object, **own: object) -> PairTrainer:
        return build(kind, dataclasses.replace(chosen, batch_size=2 * chosen.batch_size), *rest, **own)

    monkeypatch.setattr(bradley_terry, "build_trainer", on_two_gpus)
    with pytest.raises(DataError, match="trained for 3 optimiser steps; expected 6: .*CUDA_VISIBLE_DEVICES"):
        train(0)


def test_defaults_of_trl_that_would_change_results_are_overridden(tiny_world: Params) -> None:
    defaults, ours = RewardConfig(output_dir="defaults", use_cpu=True), reward_trainer(tiny_world).args
    # Where a default has changed, read the trainer again before changing the number here.
    assert (defaults.bf16, defaults.disable_dropout, defaults.max_length) == (True, True, 1024)
    assert (defaults.lr_scheduler_type, defaults.learning_rate) == ("linear", 1e-4)
    assert (ours.bf16, ours.fp16, ours.disable_dropout, ours.max_length) == (False, False, False, None)
    assert (ours.center_rewards_coefficient, ours.lr_scheduler_type, ours.warmup_steps) == (None, "cosine", 2)
    assert (ours.activation_checkpointing, ours.save_strategy, ours.eval_strategy) == (False, "no", "no")
    assert (ours.weight_decay, ours.max_grad_norm) == (pytest.approx(48**-0.5), 0.5)


def test_nulls_of_the_scale_become_the_papers_values(tiny_world: Params) -> None:
    params = with_reward_training(tiny_world, epochs=2, batch_size=None, learning_rate=None)
    lengths = dataclasses.replace(params.scale.lengths, sequence=640)
    params = dataclasses.replace(params, scale=dataclasses.replace(params.scale, lengths=lengths))
    lora = lora_config(params.scale.reward, 2048, 48_504, "SEQ_CLS", ["score"])
    chosen = bradley_terry.reward_hyperparameters(params, (0, 0), 48_504, 1_700_000_000, lora, 12_847_104)
    assert (chosen.batch_size, chosen.steps, chosen.warmup_steps) == (64, 1516, 38)
    assert chosen.learning_rate == pytest.approx(1.7645e-4, rel=1e-4)
    assert chosen.clip_norm == pytest.approx(1.0155, abs=5e-5)


# Scoring


@pytest.fixture
def members(tiny_world: Params, edit) -> Params:
    """Parameters of a design with members 1 and 10, both on disk: one adapter name begins with the other."""
    for member in (1, 10):
        save_random_adapter(tiny_world, layout.reward_member(RewardCell(0, member)), seed=member, role="reward")
    edit("params.yaml", "ensemble_members", [1, 10])
    return dataclasses.replace(tiny_world, ensemble_members=(1, 10))


def texts(split: str = "val") -> tuple[list[str], list[str]]:
    pairs = records.read_table(layout.preferences(split))
    return list(pairs["prompt"]), list(pairs["chosen"])


def test_a_reloaded_member_scores_identically(tiny_world: Params, train) -> None:
    trained = train(0)[0]
    loaded = RewardEnsemble.load_raw(dataclasses.replace(tiny_world, ensemble_members=(0,)), 0)
    prompts, responses = texts()
    inputs = loaded._inputs(loaded._encode(prompts, responses))
    with torch.no_grad():
        expected = trained(**inputs).logits
        assert torch.equal(loaded.model(**inputs).logits, expected)
    assert expected.std() > 0.01
    loaded.batch_size = len(prompts)
    assert loaded.score(prompts, responses)[0] == pytest.approx(expected[:, 0].numpy(), abs=1e-6)


def test_scores_depend_neither_on_batch_size_nor_on_order(members: Params) -> None:
    prompts, responses = texts()
    ensemble = RewardEnsemble.load_raw(members, 0)
    together = ensemble.score(prompts, responses)
    assert together.shape == (2, len(prompts))
    assert together.dtype == np.float32
    ensemble.batch_size = 1
    assert ensemble.score(prompts, responses) == pytest.approx(together, abs=1e-4)
    ensemble.batch_size = 3
    assert ensemble.score(prompts[::-1], responses[::-1])[:, ::-1] == pytest.approx(together, abs=1e-4)


def test_each_row_of_scores_is_its_own_member(members: Params) -> None:
    prompts, responses = texts()
    both = RewardEnsemble.load_raw(members, 0).score(prompts, responses)
    for row, member in enumerate((1, 10)):
        alone = RewardEnsemble.load_raw(dataclasses.replace(members, ensemble_members=(member,)), 0)
        assert (alone.score(prompts, responses)[0] == both[row]).all()
    assert (both[0] != both[1]).all()


def test_scores_are_those_of_the_whole_last_layer(members: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = RewardEnsemble.load_raw(members, 0)
    found = ensemble.score(*texts())
    monkeypatch.setattr("pessimism.reward.ensemble.last_layer_where_read", lambda *_: contextlib.nullcontext())
    assert ensemble.score(*texts()) == pytest.approx(found, abs=1e-5)


@pytest.fixture
def dropping(members: Params) -> RewardEnsemble:
    """The members with dropout in their adapters."""
    ensemble = RewardEnsemble.load(members, 0)
    layers = [module for module in ensemble.model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.lora_dropout.update({name: torch.nn.Dropout(0.5) for name in layer.lora_dropout})
    ensemble.model.eval()
    assert layers
    return ensemble


@pytest.mark.parametrize("seed", [None, 1])
def test_scores_are_those_of_pefts_own_switching(
    dropping: RewardEnsemble, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = dropping.score(*texts(), dropout_seed=seed)
    monkeypatch.setattr(adapters, "_activate", lambda model, name: model.set_adapter(name, inference_mode=True))
    assert (dropping.score(*texts(), dropout_seed=seed) == scores).all()
    assert (scores[0] != scores[1]).all()


def test_scoring_with_dropout_is_noisy_and_leaves_the_callers_random_stream(dropping: RewardEnsemble) -> None:
    ensemble = dropping
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, second = (ensemble.score(*texts(), dropout_seed=seed) for seed in (1, 2))
    assert torch.rand(1) == expected
    assert not ensemble.model.training
    assert (first != second).any()
    assert (ensemble.score(*texts(), dropout_seed=1) == first).all()
    assert (ensemble.score(*texts()) == ensemble.score(*texts())).all()
    assert (ensemble.score(*texts()) != first).any()


def test_statistics_are_used_only_where_the_protocol_says_so(members: Params) -> None:
    prompts, responses = texts()
    statistics = {"1": {"score_mean": 0.5, "score_sd": 2.0}, "10": {"score_mean": -1.0, "score_sd": 0.5}}
    records.write_json(layout.REWARD_MEMBERS_RECORD, {"s0": statistics, "s1": {}})
    protocol = dataclasses.replace(members.protocol, reward_dropout=False)
    raw = RewardEnsemble.load(dataclasses.replace(members, protocol=protocol), 0).score(prompts, responses)
    protocol = dataclasses.replace(protocol, normalize_rewards=True)
    normal = RewardEnsemble.load(dataclasses.replace(members, protocol=protocol), 0).score(prompts, responses)
    assert normal[0] == pytest.approx((raw[0] - 0.5) / 2, abs=1e-6)
    assert normal[1] == pytest.approx((raw[1] + 1) / 0.5, abs=1e-5)


def test_representations_are_states_of_a_layer_averaged_over_real_tokens(members: Params) -> None:
    prompts, responses = texts()
    ensemble = RewardEnsemble.load_raw(members, 0)
    states = ensemble.representations(10, prompts, responses)
    assert {layer: found.shape for layer, found in states.items()} == dict.fromkeys(LAYERS, (len(prompts), 32))
    alone = attach(load_reward_base(members), {"m": layout.reward_member(RewardCell(0, 10))}, trainable=None)
    for row in (0, 7):
        ids = torch.tensor([ensemble._encode(prompts[row : row + 1], responses[row : row + 1])[0]])
        with torch.no_grad():
            hidden = alone(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, index in (("penultimate", -2), ("last", -1)):
            assert states[layer][row] == pytest.approx(hidden[index][0].mean(dim=0).numpy(), abs=1e-5)


# Assessment


def test_pair_accuracy_counts_ties_as_half() -> None:
    assert assessment.pair_accuracy(np.array([1.0, -1.0, 0.0, 2.0])) == 0.625


def test_brier_score_and_calibration_error_by_hand() -> None:
    margins = np.array([math.log(4), math.log(4), math.log(4), math.log(4), -math.log(4)])  # p = 0.8, 0.2
    assert assessment.brier_score(margins) == pytest.approx((4 * 0.04 + 0.64) / 5)
    assert assessment.calibration_error(margins) == pytest.approx(0.0, abs=1e-12)  # 80 % sure, 80 % right
    assert assessment.calibration_error(np.full(10, math.log(4))) == pytest.approx(0.2)
    assert assessment.calibration_error(np.full(10, 1e9)) == pytest.approx(0.0)
    assert assessment.calibration_error(np.zeros(10)) == 0.0


def test_assessment_of_two_members_by_hand() -> None:
    chosen = np.array([[2.0, 0.0], [4.0, 3.0]], dtype=np.float32)
    rejected = np.array([[1.0, 1.0], [0.0, 1.0]], dtype=np.float32)
    record, by_member = assessment.assess(chosen, rejected, (0, 4))
    assert record["pair_accuracy"] == 1.0  # mean margins 2.5 and 0.5
    assert by_member["0"] == {
        "pair_accuracy": 0.5,
        "score_mean": 1.0,
        "score_sd": pytest.approx(math.sqrt(2 / 3)),
    }
    assert by_member["4"]["pair_accuracy"] == 1.0
    # Members' scores per text: (2, 4), (0, 3), (1, 0), (1, 1).
    assert record["disagreement"] == pytest.approx((2 + 3 + 1 + 0) / math.sqrt(2) / 4)
    assert record["pairs"] == 2


def test_the_stages_train_and_assess(tiny_world: Params, checkout: Path, edit, monkeypatch, capfd) -> None:
    import runpy

    edit("params.yaml", "ensemble_members", [0, 1])
    edit("params.yaml", "seeds", [0, 3])
    write_stage_files("train_reward_model")
    for seed, member in itertools.product("03", "01"):
        monkeypatch.setattr(sys, "argv", ["train_reward_model", "--seed", seed, "--member", member])
        runpy.run_path(str(checkout / "stages/train_reward_model.py"), run_name="__main__")
    runpy.run_path(str(checkout / "stages/assess_ensemble.py"), run_name="__main__")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "'loss'" not in captured.err
    by_seed = records.read_json(layout.REWARD_MEMBERS_RECORD)
    assert {seed: set(members) for seed, members in by_seed.items()} == dict.fromkeys(("s0", "s3"), {"0", "1"})
    assert by_seed["s0"]["0"]["score_mean"] != by_seed["s3"]["0"]["score_mean"]
    quality = records.read_json(layout.ENSEMBLE)
    accuracies = [found["pair_accuracy"] for found in quality["seeds"].values()]
    assert min(accuracies) >= 0 and quality["pair_accuracy"] == pytest.approx(np.mean(accuracies))
    assert quality["pairs"] == quality["seeds"]["s3"]["pairs"] == 16


def test_head_is_saved_in_full(train) -> None:
    from safetensors.torch import load_file

    model, _ = train(0)
    saved = load_file(layout.reward_member(RewardCell(0, 0)) / "adapter_model.safetensors")
    (name,) = [name for name in saved if "score" in name]
    trained = [parameter for parameter in trainable_parameters(model) if parameter.shape == (1, 32)]
    assert torch.equal(saved[name], trained[0])
    assert saved[name].dtype == torch.float32
