"""Detectors against curves worked by hand, and their thresholds against clean runs that were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from pessimism.errors import DataError
from pessimism.measures import detectors
from pessimism.measures.detectors import DETECTORS, StateReference, alarm, alarm_threshold, exploit_share, planted_onset

STEPS = np.array([0, 2, 4])
RUN = {
    "step": STEPS,
    "prompts": np.array([3, 3, 3]),
    "proxy_reward": np.array([1.0, 2.0, 3.0]),
    "proxy_reward_sd": np.array([2.0, 1.0, 0.5]),
    "true_reward": np.array([1 / 3, 1 / 3, 0.0]),  # smoothed: p = 3/8, sd = sqrt(15)/8
    "ensemble_std": np.array([0.2, 0.3, 0.2]),
    "kl_k3": np.array([0.0, 1.0, 4.0]),
    "entropy": np.array([0.5, 0.4, 0.6]),
    "outlier_share": np.array([0.1, 0.1, 0.7]),
}
LAST_GAP = 1.0 + (1 / 3) / (15**0.5 / 8)
BY_HAND = {
    "controlled gap": [0, 0.5, LAST_GAP],
    "signed area": [0, 0.5, 0.5 + 0.5 + LAST_GAP],
    "ensemble disagreement": [0, 0.5, 0],
    "KL divergence": [0, 1, 4],
    "lost entropy": [0, 0.1, -0.1],
    "lost reward spread": [0, 0.5, 0.75],
    "latent outliers": [0, 0, 0.6],
}


@pytest.mark.parametrize("name", DETECTORS)
def test_statistics_by_hand(name: str) -> None:
    assert DETECTORS[name](RUN) == pytest.approx(BY_HAND[name])


@pytest.mark.parametrize("name", DETECTORS)
def test_a_statistic_takes_nothing_from_later_steps(name: str) -> None:
    early = {key: values[:2] for key, values in RUN.items()}
    assert DETECTORS[name](early) == pytest.approx(DETECTORS[name](RUN)[:2])


def test_an_alarm_is_the_first_step_strictly_above() -> None:
    assert alarm(STEPS, np.array([0.0, 1.0, 2.0]), 1.0) == 4
    assert alarm(STEPS, np.array([0.0, 1.0, 1.0]), 1.0) is None


def test_a_rule_raises_its_own_detectors_alarm_and_knows_its_rate() -> None:
    rule = detectors.Rule("lost reward spread", 0.5, false_alarms=0, clean_runs=20)
    assert rule.alarm(RUN) == 4
    assert detectors.Rule("lost entropy", 0.2, 0, 20).alarm(RUN) is None
    assert rule.false_alarm_rate == pytest.approx((0, 1 - 0.025 ** (1 / 20)))


def test_a_further_clean_run_passes_the_threshold_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    passed = [rng.random() > alarm_threshold(list(rng.random(19)), 0.1) for _ in range(4000)]
    assert np.mean(passed) == pytest.approx(0.1, abs=4 * (0.09 / 4000) ** 0.5)
    assert alarm_threshold([3.0, 1.0, 2.0], 0.25) == 3.0
    with pytest.raises(DataError, match="found 18 clean runs; expected at least 19"):
        alarm_threshold([0.0] * 18, 0.05)


def test_a_planted_onset_is_when_many_exploit_more_than_at_first() -> None:
    start = np.arange(100) % 3  # 95th percentile: 2
    later = np.where(np.arange(100) < 19, 3, start)
    hacked = np.where(np.arange(100) < 20, 3, start)
    share_T = exploit_share(np.stack([start, later, hacked]))
    assert share_T == pytest.approx([0, 0.19, 0.2])
    assert planted_onset(STEPS, share_T) == 4
    assert planted_onset(STEPS, share_T - 0.01) is None


def test_states_apart_from_the_references_are_outliers_in_their_own_scale() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([100.0, 1.0, 1.0])
    reference = StateReference.of(rng.standard_normal((4000, 3)) * scale, rng.standard_normal((4000, 3)) * scale)
    like = rng.standard_normal((4000, 3)) * scale
    assert reference.outlier_share(like) == pytest.approx(0.01, abs=0.01)
    assert reference.outlier_share(like + [0.0, 8.0, 0.0]) > 0.9
    assert reference.outlier_share(like + [8.0, 0.0, 0.0]) < 0.05
