"""The published numbers from the published six, and the null distribution of a policy that never changes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from pessimism import cli
from pessimism.measures.epsilon import EPS
from pessimism.published import printed, replay
from pessimism.published.frozen import FrozenPolicy, frozen_augc, measured_steps, notebook_gap, null_distribution
from support.repository import CHECKOUT

QUICK = ["--draws", "50", "--proxy-mean", "3", "--accuracy", "0.5"]
STEPS = measured_steps(164, 3)


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    cli.main(["replay", *QUICK, "--json", *arguments])
    return json.loads(capsys.readouterr().out)


def recomputed(quantity: str) -> replay.Recomputed:
    (row,) = [row for row in replay.replay() if row.quantity.startswith(quantity)]
    return row


# the published numbers


@pytest.mark.parametrize(("quantity", "key"), [("a (Eq. 14)", "a"), ("b", "b"), ("c", "c")])
def test_power_law_parameters(quantity: str, key: str) -> None:
    (row,) = [row for row in replay.replay() if row.quantity == quantity]
    assert row.published == printed.POWER_LAW[key]
    assert row.recomputed == pytest.approx(printed.POWER_LAW[key], rel=1e-6)


def test_beta_star_by_both_readings() -> None:
    assert recomputed("beta* (Eq. 15), from the grid's").recomputed == pytest.approx(1.0816091943, abs=1e-6)
    assert recomputed("beta* (Eq. 15), from the smallest observed").recomputed == pytest.approx(1.1052707869, abs=1e-6)
    assert recomputed("AUGC at that beta*").recomputed == pytest.approx(45.7473599, abs=1e-6)


def test_the_rank_correlation_is_one_order_in_six() -> None:
    assert recomputed("Spearman").recomputed == pytest.approx(1)
    assert recomputed("its p").recomputed == pytest.approx(1 / 6)
    assert recomputed("its p").difference == pytest.approx(1 / 6), "printed as 0"


def test_the_published_betas_are_whole_nats_over_116_and_eps() -> None:
    """To the last bit: no other whole median gives the published digits."""
    assert replay.grid_nats() == [36, 116, 276]
    assert replay.median_from_middle_beta() == pytest.approx(116, rel=1e-6)
    for percentile in (20, 50, 80):
        assert recomputed(f"beta at percentile {percentile}").difference == 0
    assert [row.beta for row in printed.BETAS] == [36 / (116 + EPS), 116 / (116 + EPS), 276 / (116 + EPS)]


@pytest.mark.parametrize("low", [128, 256, 512, 1024])
def test_spacing_of_bfloat16(low: int) -> None:
    torch = pytest.importorskip("torch")
    number = torch.tensor(float(low), dtype=torch.bfloat16)
    above = torch.nextafter(number, torch.tensor(float("inf"), dtype=torch.bfloat16))
    assert replay.bfloat16_spacing(low) == (above - number).item()


# a policy that never changes


def test_gap_has_the_notebooks_denominators() -> None:
    proxy, true = np.array([[-2.0, 1.0]]), np.array([[0.5, 0.25]])
    assert notebook_gap(proxy, true) == pytest.approx(np.array([[-2, 0.5 - 0.5]]), abs=1e-6)
    proxy, true = np.array([[1.0, 1.0]]), np.array([[0.0, 0.25]])
    assert notebook_gap(proxy, true) == pytest.approx(np.array([[1, 1 - 0.25 / (2 * EPS)]]), abs=1e-6)


def test_published_points() -> None:
    assert len(STEPS) == 56 and STEPS[:2] == (0, 3) and STEPS[-2:] == (162, 164)
    assert measured_steps(165, 3)[-2:] == (162, 165)


def test_without_noise_nothing_accrues() -> None:
    assert frozen_augc(FrozenPolicy(1.0, 1.0, 0.0, 4, STEPS), 3, np.random.default_rng(0)) == pytest.approx(0, abs=1e-4)


def test_a_proxy_that_only_falls_short_of_nothing() -> None:
    """Every true reward 0: the gap is the proxy over its first value, 1 at every point without noise."""
    augc = frozen_augc(FrozenPolicy(2.0, 0.0, 0.0, 4, STEPS), 2, np.random.default_rng(0))
    assert augc == pytest.approx(164, rel=1e-6)


def test_drawn_batch_means_are_those_of_single_responses() -> None:
    """Median AUGC against responses drawn one by one, without the package's shortcut."""
    draw = np.random.default_rng(1)
    proxy = draw.normal(1, 2, (4000, 56, 4)).mean(axis=2)
    true = (draw.random((4000, 56, 4)) < 0.3).mean(axis=2)
    slow = [np.trapezoid(np.clip(gap, 0, None), STEPS) for gap in notebook_gap(proxy, true)]
    fast = frozen_augc(FrozenPolicy(1, 0.3, 2, 4, STEPS), 4000, np.random.default_rng(2))
    assert np.median(fast) == pytest.approx(np.median(slow), rel=0.1)


@pytest.mark.parametrize(("mean", "low", "high"), [(1, 0.45, 0.85), (3, 0.04, 0.68), (-1, 0.55, 0.96)])
def test_chances_over_accuracies(mean: float, low: float, high: float) -> None:
    """The range over accuracies, measured with 20,000 sets of responses drawn one by one; no order but by chance."""
    nulls = [
        null_distribution(FrozenPolicy(mean, accuracy, 2, 4, STEPS), replay.spread(), 3, 3000, 0)
        for accuracy in (0.05, 0.7)
    ]
    assert [null.chance_of_spread for null in nulls] == pytest.approx([low, high], abs=0.03)
    assert all(0.11 < null.chance_of_order < 0.19 for null in nulls)


def test_runs_that_never_cross_count_as_an_infinite_spread_and_as_no_order() -> None:
    null = null_distribution(FrozenPolicy(-1.0, 0.0, 0.0, 4, STEPS), 4.69, 3, 10, 0)
    assert (null.chance_of_spread, null.chance_of_order) == (1.0, 0.0)


# the command


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["replay", *QUICK])
    text = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["beta at percentile 20"][-3:] == ["0.31034482726727597", "0.31034482726727597", "0"]
    assert lines["its p"][-1] == "1.7e-01"
    assert "36 = 9 x 4 nats" in text and "50 sets of 3 such runs" in text and "56 points" in text
    assert max(map(len, text.splitlines())) <= 120


def test_json_holds_the_same_numbers_and_the_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, "--batch", "64")
    assert [row["quantity"] for row in found["recomputed"]] == [row.quantity for row in replay.replay()]
    assert found["frozen_policy"]["assumptions"]["batch"] == 64
    (row,) = found["frozen_policy"]["rows"]
    null = null_distribution(FrozenPolicy(3, 0.5, 2, 64, STEPS), replay.spread(), 3, 50, 0)
    assert row["chance_of_spread"] == null.chance_of_spread
    assert row["quantiles"]["0.5"] == null.quantiles[0.5]


def test_a_rows_numbers_do_not_depend_on_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    alone = data(capsys)["frozen_policy"]["rows"][0]
    among = data(capsys, "--accuracy", "0.1", "0.5")["frozen_policy"]["rows"][1]
    assert alone == among
    assert data(capsys, "--seed", "1")["frozen_policy"]["rows"][0] != alone


def test_needs_no_torch() -> None:
    code = (
        "import sys; from pessimism import cli; cli.main(['replay', '--draws', '2']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(CHECKOUT / "src")}, stdout=subprocess.DEVNULL
    )
    assert done.returncode == 0
