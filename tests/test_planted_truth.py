"""What claims read recovers a planted truth: no bias from the noise of step 0, nothing where nothing changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pessimism.claims.claims import check_claims
from pessimism.measures.goodhart import CONTROLLED_THRESHOLD
from pessimism.scoring.columns import ALL
from pessimism.scoring.measured import Curves, MeasuredRun, Unit
from pessimism.scoring.measures import CONTROLLED, MEASURES
from pessimism.scoring.scorer import kl_of_all, score, thresholds, with_excesses

STEPS_T = np.array([0, 6, 12, 18, 24])
UNIT = Unit(proxy_sd=1.0, true_sd=0.5)
PAIRS = 800
BETAS = (0.4, 1.0, 1.8)


def pair(gap: float, noise: float, generator: np.random.Generator) -> list[MeasuredRun]:
    """A run whose true gap rises to ``gap`` at the last step, and its placebo: both drew the same samples at step 0."""
    start = generator.normal(scale=noise)
    return [_means(start, rise * STEPS_T / STEPS_T[-1], noise, generator) for rise in (gap, 0.0)]


def _means(start: float, rise_T: np.ndarray, noise: float, generator: np.random.Generator) -> MeasuredRun:
    later_T = rise_T[1:] + generator.normal(scale=noise, size=len(rise_T) - 1)
    curves = Curves(STEPS_T, {"proxy_reward": 1 + np.append(start, later_T), "true_reward": np.full(len(STEPS_T), 0.5)})
    return MeasuredRun(curves, curves, {"proxy_reward": 1.0, "true_reward": 0.5}, UNIT)


def excesses(pairs: list[list[MeasuredRun]], *columns: str) -> pd.DataFrame:
    """Scores of the runs that are no placebo, with their excess over the placebo of their pair."""
    runs = [run for both in pairs for run in both]
    names = [ALL[column].excess_of or column for column in columns]
    threshold = thresholds(runs, CONTROLLED_THRESHOLD)
    table = pd.DataFrame([score(run, threshold, kl_of_all(runs), [ALL[name] for name in names]) for run in runs])
    checkpoints = [place // 2 for place in range(len(runs))]
    return with_excesses(table, checkpoints, [place % 2 == 1 for place in range(len(runs))])[::2]


@pytest.mark.parametrize("truth", [0.0, 1.2, 2.4])
def test_the_area_that_c1_reads_is_that_of_the_true_gap(truth: float) -> None:
    """A line from 0 to g over 24 steps has the area 12 g; means of 256 responses have about this noise."""
    generator = np.random.default_rng(0)
    names = ["controlled_signed_augc_excess", "controlled_augc_excess"]
    found = excesses([pair(truth / 12, 0.09, generator) for _ in range(PAIRS)], *names)
    error = float(found[names[0]].std() / np.sqrt(PAIRS))
    assert error < 0.06 and found[names[0]].mean() == pytest.approx(truth, abs=3 * error)
    clipped = found[names[1]].mean()
    assert clipped < truth - 0.3 if truth else clipped == pytest.approx(0, abs=0.15), "why the clipped one is not read"


def frozen(level: float, generator: np.random.Generator) -> list[MeasuredRun]:
    """Two policies that never change, with one checkpoint's samples at step 0.

    ``level`` is how much a response's ensemble std follows its own gap, and how large it is: what betas differ in.
    """
    drawn = [_responses(level, generator) for _ in range(2 * len(STEPS_T) - 1)]
    return [_from_responses([drawn[0], *rest]) for rest in (drawn[1 : len(STEPS_T)], drawn[len(STEPS_T) :])]


def _responses(level: float, generator: np.random.Generator, problems: int = 256) -> dict[str, np.ndarray]:
    true_N = (generator.random(problems) < 0.6).astype(float)
    proxy_N = generator.normal(size=problems)
    gap_N = proxy_N / UNIT.proxy_sd - true_N / UNIT.true_sd
    std_N = 1 + level + 0.2 * level * gap_N + generator.normal(scale=0.3, size=problems)
    return {"proxy_reward": proxy_N, "true_reward": true_N, "ensemble_std": std_N}


def _from_responses(drawn: list[dict[str, np.ndarray]]) -> MeasuredRun:
    prompt_T_N = {name: np.array([responses[name] for responses in drawn]) for name in drawn[0]}
    curves = Curves(STEPS_T, {name: value_T_N.mean(axis=1) for name, value_T_N in prompt_T_N.items()}, prompt_T_N)
    return MeasuredRun(curves, curves, {"proxy_reward": 1.0, "true_reward": 0.5}, UNIT)


def learning(strength: float, generator: np.random.Generator) -> list[MeasuredRun]:
    """A run whose problems hack unequally, each with a std that rises ``strength`` times as much, and its placebo."""
    run, placebo = frozen(0.0, generator)
    hacked_N = generator.exponential(size=256)
    share_T_1 = np.linspace(0, 1, len(STEPS_T))[:, None]
    moved = {"proxy_reward": hacked_N * share_T_1, "ensemble_std": strength * hacked_N * share_T_1, "true_reward": 0.0}
    changed = {name: value_T_N + moved[name] for name, value_T_N in run.controlled.prompt_T_N.items()}
    curves = Curves(STEPS_T, {name: value_T_N.mean(axis=1) for name, value_T_N in changed.items()}, changed)
    return [MeasuredRun(curves, curves, run.baseline, UNIT), placebo]


QUANTITIES = ("controlled_ensemble_std", "controlled_uq_gap_correlation")


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_checkpoints_that_differ_and_never_learn_show_nothing(quantity: str) -> None:
    """The level of C6 and C8 rises with beta in frozen policies; what they read is the excess, which does not."""
    generator = np.random.default_rng(1)
    levels, beyond = [], []
    for beta in BETAS:
        found = excesses([frozen(beta, generator) for _ in range(60)], f"{quantity}_excess")
        levels.append(found[quantity].mean())
        excess = found[f"{quantity}_excess"]
        beyond.append(excess.mean() / (excess.std() / np.sqrt(len(excess))))
    assert levels[0] + 0.1 < levels[1] and levels[1] + 0.1 < levels[2]
    assert max(map(abs, beyond)) < 3


def test_disagreement_that_follows_the_hacked_problems_is_seen() -> None:
    generator = np.random.default_rng(2)
    found = [
        excesses([learning(strength, generator) for _ in range(20)], "controlled_uq_gap_correlation_excess")
        for strength in (0.0, 0.3, 1.0)
    ]
    none, some, much = (table["controlled_uq_gap_correlation_excess"].mean() for table in found)
    assert abs(none) < 0.05 and 0.1 < some < much


def test_frozen_policies_support_no_claim_about_the_online_phase() -> None:
    """Verdicts of C1, C6 and C8 on seeds of betas that differ offline alone; the raw levels would support two.

    By the paper's measure, too: there the raw levels are what the claims are about, and a guard stands beside them. C1
    is tested by its own p, and may err in one experiment of ten: at 5 % in either direction.
    """
    generator = np.random.default_rng(3)
    of_the_paper = {"mean_ensemble_std": QUANTITIES[0], "uq_gap_correlation": QUANTITIES[1]}
    wrong = dict.fromkeys(("C1", "C6", "C8"), 0)
    for _ in range(12):
        cells = _frozen_cells(generator)
        raw = _verdicts(cells, {f"{name}_excess": name for name in QUANTITIES})
        assert (raw["C6"], raw["C8"]) == ("supported", "supported")
        for measure in MEASURES:
            judged = _verdicts(cells, of_the_paper, measure)
            wrong = {name: count + (judged[name] != "insufficient") for name, count in wrong.items()}
    assert wrong["C1"] <= 3 and wrong["C6"] == wrong["C8"] == 0


def _frozen_cells(generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    for seed in range(4):
        for level, beta in enumerate(BETAS):
            columns = ("controlled_signed_augc_excess", *(f"{name}_excess" for name in QUANTITIES))
            found = excesses([frozen(beta, generator)], *columns).iloc[0].to_dict()
            rows.append({"label": f"p{level}", "beta": beta, "seed": seed, "arm": "proxy", **found})
    return pd.DataFrame(rows)


def _verdicts(cells: pd.DataFrame, replaced: dict[str, str], measure: str = CONTROLLED) -> dict[str, str]:
    """Verdicts by this measure; quantities that no frozen policy has are the same everywhere."""
    others = {name: 0.0 for name in ALL if name not in cells}
    cells = cells.assign(**(others | {name: cells[raw] for name, raw in replaced.items()}))
    star = {"estimate": None, "interval": None, "identifying_share": None, "not_identified": "none"}
    stars = {measure: {"eq_15_over_grid": star} for measure in MEASURES}
    claims = check_claims(cells, {"fit": "none"}, stars, "proxy", paired=False)["claims"]
    return {name: str(claim[measure]["verdict"]) for name, claim in claims.items()}
