"""The fit against the published one, its refusals, and both readings of beta*."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pessimism.measures.power_law import (
    PowerLaw,
    Refusal,
    curve_table,
    fit_power_law,
    least_squares,
    power_law_metrics,
)
from pessimism.published import printed

PUBLISHED_BETAS = [row.beta for row in printed.BETAS]
PUBLISHED_AUGC = [row.augc for row in printed.BETAS]


def fitted(betas: list[float], augc: list[float]) -> PowerLaw:
    law = fit_power_law(betas, augc)
    assert isinstance(law, PowerLaw)
    return law


def test_published_fit_is_reproduced() -> None:
    law = fitted(PUBLISHED_BETAS, PUBLISHED_AUGC)
    assert (law.a, law.b, law.c) == pytest.approx((12.53219721, 2.56075941, 30.42684917), abs=1e-6)
    star = law.beta_star_over_grid()
    assert star == pytest.approx(1.0816091943, abs=1e-6)
    assert law.beta_star_over_observed() == pytest.approx(1.1052707869, abs=1e-6)
    assert star is not None and float(law(star)) == pytest.approx(45.7473599, abs=1e-6)
    assert law.saturated


def test_the_two_readings_differ_by_their_minimum() -> None:
    law = PowerLaw(a=1.0, b=1.0, c=0.0, betas=(1.0, 2.0, 4.0))
    assert law.beta_star_over_grid() == pytest.approx(0.15, abs=0.01)
    assert law.beta_star_over_observed() == pytest.approx(1.5, abs=0.01)


def test_beta_star_is_not_identified_where_the_curve_stays_low() -> None:
    law = PowerLaw(a=1.0, b=1.0, c=100.0, betas=(1.0, 2.0, 4.0))
    assert law.beta_star_over_grid() is None and law.beta_star_over_observed() is None
    assert power_law_metrics(law) == {"fit": "found", "saturated": 1, "a": 1.0, "b": 1.0, "c": 100.0}


def test_parameters_are_recovered_from_more_points_than_parameters() -> None:
    betas = [0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0]
    law = fitted(betas, [3.0 * beta**1.7 + 5.0 for beta in betas])
    assert (law.a, law.b, law.c) == pytest.approx((3.0, 1.7, 5.0), rel=1e-3)
    assert not law.saturated


@pytest.mark.parametrize(
    ("betas", "augc", "refusal"),
    [
        ([1.0], [3.0], Refusal.FEW_BETAS),
        ([0.3, 1.0], [3.0, 5.0], Refusal.FEW_BETAS),
        ([0.3, 1.0, 1.0], [3.0, 5.0, 6.0], Refusal.FEW_BETAS),
        ([0.3, 1.0, 2.4], [0.0, 0.0, 0.0], Refusal.CONSTANT_AUGC),
        ([0.3, 1.0, 2.4], [5.0, 2.0, 1.0], Refusal.FLAT_FIT),
    ],
)
def test_refusals(betas: list[float], augc: list[float], refusal: Refusal) -> None:
    found = fit_power_law(betas, augc)
    assert found is refusal
    assert power_law_metrics(refusal) == {"fit": str(refusal)}


def test_no_convergence_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pessimism.measures.power_law.MAX_EVALUATIONS", 1)
    assert fit_power_law(PUBLISHED_BETAS, PUBLISHED_AUGC) is Refusal.NO_CONVERGENCE


@pytest.mark.parametrize("augc", [[0.0, 1.0, 5.0], [0.0, 1e6, 2e6], [1e-9, 2.0, 9.0]])
def test_an_augc_of_zero_can_be_fitted(augc: list[float]) -> None:
    law = fitted([0.3, 1.0, 2.4], augc)
    assert all(math.isfinite(value) and value >= 0 for value in (law.a, law.b, law.c))


def test_curve_table_holds_runs_means_curve_and_star() -> None:
    law = fitted(PUBLISHED_BETAS, PUBLISHED_AUGC)
    means = pd.DataFrame({"beta": PUBLISHED_BETAS, "augc": PUBLISHED_AUGC, "beta_label": ["a", "b", "c"]})
    table = curve_table(law, means.assign(seed=0, arm="proxy"), means)
    assert table["kind"].value_counts().to_dict() == {"curve": 1000, "run": 3, "mean": 3, "beta_star": 1}
    curve = table[table["kind"] == "curve"]
    assert curve["beta"].iloc[[0, -1]].tolist() == pytest.approx([0.1 * PUBLISHED_BETAS[0], 2 * PUBLISHED_BETAS[-1]])
    assert np.allclose(curve["augc"], law(curve["beta"].to_numpy()))


def test_curve_table_without_a_fit_holds_the_points() -> None:
    means = pd.DataFrame({"beta": [1.0], "augc": [2.0], "beta_label": ["a"]})
    table = curve_table(Refusal.FEW_BETAS, means.assign(seed=0, arm="proxy"), means)
    assert table["kind"].tolist() == ["run", "mean"]


def test_a_constant_is_its_own_power_law() -> None:
    law = least_squares(np.array([0.3, 1.0, 2.4]), np.zeros(3), 1)
    assert law is not None and law(np.array([0.1, 5.0])).tolist() == [0.0, 0.0]
