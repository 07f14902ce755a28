"""Strengths of an offline objective that leave policies as far from the base as DPO at the grid's betas does."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pessimism.commands.table import aligned
from pessimism.errors import NonFiniteError, ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, strength_in
from pessimism.experiment.params import Params, load_params

DPO = "dpo"
DIGITS = 2


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("objective", metavar="OBJECTIVE", help="a file of src/pessimism/offline/objectives")
    add("candidates", nargs="+", metavar="LABEL", help="strengths to try, as labels: b0.05 b0.1 b0.2")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="means are over these (default: 0)")


def run(options: argparse.Namespace) -> None:
    params, strengths = load_params(), _strengths(options.candidates)
    betas = _grid(params)
    tried = measured(params, options.objective, strengths, options.seeds)
    targets = measured(params, DPO, betas, options.seeds)
    rows = [(DPO, *cell) for cell in _cells(betas, targets)]
    rows += [(options.objective, *cell) for cell in _cells(strengths, tried)]
    print(aligned([("objective", "label", "strength", "KL to the base, nats per response"), *rows]))
    print(proposal(options.objective, tried, targets))


def measured(params: Params, objective: str, strengths: Mapping[str, float], seeds: Sequence[int]) -> dict[str, float]:
    """KL to the base of every label's policies over held-out problems, as probe ``kl_to_base``, mean over seeds.

    Trains them in a temporary directory, on what measure_reference and prepare_base left; nothing of a run changes. A
    label of which a training diverges is left out, with a line on stderr that says how.

    Raises:
        ParamsError: there is no such objective, or the strength is not one that it takes.
        DataError: an output that is needed is missing.
    """
    chosen = dataclasses.replace(params, offline=dataclasses.replace(params.offline, objective=objective))
    found = {}
    for label, strength in strengths.items():
        try:
            found[label] = float(np.mean([_kl_to_base(chosen, DpoCell(label, seed), strength) for seed in seeds]))
        except NonFiniteError as error:
            print(f"{objective} {label} diverges and is left out: {error}", file=sys.stderr)
    return found


def _kl_to_base(params: Params, cell: DpoCell, strength: float) -> float:
    from pessimism.experiment import rng
    from pessimism.models.loading import load_policy_base, load_tokenizer
    from pessimism.offline.reference import REFERENCE_COLUMNS
    from pessimism.offline.training import ReferencedPairs, train_offline
    from pessimism.probes.parts.distributions import response_entropy_and_kl
    from pessimism.probes.response_kl import kl_to_base
    from pessimism.tasks.parts.posing import posed

    reference = records.read_table(layout.REFERENCE_LOGPS, REFERENCE_COLUMNS)
    train, validation = (ReferencedPairs.of(reference, split) for split in ("train", "val"))
    base, tokenizer = load_policy_base(params), load_tokenizer(params, "policy")
    with tempfile.TemporaryDirectory() as directory:
        model, _ = train_offline(params, cell, strength, base, tokenizer, train, validation, Path(directory))
    prompts = posed(records.read_table(layout.tasks("heldout"))["question"], params)
    seeds = rng.row_seeds(params.root_seed, "probe-divergence", cell.seed, rows=len(prompts))
    _, kl_P = response_entropy_and_kl(model, tokenizer, prompts, params, seeds)
    return kl_to_base(kl_P)["kl_to_base"]


def _grid(params: Params) -> dict[str, float]:
    """Beta of every percentile of the design.

    Raises:
        ParamsError: it has none.
    """
    if not params.beta_percentiles:
        raise ParamsError(
            f"{layout.PARAMS}: beta_percentiles: found []; expected the percentiles whose KL strengths are matched to"
        )
    grid = records.read_json(layout.BETA_GRID)
    return {label: records.get(grid, label) for label in params.labels if strength_in(label) is None}


def _strengths(labels: Sequence[str]) -> dict[str, float]:
    """The strength that each label spells.

    Raises:
        ParamsError: one spells none.
    """
    strengths = {label: strength_in(label) for label in labels}
    unspelled = [label for label, strength in strengths.items() if strength is None]
    if unspelled:
        raise ParamsError(f"found the candidates {unspelled}; expected labels that spell a strength, such as b0.05")
    return {label: strength for label, strength in strengths.items() if strength is not None}


def _cells(strengths: Mapping[str, float], found: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    for label, strength in strengths.items():
        yield label, f"{strength:.4g}", f"{found[label]:.4f}" if label in found else "diverges"


def proposal(objective: str, tried: Mapping[str, float], targets: Mapping[str, float]) -> str:
    """The cells whose KL should be that of each of DPO's, as options of `dvc exp run`, or which are out of reach."""
    strengths = _strengths(list(tried))
    matched = {label: matched_strength(strengths, tried, target) for label, target in targets.items()}
    missed = [label for label, strength in matched.items() if strength is None]
    lines = [f"no two candidates lie around {', '.join(missed)}: try others"] if missed else []
    labels = [label_of(strength) for strength in matched.values() if strength is not None]
    cells = f"-S 'beta_percentiles=[]' -S 'offline_cells=[{','.join(labels)}]'"
    return "\n".join([*lines, f"-S offline.objective={objective} {cells}"])


def matched_strength(strengths: Mapping[str, float], found: Mapping[str, float], target: float) -> float | None:
    """The least strength at which the KL is ``target``, on lines between neighbours over log strength and log KL.

    Returns:
        None where no two neighbours lie around it.
    """
    labels = sorted(strengths, key=strengths.__getitem__)
    at = np.log([strengths[label] for label in labels])
    distance = np.log([found[label] for label in labels]) - np.log(target)
    for left in range(len(labels) - 1):
        here, there = distance[left : left + 2]
        if here * there <= 0 and here != there:
            return float(np.exp(at[left] + (at[left + 1] - at[left]) * here / (here - there)))
    return None


def label_of(strength: float) -> str:
    """Label of a strength in two digits: b0.05."""
    return "b" + np.format_float_positional(float(f"{strength:.{DIGITS}g}"), trim="0")
