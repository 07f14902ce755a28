"""How often the verdicts would be wrong, and how often they would find a trend that is there: ``docs/statistics.md``.

Run from the root of the repository::

    python -m pessimism.claims.simulation

The page begins with the primary claim and all others. Its sentences count and name them as ``statements.CLAIMS`` does.
"""

from __future__ import annotations

import pessimism.machine.libraries  # noqa: F401

import textwrap
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from pessimism.claims import statements
from pessimism.claims.claims import secondary_claims
from pessimism.claims.contrast_power import ObservedArms, committed_arms, contrasts_sentence, questions_sentence
from pessimism.claims.curve_kinds import Exponent
from pessimism.claims.invented import conjunctions, family, monte_carlo_error, one_sided_trends, two_sided
from pessimism.claims.nulls import FEW_PROBLEMS, PROBLEMS, WORLD
from pessimism.claims.simulated_tables import EXPERIMENTS, PAIRING, RATES, SEED, SKEWED, Tables, tables
from pessimism.claims.trend_kinds import OverBeta
from pessimism.claims.verdicts import ALPHA, DIRECTIONS
from pessimism.claims.wording import listed, spelled
from pessimism.measures.contrasts import MOST_ENUMERATED, RESAMPLES
from pessimism.scoring.columns import ALL
from pessimism.scoring.measures import MEASURES

PAGE = Path("docs/statistics.md")
COMMAND = "python -m pessimism.claims.simulation"
PAGE_WIDTH = 120


def page(found: Tables, experiments: int, observed: ObservedArms | None = None) -> str:
    """Text of docs/statistics.md; ``observed`` as for :func:`tables`."""
    parts = [
        "# What the verdicts can and cannot show",
        _paragraph(_primary()),
        _paragraph(_error_rate(found.null)),
        _paragraph(questions_sentence()),
        _paragraph(
            f"All tables but the first are simulated. `{COMMAND}` writes this page, with seed {SEED} and "
            f"{experiments:,} experiments per row, in some minutes. An exact 5% has a Monte Carlo standard error of "
            f"{monte_carlo_error(ALPHA, experiments):.2%}."
        ),
        "## The claims",
        _paragraph(
            "What the paper says and where it says it, how that is tested, and by which quantity of the paper's "
            "measure and of the controlled one. `claims/statements.py` is where a claim is added."
        ),
        _markdown(claims_table()),
        "## The tests",
        _paragraph(_tests()),
        _paragraph(_guards()),
        _paragraph(_exponents()),
        "## False verdicts where runs of different betas do not differ",
        _paragraph(_invented()),
        _markdown(found.null),
        _paragraph(_growth(found.growth)),
        _markdown(found.growth),
        "## False verdicts where runs differ and nothing is hacked",
        _paragraph(_realistic()),
        _markdown(found.realistic),
        _paragraph(_zeros()),
        _paragraph(_worlds()),
        "## Where no test keeps its level",
        _paragraph(_skewed(found.skewed)),
        _markdown(found.skewed),
        "## Which test",
        _paragraph(_choice()),
        _markdown(found.choice),
        "## Power",
        _paragraph(_power(experiments)),
        _markdown(found.power),
        _paragraph(
            "What the invented experiments leave out: equal values, such as onsets that never come, where the tests "
            "keep their level and power is lower; and the guards in the tables of power."
        ),
        "## Power of the three contrasts",
        _paragraph(contrasts_sentence(observed)),
        *([] if found.contrasts is None else [_markdown(found.contrasts)]),
    ]
    return "\n\n".join(parts) + "\n"


def claims_table() -> pd.DataFrame:
    """Every claim: what the paper says and where, what is tested by each measure, and how."""
    return pd.DataFrame(
        [
            {
                "claim": claim.name,
                "statement": claim.statement,
                "in the paper": claim.source,
                "predicted": claim.kind.direction or "",
                **{f"test, seeds {words}": claim.kind.method(paired) for paired, words in PAIRING.items()},
                **{measure: _quantity(claim, measure) for measure in MEASURES},
            }
            for claim in statements.CLAIMS
        ]
    )


def _quantity(claim: statements.Claim, measure: str) -> str:
    """The column, its guard, and whether this is the primary claim."""
    quantity = claim.kind.quantity(measure)
    guard = f", and `{quantity.guard.name}`" if quantity.guard else ""
    return f"`{quantity.name}`{guard}{' (primary)' if claim.primary == measure else ''}"


