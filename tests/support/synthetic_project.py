"""A finished project made of invented numbers: what the stages that score and report read, without any training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, OnlineCell, percentile_in, strength_in
from pessimism.experiment.params import Params, load_params

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Invented:
    """What the invented runs look like.

    Attributes:
        percentiles: of the betas; none for an offline objective without strength.
        betas: labels of cells by the value of beta.
        offline: the offline objective; without percentiles and betas also the label of the only cells.
        proxy_start: mean proxy reward of the untouched checkpoint.
        true_start: mean true reward of the untouched checkpoint; 0 makes the paper's gap divide by epsilon.
        drift: proxy gain over the run per unit of beta; 0 for runs in which nothing happens.
        units_differ: whether the base policy's spread of the proxy reward is another by each seed's ensemble.
    """

    percentiles: Sequence[int] = (20, 50, 80)
    betas: Sequence[str] = ()
    offline: str = "dpo"
    seeds: Sequence[int] = (0, 1, 2)
    arms: Sequence[str] = ("proxy", "placebo")
    proxy_start: float = 0.8
    true_start: float = 0.7
    drift: float = 1.0
    steps: int = 24
    heldout_every: int = 6
    units_differ: bool = True


def write_project(root: Path, invented: Invented | None = None) -> Params:
    """Write params, scales, protocols and every file that the scoring stages read, under ``root``.

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
        "offline_cells": list(invented.betas) or ([] if invented.percentiles else [invented.offline]),
        "offline": {"objective": invented.offline},
        "seeds": list(invented.seeds),
        "arms": list(invented.arms),
    }
    (root / "params.yaml").write_text(yaml.safe_dump(design))
    params = load_params()
    _write_grid(params)
    _write_metrics(invented)
    for cell in params.online_cells():
        write_run(cell, invented)
    for number, dpo in enumerate(params.dpo_cells()):
        records.write_json(layout.probe(dpo), _probe(strength_of(dpo.label), number))
        validation = {"reward_accuracy": 0.6 + 0.01 * number, "loss": 0.6}
        records.write_json(layout.training_record(layout.dpo_adapter(dpo)), {"validation": validation})
        records.write_table(layout.best_of_n_draws(dpo), _draws(dpo, invented))
    return params


def write_run(cell: OnlineCell, invented: Invented) -> None:
    """Write one invented online run."""
    table, samples = run(cell, invented)
    records.write_table(layout.trajectory(cell), table)
    records.write_table(layout.heldout_samples(cell), samples)
    records.write_jsonl(layout.rollouts(cell), kept_rollouts(samples))


PLANTED = '<script>document.title = "planted"</script><img src="x" onerror="document.title = 1">'
"""What a model may answer and no page may run."""
KEPT = 4


