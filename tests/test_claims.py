"""The ten claims as numbers: their signs, every value behind them, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pessimism import records
from pessimism.analysis.claims import check_claims


def cells(onsets: list[int | None] | None = None, betas: tuple[float, ...] = (0.3, 1.0, 2.4)) -> pd.DataFrame:
    """Two seeds per beta; AUGC, std and distance rise, the rest falls; a placebo that does the opposite."""
    rows: list[dict[str, Any]] = []
    for level, beta in enumerate(betas):
        for seed in (0, 1):
            for arm, sign in (("proxy", 1), ("placebo", -1)):
                rows.append(
                    {
                        "beta_percentile": 20 + 30 * level,
                        "beta": beta,
                        "seed": seed,
                        "arm": arm,
                        "augc": 10 + sign * (level**2 + 0.1 * seed),
                        "entropy_dpo": 1 - sign * 0.1 * level,
                        "entropy_collapse": sign * 0.1 * level,
                        "response_diversity": 0.5 - sign * 0.1 * level,
                        "ood_cosine_distance": 0.2 + sign * 0.01 * level,
                        "mean_ensemble_std": 1 + sign * level,
                        "uq_gap_correlation": sign * (0.1 * level - 0.1),
                        "onset_step": pd.NA,
                    }
                )
    table = pd.DataFrame(rows)
    if onsets is not None:
        table.loc[table["arm"] == "proxy", "onset_step"] = pd.array(onsets, dtype="Int64")
    return table.astype({"onset_step": "Int64"})


def check(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return check_claims(table, {"hacking_threshold": 1.5}, {"fit": "found", "b": 2.0}, "proxy")


def test_all_ten_from_the_primary_arm() -> None:
    claims = check(cells([None, 9, 6, 6, 3, 3]))
    assert sorted(claims, key=lambda name: int(name[1:])) == [f"C{number}" for number in range(1, 11)]
    signs = {name: claims[name]["estimate"] for name in list(claims)[:8]}
    assert signs == {"C1": 1, "C2": -1, "C3": 1, "C4": -1, "C5": 1, "C6": 1, "C7": -1, "C8": 1}
    assert claims["C1"]["difference"] == pytest.approx(4.0)
    assert claims["C7"]["hacking_threshold"] == 1.5
    assert claims["C9"]["estimate"] == 2.0
    assert claims["C10"]["estimate"] is None


def test_every_run_stands_behind_the_estimate() -> None:
    values = check(cells())["C1"]["values"]
    assert [(value["beta_percentile"], value["seed"]) for value in values] == [
        (p, s) for p in (20, 50, 80) for s in (0, 1)
    ]
    assert values[-1]["value"] == pytest.approx(14.1)


def test_fits_of_single_seeds_stand_behind_the_exponent() -> None:
    values = check(cells())["C9"]["values"]
    assert [value["seed"] for value in values] == [0, 1]
    assert all(value["value"] > 1 for value in values)


@pytest.mark.parametrize(
    ("onsets", "estimate"),
    [
        ([None, None, None, None, 3, 3], pytest.approx(-0.8660254)),
        ([None, None, None, None, None, None], None),
        ([3, 3, 6, 6, None, None], 1.0),
        ([None, 3, 3, 3, 3, 3], pytest.approx(-0.8660254)),
    ],
)
def test_a_run_without_onset_ranks_last(onsets: list[int | None], estimate: float | None) -> None:
    claim = check(cells(onsets))["C7"]
    assert claim["estimate"] == estimate
    assert [value["value"] for value in claim["values"]] == onsets


def test_one_beta_has_values_and_no_estimate(tmp_path: Path) -> None:
    claims = check(cells(betas=(1.0,)))
    assert all(claims[f"C{number}"]["estimate"] is None for number in range(1, 9))
    assert all(len(claims[f"C{number}"]["values"]) == 2 for number in range(1, 11))
    records.write_json(tmp_path / "claims.json", claims)


def test_a_missing_correlation_is_left_out_of_the_trend() -> None:
    table = cells()
    table.loc[table["beta_percentile"] == 50, "uq_gap_correlation"] = None
    claim = check(table)["C8"]
    assert claim["estimate"] == 1.0 and claim["difference"] == pytest.approx(0.2)
