"""Is the power law (Eq. 14) the right form? Four forms of AUGC over beta, compared where betas are enough to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from pessimism.measures.power_law import REPEATED_EVALUATIONS, least_squares

FEWEST_BETAS = 6
_SMALLEST_SHARE = 1e-24

Curve = Callable[[np.ndarray], np.ndarray]


class Form(StrEnum):
    """The forms, by the names of the report."""

    POWER_LAW = "a beta^b + c"
    LINEAR = "a + b beta"
    LOG_LINEAR = "a + b ln beta"
    CONSTANT = "a"


class FormRefusal(StrEnum):
    """Why the forms are not compared."""

    FEW_BETAS = "fewer than six distinct betas: AICc of the power law needs a residual beyond its parameters"
    REPEATED_BETA = "a beta occurs twice: compare means over seeds"
    OUT_OF_RANGE = "an AUGC is negative or not finite, or a beta not positive"
    CONSTANT_AUGC = "AUGC is the same at every beta"


PARAMETERS = {Form.POWER_LAW: 3, Form.LINEAR: 2, Form.LOG_LINEAR: 2, Form.CONSTANT: 1}


@dataclass(frozen=True)
class FormFit:
    """How well one form describes AUGC over beta.

    Attributes:
        form: the form.
        aicc: Akaike's criterion, corrected for few points; lower = better, only differences mean anything.
        left_out_error: mean squared error at each beta of the fit to the others, in (gap times steps) squared.
    """

    form: Form
    aicc: float
    left_out_error: float


@dataclass(frozen=True)
class FormComparison:
    """All forms that could be fitted, and which of them does best by each criterion."""

    fits: tuple[FormFit, ...]

    @property
    def best_by_aicc(self) -> Form:
        return min(self.fits, key=lambda fit: fit.aicc).form

    @property
    def best_by_left_out_error(self) -> Form:
        return min(self.fits, key=lambda fit: fit.left_out_error).form


def compare_forms(betas: ArrayLike, augc: ArrayLike) -> FormComparison | FormRefusal:
    """Fit power law, line, line in ln beta and constant by least squares.

    Args:
        betas: (K,) distinct betas, > 0.
        augc: (K,) AUGC of each, mean over seeds.

    Returns:
        The comparison, without a power law that does not converge, or why there is none.
    """
    x, y = np.asarray(betas, dtype=float), np.asarray(augc, dtype=float)
    refusal = _refusal(x, y)
    if refusal is not None:
        return refusal
    fits = (_compare(form, x, y) for form in Form)
    return FormComparison(tuple(fit for fit in fits if fit is not None))


def _refusal(x: np.ndarray, y: np.ndarray) -> FormRefusal | None:
    if not (np.isfinite(y).all() and (y >= 0).all() and np.isfinite(x).all() and (x > 0).all()):
        return FormRefusal.OUT_OF_RANGE
    if len(np.unique(x)) < FEWEST_BETAS:
        return FormRefusal.FEW_BETAS
    if len(np.unique(x)) < len(x):
        return FormRefusal.REPEATED_BETA
    return FormRefusal.CONSTANT_AUGC if np.ptp(y) == 0 else None


def _compare(form: Form, x: np.ndarray, y: np.ndarray) -> FormFit | None:
    whole = _fit(form, x, y)
    others = [_fit(form, np.delete(x, index), np.delete(y, index)) for index in range(len(x))]
    if whole is None or any(curve is None for curve in others):
        return None
    errors = [float(curve(x[[i]])[0] - y[i]) ** 2 for i, curve in enumerate(others) if curve is not None]
    return FormFit(form, _aicc(y, whole(x), PARAMETERS[form]), float(np.mean(errors)))


def _fit(form: Form, x: np.ndarray, y: np.ndarray) -> Curve | None:
    if form is Form.POWER_LAW:
        return least_squares(x, y, REPEATED_EVALUATIONS)
    of_beta: Curve = np.log if form is Form.LOG_LINEAR else np.asarray
    line = np.polynomial.Polynomial.fit(of_beta(x), y, deg=PARAMETERS[form] - 1)
    return lambda beta: line(of_beta(beta))


def _aicc(y: np.ndarray, fitted: np.ndarray, parameters: int) -> float:
    """AICc of a least-squares fit with normal errors, whose variance counts as a parameter."""
    count, estimated = len(y), parameters + 1
    # A perfect fit has no logarithm: rounding is the least that can be told.
    squares = max(float(((y - fitted) ** 2).sum()), _SMALLEST_SHARE * float((y**2).sum()))
    correction = 2 * estimated * (estimated + 1) / (count - estimated - 1)
    return count * float(np.log(squares / count)) + 2 * estimated + correction
