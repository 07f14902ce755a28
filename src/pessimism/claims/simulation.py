"""How often the verdicts would be wrong, and how often they would find a trend that is there: ``docs/statistics.md``.

Run from the root of the repository::

    python -m pessimism.claims.simulation

The page begins with the claims themselves. Its sentences count and name them as ``statements.CLAIMS`` has them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from pessimism.claims import statements
from pessimism.claims.invented import (
    InventedDesign,
    conjunctions,
    false_verdict_rates,
    family,
    growing_correlations,
    growth_rates,
    monte_carlo_error,
    one_sided_trends,
    power,
    two_sided,
)
from pessimism.claims.verdicts import ALPHA
from pessimism.claims.wording import listed, spelled
from pessimism.experiment import rng
from pessimism.measures.trends import page_smallest_p
from pessimism.scoring.measures import MEASURES

SEED = 20260
EXPERIMENTS = 20_000
PAGE = Path("docs/statistics.md")
COMMAND = "python -m pessimism.claims.simulation"
PAGE_WIDTH = 120

CORRELATION = 0.8
NULL_DESIGNS = ((3, 3), (3, 5), (6, 5))
POWER_DESIGNS = ((3, 3), (3, 5), (3, 8), (6, 3), (6, 5), (6, 8))
STRONG, MODERATE, WEAK = 2.0, 1.0, 0.5


def claims_table() -> pd.DataFrame:
    """Every claim: what the paper says and where, what is tested by each measure, and how."""
    return pd.DataFrame(
        [
            {
                "claim": claim.name,
                "statement": claim.statement,
                "in the paper": claim.source,
                "predicted": claim.kind.direction or "",
                "test": claim.kind.method,
                **{measure: f"`{claim.kind.quantity(measure).name}`" for measure in MEASURES},
            }
            for claim in statements.CLAIMS
        ]
    )


def null_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates of false verdicts of a family, one row per design, dependence and distribution."""
    rows = []
    for (betas, seeds), correlation, log_normal in product(NULL_DESIGNS, (0.0, CORRELATION), (False, True)):
        design = InventedDesign(betas, seeds, correlation, log_normal)
        supported, contradicted = false_verdict_rates(design, experiments, rng.generator(SEED, "null", design.stream))
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
    """Rates at which a conjunction is falsely found where its correlations grow around 0, by effect and design."""
    rows = []
    for effect, (betas, seeds) in product((STRONG, MODERATE, WEAK), NULL_DESIGNS):
        design = InventedDesign(betas, seeds)
        generator = rng.generator(SEED, "growth", design.stream, str(effect))
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
        design = InventedDesign(betas, seeds)
        alone, together = (
            power(design, effect, others, experiments, rng.generator(SEED, "power", design.stream, others))
            for others in (False, True)
        )
        rows.append(
            {
                "rise per beta": f"{effect:g} sd",
                "betas": betas,
                "seeds": seeds,
                "smallest p": f"{page_smallest_p(seeds, betas):.1e}",
                "the only true claim": alone,
                f"mean of {spelled(len(one_sided_trends()))}, all {spelled(len(family()))} true": together,
            }
        )
    return pd.DataFrame(rows)


