"""How much conservatism is too much: forms of AUGC over beta, and beta* by every definition, for both measures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from pessimism.measures.beta_star import BetaStar, beta_stars
from pessimism.measures.forms import FormComparison, compare_forms
from pessimism.scoring.columns import over_beta
from pessimism.scoring.measures import AUGC


def beta_star_record(cells: pd.DataFrame, primary_arm: str, placebo_arm: str | None, paired: bool) -> dict[str, Any]:
    """Content of metrics/beta_star.json: by measure, every beta* with its interval, and the comparison of forms.

    Args:
        cells: plots/cells.csv.
        primary_arm: the arm whose AUGC is fitted.
        placebo_arm: the one that never learns; None without one.
        paired: whether the betas of a seed share its random draws: ``paired_seeds`` of the protocol.
    """
    runs, placebo = over_beta(cells, primary_arm), cells[cells["arm"] == placebo_arm]
    record: dict[str, Any] = {}
    for measure, column in AUGC.items():
        table = pd.DataFrame(
            {
                "seed": runs["seed"],
                "beta": runs["beta"],
                "augc": runs[column],
                "win_rate": runs["dpo_win_rate"],
                "reward_accuracy": runs["dpo_reward_accuracy"],
            }
        )
        means = table.groupby("beta")["augc"].mean()
        stars = beta_stars(table, placebo[column], paired)
        record[measure] = {name: _star(star) for name, star in stars.items()}
        record[measure]["forms"] = _forms(means)
    return record


def _star(star: BetaStar) -> dict[str, Any]:
    interval = star.interval
    return asdict(star) | {"interval": None if interval is None else [interval.low, interval.high]}


def _forms(means: pd.Series) -> dict[str, Any]:
    """AICc and leave-one-beta-out error of each form, or why they are not compared."""
    found = compare_forms(means.index.to_numpy(), means.to_numpy())
    if not isinstance(found, FormComparison):
        return {"refused": found.value}
    return {
        "best_by_aicc": found.best_by_aicc.value,
        "best_by_left_out_error": found.best_by_left_out_error.value,
        "fits": [asdict(fit) for fit in found.fits],
    }
