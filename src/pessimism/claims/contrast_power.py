"""How often the three contrasts of a run would be found at half of the observed effect, and falsely without any.

Invented experiments resemble a finished run: normal values with the covariance that its seeds show, between betas and
between arms, so that what the arms of a checkpoint share is shared here too. The means of an arm keep their average
over betas; what lies between betas is multiplied by a share: 1 is the observed effect, 0 none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pessimism.claims.arm_contrasts import asked, check_contrasts
from pessimism.claims.verdicts import ALPHA
from pessimism.claims.wording import COUPLING, DOORS, OFFLINE, TOTAL
from pessimism.errors import DataError
from pessimism.experiment import rng
from pessimism.experiment.params import Params, load_params
from pessimism.measures.contrasts import trend_ps
from pessimism.measures.power import POWER, spread_root
from pessimism.scoring.columns import by_seed
from pessimism.scoring.scores import read_cells

HALF = 0.5
SHARES = (0.0, HALF, 1.0)
ANY = "any of the three"
SEEDS = (5, 10, 15, 20, 25, 30, 40, 50, 60)
"""Numbers of seeds among which the smallest with that power is sought."""


@dataclass(frozen=True)
class ObservedArms:
    """What a finished run shows.

    Attributes:
        values_A_S_K: (2, S, K) quantity of the coupled and of the uncoupled arm, one row per seed, betas ascending.
        paired: whether the runs of a row belong together.
        effects: (3,) highest beta minus lowest, in the order of ``DOORS``.
        spreads: (3,) standard deviation of it between seeds.
    """

    values_A_S_K: np.ndarray
    paired: bool
    effects: tuple[float, ...]
    spreads: tuple[float, ...]


def observed_arms(cells: pd.DataFrame, params: Params, paired: bool) -> ObservedArms | None:
    """Both arms of a run; None where its arms do not tell the doors apart.

    Raises:
        DataError: a run has no value, or there are fewer than two seeds or betas.
    """
    found = asked(params)
    if OFFLINE not in found:
        return None
    contrasts = check_contrasts(cells, params, paired)
    values = [by_seed(found[question].runs(cells), contrasts["quantity"]) for question in (TOTAL, OFFLINE)]
    missing = next((contrasts[question]["reason"] for question in DOORS if contrasts[question]["reason"]), None)
    if missing is not None:
        raise DataError(f"found no test of the contrasts: {missing}; expected a run of two seeds and two betas or more")
    of_doors = [[contrasts[question][key] for question in DOORS] for key in ("estimate", "spread")]
    return ObservedArms(np.array(values), paired, *map(tuple, of_doors))


def committed_arms() -> ObservedArms | None:
    """Both arms of the run in the working directory, plots/cells.csv."""
    params = load_params()
    return observed_arms(read_cells(params), params, params.protocol.paired_seeds)


def contrast_rates(
    observed: ObservedArms, share: float, experiments: int, generator: np.random.Generator, seeds: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each invented experiment calls each contrast a rise, and a fall: (E, 3) each, in the order of ``DOORS``.

    Args:
        observed: the run that the experiments resemble.
        share: of the observed effect.
        experiments: E.
        generator: draws them.
        seeds: of each experiment; None: as many as the run has.
    """
    arms, run_seeds, betas = observed.values_A_S_K.shape
    seeds = run_seeds if seeds is None else seeds
    joint_S_N = observed.values_A_S_K.swapaxes(0, 1).reshape(run_seeds, arms * betas)
    root = spread_root(joint_S_N, betas, observed.paired)
    noise = (generator.normal(size=(experiments, seeds, arms * betas)) @ root).reshape(experiments, seeds, arms, betas)
    means_A_K = observed.values_A_S_K.mean(axis=1)
    levels_A_1 = means_A_K.mean(axis=1, keepdims=True)
    coupled, uncoupled = np.moveaxis(noise + levels_A_1 + share * (means_A_K - levels_A_1), 2, 0)
    tables = {TOTAL: coupled, OFFLINE: uncoupled, COUPLING: coupled - uncoupled}
    ps = [trend_ps(tables[question], observed.paired) for question in DOORS]
    rises, falls = (np.stack([p[way] for p in ps], axis=1) <= ALPHA for way in (0, 1))
    return rises, falls


