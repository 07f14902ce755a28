"""The paper's numbers from its own six values, and what those values look like when nothing happens."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pessimism.commands.table import aligned
from pessimism.published import replay as recomputation
from pessimism.published.frozen import QUANTILES, FrozenPolicy, Null, measured_steps, null_distribution
from pessimism.published.printed import SOURCE


@dataclass(frozen=True)
class FrozenAssumptions:
    """What the null distribution assumes, as the options of the command; one row per mean and accuracy."""

    proxy_means: Sequence[float]
    accuracies: Sequence[float]
    proxy_sd: float
    batch: int
    last_step: int
    every: int
    draws: int
    seed: int

    def policies(self) -> list[FrozenPolicy]:
        steps = measured_steps(self.last_step, self.every)
        return [
            FrozenPolicy(mean, accuracy, self.proxy_sd, self.batch, steps)
            for mean, accuracy in itertools.product(self.proxy_means, self.accuracies)
        ]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.description = (
        "Recompute the paper's headline numbers from its three AUGC values and betas, then draw the AUGC of a policy "
        "that never changes under the assumptions given here. No model, no run; a few seconds."
    )
    add = parser.add_argument
    add("--proxy-mean", type=float, nargs="+", default=[1, 3, -1], metavar="R", help="mean proxy reward of a response")
    add(
        "--accuracy",
        type=float,
        nargs="+",
        default=[0.05, 0.1, 0.2, 0.3, 0.5, 0.7],
        metavar="P",
        help="chance that a response is right; a row per proxy mean and accuracy",
    )
    add("--proxy-sd", type=float, default=2, metavar="R", help="standard deviation of a response's proxy reward")
    add("--batch", type=int, default=4, metavar="N", help="responses per measured point")
    add("--last-step", type=int, default=164, metavar="N", help="last measured step")
    add("--every", type=int, default=3, metavar="N", help="steps between measured points")
    add("--draws", type=int, default=10_000, metavar="N", help="sets of three runs drawn per row")
    add("--seed", type=int, default=0, metavar="N", help="seed of the draws")
    add("--json", action="store_true", help="print one JSON object instead of tables")


def run(options: argparse.Namespace) -> None:
    assumptions = FrozenAssumptions(
        proxy_means=options.proxy_mean,
        accuracies=options.accuracy,
        proxy_sd=options.proxy_sd,
        batch=options.batch,
        last_step=options.last_step,
        every=options.every,
        draws=options.draws,
        seed=options.seed,
    )
    print(replay(assumptions, options.json))


def replay(assumptions: FrozenAssumptions, as_json: bool) -> str:
    """The whole text, or the same numbers as one JSON object.

    Raises:
        ParamsError: an assumption is not usable.
    """
    rows = recomputation.replay()
    spread, betas = recomputation.spread(), len(recomputation.betas())
    nulls = [
        (policy, null_distribution(policy, spread, betas, assumptions.draws, assumptions.seed))
        for policy in assumptions.policies()
    ]
    if as_json:
        return json.dumps(_data(rows, assumptions, nulls), indent=2)
    return "\n\n".join([_recomputed(rows), _null(assumptions, nulls, spread, betas)])


def _data(
    rows: list[recomputation.Recomputed], assumptions: FrozenAssumptions, nulls: list[tuple[FrozenPolicy, Null]]
) -> dict[str, Any]:
    return {
        "source": SOURCE,
        "recomputed": [{**asdict(row), "difference": row.difference} for row in rows],
        "published_spread": recomputation.spread(),
        "frozen_policy": {
            "assumptions": asdict(assumptions),
            "rows": [
                {"proxy_mean": policy.proxy_mean, "accuracy": policy.accuracy, **_null_record(null)}
                for policy, null in nulls
            ],
        },
    }


def _null_record(null: Null) -> dict[str, Any]:
    return {**asdict(null), "quantiles": {f"{level:g}": value for level, value in null.quantiles.items()}}


def _recomputed(rows: list[recomputation.Recomputed]) -> str:
    table = [("", "published", "recomputed", "difference")]
    table += [(row.quantity, _digits(row.published), _digits(row.recomputed), _small(row.difference)) for row in rows]
    notes = [f"  {row.quantity}: {row.note}" for row in rows if row.note]
    origin = (
        "The betas are rounded: log-probs of prompt and response were summed in bfloat16, whose numbers lie\n"
        f"{recomputation.bfloat16_spacing(recomputation.LOG_PROB_RANGE[0])} apart from "
        f"{recomputation.LOG_PROB_RANGE[0]} to {recomputation.LOG_PROB_RANGE[1]} nats, so their differences are "
        "multiples of 4."
    )
    said = f"From the published AUGC values and betas alone.\n  Source: {SOURCE}."
    return "\n".join([said, aligned(table), *notes, origin])


def _null(assumptions: FrozenAssumptions, nulls: list[tuple[FrozenPolicy, Null]], spread: float, betas: int) -> str:
    steps = measured_steps(assumptions.last_step, assumptions.every)
    header = ("proxy mean", "accuracy", *(f"{level:.0%}" for level in QUANTILES), f"spread >= {spread:.2f}", "rising")
    table = [header, *(_null_row(policy, null) for policy, null in nulls)]
    said = (
        "AUGC of a policy that never changes, as the paper measures it:\n"
        f"  Assumed: {assumptions.batch} responses per point; {len(steps)} points, every {assumptions.every} steps "
        f"from 0 and at step {steps[-1]};\n"
        f"  proxy reward normal with the given mean and standard deviation {assumptions.proxy_sd:g} per response;\n"
        "  true reward 1 with chance accuracy, else 0, independent of the proxy; the notebook's gap, each reward over\n"
        "  the size of its first batch mean.\n"
        f"  Drawn: {assumptions.draws} sets of {betas} such runs per row (seed {assumptions.seed}); a chance has a "
        f"standard error of at most {0.5 / assumptions.draws**0.5:.3f}."
    )
    legend = (
        "5% ... 95%: quantiles of AUGC, gap x steps.\n"
        f"spread: chance that the largest AUGC of {betas} such runs is at least {spread:.2f} times the smallest, as "
        "published.\n"
        f"rising: chance that the {betas} come in strictly increasing order, as published; 1/6 without ties, and runs "
        "tie at AUGC 0."
    )
    return f"{said}\n{aligned(table)}\n{legend}"


def _null_row(policy: FrozenPolicy, null: Null) -> tuple[str, ...]:
    quantiles = (f"{value:.1f}" for value in null.quantiles.values())
    chances = (f"{null.chance_of_spread:.2f}", f"{null.chance_of_order:.2f}")
    return (f"{policy.proxy_mean:g}", f"{policy.accuracy:g}", *quantiles, *chances)


def _digits(value: float | None) -> str:
    return "-" if value is None else repr(value)


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}" if value else "0"