def _primary() -> str:
    claim = statements.PRIMARY
    return (
        f"One claim is primary: {claim.name} by the {claim.primary} measure ({claim.statement}, "
        f"`{claim.kind.quantity(claim.primary).name}`). It was named before the runs that it judges, and is tested at "
        f"{ALPHA:.0%} by its own p, in either direction. All other claims are secondary: Holm's procedure corrects "
        "their p-values within each measure and direction. A secondary verdict is a finding to be repeated, whichever "
        "way it points."
    )


def _error_rate(null: pd.DataFrame) -> str:
    found = {name: float(null[heading].max()) for name, heading in RATES.items()}
    passes = 2 * (1 + len(MEASURES))
    return (
        f"Where nothing depends on β, the primary claim is falsely supported with probability at most {ALPHA:.0%}, "
        f"and falsely contradicted with at most {ALPHA:.0%}. So is some secondary claim, by each measure. Over both "
        f"measures and both directions these are {passes} passes of {ALPHA:.0%}: some verdict of a run is false with "
        f"probability at most {passes * ALPHA:.0%}. In the simulation of that, the first "
        f"table of rates, the largest are {found['primary']:.1%} for the primary claim in one direction and "
        f"{found['any']:.1%} for any verdict at all; where runs differ without hacking, some are higher, up to those "
        "of an effect of this world on each β."
    )


def _tests() -> str:
    return (
        "The linear contrast weighs each β's mean by the position of the β. With three betas these weights are -1, 0 "
        "and 1: the contrast is the highest β's mean minus the lowest's, and a middle β beyond both is not seen by it. "
        "A trend is found where two tests of it "
        "both hold, so that its p is the larger of theirs. The first permutes the runs: within each seed where "
        "the protocol pairs seeds (`paired_seeds: true`, the default), between betas where it does not. Up to "
        f"{MOST_ENUMERATED:,} arrangements are enumerated, which makes it exact; above, {RESAMPLES:,} are drawn, the "
        "same for values in the same order, whatever their unit. The second is a t test of the contrast: Welch's where "
        "seeds are not paired, over the seeds' own contrasts where they are. It holds its level where spreads "
        "differ. Values that are not all finite are replaced by their ranks. Where seeds are not paired, their numbers "
        "are labels, and no verdict depends on them."
    )


def _guards() -> str:
    guarded: dict[str, list[str]] = {}
    for claim, measure in product(statements.CLAIMS, MEASURES):
        guard = claim.kind.quantity(measure).guard
        if guard is not None:
            guarded.setdefault(f"`{guard.name}` {DIRECTIONS[guard.predicted]}", []).append(f"{claim.name} ({measure})")
    required = listed([f"for {listed(names)} that {holds}" for holds, names in guarded.items()])
    return (
        f"Some claims have a guard, whose trend must hold too: {required}. A clipped area grows with noise, and an "
        "onset comes earlier with it. The paper's gap divides each reward by its start, so that two rewards which "
        "improve alike leave a gap. Checkpoints of other betas differ in the ensemble's std before they learn online. "
        "The guards are 0 on average for a run that does not change, or whose rewards improve alike, so that such a "
        "claim is refused. Without a placebo these claims have no test."
    )


def _exponents() -> str:
    names = [claim.name for claim in statements.CLAIMS if isinstance(claim.kind, Exponent)]
    return (
        f"{listed(names)} {_verb(names, 'is', 'are')} tested in the paper's direction alone, so that nothing "
        f"contradicts {_verb(names, 'it', 'them')}. The fit is bounded and not linear: where AUGC rises less than its "
        "noise, exponents crowd below 1 with too small an error, and a test of the opposite would be false in up to a "
        "fifth of experiments ([`decisions.md`](decisions.md)). Intervals of the exponent are too short there too."
    )


def _invented() -> str:
    both_ways = two_sided()
    others = [claim.name for claim in statements.CLAIMS if claim.name not in family()]
    by_measure = listed([f"{spelled(secondary_claims(measure, 3))} by the {measure} measure" for measure in MEASURES])
    return (
        f"Each experiment has {spelled(len(family()))} claims by each measure, judged as `claims/verdicts.py` judges "
        f"them: {spelled(len(one_sided_trends()))} trends in one direction, {listed(both_ways)} in either, and "
        f"{listed(conjunctions())} by the larger p of its trend and of a t test of its mean. {listed(others)}, about "
        f"curves over beta, are not among them. Secondary claims with a p-value: {by_measure}. Holm's procedure runs "
        f"once over their p-values in the paper's direction and once over the opposite ones ({listed(both_ways)} "
        f"{_verb(both_ways, 'has', 'have')} none). The two measures are independent here, which is the worst case. "
        "Where seeds are paired every seed shifts its values by a constant with their spread."
    )


