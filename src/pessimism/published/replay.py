"""The paper's headline numbers, recomputed from its three AUGC values and three betas alone.

Everything here starts from ``printed.BETAS``: no model, no run. What does not follow from six numbers is not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pessimism.errors import DataError
from pessimism.measures.epsilon import EPS
from pessimism.measures.power_law import PowerLaw, fit_power_law
from pessimism.measures.trends import spearman, spearman_exact_p
from pessimism.published import printed

PRINTED_SPEARMAN = 1.0
PRINTED_P = 0.0
MIDDLE_BETA = 1
BFLOAT16_SIGNIFICAND_BITS = 8
LOG_PROB_RANGE = (512, 1024)
"""Nats: the range of sequence log-probs, prompt included, in which bfloat16 numbers lie 4 apart."""


@dataclass(frozen=True)
class Recomputed:
    """One published number beside the same number from the six.

    Attributes:
        quantity: what it is, with its unit.
        published: as printed; None where the paper and its notebook print none.
        recomputed: from the published AUGC values and betas.
        note: what a reader must know to read the difference.
    """

    quantity: str
    published: float | None
    recomputed: float
    note: str = ""

    @property
    def difference(self) -> float | None:
        return None if self.published is None else self.recomputed - self.published


def replay() -> list[Recomputed]:
    """Every number that the six determine: rank correlation, power law (Eq. 14), beta* (Eq. 15), beta grid (Eq. 7)."""
    return [*_rank_correlation(), *_power_law(), *_beta_grid()]


def betas() -> np.ndarray:
    return np.array([row.beta for row in printed.BETAS])


def augc() -> np.ndarray:
    """(3,) AUGC per beta, gap times steps."""
    return np.array([row.augc for row in printed.BETAS])


def spread() -> float:
    """Largest published AUGC over the smallest: the effect that the paper reads as caused by beta."""
    return float(augc().max() / augc().min())


def _rank_correlation() -> list[Recomputed]:
    found, p = spearman(betas(), augc()), spearman_exact_p(betas(), augc())
    assert found is not None and p is not None, "three distinct values have both"
    note = "exact, one-sided: 1 of the 6 orders of three values; no smaller p exists at three betas"
    return [
        Recomputed("Spearman(beta, AUGC)", PRINTED_SPEARMAN, found),
        Recomputed("its p", PRINTED_P, p, note),
        Recomputed("largest AUGC / smallest", None, spread()),
    ]


def _power_law() -> list[Recomputed]:
    law = fit_power_law(betas(), augc())
    if not isinstance(law, PowerLaw):
        raise DataError(f"found no power law on the published values: {law}; expected one")
    over_grid, over_observed = law.beta_star_over_grid(), law.beta_star_over_observed()
    assert over_grid is not None and over_observed is not None, "the curve doubles within its grid"
    constants = printed.POWER_LAW
    fit_note = "three parameters on three points: R2 is 1 whatever the points are"
    return [
        Recomputed("a (Eq. 14)", constants["a"], law.a, fit_note),
        Recomputed("b", constants["b"], law.b),
        Recomputed("c", constants["c"], law.c),
        Recomputed("beta* (Eq. 15), from the grid's smallest beta", constants["beta_star_over_grid"], over_grid),
        Recomputed("AUGC at that beta*", printed.AUGC_AT_BETA_STAR, float(law(over_grid))),
        Recomputed(
            "beta* (Eq. 15), from the smallest observed beta",
            None,
            over_observed,
            "the equation's other reading, which the authors do not print",
        ),
    ]


def _beta_grid() -> list[Recomputed]:
    """The betas from whole nats: 1 - beta of the middle one is EPS / (median + EPS), which gives the median away."""
    nats = grid_nats()
    median = nats[MIDDLE_BETA]
    rows = [
        Recomputed(
            "median |log-prob difference|, nats",
            None,
            median_from_middle_beta(),
            f"eps / (1 - middle beta): the published digits of that beta alone say {median}",
        )
    ]
    for row, count in zip(printed.BETAS, nats, strict=True):
        multiple, rest = divmod(count, bfloat16_spacing(LOG_PROB_RANGE[0]))
        assert rest == 0, "grid_nats returns multiples of the spacing"
        note = f"{count} = {multiple} x {bfloat16_spacing(LOG_PROB_RANGE[0])} nats, over {median} + eps, in float64"
        rows.append(Recomputed(f"beta at percentile {row.beta_percentile}", row.beta, count / (median + EPS), note))
    return rows


def median_from_middle_beta() -> float:
    """Median of Eq. 7 in nats: the middle beta is ``median / (median + EPS)``, which its last digits still show."""
    return float(EPS / (1 - betas()[MIDDLE_BETA]) - EPS)


def grid_nats() -> list[int]:
    """Percentiles of |log-prob difference| behind the published betas (Eq. 7), in nats.

    Raises:
        DataError: they are not whole multiples of bfloat16's spacing.
    """
    spacing = bfloat16_spacing(LOG_PROB_RANGE[0])
    nats = betas() * (median_from_middle_beta() + EPS)
    multiples = np.rint(nats / spacing).astype(int)
    # The median is read from the tenth and later digits of a float64 near 1, so it carries about seven digits.
    if not np.allclose(nats, multiples * spacing, rtol=1e-6, atol=0):
        raise DataError(f"found {nats.tolist()} nats behind the published betas; expected multiples of {spacing}")
    return [int(value) for value in multiples * spacing]


def bfloat16_spacing(low: int) -> int:
    """Distance of neighbouring bfloat16 numbers from ``low``, a power of two of at least 128, up to twice ``low``."""
    return low >> (BFLOAT16_SIGNIFICAND_BITS - 1)
