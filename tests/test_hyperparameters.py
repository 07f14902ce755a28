"""The derived hyperparameters against every number that the paper's authors published."""

import pytest

from pessimism.models import hyperparameters as derive

PREFERENCES, GSM8K_TEST = 48_504, 1_319
POLICY = {"hidden_size": 5120, "trainable": 83_886_080, "billions": 14.0}
REWARD = {"hidden_size": 2048, "trainable": 12_847_104, "billions": 1.7}
H100_GB = 85.02


@pytest.mark.parametrize(
    ("hidden_size", "rank"), [(5120, 64), (3584, 64), (2048, 32), (16, 4), (8, 4), (1_000_000, 64), (64, 8)]
)
def test_lora_rank(hidden_size: int, rank: int) -> None:
    assert derive.lora_rank(hidden_size) == rank


def test_lora_alpha_and_dropout() -> None:
    assert (derive.lora_alpha(64), derive.lora_alpha(32)) == (128, 64)
    assert derive.lora_dropout(PREFERENCES) == 0.10
    assert derive.lora_dropout(1_000_000) == pytest.approx(0.032)
    assert derive.lora_dropout(10**9) == 0.01


@pytest.mark.parametrize(
    ("billions", "inference", "expected"),
    [(14.0, False, 8), (14.0, True, 16), (1.7, False, 64), (0.135, False, 64), (500.0, False, 1)],
)
def test_batch_size(billions: float, inference: bool, expected: int) -> None:
    assert derive.batch_size(H100_GB, billions, inference, sequence_length=640) == expected


def test_a_small_model_counts_as_one_of_a_billion() -> None:
    assert derive.batch_size(12.0, 0.1, False, 1024) == derive.batch_size(12.0, 1.0, False, 1024) == 8


def test_short_sequences_do_not_grow_the_batch_without_end() -> None:
    sizes = {derive.batch_size(12.0, 4.0, False, length) for length in (1, 64, 256)}
    assert sizes == {8}


def test_published_dpo_schedule() -> None:
    assert derive.accumulation(PREFERENCES, 8) == 28
    assert derive.optimizer_steps(PREFERENCES, 8, 28, epochs=1) == 217
    assert derive.warmup_steps(217) == 14


def test_published_reward_schedule() -> None:
    assert derive.optimizer_steps(PREFERENCES, 64, 1, epochs=2) == 1516
    assert derive.warmup_steps(1516) == 38


def test_learning_rates() -> None:
    assert derive.learning_rate(POLICY["trainable"]) == pytest.approx(6.905e-5, rel=1e-4)
    assert derive.learning_rate(REWARD["trainable"]) == pytest.approx(1.7645e-4, rel=1e-4)
    assert derive.learning_rate(POLICY["trainable"], base=1e-5, high=1e-5) == pytest.approx(3.4527e-6, rel=1e-4)
    assert derive.learning_rate(1_000) == 2e-4
    assert derive.learning_rate(10**14) == 5e-7


def test_clip_norm_and_weight_decay() -> None:
    assert derive.clip_norm(POLICY["trainable"]) == pytest.approx(1.1320, abs=5e-5)
    assert derive.clip_norm(REWARD["trainable"]) == pytest.approx(1.0155, abs=5e-5)
    assert (derive.clip_norm(10), derive.clip_norm(10**20)) == (0.5, 2.0)
    assert derive.weight_decay(PREFERENCES) == pytest.approx(0.004541, abs=5e-7)


def test_sizes_of_the_online_phase_grid_and_probes() -> None:
    assert derive.online_steps(GSM8K_TEST, 4) == 165
    assert derive.beta_grid_pairs(PREFERENCES) == 2376
    assert (derive.probe_size(GSM8K_TEST), derive.probe_size(PREFERENCES)) == (37, 221)
