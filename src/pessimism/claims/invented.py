"""Invented experiments, judged by the tests and the Holm procedure of the verdicts themselves.

The family is every claim about a table of seeds by betas. Values are counted in the direction that their claim states,
so that a rise always speaks for it. In a null experiment no quantity depends on beta, and every verdict but
``insufficient`` is false. Each seed shifts all its values by a random constant with the spread of the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pessimism.claims import statements
from pessimism.claims.trend_kinds import CorrelationAndGrowth, OverBeta, Trend
from pessimism.claims.verdicts import ALPHA, EITHER, mean_p
from pessimism.measures.trends import holm, page_trend_untied


@dataclass(frozen=True)
class InventedDesign:
    """One kind of invented experiment.

    Attributes:
        betas: ordered columns.
        seeds: rows.
        correlation: between the claims' values of one run.
        log_normal: exponentiate the values: skewed, positive, and spreads that differ with the seed's shift.
    """

    betas: int
    seeds: int
    correlation: float = 0.0
    log_normal: bool = False

    @property
    def stream(self) -> str:
        """Name of its random stream, spelled out so that no change to this class changes what is drawn."""
        size, kind = f"betas={self.betas}, seeds={self.seeds}", f"log_normal={self.log_normal}"
        return f"Design({size}, correlation={self.correlation}, {kind})"


def family() -> dict[str, OverBeta]:
    """The claims that are invented, by name, in the order of the statements."""
    return {claim.name: claim.kind for claim in statements.CLAIMS if isinstance(claim.kind, OverBeta)}


def one_sided_trends() -> list[str]:
    """Those that say of a quantity that it rises, or that it falls, and nothing else."""
    return [name for name, kind in family().items() if isinstance(kind, Trend) and kind.predicted != EITHER]


def two_sided() -> list[str]:
    """Those that have no opposite, because the paper states both directions."""
    return [name for name, kind in family().items() if kind.predicted == EITHER]


def conjunctions() -> list[str]:
    """Those that say two things."""
    return [name for name, kind in family().items() if isinstance(kind, CorrelationAndGrowth)]


def positions(names: Sequence[str]) -> list[int]:
    """Where these claims stand in the family."""
    return [position for position, name in enumerate(family()) if name in names]


def draw(design: InventedDesign, experiments: int, generator: np.random.Generator) -> np.ndarray:
    """(E, C, S, K) values without a trend: a part common to all claims of a run, one of each, and the seed's shift."""
    shape = (experiments, len(family()), design.seeds, design.betas)
    common = generator.normal(size=(experiments, 1, *shape[2:]))
    own = generator.normal(size=shape)
    shift = generator.normal(size=(experiments, 1, design.seeds, 1))
    values = math.sqrt(design.correlation) * common + math.sqrt(1 - design.correlation) * own + shift
    return np.exp(values) if design.log_normal else values


def p_values(values_E_C_S_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P-values (E, C) in the direction that each claim states, and opposite ones, of those claims that have one."""
    tests = [
        kind.test_tables(values_E_C_S_K[:, position] * (kind.predicted or 1))
        for position, kind in enumerate(family().values())
    ]
    opposites = [test.p_opposite_E for test in tests if test.p_opposite_E is not None]
    return np.stack([test.p_E for test in tests], axis=1), np.stack(opposites, axis=1)


def false_verdict_rates(
    design: InventedDesign, experiments: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Share of null families with a claim called supported, and with one called contradicted."""
    stated, opposite = p_values(draw(design, experiments, generator))
    supported, contradicted = (holm(ps) <= ALPHA for ps in (stated, opposite))
    return float(supported.any(axis=1).mean()), float(contradicted.any(axis=1).mean())


def growing_correlations(
    design: InventedDesign, effect: float, experiments: int, generator: np.random.Generator
) -> np.ndarray:
    """(E, S, K) values of a conjunction that rise with beta around a mean of 0; half of the rest is the seeds' shift.

    ``effect`` is the rise from one beta to the next, as in :func:`power`.
    """
    rise = effect * (np.arange(design.betas) - (design.betas - 1) / 2)
    return draw(design, experiments, generator)[:, positions(conjunctions())[0]] + rise


def growth_rates(values_E_S_K: np.ndarray) -> tuple[float, float]:
    """Share of a conjunction's tables with a p of at most 5 %: by its test, and by one with runs as independent."""
    kind = family()[conjunctions()[0]]
    runs_as_independent_E = mean_p(values_E_S_K.reshape(len(values_E_S_K), -1), "greater")
    by_run_E = np.maximum(page_trend_untied(values_E_S_K, "greater"), runs_as_independent_E)
    by_seed, by_run = (float((p_E <= ALPHA).mean()) for p_E in (kind.test_tables(values_E_S_K).p_E, by_run_E))
    return by_seed, by_run


def power(
    design: InventedDesign, effect: float, others: bool, experiments: int, generator: np.random.Generator
) -> float:
    """Chance that a one-sided trend claim with a trend is called supported in its family.

    Args:
        design: betas, seeds, dependence and distribution.
        effect: rise from one beta to the next, in standard deviations of a run's value without the seed's shift.
        others: whether all other claims have the trend too, which leaves Holm a smaller family to correct for.
        experiments: number of families.
        generator: draws them.
    """
    values = draw(design, experiments, generator)
    trends = positions(one_sided_trends())
    with_trend = trends if others else trends[:1]
    values[:, slice(None) if others else with_trend] += effect * np.arange(design.betas)
    return float((holm(p_values(values)[0]) <= ALPHA)[:, with_trend].mean())


def monte_carlo_error(rate: float, experiments: int) -> float:
    """Standard error of a rate counted in independent experiments."""
    return math.sqrt(rate * (1 - rate) / experiments)
