"""Invented experiments, judged by the tests and the Holm procedure of the verdicts themselves.

The family is every claim about a table of seeds by betas. Values are counted in the direction that their claim states,
so that a rise always speaks for it. In a null experiment no quantity depends on beta, and every verdict but
``insufficient`` is false. Where seeds are paired each seed shifts all its values by a random constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pessimism.claims import statements
from pessimism.claims.trend_kinds import LevelAndTrend, OverBeta, Trend
from pessimism.claims.verdicts import ALPHA, EITHER
from pessimism.measures.contrasts import between_betas, permutation_ps, within_seeds
from pessimism.measures.trends import holm
from pessimism.scoring.measures import CONTROLLED


@dataclass(frozen=True)
class InventedDesign:
    """One kind of invented experiment.

    Attributes:
        betas: ordered columns.
        seeds: rows.
        paired: whether seeds are paired, and shift their values by a constant with the spread of the values.
        correlation: between the claims' values of one run.
        log_normal: exponentiate the values: skewed and positive.
    """

    betas: int
    seeds: int
    paired: bool = False
    correlation: float = 0.0
    log_normal: bool = False

    @property
    def stream(self) -> str:
        """Name of its random stream, spelled out so that no change to this class changes what is drawn."""
        size, kind = f"betas={self.betas}, seeds={self.seeds}", f"log_normal={self.log_normal}"
        return f"Design({size}, paired={self.paired}, correlation={self.correlation}, {kind})"


@dataclass(frozen=True)
class FalseVerdicts:
    """How often null experiments give a false verdict, each a share of experiments.

    Attributes:
        primary: the primary claim is called supported or contradicted, the larger of the two.
        supported: a secondary claim of one measure is called supported.
        contradicted: a secondary claim of one measure is called contradicted.
        any: a claim of either measure has a false verdict of either kind.
    """

    primary: float
    supported: float
    contradicted: float
    any: float


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
    return [name for name, kind in family().items() if isinstance(kind, LevelAndTrend)]


def positions(names: Sequence[str]) -> list[int]:
    """Where these claims stand in the family."""
    return [position for position, name in enumerate(family()) if name in names]


def draw(design: InventedDesign, experiments: int, generator: np.random.Generator) -> np.ndarray:
    """(E, C, S, K) values without a trend: a part common to all claims of a run, one of each, and a paired shift."""
    shape = (experiments, len(family()), design.seeds, design.betas)
    common = generator.normal(size=(experiments, 1, *shape[2:]))
    own = generator.normal(size=shape)
    values = math.sqrt(design.correlation) * common + math.sqrt(1 - design.correlation) * own
    if design.paired:
        values += generator.normal(size=(experiments, 1, design.seeds, 1))
    return np.exp(values) if design.log_normal else values


def p_values(values_E_C_S_K: np.ndarray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """P-values (E, C) in the direction that each claim states, and opposite ones; 1 for a claim that has none."""
    tests = [
        kind.test_tables(values_E_C_S_K[:, position] * (kind.predicted or 1), paired)
        for position, kind in enumerate(family().values())
    ]
    opposites = [np.ones(len(values_E_C_S_K)) if test.p_opposite_E is None else test.p_opposite_E for test in tests]
    return np.stack([test.p_E for test in tests], axis=1), np.stack(opposites, axis=1)


def decisions(values_E_C_S_K: np.ndarray, measure: str, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """(E, C) whether each claim is called supported, and contradicted, by this measure."""
    names = list(family())
    secondary = [place for place, name in enumerate(names) if name != statements.primary_by(measure)]
    stated, opposite = p_values(values_E_C_S_K, paired)
    stated[:, secondary] = holm(stated[:, secondary])
    with_opposite = [place for place in secondary if names[place] not in two_sided()]
    opposite[:, with_opposite] = holm(opposite[:, with_opposite])
    return stated <= ALPHA, opposite <= ALPHA


def false_verdicts(design: InventedDesign, experiments: int, generator: np.random.Generator) -> FalseVerdicts:
    """Rates of false verdicts where nothing depends on beta; the two measures' values are independent."""
    controlled, paper = (draw(design, experiments, generator) for _ in range(2))
    primary = positions([str(statements.primary_by(CONTROLLED))])
    found = decisions(controlled, CONTROLLED, design.paired)
    others = decisions(paper, "", design.paired)
    rates = [verdict[:, primary].mean() for verdict in found]
    supported, contradicted = (verdict.any(axis=1) for verdict in others)
    every = np.concatenate([*found, *others], axis=1).any(axis=1)
    return FalseVerdicts(*(float(rate) for rate in (max(rates), supported.mean(), contradicted.mean(), every.mean())))