def contrast_table(observed: ObservedArms, experiments: int, seed: int) -> pd.DataFrame:
    """Power in the observed direction and rates of false verdicts, one row per contrast, and one for any of them."""
    of_share = {
        share: contrast_rates(observed, share, experiments, rng.generator(seed, "contrasts", str(share)))
        for share in SHARES
    }
    none = [found.mean(axis=0) for found in of_share[0.0]]
    needed = seeds_needed(observed, experiments, seed)
    rows = []
    for place, question in enumerate(DOORS):
        towards = _direction(observed, place)
        rows.append(
            {
                "contrast": question,
                "observed effect": f"{observed.effects[place]:+.3g}",
                "sd of seeds": f"{observed.spreads[place]:.3g}",
                **{_POWER[share]: float(of_share[share][towards][:, place].mean()) for share in _POWER},
                _NEEDED: needed[place],
                _FALSE: float(max(rates[place] for rates in none)),
            }
        )
    falsely = float(np.logical_or(*of_share[0.0]).any(axis=1).mean())
    return pd.DataFrame([*rows, {**dict.fromkeys(rows[0], ""), "contrast": ANY, _FALSE: falsely}])


def seeds_needed(observed: ObservedArms, experiments: int, seed: int) -> list[str]:
    """The smallest number of ``SEEDS`` that finds half of each effect in ``POWER`` of experiments, as text."""
    needed = [f"more than {SEEDS[-1]}"] * len(DOORS)
    for seeds in reversed(SEEDS):
        found = contrast_rates(observed, HALF, experiments, rng.generator(seed, "seeds needed", str(seeds)), seeds)
        for place in range(len(DOORS)):
            if found[_direction(observed, place)][:, place].mean() >= POWER:
                needed[place] = str(seeds)
    return needed


def _direction(observed: ObservedArms, place: int) -> int:
    """0 where the observed effect is a rise, 1 where it is a fall."""
    return 0 if observed.effects[place] >= 0 else 1


_POWER = {HALF: "found at half of it", 1.0: "found at all of it"}
_NEEDED = f"seeds that find half of it in {POWER:.0%}"
_FALSE = "falsely found without any"


def questions_sentence() -> str:
    """What the contrasts add to the verdicts that may be false."""
    return (
        f"The three contrasts over arms, {', '.join(DOORS)}, are questions of their own, each tested at {ALPHA:.0%} in "
        f"either direction. The {TOTAL} is the primary claim itself; the other two add four passes of {ALPHA:.0%} to "
        "those above. Of the three alone, some verdict is false with probability at most "
        f"{2 * len(DOORS) * ALPHA:.0%}, where beta does nothing through either door."
    )


def contrasts_sentence(observed: ObservedArms | None) -> str:
    """What the table of contrasts shows."""
    if observed is None:
        return "The committed run has no arm with one penalty for every beta: there is no spread to simulate with."
    seeds, betas = observed.values_A_S_K.shape[1:]
    return (
        f"The three contrasts, in experiments that resemble the committed run: {betas} betas and {seeds} seeds, normal "
        "values with the covariance that its seeds show between betas and between arms. Share of experiments that find "
        "the contrast in the observed direction, at half of the observed effect and at all of it; and, where means do "
        "not depend on β, the larger share of a rise and of a fall. Of the numbers of seeds "
        f"{', '.join(map(str, SEEDS))} the smallest stands there that finds half of the effect in {POWER:.0%} of "
        "experiments. The last row counts experiments with any false "
        "verdict of the six. The observed effect and spread are themselves uncertain: half of it allows for luck."
    )
