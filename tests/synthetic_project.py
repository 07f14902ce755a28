"""A finished project made of invented numbers: what the analysis and reporting stages read, without any training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pessimism import layout, records
from pessimism.cells import OnlineCell, dpo_cells, online_cells, percentile_key
from pessimism.params import Params, load_params

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Invented:
    """What the invented runs look like.

    Attributes:
        proxy_start: mean proxy reward of the untouched checkpoint.
        true_start: mean true reward of the untouched checkpoint; 0 makes the paper's gap divide by epsilon.
        drift: proxy gain over the run per unit of beta; 0 for runs in which nothing happens.
    """

    percentiles: Sequence[int] = (20, 50, 80)
    seeds: Sequence[int] = (0, 1, 2)
    arms: Sequence[str] = ("proxy", "placebo")
    proxy_start: float = 0.8
    true_start: float = 0.7
    drift: float = 1.0
    steps: int = 24
    heldout_every: int = 6


def write_project(root: Path, invented: Invented | None = None) -> Params:
    """Write params, scales, protocols and every file that the analysis stages read, under ``root``.

    Paths are relative to the working directory, so the caller changes to ``root`` first, as DVC does.
    """
    invented = invented or Invented()
    for folder in ("scales", "protocols"):
        shutil.copytree(REPOSITORY / folder, root / folder, dirs_exist_ok=True)
    design = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    design |= {
        "scale": "tiny",
        "protocol": "paper",
        "beta_percentiles": list(invented.percentiles),
        "seeds": list(invented.seeds),
        "arms": list(invented.arms),
    }
    (root / "params.yaml").write_text(yaml.safe_dump(design))
    params = load_params()
    _write_grid(params)
    _write_metrics(invented)
    for cell in online_cells(params):
        records.write_table(layout.trajectory(cell), trajectory(cell, invented))
    for number, dpo in enumerate(dpo_cells(params)):
        records.write_json(layout.probe(dpo), _probe(dpo.beta_percentile, number))
    return params


def beta_of(percentile: int) -> float:
    return round(0.04 * percentile / (1 - percentile / 100) ** 0.35, 6)


def trajectory(cell: OnlineCell, invented: Invented) -> pd.DataFrame:
    """One invented run: the proxy rises and the true reward falls with beta, or neither does (placebo)."""
    noise = np.random.default_rng([cell.beta_percentile, cell.seed, len(cell.arm)])
    moves = {"proxy": (1.0, -0.6), "placebo": (0.0, 0.0), "oracle": (0.1, 0.15)}[cell.arm]
    rows = []
    for step in range(invented.steps):
        if step % invented.heldout_every == 0:
            rows.append(_row("heldout", step, cell, invented, moves, noise, 256))
        rows.append(_row("batch", step, cell, invented, moves, noise, 32))
    rows.append(_row("heldout", invented.steps, cell, invented, moves, noise, 256))
    return pd.DataFrame(rows)


def _row(
    prompt_set: str,
    step: int,
    cell: OnlineCell,
    invented: Invented,
    moves: tuple[float, float],
    noise: np.random.Generator,
    prompts: int,
) -> dict[str, object]:
    progress = invented.drift * beta_of(cell.beta_percentile) * (step / invented.steps) ** 1.5
    proxy = invented.proxy_start + 0.4 * moves[0] * progress + noise.normal(0, 0.5 / prompts**0.5)
    true = np.clip(invented.true_start + 0.4 * moves[1] * progress + noise.normal(0, 0.4 / prompts**0.5), 0, 1)
    if step == 0 and invented.true_start == 0:
        true = 0.0
    on_policy = prompt_set == "batch"
    return {
        "step": step,
        "prompt_set": prompt_set,
        "prompts": prompts,
        "proxy_reward": proxy,
        "proxy_reward_sd": 1.0,
        "true_reward": true,
        "true_reward_sd": 0.45,
        "ensemble_std": 0.3 + 0.2 * moves[0] * progress + abs(noise.normal(0, 0.02)),
        "kl_k1": abs(moves[0]) * 3 * progress + noise.normal(0, 0.02) * (step > 0),
        "kl_k3": abs(moves[0]) * 3 * progress,
        "entropy": 0.2 - 0.03 * progress,
        "response_length": 24 + 4 * moves[0] * progress,
        "finished_fraction": 1.0,
        "kappa": 0.5 if on_policy else None,
        "loss": 0.1 if on_policy else None,
        "penalty_ratio": 0.2 if on_policy else None,
        "tokens": 24 * prompts,
    }


def _write_grid(params: Params) -> None:
    betas = {percentile_key(percentile): beta_of(percentile) for percentile in params.beta_percentiles}
    precisions = {"float32": betas, "bfloat16": betas}
    records.write_json(layout.BETA_GRID, {**betas, **precisions, "pairs": 300, "median_delta_float32": 11.6})
    quantile = np.linspace(0, 1, 101)
    delta = 11.6 * (quantile / 0.5) ** 1.3
    tables = [
        pd.DataFrame({"precision": name, "quantile": quantile, "delta": np.round(delta / unit) * unit})
        for name, unit in (("float32", 1e-4), ("bfloat16", 2.0))
    ]
    records.write_table(layout.LOG_RATIOS, pd.concat(tables))


def _write_metrics(invented: Invented) -> None:
    base = {"proxy_reward": 0.4, "proxy_reward_sd": 1.1, "true_reward": 0.62, "true_reward_sd": 0.48, "prompts": 256}
    records.write_json(layout.BASE_METRICS, base)
    records.write_json(layout.ENSEMBLE, {"pair_accuracy": 0.71, "calibration_error": 0.06})


def _probe(percentile: int, number: int) -> dict[str, float]:
    beta, wobble = beta_of(percentile), 0.01 * np.sin(7 * number)
    before, after = 0.5 - 0.02 * beta + wobble, 0.48 - 0.03 * beta + 1.5 * wobble
    return {
        "entropy_dpo": before,
        "entropy_online": after,
        "entropy_collapse": before - after,
        "ood_cosine_distance": 0.17 - 0.01 * beta + 0.3 * wobble,
        "ood_cosine_distance_sd": 0.05,
        "ood_cosine_distance_online": 0.2 + 0.01 * beta + 0.3 * wobble,
        "response_diversity": 0.12 + 0.4 * wobble,
        "response_diversity_online": 0.09 + 0.3 * wobble,
        "prompts": 32,
        "references": 40,
    }