def page(null: pd.DataFrame, growth: pd.DataFrame, found: pd.DataFrame, experiments: int) -> str:
    """Text of docs/statistics.md."""
    parts = [
        "# What the verdicts can and cannot show",
        _paragraph(
            f"All tables but the first are simulated. `{COMMAND}` writes this page, with seed {SEED} and "
            f"{experiments:,} experiments per row, and takes about a minute."
        ),
        "## The claims",
        _paragraph(
            "What the paper says and where it says it, how that is tested, and by which quantity of the paper's "
            "measure and of the controlled one. `claims/statements.py` is where a claim is added."
        ),
        _markdown(claims_table()),
        "## The invented experiments",
        _paragraph(_invented()),
        "## False verdicts where nothing depends on beta",
        _paragraph(_null(null, experiments)),
        _markdown(null),
        _paragraph(_growth(growth)),
        _markdown(growth),
        "## Power",
        _paragraph(_power(experiments)),
        _markdown(found),
        _paragraph(
            "What the invented experiments leave out: values that are equal within a seed, such as onsets that never "
            "come. There the test stays exact, because it permutes the values that were found, and its power is lower."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _invented() -> str:
    """Which claims are invented, how they are tested, and how large each pass of Holm's procedure is."""
    both_ways = two_sided()
    others = [claim.name for claim in statements.CLAIMS if claim.name not in family()]
    tests = [
        f"Page's exact trend test, paired by seed, for {spelled(len(one_sided_trends()))}",
        f"the same two-sided for {listed(both_ways)}",
        f"and for {listed(conjunctions())} the larger p of that test and of a t test of the seeds' means over betas",
    ]
    count = spelled(len(family()))
    return (
        f"Each experiment has {count} claims, judged as `claims/verdicts.py` judges them: {'; '.join(tests)}. "
        f"{listed(others)}, about curves over beta, are not among them. Holm's procedure runs once over the {count} "
        f"p-values in the paper's direction and once over the {spelled(len(family()) - len(both_ways))} opposite ones "
        f"({listed(both_ways)} {_verb(both_ways, 'has', 'have')} none), each at {ALPHA:.0%}. Every seed shifts all its "
        "values by a constant with the spread of the values."
    )


def _null(null: pd.DataFrame, experiments: int) -> str:
    worst = float(null[["falsely supported", "falsely contradicted"]].to_numpy().max())
    passes = "only just passes" if len(family()) * page_smallest_p(3, 3) <= ALPHA else "does not pass"
    return (
        "Share of families with at least one claim falsely called supported, and of families with one falsely called "
        f"contradicted. Each must stay at or below {ALPHA:.0%}. The level holds per direction: the chance of a false "
        "verdict of either kind is at most the sum of the two, which can reach about 10%. The largest rate in one "
        f"direction is {worst:.2%}; a rate of {ALPHA:.0%} would have a Monte Carlo standard error of "
        f"{monte_carlo_error(ALPHA, experiments):.2%}. Rates stay far below {ALPHA:.0%} where seeds and betas allow "
        f"few orders: with 3 of each the smallest p is 1/{1 / page_smallest_p(3, 3):.0f}, which {passes} Holm's first "
        f"step of {ALPHA}/{len(family())}."
    )


def _growth(growth: pd.DataFrame) -> str:
    name, *same = conjunctions()
    text = (
        f"{name} says two things, and above neither holds. Here its correlations do grow from each beta to the next, "
        "in standard deviations of a single run's value around its seed's level, but around a mean of 0: "
        f"{name} is still false. Half of the other variance is the seeds'. Share of experiments in which {name}'s own "
        f"p is at most {ALPHA:.0%}, which is all that Holm asks of it where the other {spelled(len(family()) - 1)} "
        f"claims are supported. The largest is {growth['by seed means'].max():.2%}; an exact {ALPHA:.0%} has the "
        f"standard error named above. Runs of one seed may share prompts, so {name} tests the means of the seeds; the "
        "last column is what a t test of all runs would find."
    )
    return f"{text} {listed(same)} {_verb(same, 'is', 'are')} tested in the same way." if same else text


def _power(experiments: int) -> str:
    count, trends = spelled(len(family())), one_sided_trends()
    others = [name for name in family() if name not in trends]
    return (
        f"Chance that a one-sided trend claim is called supported, where it is the only true one of the {count}, and "
        f"where all {count} have the trend: then the mean over the {spelled(len(trends))} one-sided trend claims, "
        f"without {listed(others)}. The rise from each beta to the next is in standard deviations of a single run's "
        "value around its seed's level. The Monte Carlo standard error is at most "
        f"{monte_carlo_error(0.5, experiments):.2%}."
    )


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


def _paragraph(text: str) -> str:
    return textwrap.fill(text, PAGE_WIDTH, break_long_words=False, break_on_hyphens=False)


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
