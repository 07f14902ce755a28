"""The right form wins on data made by it, and too few betas compare nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pessimism.measures.forms import Form, FormComparison, FormFit, FormRefusal, compare_forms

BETAS = np.array([0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0])
CURVES = {
    Form.POWER_LAW: 3.0 * BETAS**2.5 + 20.0,
    Form.LINEAR: 3.0 * BETAS + 20.0,
    Form.LOG_LINEAR: 10.0 * np.log(BETAS) + 30.0,
    Form.CONSTANT: np.full(8, 20.0),
}


def compared(betas: np.ndarray, augc: np.ndarray) -> FormComparison:
    found = compare_forms(betas, augc)
    assert isinstance(found, FormComparison)
    return found


@pytest.mark.parametrize("form", Form)
def test_the_form_that_made_the_data_is_chosen(form: Form) -> None:
    noise = 0.3 * np.random.default_rng(3).normal(size=8)
    found = compared(BETAS, CURVES[form] + noise)
    assert [fit.form for fit in found.fits] == list(Form)
    assert found.best_by_aicc is form
    if form is not Form.CONSTANT:
        assert found.best_by_left_out_error is form


def by_form(found: FormComparison) -> dict[Form, FormFit]:
    return {fit.form: fit for fit in found.fits}


def test_criteria_by_hand() -> None:
    """A constant leaves the variance; with 6 points and 2 parameters the correction is 2 * 2 * 3 / 3 = 4."""
    betas, augc = np.arange(1.0, 7.0), np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    constant = by_form(compared(betas, augc))[Form.CONSTANT]
    assert constant.aicc == pytest.approx(6 * math.log(0.25) + 4 + 4)
    assert constant.left_out_error == pytest.approx(0.6**2)


def test_a_left_out_beta_is_not_fitted() -> None:
    """One point far off a line costs its own distance from the line through the others, and leverage elsewhere."""
    augc = 2.0 * BETAS + 1.0
    augc[-1] += 10.0
    line = np.polynomial.Polynomial.fit(BETAS[:-1], augc[:-1], 1)
    assert line(BETAS[-1]) - augc[-1] == pytest.approx(-10.0)
    assert by_form(compared(BETAS, augc))[Form.LINEAR].left_out_error >= 100.0 / 8


@pytest.mark.parametrize("form", [Form.POWER_LAW, Form.LINEAR, Form.LOG_LINEAR])
def test_a_perfect_fit_stays_finite(form: Form) -> None:
    found = compared(BETAS, CURVES[form])
    assert all(math.isfinite(fit.aicc) and math.isfinite(fit.left_out_error) for fit in found.fits)
    assert by_form(found)[form].left_out_error < 1e-6


def test_without_convergence_the_power_law_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single beta that differs is a step, and without it there is a constant to fit."""
    monkeypatch.setattr("pessimism.measures.forms.REPEATED_EVALUATIONS", 1)
    assert list(by_form(compared(BETAS, np.array([0.0] * 7 + [5.0])))) == [Form.LINEAR, Form.LOG_LINEAR, Form.CONSTANT]


@pytest.mark.parametrize(
    ("betas", "augc", "refusal"),
    [
        ([0.3, 1.0, 2.4], [1.0, 2.0, 3.0], FormRefusal.FEW_BETAS),
        ([1, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], FormRefusal.FEW_BETAS),
        ([1, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7], FormRefusal.REPEATED_BETA),
        ([1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, 2], FormRefusal.CONSTANT_AUGC),
        ([1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, math.inf], FormRefusal.OUT_OF_RANGE),
        ([1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, -1], FormRefusal.OUT_OF_RANGE),
        ([0, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, 3], FormRefusal.OUT_OF_RANGE),
    ],
)
def test_refusals(betas: list[float], augc: list[float], refusal: FormRefusal) -> None:
    assert compare_forms(betas, augc) is refusal
