"""AUGC as a power law of beta, and the largest beta that it calls safe (Eq. 14, 15, App. E)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pessimism.measures.epsilon import EPS

PARAMETERS = 3
GRID_POINTS = 1000
DANGER_RATIO = 1.5
MAX_EVALUATIONS = 10_000
REPEATED_EVALUATIONS = 1000
FLAT = 1e-3
FOUND = "found"


class Refusal(StrEnum):
    """Why there is no fit, as metrics/power_law.json and the report say it."""

    FEW_BETAS = "fewer than three distinct betas"
    CONSTANT_AUGC = "AUGC is the same at every beta"
    NO_CONVERGENCE = "least squares did not converge"
    FLAT_FIT = "AUGC does not rise with beta"


@dataclass(frozen=True)
class PowerLaw:
    """AUGC(beta) = a beta^b + c, with the betas it was fitted on.

    Attributes:
        a: AUGC above the floor at beta = 1, in gap times steps, >= 0.
        b: exponent, >= 0; above 1 the marginal cost of conservatism grows (Prop. 6.2).
        c: floor, in gap times steps, >= 0.
        betas: distinct observed betas, ascending.
    """

    a: float
    b: float
    c: float
    betas: tuple[float, ...]

    def __call__(self, beta: np.ndarray | float) -> np.ndarray:
        return self.a * np.asarray(beta, dtype=float) ** self.b + self.c

    @property
    def saturated(self) -> bool:
        """Whether the curve has as many parameters as points, so that it fits anything increasing."""
        return len(self.betas) <= PARAMETERS

    @property
    def grid(self) -> np.ndarray:
        """(1000,) evenly spaced betas from 0.1 of the smallest observed to twice the largest."""
        return np.linspace(0.1 * self.betas[0], 2 * self.betas[-1], GRID_POINTS)

    def beta_star_over_grid(self) -> float | None:
        """Practical beta* (Eq. 15) with beta_min the smallest beta of the grid, as in the authors' notebook."""
        return self._first_above(DANGER_RATIO * float(self(self.grid).min()))

    def beta_star_over_observed(self) -> float | None:
        """Practical beta* (Eq. 15) with beta_min the smallest observed beta."""
        return self._first_above(DANGER_RATIO * float(self(self.betas[0])))

    def _first_above(self, level: float) -> float | None:
        """Smallest beta of the grid whose curve is strictly above ``level``; None = not identified."""
        above = np.flatnonzero(self(self.grid) > level)
        return float(self.grid[above[0]]) if above.size else None


def fit_power_law(betas: ArrayLike, augc: ArrayLike, max_evaluations: int | None = None) -> PowerLaw | Refusal:
    """Least-squares fit of Eq. 14 with a, b, c >= 0, started as App. E says.

    Args:
        betas: beta of each point, > 0; one point per beta percentile.
        augc: AUGC of each point, mean over seeds, in gap times steps.
        max_evaluations: when to give up; ``MAX_EVALUATIONS`` as in App. E where None. A fit that is repeated many times
            takes ``REPEATED_EVALUATIONS``: one that needs more is a step, and its exponent runs off.

    Returns:
        The fit, or why there is none: a fit whose curve rises by less than 0.1 % has no exponent to speak of.
    """
    x, y = np.asarray(betas, dtype=float), np.asarray(augc, dtype=float)
    distinct = tuple(float(beta) for beta in np.unique(x))
    if len(distinct) < PARAMETERS:
        return Refusal.FEW_BETAS
    if np.ptp(y) == 0:
        return Refusal.CONSTANT_AUGC
    law = least_squares(x, y, MAX_EVALUATIONS if max_evaluations is None else max_evaluations)
    if law is None:
        return Refusal.NO_CONVERGENCE
    rise = float(law(distinct[-1]) - law(distinct[0]))
    return Refusal.FLAT_FIT if rise < FLAT * float(law(distinct[-1])) else law


def least_squares(x: np.ndarray, y: np.ndarray, max_evaluations: int) -> PowerLaw | None:
    """The fit itself, however flat its curve; None where it does not converge."""
    from scipy.optimize import OptimizeWarning, curve_fit

    distinct = tuple(float(beta) for beta in np.unique(x))
    if np.ptp(y) == 0:
        # Any exponent fits a constant.
        return PowerLaw(0.0, 1.0, float(y[0]), distinct)
    try:
        with warnings.catch_warnings():
            # Three points leave no residual to estimate a covariance from; it is not used.
            warnings.simplefilter("ignore", OptimizeWarning)
            found, _ = curve_fit(_form, x, y, p0=_start(x, y), bounds=(0.0, np.inf), maxfev=max_evaluations)
    except RuntimeError:
        return None
    a, b, c = (float(value) for value in found)
    return PowerLaw(a, b, c, distinct)


def _form(beta: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a * beta**b + c


def _start(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    low, high = float(y.min()), float(y.max())
    # Deviation: the smallest AUGC is floored at machine epsilon in the logarithm, because ours can be exactly 0.
    exponent = np.log(high / max(low, EPS)) / np.log(x.max() / x.min())
    return high - low, max(float(exponent), 0.1), low


def power_law_metrics(law: PowerLaw | Refusal) -> dict[str, float | int | str]:
    """Content of metrics/power_law.json.

    ``fit`` is "found" or the ``Refusal``, which then stands alone; ``saturated`` is 1 where no residual is left. A
    beta* that the curve does not identify has no key.
    """
    if isinstance(law, Refusal):
        return {"fit": law.value}
    found: dict[str, float | int | str] = {
        "fit": FOUND,
        "saturated": int(law.saturated),
        "a": law.a,
        "b": law.b,
        "c": law.c,
    }
    for name, beta in (
        ("beta_star_over_grid", law.beta_star_over_grid()),
        ("beta_star_over_observed", law.beta_star_over_observed()),
    ):
        if beta is not None:
            found[name] = beta
    return found


def curve_table(law: PowerLaw | Refusal, cells: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Rows of plots/power_law.csv, told apart by ``kind``.

    Args:
        law: the fit, or why there is none; then there are no rows of kind curve or beta_star.
        cells: plots/cells.csv: rows of kind run, one per online run.
        means: the fitted points: rows of kind mean.
    """
    columns = ["kind", "beta", "augc", "beta_label", "seed", "arm"]
    tables = [cells.assign(kind="run"), means.assign(kind="mean")]
    if isinstance(law, PowerLaw):
        tables.append(pd.DataFrame({"kind": "curve", "beta": law.grid, "augc": law(law.grid)}))
        star = law.beta_star_over_grid()
        if star is not None:
            tables.append(pd.DataFrame({"kind": ["beta_star"], "beta": [star], "augc": [float(law(star))]}))
    return pd.concat(tables, ignore_index=True).reindex(columns=columns).astype({"seed": "Int64"})
