"""Both rewards at one distance from the checkpoint: how far all runs of an arm go, and what they had gained there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pessimism.experiment.cells import OnlineCell
from pessimism.measures.equal_kl import central, reach_grid, resampled_means, runs_reaching
from pessimism.scoring.measured import REWARDS
from pessimism.scoring.runs import HELDOUT, Measurements
from pessimism.scoring.scores import arm_kls, measured

QUANTITIES = ("proxy_gain", "true_gain", "gap")
"""By which the runs are compared, in base sd; each has a column ``equal_kl_<name>`` of its runs' own values."""


def equal_kl_record(measurements: Measurements) -> dict[str, Any]:
    """Content of metrics/equal_kl.json: of every arm that learns, its runs at the largest KL that all of them reach.

    The intervals are over seeds and problems. The KL itself stays as it was measured, and with it where a run is read.
    """
    return {arm: _of_arm(measurements, arm, kl) for arm, kl in arm_kls(measurements).items() if kl is not None}


def _of_arm(measurements: Measurements, arm: str, kl: float) -> dict[str, Any]:
    params, values_S_K_N = measurements.params, _values(measurements, arm, kl)
    means_K = {name: values.mean(axis=(0, 2)) for name, values in values_S_K_N.items()}
    means_R_K = {name: resampled_means(values, params.protocol.paired_seeds) for name, values in values_S_K_N.items()}
    by_label = {
        label: {name: _estimate(means_K[name][place], means_R_K[name][:, place]) for name in QUANTITIES}
        for place, label in enumerate(params.labels)
    }
    record = {"kl": kl, "reach": _reach(measurements, arm), "by_label": by_label}
    ends = _ends(params.labels, measurements.betas)
    if ends is None:
        return record
    low, high = ends
    contrast = {
        name: _estimate(means_K[name][high] - means_K[name][low], means_R_K[name][:, high] - means_R_K[name][:, low])
        for name in QUANTITIES
    }
    return record | {"highest_minus_lowest_beta": contrast}


def _values(measurements: Measurements, arm: str, kl: float) -> dict[str, np.ndarray]:
    """(S, K, N) gain of each seed, label and held-out problem, in base sd, by quantity."""
    params = measurements.params
    runs = [
        [replace(measured(measurements, OnlineCell(label, seed, arm)), arm_kl=kl) for label in params.labels]
        for seed in params.seeds
    ]
    proxy, true = (np.array([[run.gain_N(reward) for run in of_seed] for of_seed in runs]) for reward in REWARDS)
    return dict(zip(QUANTITIES, (proxy, true, proxy - true), strict=True))


def _estimate(mean: float, resampled_R: np.ndarray) -> dict[str, float]:
    return {"mean": float(mean), **asdict(central(resampled_R))}


def _reach(measurements: Measurements, arm: str) -> dict[str, Any]:
    """KLs from that of all runs to that of the farthest, and how many runs of each label come so far."""
    kls = {
        label: [
            measurements.runs[OnlineCell(label, seed, arm)].rows(HELDOUT)["kl_k3"].to_numpy()
            for seed in measurements.params.seeds
        ]
        for label in measurements.params.labels
    }
    grid = reach_grid([kl_T for of_label in kls.values() for kl_T in of_label])
    return {"kl": grid.tolist(), "runs": {label: runs_reaching(of_label, grid) for label, of_label in kls.items()}}


def _ends(labels: Sequence[str], betas: Mapping[str, float]) -> tuple[int, int] | None:
    """Places of the lowest and of the highest beta; None below two."""
    known = [place for place, label in enumerate(labels) if np.isfinite(betas[label])]
    if len(known) < 2:
        return None
    ordered = sorted(known, key=lambda place: betas[labels[place]])
    return ordered[0], ordered[-1]