def _growth(growth: pd.DataFrame) -> str:
    name, *same = conjunctions()
    text = (
        f"{name} says two things, and above neither holds. Here its values do grow from each beta to the next, in "
        f"standard deviations of a single run's value, but around a mean of 0: {name} is still false. Share of "
        f"experiments in which {name}'s own p is at most {ALPHA:.0%}, which is all that Holm asks of it where the "
        f"other claims are supported. The largest is {growth['falsely found'].max():.2%}."
    )
    return f"{text} {listed(same)} {_verb(same, 'is', 'are')} tested in the same way." if same else text


def _realistic() -> str:
    return (
        "Here runs have rewards over steps, in a design of three betas. No mean changes but where both rewards "
        f"improve alike. The controlled gap takes means of {PROBLEMS} held-out problems, or of {FEW_PROBLEMS} where "
        "the row says so. Where seeds are paired, half of the noise's variance is the seed's, the same at all betas. "
        "Each cell is the share of experiments in which the claim's own p is at most "
        f"{ALPHA:.0%}, in the direction that has more; in brackets, what Page's test paired by seed finds without a "
        "guard, and for C1 by the controlled measure on the clipped area. `claims/nulls.py` draws the runs."
    )


def _zeros() -> str:
    kinds = {claim.name: claim.kind for claim in statements.CLAIMS if isinstance(claim.kind, OverBeta)}
    events = [name for name, kind in kinds.items() if ALL[kind.controlled.name].event]
    return (
        f"Where {listed(events)} by the controlled measure has 0.0% twice, no onset ever comes: means of {PROBLEMS} "
        "problems do not reach the threshold by noise alone, all runs are equal, and their p is 1. Rates far "
        "below 5% are those of two trends by chance at once, that of the claim and that of its guard."
    )


def _skewed(skewed: pd.DataFrame) -> str:
    return (
        "Here values are log-normal with one mean at every β, and the standard deviation of their logarithm is "
        f"{listed([f'{spread:g}' for spread in SKEWED])}: spread and skewness both grow with β. Most values of the "
        "skewed β then lie below its mean, so that a fall is found in up to "
        f"{skewed['a fall'].max():.1%} of experiments at a level of {ALPHA:.0%}, and more seeds do not mend it. No "
        "verdict on a positive, skewed quantity, such as a clipped area or an entropy, can be told from this. The "
        "report shows every run's value: look whether a few runs carry the mean. A signed area above the placebo is a "
        "difference of two runs, and less skewed."
    )


def _worlds() -> str:
    return (
        f"The last null, {WORLD}, is no fault that a test could see: base policy and preference data are the same for "
        "all seeds (under `ensembles: shared` the reward ensemble, too), so that what they do to one β looks like a "
        "trend. More seeds make it worse. **Every verdict therefore holds in this world**, of one base policy and one "
        "data set. A claim about β itself needs the experiment repeated with others: `root_seed` changes all of them."
    )


def _choice() -> str:
    return (
        "Share of experiments that a test calls a rise at a one-sided 5%, with three betas, normal values and no "
        "seeds' levels. Rows without a rise must stay at 5%. The permutation between betas has more power than "
        "Jonckheere-Terpstra, and than Page's test, which pairs what is not paired; but where spreads differ no "
        "permutation keeps its level. With Welch's t beside it the level is kept, at a cost in power that is gone at "
        "eight seeds. The same holds within seeds, where the protocol pairs them."
    )


def _power(experiments: int) -> str:
    trends = one_sided_trends()
    return (
        "Chance that a claim is called supported, with three betas: any claim as it was judged before, by Page's test "
        f"at Holm's first step over {spelled(len(family()))}; the primary claim; a secondary trend claim beside it, "
        f"the others being false; and the mean over the secondary ones of {listed(trends)} where all claims have the "
        "trend. The rise from each beta to the next is in standard deviations of a single run's value, around its "
        f"seed's level where seeds are paired. The Monte Carlo standard error is at most "
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
    """Write docs/statistics.md, with the spread and the effects of the run in plots/cells.csv."""
    observed = committed_arms()
    PAGE.write_text(page(tables(EXPERIMENTS, observed), EXPERIMENTS, observed), encoding="utf-8")


if __name__ == "__main__":
    main()
