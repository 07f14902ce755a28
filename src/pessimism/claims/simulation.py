"""How often the verdicts would be wrong, and how often they would find a trend that is there: ``docs/statistics.md``.

Run from the root of the repository::

    python -m pessimism.claims.simulation

Invented experiments go through the tests and the Holm procedure of the verdicts themselves. In a null experiment no
quantity depends on beta, so that every verdict but ``insufficient`` is false; in one more kind C8's correlations grow
with beta around 0. Each seed shifts all its values by a random constant with the spread of the values themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from pessimism.claims.verdicts import ALPHA
from pessimism.experiment import rng
from pessimism.measures.trends import holm, page_smallest_p, page_trend_untied

SEED = 20260
EXPERIMENTS = 20_000
PAGE = Path("docs/statistics.md")
COMMAND = "python -m pessimism.claims.simulation"

CLAIMS = 8
TWO_SIDED = 4
CONJUNCTION = 7
ONE_SIDED = [claim for claim in range(CLAIMS) if claim != TWO_SIDED]
TRENDS = [claim for claim in ONE_SIDED if claim != CONJUNCTION]
CORRELATION = 0.8
NULL_DESIGNS = ((3, 3), (3, 5), (6, 5))
POWER_DESIGNS = ((3, 3), (3, 5), (3, 8), (6, 3), (6, 5), (6, 8))
STRONG, MODERATE, WEAK = 2.0, 1.0, 0.5


@dataclass(frozen=True)
class Design:
    """One kind of invented experiment.

    Attributes:
        betas: ordered columns.
        seeds: rows.
        correlation: between the eight claims' values of one run.
        log_normal: exponentiate the values: skewed, positive, and spreads that differ with the seed's shift.
    """

    betas: int
    seeds: int
    correlation: float = 0.0
    log_normal: bool = False


def draw(design: Design, experiments: int, generator: np.random.Generator) -> np.ndarray:
    """(E, C, S, K) values without a trend: a part common to all claims of a run, one of each, and the seed's shift."""
    shape = (experiments, CLAIMS, design.seeds, design.betas)
    common = generator.normal(size=(experiments, 1, *shape[2:]))
    own = generator.normal(size=shape)
    shift = generator.normal(size=(experiments, 1, design.seeds, 1))
    values = math.sqrt(design.correlation) * common + math.sqrt(1 - design.correlation) * own + shift
    return np.exp(values) if design.log_normal else values


def p_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P-values (E, C) of eight claims that predict a rise, and of the opposite (E, C - 1) without the two-sided one.

    One claim predicts both directions and has no opposite; one also says that the mean over seeds is above 0.
    """
    from scipy.stats import ttest_1samp

    experiments, claims, seeds, betas = values.shape
    tables = values.reshape(-1, seeds, betas)
    rises = page_trend_untied(tables, "greater").reshape(experiments, claims)
    falls = page_trend_untied(tables, "less").reshape(experiments, claims)
    seed_means = values[:, CONJUNCTION].mean(axis=-1)
    stated, opposite = rises.copy(), falls.copy()
    stated[:, TWO_SIDED] = np.minimum(1.0, 2 * np.minimum(rises, falls)[:, TWO_SIDED])
    for ps, alternative in ((stated, "greater"), (opposite, "less")):
        above = ttest_1samp(seed_means, 0.0, axis=1, alternative=alternative).pvalue
        ps[:, CONJUNCTION] = np.maximum(ps[:, CONJUNCTION], above)
    return stated, opposite[:, ONE_SIDED]


def false_verdict_rates(design: Design, experiments: int, generator: np.random.Generator) -> tuple[float, float]:
    """Share of null families with a claim called supported, and with one called contradicted."""
    stated, opposite = p_values(draw(design, experiments, generator))
    supported, contradicted = (holm(ps) <= ALPHA for ps in (stated, opposite))
    return float(supported.any(axis=1).mean()), float(contradicted.any(axis=1).mean())


def growing_correlations(design: Design, effect: float, experiments: int, generator: np.random.Generator) -> np.ndarray:
    """(E, S, K) values of C8 that rise with beta around a mean of 0; half of the other variance is the seeds' shift.

    ``effect`` is the rise from one beta to the next, as in :func:`power`.
    """
    rise = effect * (np.arange(design.betas) - (design.betas - 1) / 2)
    return draw(design, experiments, generator)[:, CONJUNCTION] + rise


def growth_rates(values: np.ndarray) -> tuple[float, float]:
    """Share of C8's tables (E, S, K) with a p of at most 5 %: by its test, and by one with runs as independent."""
    from scipy.stats import ttest_1samp

    grows = page_trend_untied(values, "greater")
    units = (values.mean(axis=-1), values.reshape(len(values), -1))
    above = [ttest_1samp(unit, 0.0, axis=1, alternative="greater").pvalue for unit in units]
    by_seed, by_run = (float((np.maximum(grows, p) <= ALPHA).mean()) for p in above)
    return by_seed, by_run


def power(design: Design, effect: float, others: bool, experiments: int, generator: np.random.Generator) -> float:
    """Chance that a claim with a trend is called supported in a family of eight.

    Args:
        design: betas, seeds, dependence and distribution.
        effect: rise from one beta to the next, in standard deviations of a run's value without the seed's shift.
        others: whether the other seven claims have the trend too, which leaves Holm a smaller family to correct for.
        experiments: number of families.
        generator: draws them.
    """
    values = draw(design, experiments, generator)
    with_trend = TRENDS if others else TRENDS[:1]
    rise = effect * np.arange(design.betas)
    if others:
        values += rise
    else:
        values[:, TRENDS[0]] += rise
    return float((holm(p_values(values)[0]) <= ALPHA)[:, with_trend].mean())


