"""What beta does to hacking, and through which door: three contrasts of one run, on the primary claim's quantity.

Beta reaches the online run twice: through the checkpoint that it trained, and, where an arm couples its penalty to
beta, through that penalty. ``total`` is the trend of the primary arm, the number of the primary claim itself.
``offline`` is that of the arm with one penalty for every beta, which beta reaches through the checkpoint alone.
``coupling`` is that of their difference. It is taken within runs of one checkpoint, which start alike, draw the same
prompts and share a placebo, so that the placebo cancels and the offline and the coupling contrast add up to the total.

Each asks a question of its own and is tested at 5 % in either direction, by the test of the primary claim. Where seeds
are paired, they are so in the difference too; where they are not, its betas are as independent as those of an arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.kinds import Evidence, all_finite
from pessimism.claims.statements import PRIMARY, QUANTITY
from pessimism.claims.trend_kinds import Trend
from pessimism.claims.verdicts import ALPHA, DIRECTIONS, FALLS, RISES, UNDECIDED, ClaimTest, Outcome, direction
from pessimism.claims.wording import COUPLING, DOORS, OFFLINE, TOTAL
from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.measures.contrasts import combination
from pessimism.scoring.columns import over_beta

RISE = Trend(RISES, paper=QUANTITY, controlled=QUANTITY)
"""The primary claim's test and numbers, for whichever runs."""
_NUMBERS = ("estimate", "interval", "trend_correlation", "seeds_needed", "values")
_PLANNED = {Outcome.SUPPORTED.value: DIRECTIONS[RISES], Outcome.CONTRADICTED.value: DIRECTIONS[FALLS]}


@dataclass(frozen=True)
class Contrast:
    """Whose trend over beta it is: an arm's, or what an arm's has above another's.

    Attributes:
        arm: an arm that learns.
        minus: the same arm but for its penalty, whose numerator is one for every beta; None for the arm's own trend.
    """

    arm: str
    minus: str | None = None

    @property
    def name(self) -> str:
        return self.arm if self.minus is None else f"{self.arm} - {self.minus}"

    def runs(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Rows of ``cells`` of the arm that have a place among betas, with the contrast's value as their quantity.

        Raises:
            DataError: a run of the one arm lacks its fellow of the other.
        """
        runs = over_beta(cells, self.arm)
        if self.minus is None:
            return runs
        run = ["label", "seed"]
        others = over_beta(cells, self.minus)[[*run, QUANTITY.name]]
        both = runs[run].merge(others, on=run, how="left", indicator=True)
        lacking = both[both["_merge"] == "left_only"]
        if len(lacking):
            label, seed = lacking.iloc[0][run]
            raise DataError(f"found no run {label}-s{seed} of arm {self.minus}; expected one for each of {self.arm}")
        return runs.assign(**{QUANTITY.name: runs[QUANTITY.name].to_numpy() - both[QUANTITY.name].to_numpy()})


def asked(params: Params) -> dict[str, Contrast]:
    """The contrasts that the listed arms allow, by question: the total one, and the others beside an uncoupled arm."""
    primary = params.primary_arm
    uncoupled = params.uncoupled(primary)
    if uncoupled is None:
        return {TOTAL: Contrast(primary)}
    return {TOTAL: Contrast(primary), OFFLINE: Contrast(uncoupled), COUPLING: Contrast(primary, uncoupled)}


def check_contrasts(cells: pd.DataFrame, params: Params) -> dict[str, Any]:
    """The three contrasts of a run.

    Args:
        cells: plots/cells.csv.
        params: says which arms there are and whether seeds are paired.

    Returns:
        JSON-ready: ``quantity``, ``unit``, ``test``, and by question the contrast, or null ``estimate`` and ``reason``.
    """
    paired, found = params.protocol.paired_seeds, asked(params)
    return {
        "quantity": QUANTITY.name,
        "unit": QUANTITY.unit,
        "test": RISE.method(paired),
        "alpha": ALPHA,
        **{
            question: _record(found[question], cells, paired) if question in found else _absent(_why_not(params))
            for question in DOORS
        },
    }


def _record(contrast: Contrast, cells: pd.DataFrame, paired: bool) -> dict[str, Any]:
    evidence = Evidence(contrast.runs(cells), PRIMARY.primary, paired, power_law={}, beta_stars={})
    test, numbers = RISE.test(evidence), RISE.numbers(evidence, family=1)
    ps = (test.p, test.p_opposite) if isinstance(test, ClaimTest) else (None, None)
    return {
        "contrast": contrast.name,
        **{key: numbers[key] for key in _NUMBERS},
        "seeds_needed_for": _PLANNED.get(numbers["seeds_needed_for"]),
        "spread": _spread(RISE.table(evidence), paired),
        "p_rises": ps[0],
        "p_falls": ps[1],
        "verdict": direction(*ps),
        "reason": "" if isinstance(test, ClaimTest) else test.value,
    }


def _absent(reason: str) -> dict[str, Any]:
    keys = ("contrast", *_NUMBERS, "seeds_needed_for", "spread", "p_rises", "p_falls")
    return {**dict.fromkeys(keys), "values": [], "verdict": UNDECIDED, "reason": reason}


def _why_not(params: Params) -> str:
    """Why there is no other arm to compare the primary one with."""
    primary = params.primary_arm
    if not params.arm(primary).is_coupled:
        return f"the penalty of arm {primary} does not depend on beta: all that beta does is through the checkpoint"
    known = [name for name, arm in params.protocol.arms.items() if arm == params.arm(primary).uncoupled]
    return (
        f"arm {known[0]} was not run: add it to arms"
        if known
        else (f"no arm is {primary} with kappa fixed: add one to protocols/{params.protocol_name}.yaml and to arms")
    )


def _spread(values_S_K: np.ndarray, paired: bool) -> float | None:
    """Standard deviation between seeds of the value at the highest beta minus that at the lowest."""
    if not all_finite(values_S_K) or min(values_S_K.shape) < 2:
        return None
    ends = combination(values_S_K[None][..., [0, -1]], np.array([-1.0, 1.0]), paired)
    return float(ends.error[0] * np.sqrt(len(values_S_K)))
