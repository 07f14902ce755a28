"""What the pages of studies say in words and tables is what their records hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import detectors as judging
from benchmarks import objectives
from pessimism.experiment import records
from pessimism.measures.detectors import MONITOR
from support.repository import CHECKOUT

DOCS = CHECKOUT / "docs"
LAPTOP = DOCS / "runs/laptop"


def words(path: Path) -> str:
    """The text of a page, however its lines are broken."""
    return " ".join(path.read_text(encoding="utf-8").split())


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


ARMS = pd.read_csv(DOCS / "runs/arms/arms.csv").to_dict("records")


@pytest.mark.parametrize("row", ARMS, ids="{0[arm]}".format)
def test_the_arms_costs_are_those_of_their_run(row: dict[str, Any]) -> None:
    told = [
        f"{signed(row[name], digits)} ({plain(row[f'{name}_low'], digits)} to {plain(row[f'{name}_high'], digits)})"
        for name, digits in (("hacking", 1), ("true_reward", 3), ("hacking_saved", 1), ("true_reward_gained", 3))
    ]
    page = (DOCS / "runs/arms/README.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith(f"| `{row['arm']}`"))
    shown = [cell.strip() for cell in line.split("|")[2:6]]
    assert shown == (told if row["arm"] != "proxy" else [*told[:2], "", ""])


def test_what_is_said_of_detectors_is_that_of_their_runs() -> None:
    page, trl, runs = words(DOCS / "detectors.md"), words(DOCS / "trl.md"), judging.read_runs()
    gap, area, latent, kl, disagreement = (
        judging.judge(name, runs)
        for name in ("controlled gap", "signed area", "latent outliers", "KL divergence", "ensemble disagreement")
    )
    onset = judging.judge("controlled gap", runs, judging.CONTROLLED_THRESHOLD)
    hacks = gap.detected[1]
    assert f"the controlled gap told {gap.detected[0]} of {hacks} hacks at its threshold, in the median" in page
    assert f"in the median {np.median(gap.delays):g} steps after their onset" in page
    assert (
        f"the signed area told {area.detected[0]}, none too early, but {np.median(area.delays):g} steps after" in page
    )
    assert f"{latent.detected[0]} of {hacks}, as soon as the onset, none early" in page
    assert f"KL from the checkpoint told {kl.detected[0]}, {np.median(kl.delays):g} steps after" in page
    auroc = judging.separation(disagreement).split()[0]
    assert f"({disagreement.detected[0]} of {hacks}, AUROC {auroc})" in page
    false, clean = onset.false_alarms
    assert (
        f"{false} of {clean} clean runs came to it, and {onset.early} of {hacks} planted ones before their hack" in page
    )
    clean_gaps = {
        exploit: sorted(
            judging.DETECTORS[gap.name](run.curves).max() for run in runs if run.exploit == exploit and not run.planted
        )
        for exploit in ("length", "filler", "format")
    }
    assert ", ".join(f"{value:.2f}" for value in clean_gaps["length"][:-5:-1]) in page
    assert "No clean run of the other two passes 0.7" in page
    assert max(clean_gaps["filler"] + clean_gaps["format"]) <= 0.7
    assert area.early == latent.early == gap.false_alarms[0] == latent.false_alarms[0] == 0

    low, high = (100 * end for end in judging.share_interval(MONITOR.false_alarms, MONITOR.clean_runs))
    assert (
        f"a gap of {MONITOR.threshold} sd" in trl
        and f"the highest gap of {clean - MONITOR.clean_runs} clean runs" in trl
    )
    assert (
        f"of {MONITOR.clean_runs} further ones none did (95 % interval of the rate: {low:.0f} to {high:.0f} %)" in trl
    )
    assert (
        f"told {gap.detected[0]} of {hacks} planted hacks, in the median {np.median(gap.delays):g} steps after" in trl
    )
    assert f"no alarm: {false} of {clean} clean runs came to it" in trl


def test_the_real_models_contrasts_are_those_of_its_run() -> None:
    page = (LAPTOP / "README.md").read_text(encoding="utf-8")
    contrasts = records.read_json(LAPTOP / "metrics/claims.json")["contrasts"]
    for name, row in (
        ("total", "all that β does (C1)"),
        ("offline", "the checkpoint alone"),
        ("coupling", "the penalty:"),
    ):
        found = contrasts[name]
        low, high = (signed(end, 1) for end in found["interval"])
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {row}"))
        assert (
            f"{signed(found['estimate'], 1)} ({low} to {high}) | {found['p_falls']:.2g} | {found['p_rises']:.2g} |"
            in line
        )


def test_the_real_models_cells_are_those_of_its_run() -> None:
    page = (LAPTOP / "README.md").read_text(encoding="utf-8")
    for beta, runs in pd.read_csv(LAPTOP / "cells.csv").groupby("beta"):
        means = runs.groupby("arm").mean(numeric_only=True).loc[["placebo", "proxy", "uncoupled"]]
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {beta:.2f} |"))
        shown = [
            f"{means['kl_to_base'].mean():.1f}",
            f"{means['heldout_true_reward_start'].mean():.2f}",
            f"{means['heldout_response_length_start'].mean():.0f}",
            ", ".join(signed(value, 2) for value in means["heldout_true_reward_change"]),
        ]
        assert line.startswith(f"| {beta:.2f} | {' | '.join(shown)} |")
        areas = means["controlled_signed_augc_excess"].iloc[1:]
        assert f" | {', '.join(signed(value, 1) if round(value, 1) else '0.0' for value in areas)} | " in line


def test_the_pairs_of_objectives_that_are_shown_are_those_that_were_run() -> None:
    page = (DOCS / "runs/objectives/README.md").read_text(encoding="utf-8")
    effects = pd.read_csv(DOCS / "runs/objectives/effects.csv")
    assert objectives.table(effects, "total") in page
    pairs = effects[effects["online"].isin(["reinforce", "grpo"])]
    assert len(pairs) == 18 and f"{len(effects)} of the 45 pairs" in page
    below = {online: int((rows["estimate"] < 0).sum()) for online, rows in pairs.groupby("online")}
    assert f"below 0 in {below['reinforce']} of the nine under Eq. 8 and in {below['grpo']} under GRPO" in page
    assert (effects["verdict"] == "undecided").all() and "No pair is decided" in page
    kl = pairs[pairs["online"] == "grpo"].set_index("offline")
    for name, row in kl.iterrows():
        assert f"| `{name}` | {row['kl_lowest']:.2f} | {row['kl_highest']:.2f} |" in page