def null_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates of false verdicts of a family, one row per design, dependence and distribution."""
    rows = []
    for (betas, seeds), correlation, log_normal in product(NULL_DESIGNS, (0.0, CORRELATION), (False, True)):
        design = Design(betas, seeds, correlation, log_normal)
        supported, contradicted = false_verdict_rates(design, experiments, rng.generator(SEED, "null", repr(design)))
        rows.append(
            {
                "betas": betas,
                "seeds": seeds,
                "claims": f"correlated {correlation}" if correlation else "independent",
                "values": "log-normal" if log_normal else "normal",
                "falsely supported": supported,
                "falsely contradicted": contradicted,
            }
        )
    return pd.DataFrame(rows)


def growth_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates at which C8 is falsely found where its correlations grow around 0, one row per effect and design."""
    rows = []
    for effect, (betas, seeds) in product((STRONG, MODERATE, WEAK), NULL_DESIGNS):
        design = Design(betas, seeds)
        generator = rng.generator(SEED, "growth", repr(design), str(effect))
        by_seed, by_run = growth_rates(growing_correlations(design, effect, experiments, generator))
        rows.append(
            {
                "rise per beta": f"{effect:g} sd",
                "betas": betas,
                "seeds": seeds,
                "by seed means": by_seed,
                "by runs as if independent": by_run,
            }
        )
    return pd.DataFrame(rows)


def power_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Power of a trend claim within the family, one row per effect and design; independent claims, normal values."""
    rows = []
    for effect, (betas, seeds) in product((STRONG, MODERATE), POWER_DESIGNS):
        design = Design(betas, seeds)
        alone, together = (
            power(design, effect, others, experiments, rng.generator(SEED, "power", repr(design), others))
            for others in (False, True)
        )
        rows.append(
            {
                "rise per beta": f"{effect:g} sd",
                "betas": betas,
                "seeds": seeds,
                "smallest p": f"{page_smallest_p(seeds, betas):.1e}",
                "the only true claim": alone,
                "mean of six, all eight true": together,
            }
        )
    return pd.DataFrame(rows)


def monte_carlo_error(rate: float, experiments: int) -> float:
    """Standard error of a rate counted in independent experiments."""
    return math.sqrt(rate * (1 - rate) / experiments)


def page(null: pd.DataFrame, growth: pd.DataFrame, found: pd.DataFrame, experiments: int) -> str:
    """Text of docs/statistics.md."""
    worst = float(null[["falsely supported", "falsely contradicted"]].to_numpy().max())
    error_at_alpha, largest_error = (monte_carlo_error(rate, experiments) for rate in (ALPHA, 0.5))
    return f"""# What the verdicts can and cannot show

All tables are simulated. `{COMMAND}` writes this page, with seed {SEED} and
{experiments:,} experiments per row, and takes about a minute.

Each experiment has eight claims, judged as `claims/verdicts.py` judges them: Page's exact trend test, paired by seed,
for six; the same two-sided for C5; and for C8 the larger p of that test and of a t test of the seeds' means over betas.
Holm's procedure runs once over the eight p-values in the paper's direction and once over the seven opposite ones (C5
has none), each at {ALPHA:.0%}. Every seed shifts all its values by a constant with the spread of the values.

## False verdicts where nothing depends on beta

Share of families with at least one claim falsely called supported, and of families with one falsely called
contradicted. Each must stay at or below 5%. The level holds per direction: the chance of a false verdict of either kind
is at most the sum of the two, which can reach about 10%. The largest rate in one direction is {worst:.2%}; a rate of 5%
would have a Monte Carlo standard error of {error_at_alpha:.2%}. Rates stay far below 5% where seeds and betas allow few
orders: with 3 of each the smallest p is 1/216, which only just passes Holm's first step of 0.05/8.

{_markdown(null)}

C8 says two things, and above neither holds. Here its correlations do grow from each beta to the next, in standard
deviations of a single run's value around its seed's level, but around a mean of 0: C8 is still false. Half of the other
variance is the seeds'. Share of experiments in which C8's own p is at most {ALPHA:.0%}, which is all that Holm asks of
it where the other seven claims are supported. The largest is {growth["by seed means"].max():.2%}; an exact 5% has the
standard error named above. Runs of one seed may share prompts, so C8 tests the means of the seeds; the last column is
what a t test of all runs would find.

{_markdown(growth)}

## Power

Chance that a one-sided trend claim is called supported, where it is the only true one of the eight, and where all eight
have the trend: then the mean over the six one-sided trend claims, without C5 and C8. The rise from each beta to the
next is in standard deviations of a single run's value around its seed's level. The Monte Carlo standard error is at
most {largest_error:.2%}.

{_markdown(found)}

What the invented experiments leave out: values that are equal within a seed, such as onsets that never come. There the
test stays exact, because it permutes the values that were found, and its power is lower.
"""


def _markdown(table: pd.DataFrame) -> str:
    header = [list(table.columns), ["---"] * len(table.columns)]
    rows = [[f"{cell:.1%}" if isinstance(cell, float) else str(cell) for cell in row] for row in _rows(table)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*header, *rows])


def _rows(table: pd.DataFrame) -> Iterable[tuple[object, ...]]:
    return table.itertuples(index=False, name=None)


def main() -> None:
    """Write docs/statistics.md."""
    PAGE.write_text(page(null_table(), growth_table(), power_table(), EXPERIMENTS), encoding="utf-8")


if __name__ == "__main__":
    main()