def growing_correlations(
    design: InventedDesign, effect: float, experiments: int, generator: np.random.Generator
) -> np.ndarray:
    """(E, S, K) values of a conjunction that rise with beta around a mean of 0: the claim is still false.

    ``effect`` is the rise from one beta to the next, as in :func:`power`.
    """
    rise = effect * (np.arange(design.betas) - (design.betas - 1) / 2)
    return draw(design, experiments, generator)[:, positions(conjunctions())[0]] + rise


def growth_rate(values_E_S_K: np.ndarray, paired: bool) -> float:
    """Share of a conjunction's tables with a p of at most 5 %."""
    kind = family()[conjunctions()[0]]
    return float((kind.test_tables(values_E_S_K, paired).p_E <= ALPHA).mean())


def power(
    design: InventedDesign, effect: float, others: bool, experiments: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Chance that the primary claim, and that a secondary one-sided trend claim, is called supported.

    Args:
        design: betas, seeds, dependence and distribution.
        effect: rise from one beta to the next, in standard deviations of a run's value without the seed's shift.
        others: whether all claims have the trend, which leaves Holm a smaller family; else the primary claim and one
            secondary one have it.
        experiments: number of families.
        generator: draws them.
    """
    values = draw(design, experiments, generator)
    primary = positions([str(statements.primary_by(CONTROLLED))])
    trends = [place for place in positions(one_sided_trends()) if place not in primary]
    with_trend = trends if others else trends[:1]
    values[:, slice(None) if others else [*primary, *with_trend]] += effect * np.arange(design.betas)
    supported, _ = decisions(values, CONTROLLED, design.paired)
    return float(supported[:, primary].mean()), float(supported[:, with_trend].mean())


def permutation_rises(values_E_S_K: np.ndarray, paired: bool) -> np.ndarray:
    """(E,) p of a rise by the permutation of the linear contrast alone, without the t test beside it."""
    _, seeds, betas = values_E_S_K.shape
    if paired:
        centered = values_E_S_K - values_E_S_K.mean(axis=-1, keepdims=True)
        return permutation_ps(centered.reshape(len(centered), -1), within_seeds(seeds, betas))[0]
    runs_E_N = values_E_S_K.swapaxes(1, 2).reshape(len(values_E_S_K), -1)
    return permutation_ps(runs_E_N - runs_E_N.mean(axis=1, keepdims=True), between_betas((seeds,) * betas))[0]


def page_rises(values_E_S_K: np.ndarray) -> np.ndarray:
    """(E,) p of a rise by Page's test, which pairs seeds: the contrast of the ranks within seeds."""
    from scipy.stats import rankdata

    return permutation_rises(rankdata(values_E_S_K, axis=-1), paired=True)


def jonckheere_rises(values_E_S_K: np.ndarray) -> np.ndarray:
    """(E,) p of a rise by Jonckheere-Terpstra, which pairs nothing, of values without ties."""
    _, seeds, betas = values_E_S_K.shape
    runs_E_N = values_E_S_K.swapaxes(1, 2).reshape(len(values_E_S_K), -1)
    weights_P_N = between_betas((seeds,) * betas).weights
    # The weights say which beta each run is dealt to; sorted by beta, the runs' numbers are their ranks.
    null = np.sort(_ordered_pairs(weights_P_N.argsort(axis=1, kind="stable").astype(float), seeds))
    observed = _ordered_pairs(runs_E_N, seeds)
    return np.asarray(1 - np.searchsorted(null, observed) / len(null))


def _ordered_pairs(runs: np.ndarray, seeds: int) -> np.ndarray:
    """Pairs of runs of different betas that stand in the betas' order, over the last axis."""
    beta_N = np.arange(runs.shape[1]) // seeds
    earlier, later = np.nonzero(beta_N[:, None] < beta_N)
    return np.asarray((runs[:, earlier] < runs[:, later]).sum(axis=1))


def monte_carlo_error(rate: float, experiments: int) -> float:
    """Standard error of a rate counted in independent experiments."""
    return math.sqrt(rate * (1 - rate) / experiments)
