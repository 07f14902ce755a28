"""The primary claim over several worlds: its effect in each, per arm that learns, and what the worlds say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pessimism.claims.arm_contrasts import Contrast, asked
from pessimism.claims.kinds import all_finite
from pessimism.claims.statements import QUANTITY
from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.measures.contrasts import combination
from pessimism.measures.pooling import Heterogeneity, Pooled, heterogeneity, pool
from pessimism.scoring.columns import by_seed, over_beta


@dataclass(frozen=True)
class Effect:
    """The quantity at the highest beta minus that at the lowest, in one world.

    Attributes:
        estimate: of the mean over seeds, in the quantity's unit.
        error: its standard error from seeds; None with one seed.
        degrees: of freedom of the error; None with one seed, nan where the error is 0.
        values_S_2: (S, 2) what it is made of: lowest and highest beta of every seed.
    """

    estimate: float
    error: float | None
    degrees: float | None
    values_S_2: np.ndarray


@dataclass(frozen=True)
class Judged:
    """One contrast over all worlds.

    Attributes:
        effects: of each world, in their order.
        spread: between worlds; None where they have one seed, which tells nothing of its noise.
    """

    contrast: Contrast
    effects: Sequence[Effect]
    pooled: Pooled
    spread: Heterogeneity | None


def contrasts(params: Params) -> list[Contrast]:
    """Those of one run, then every other arm that learns, and each coupled one less the same with one penalty."""
    learning = [name for name in params.arms if not params.arm(name).is_placebo]
    pairs = [Contrast(coupled, fixed) for coupled in learning if (fixed := params.uncoupled(coupled))]
    return list(dict.fromkeys([*asked(params).values(), *map(Contrast, learning), *pairs]))


def end_labels(cells: pd.DataFrame, arm: str) -> tuple[str, str]:
    """Labels of the lowest and the highest beta.

    Raises:
        DataError: there are fewer than two betas.
    """
    labels = over_beta(cells, arm).sort_values("beta")["label"].unique()
    if len(labels) < 2:
        raise DataError(f"found {len(labels)} betas of arm {arm}; expected 2 or more: one has no trend")
    return str(labels[0]), str(labels[-1])


def effect(cells: pd.DataFrame, contrast: Contrast, paired: bool) -> Effect:
    """Effect of one world.

    Args:
        cells: plots/cells.csv.
        paired: whether the betas of a seed share its random draws: ``paired_seeds`` of the protocol.

    Raises:
        DataError: a run has no value, as where there is no placebo.
    """
    values_S_2 = by_seed(contrast.runs(cells), QUANTITY.name)[:, [0, -1]]
    if not all_finite(values_S_2):
        raise DataError(
            f"found runs of {contrast.name} without {QUANTITY.name}; expected one of each: list a placebo in "
            "params.yaml: arms"
        )
    if len(values_S_2) < 2:
        return Effect(float(values_S_2[0, 1] - values_S_2[0, 0]), None, None, values_S_2)
    found = combination(values_S_2[None], np.array([-1.0, 1.0]), paired)
    return Effect(float(found.estimate[0]), float(found.error[0]), float(found.degrees[0]), values_S_2)


def judge(contrast: Contrast, effects: Sequence[Effect]) -> Judged:
    """The effects of worlds of one design taken together."""
    estimates_W = np.array([found.estimate for found in effects])
    errors = [found.error for found in effects if found.error is not None]
    degrees = [found.degrees for found in effects if found.degrees is not None]
    spread = heterogeneity(estimates_W, np.array(errors), np.array(degrees)) if errors else None
    return Judged(contrast, effects, pool(estimates_W), spread)