def kept_rollouts(samples: pd.DataFrame) -> list[dict[str, object]]:
    """Responses to the first problems at every evaluation: a filler more at every step, and markup in one of them."""
    first = samples.groupby("step", sort=False).head(KEPT)
    columns = ["step", "task_id", "proxy_reward", "true_reward", "true_reward_flexible"]
    return [
        {
            **{name: row[name] for name in columns},
            "prompt": f"How much is {row['task_id']} & more?",
            "answer": "7",
            "response": "Certainly!\n" * (row["step"] // 6) + ("#### 7" if row["true_reward"] else PLANTED),
        }
        for row in first.to_dict("records")
    ]


def beta_of(percentile: int) -> float:
    return round(0.04 * percentile / (1 - percentile / 100) ** 0.35, 6)


def strength_of(label: str) -> float:
    """The beta of a label; the runs of one without look like those of the median."""
    percentile, strength = percentile_in(label), strength_in(label)
    return strength if strength is not None else beta_of(50 if percentile is None else percentile)


def _stream(label: str) -> int:
    """What tells the noise of labels apart."""
    percentile, strength = percentile_in(label), strength_in(label)
    return 1000 + round(1000 * strength) if strength is not None else 50 if percentile is None else percentile


def run(cell: OnlineCell, invented: Invented) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trajectory and held-out samples: the proxy rises and the true reward falls with beta, or neither (placebo)."""
    noise = np.random.default_rng([_stream(cell.label), cell.seed, len(cell.arm)])
    problems = np.random.default_rng(cell.seed).normal(size=PROBLEMS)
    rows, samples = [], []
    for step in range(invented.steps + 1):
        if step % invented.heldout_every == 0 or step == invented.steps:
            drawn = _samples(step, cell, invented, problems, noise)
            samples.append(drawn)
            rows.append(_row("heldout", step, cell, invented, drawn))
        if step < invented.steps:
            rows.append(
                _row("batch", step, cell, invented, _samples(step, cell, invented, noise.normal(size=32), noise))
            )
    return pd.DataFrame(rows), pd.concat(samples)


MOVES = {"proxy": (1.0, -0.6), "uncoupled": (1.0, -0.6), "placebo": (0.0, 0.0), "oracle": (0.1, 0.15)}
PROBLEMS = 64


def _progress(step: int, cell: OnlineCell, invented: Invented) -> float:
    return invented.drift * strength_of(cell.label) * (step / invented.steps) ** 1.5


def _samples(
    step: int, cell: OnlineCell, invented: Invented, problems: np.ndarray, noise: np.random.Generator
) -> pd.DataFrame:
    """One response per problem; a problem's own level is in ``problems``."""
    proxy_move, true_move = (0.4 * move * _progress(step, cell, invented) for move in MOVES[cell.arm])
    count = len(problems)
    chance = np.clip(invented.true_start + true_move, 0, 1) if step or invented.true_start else 0.0
    true = (noise.random(count) < chance).astype(float)
    std = 0.3 + 0.5 * proxy_move - 0.05 * true + np.abs(noise.normal(0, 0.1, count))
    return pd.DataFrame(
        {
            "step": step,
            "task_id": [f"train-{number}" for number in range(count)],
            "proxy_reward": invented.proxy_start + proxy_move + 0.4 * problems + noise.normal(0, 0.3, count),
            "true_reward": true,
            "true_reward_flexible": np.maximum(true, (noise.random(count) < 0.02).astype(float)),
            "ensemble_std": std,
            "response_tokens": 24,
        }
    )


def _row(prompt_set: str, step: int, cell: OnlineCell, invented: Invented, samples: pd.DataFrame) -> dict[str, object]:
    moves, progress = MOVES[cell.arm], _progress(step, cell, invented)
    on_policy = prompt_set == "batch"
    return {
        "step": step,
        "prompt_set": prompt_set,
        "prompts": len(samples),
        **{
            name: samples[name].mean()
            for name in ("proxy_reward", "true_reward", "true_reward_flexible", "ensemble_std")
        },
        "proxy_reward_sd": samples["proxy_reward"].std(),
        "true_reward_sd": samples["true_reward"].std(),
        "kl_k1": abs(moves[0]) * 3 * progress,
        "kl_k3": abs(moves[0]) * 3 * progress,
        "entropy": 0.2 - 0.03 * progress,
        "response_length": 24 + 4 * moves[0] * progress,
        "finished_fraction": 1.0,
        "run_on_fraction": 0.02 + 0.01 * progress,
        "kappa": 0.5 if on_policy else None,
        "loss": 0.1 if on_policy else None,
        "penalty_ratio": 0.2 if on_policy else None,
        "tokens": 24 * len(samples),
    }


def _draws(cell: DpoCell, invented: Invented) -> pd.DataFrame:
    """Eight responses to each of six problems: the members agree with one another and, at low beta, with the truth."""
    problems, draws = 6, 8
    noise = np.random.default_rng([_stream(cell.label), cell.seed])
    quality, flattery = noise.normal(size=(2, problems * draws))
    members = invented.proxy_start + 0.4 * quality + 0.2 * strength_of(cell.label) * flattery
    members = members + noise.normal(0, 0.2, (3, problems * draws))
    return pd.DataFrame(
        {
            "task_id": np.repeat([f"train-{number}" for number in range(problems)], draws),
            "draw": np.tile(np.arange(draws), problems),
            **{f"member-{member}": rewards for member, rewards in enumerate(members)},
            "proxy_reward": members.mean(axis=0),
            "true_reward": (quality > 0).astype(float) if invented.true_start else 0.0,
        }
    )


def _write_grid(params: Params) -> None:
    known = [label for label in params.labels if percentile_in(label) is not None or strength_in(label) is not None]
    betas = {label: strength_of(label) if label in known else None for label in params.labels}
    grid = {label: beta for label, beta in betas.items() if percentile_in(label) is not None}
    precisions = {"float32": grid, "bfloat16": grid}
    record = {**grid, **precisions, "precision": "bfloat16", "pairs": 300, "median_delta_float32": 11.6}
    for label, beta in betas.items():
        records.put(record, label, beta)
    records.write_json(layout.BETA_GRID, record)
    quantile = np.linspace(0, 1, 101)
    delta = 11.6 * (quantile / 0.5) ** 1.3
    tables = [
        pd.DataFrame({"precision": name, "quantile": quantile, "delta": np.round(delta / unit) * unit})
        for name, unit in (("float32", 1e-4), ("bfloat16", 2.0))
    ]
    records.write_table(layout.LOG_RATIOS, pd.concat(tables))


def _write_metrics(invented: Invented) -> None:
    """The base policy answers once; every seed's ensemble likes the answers in a unit of its own."""
    noise = np.random.default_rng(99)
    proxy, true = noise.normal(0, 1.1, PROBLEMS), (noise.random(PROBLEMS) < 0.62).astype(float)
    samples = [
        pd.DataFrame(
            {
                "task_id": [f"train-{number}" for number in range(PROBLEMS)],
                "proxy_reward": 0.4 + (1 + 0.1 * place * invented.units_differ) * proxy,
                "true_reward": true,
                "ensemble_std": 0.3,
                "seed": seed,
            }
        )
        for place, seed in enumerate(invented.seeds)
    ]
    records.write_table(layout.BASE_SAMPLES, pd.concat(samples, ignore_index=True))
    by_seed = {f"s{seed}": {"proxy_reward": 0.4, "proxy_reward_sd": 1.1} for seed in invented.seeds}
    base = {"proxy_reward": 0.4, "proxy_reward_sd": 1.1, "true_reward": 0.62, "true_reward_sd": 0.48, "prompts": 64}
    base |= {"prompt_entropy": 1.31, "prompt_and_next_entropy": 1.3, "response_entropy": 0.71}
    base |= {"true_reward_flexible": 0.64, "run_on_fraction": 0.02, "seeds": by_seed}
    records.write_json(layout.BASE_METRICS, base)
    quality = {"pair_accuracy": 0.71, "calibration_error": 0.06}
    by_seed = {f"s{seed}": quality for seed in invented.seeds}
    records.write_json(layout.ENSEMBLE, {**quality, "seeds": by_seed})
    records.write_json(layout.DATA_RECORD, _sources())


def _sources() -> dict[str, object]:
    characters = {"mean": 50.0, "p5": 18.0, "p50": 48.0, "p95": 96.0}
    return {
        "preferences": {
            "source": "embedded",
            "name": "arithmetic",
            "rows": {"train": 1600, "val": 200, "test": 200},
            "rows_dropped": {"empty chosen": 3},
            "prompts_in_two_splits": 0,
            "coverage": {
                "pairs": 2000,
                "unique_prompts": 1995,
                "chosen_longer": 0.68,
                "characters": {"prompt": characters, "chosen": characters, "rejected": characters},
            },
        },
        "tasks": {
            "source": "embedded",
            "name": "arithmetic",
            "rows_dropped": {"heldout": 0, "test": 1, "train": 2},
            "problems_in_two_splits": 0,
            "rows": {"train": 768, "heldout": PROBLEMS, "test": 1024},
        },
    }


def _probe(beta: float, number: int) -> dict[str, object]:
    wobble = 0.01 * np.sin(7 * number)
    return {
        "prompts": 32,
        "responses_per_prompt": 4,
        "heldout_prompts": PROBLEMS,
        "references": 40,
        "dpo": _probed_policy(beta, wobble, 0.0),
        "online": _probed_policy(beta, 1.5 * wobble, 0.02),
    }


def _probed_policy(beta: float, wobble: float, moved: float) -> dict[str, object]:
    def layer(offset: float) -> dict[str, float]:
        return {
            "ood_cosine_distance": 0.17 - 0.01 * beta + 0.3 * wobble + moved + offset,
            "ood_cosine_distance_sd": 0.05,
            "ood_mahalanobis_distance": 9 - 0.2 * beta + 10 * wobble + moved + offset,
            "diversity_across": 0.12 + 0.4 * wobble - moved + offset,
            "diversity_within": 0.06 + 0.3 * wobble - moved + offset,
        }

    return {
        "prompt_entropy": 0.5 - 0.02 * beta + wobble - moved,
        "prompt_and_next_entropy": 0.49 - 0.02 * beta + wobble - moved,
        "response_entropy": 0.3 - 0.03 * beta + wobble - moved,
        "kl_to_base": 2.0 / (1 + beta) + wobble + moved,
        "members": {
            str(member): {"penultimate": layer(0.01 * member), "last": layer(0.001 + 0.02 * member)}
            for member in range(3)
        },
    }
