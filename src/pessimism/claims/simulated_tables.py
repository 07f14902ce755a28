"""The simulated tables of ``docs/statistics.md``: rates of false verdicts, what each test finds, and power."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd

from pessimism.claims.contrast_power import ObservedArms, contrast_table
from pessimism.claims.invented import (
    InventedDesign,
    draw,
    false_verdicts,
    family,
    growing_correlations,
    growth_rate,
    jonckheere_rises,
    page_rises,
    permutation_rises,
    power,
)
from pessimism.claims.nulls import NULLS, false_rates
from pessimism.claims.verdicts import ALPHA
from pessimism.experiment import rng
from pessimism.measures.contrasts import smallest_p, trend_ps

SEED = 20260
EXPERIMENTS = 5_000

CORRELATION = 0.8
NULL_DESIGNS = ((3, 3), (3, 5), (6, 5))
NULL_SEEDS = (3, 5, 10)
SKEWED_SEEDS = (3, 5, 10, 20)
SKEWED = (0.25, 0.5, 1.0)
"""Standard deviation of the logarithm, by beta."""
POWER_SEEDS = (3, 5, 8)
STRONG, MODERATE, WEAK = 2.0, 1.0, 0.5
EFFECTS = (WEAK, MODERATE, STRONG)
SPREADS = ((1.0, 1.0, 1.0), (1.0, 2.0, 4.0), (4.0, 1.0, 4.0))
PAIRING = {False: "not paired", True: "paired"}


@dataclass(frozen=True)
class Tables:
    """Every simulated table of the page."""

    null: pd.DataFrame
    realistic: pd.DataFrame
    skewed: pd.DataFrame
    growth: pd.DataFrame
    choice: pd.DataFrame
    power: pd.DataFrame
    contrasts: pd.DataFrame | None


def tables(experiments: int = EXPERIMENTS, observed: ObservedArms | None = None) -> Tables:
    """All of them, each row of so many experiments; that of the contrasts where a run of both arms is given."""
    return Tables(
        null_table(experiments),
        realistic_table(experiments),
        skewed_table(experiments),
        growth_table(experiments),
        choice_table(experiments),
        power_table(experiments),
        None if observed is None else contrast_table(observed, experiments, SEED),
    )


def null_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates of false verdicts where runs of different betas do not differ, one row per design and distribution."""
    rows = []
    for paired, (betas, seeds), (correlation, log_normal) in product(
        PAIRING, NULL_DESIGNS, ((0.0, False), (CORRELATION, True))
    ):
        design = InventedDesign(betas, seeds, paired, correlation, log_normal)
        found = false_verdicts(design, experiments, rng.generator(SEED, "null", design.stream))
        rows.append(
            {
                "seeds are": PAIRING[paired],
                "betas": betas,
                "seeds": seeds,
                "claims": f"correlated {correlation}" if correlation else "independent",
                "values": "log-normal" if log_normal else "normal",
                **{RATES[name]: rate for name, rate in asdict(found).items()},
            }
        )
    return pd.DataFrame(rows)


RATES = {
    "primary": "primary claim, either direction alone",
    "supported": "a secondary one of a measure, supported",
    "contradicted": "the same, contradicted",
    "any": "any verdict, both measures and directions",
}


def realistic_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates at which a claim about rewards is falsely found where runs differ without hacking, by null and seeds."""
    rows = []
    for null, paired, seeds in product(NULLS, PAIRING, NULL_SEEDS):
        generator = rng.generator(SEED, "realistic", null.name, PAIRING[paired], str(seeds))
        found = false_rates(null, seeds, experiments, generator, paired)
        rates = {f"{rate.claim}, {rate.measure}": f"{rate.now:.1%} ({rate.before:.1%})" for rate in found}
        rows.append({"what differs between betas": null.name, "seeds are": PAIRING[paired], "seeds": seeds, **rates})
    return pd.DataFrame(rows)


def skewed_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates at which a trend is falsely found in log-normal values of one mean, whose spread and skewness grow."""
    rows = []
    for paired, seeds in product(PAIRING, SKEWED_SEEDS):
        generator = rng.generator(SEED, "skewed", PAIRING[paired], str(seeds))
        logs = np.array(SKEWED) * generator.normal(size=(experiments, seeds, len(SKEWED)))
        found = trend_ps(np.exp(logs - np.array(SKEWED) ** 2 / 2), paired)
        rates = {name: float((p_E <= ALPHA).mean()) for name, p_E in zip(("a rise", "a fall"), found, strict=True)}
        rows.append({"seeds are": PAIRING[paired], "seeds": seeds, **rates})
    return pd.DataFrame(rows)


def growth_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Rates at which a conjunction is falsely found where its correlations grow around 0, by effect and design."""
    rows = []
    for paired, effect, (betas, seeds) in product(PAIRING, EFFECTS, NULL_DESIGNS):
        design = InventedDesign(betas, seeds, paired)
        generator = rng.generator(SEED, "growth", design.stream, str(effect))
        rate = growth_rate(growing_correlations(design, effect, experiments, generator), paired)
        rows.append(
            {
                "seeds are": PAIRING[paired],
                "rise per beta": f"{effect:g} sd",
                "betas": betas,
                "seeds": seeds,
                "falsely found": rate,
            }
        )
    return pd.DataFrame(rows)


def choice_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Share of experiments that each test calls a rise at a one-sided 5 %, unpaired and with three betas."""
    rows = []
    for seeds, (spreads, effect) in product(
        POWER_SEEDS, [*((spreads, 0.0) for spreads in SPREADS), *((SPREADS[0], effect) for effect in EFFECTS)]
    ):
        generator = rng.generator(SEED, "choice", str(seeds), str(spreads), str(effect))
        values = generator.normal(size=(experiments, seeds, 3)) * spreads + effect * np.arange(3)
        both_hold, _ = trend_ps(values, paired=False)
        ps = {
            "Page, paired by seed": page_rises(values),
            "Jonckheere-Terpstra": jonckheere_rises(values),
            "permutation between betas": permutation_rises(values, paired=False),
            "the same, and Welch's t": both_hold,
            "permutation within seeds": permutation_rises(values, paired=True),
            "the same, and t over seeds": trend_ps(values, paired=True)[0],
        }
        rows.append(
            {
                "rise per beta": f"{effect:g} sd",
                "spread by beta": ", ".join(f"{spread:g}" for spread in spreads),
                "seeds": seeds,
                **{name: float((p_E <= ALPHA).mean()) for name, p_E in ps.items()},
            }
        )
    return pd.DataFrame(rows)


def power_table(experiments: int = EXPERIMENTS) -> pd.DataFrame:
    """Power at three betas, one row per effect and design; independent claims, normal values."""
    rows = []
    for paired, effect, seeds in product(PAIRING, EFFECTS, POWER_SEEDS):
        design = InventedDesign(3, seeds, paired)
        alone, together = (
            power(design, effect, others, experiments, rng.generator(SEED, "power", design.stream, others))
            for others in (False, True)
        )
        generator = rng.generator(SEED, "power", design.stream, "page")
        before = page_rises(draw(design, experiments, generator)[:, 0] + effect * np.arange(3))
        rows.append(
            {
                "seeds are": PAIRING[paired],
                "rise per beta": f"{effect:g} sd",
                "seeds": seeds,
                "smallest p": f"{smallest_p(seeds, 3, paired):.1e}",
                "any claim before": float((before <= ALPHA / len(family())).mean()),
                "primary claim": alone[0],
                "secondary claim, one true": alone[1],
                "secondary claims, all true": together[1],
            }
        )
    return pd.DataFrame(rows)
