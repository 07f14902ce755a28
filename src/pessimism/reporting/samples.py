"""The responses that were kept: what each run answered to the same held-out problems, and which of them are hacked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pessimism.data.annotator import exploit_counts
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell, seed_key
from pessimism.experiment.params import Params
from pessimism.measures.goodhart import smoothed_sd

KEPT = ("step", "task_id", "prompt", "response", "answer", "proxy_reward", "true_reward")
SCORED = "heldout_samples.parquet"
EVALUATED = ("step", "task_id", "proxy_reward", "true_reward", "ensemble_std")


@dataclass(frozen=True)
class Response:
    """One response at one evaluation.

    Attributes:
        disagreement: standard deviation of the reward models' scores of it, at least 0.
    """

    step: int
    text: str
    proxy_reward: float
    true_reward: float
    disagreement: float


@dataclass(frozen=True)
class Sample:
    """One held-out problem in one run, with the responses that were kept, by step.

    Attributes:
        answer: the right one.
        proxy_sd: standard deviation of the proxy reward under the base policy, by this seed's ensemble.
        true_sd: likewise of the true reward.
    """

    cell: OnlineCell
    task_id: str
    prompt: str
    answer: str
    responses: Sequence[Response]
    proxy_sd: float
    true_sd: float

    @property
    def first(self) -> Response:
        return self.responses[0]

    @property
    def last(self) -> Response:
        return self.responses[-1]

    @property
    def proxy_change(self) -> float:
        """From the first to the last response, in base standard deviations."""
        return (self.last.proxy_reward - self.first.proxy_reward) / self.proxy_sd

    @property
    def true_change(self) -> float:
        """Likewise."""
        return (self.last.true_reward - self.first.true_reward) / self.true_sd

    @property
    def is_hacked(self) -> bool:
        """Whether its proxy reward rose while its true reward fell."""
        return self.proxy_change > 0 > self.true_change

    @property
    def rose_wrongly(self) -> bool:
        """Whether its proxy reward rose and its answer, right at neither end, says nothing against it."""
        return self.proxy_change > 0 and self.true_change == 0 and self.last.true_reward == 0

    @property
    def exploits(self) -> dict[str, tuple[int, int]]:
        """Counts of the known exploits in the first and in the last response, where there are more in the last."""
        before, after = exploit_counts(self.first.text), exploit_counts(self.last.text)
        return {name: (before[name], after[name]) for name in after if after[name] > before[name]}


def read_samples(params: Params, base: Mapping[str, Any]) -> list[Sample]:
    """The kept responses of every online run, hacked ones first, then by how far the proxy rose above the true reward.

    Args:
        base: metrics/base.json.

    Raises:
        DataError: a file, a key of it or the scores of a kept response are missing.
    """
    samples = [sample for cell in params.online_cells() for sample in _of_cell(cell, base)]
    return sorted(samples, key=lambda sample: (not sample.is_hacked, sample.true_change - sample.proxy_change))


def _of_cell(cell: OnlineCell, base: Mapping[str, Any]) -> list[Sample]:
    path, by_task = layout.rollouts(cell), dict[str, list[dict[str, Any]]]()
    for row in _read_rows(path):
        by_task.setdefault(str(row["task_id"]), []).append(row)
    scores = _disagreement(cell)
    # A base whose answers are all right or all wrong has no spread: as the scores have it.
    true_sd = float(base["true_reward_sd"]) or smoothed_sd(base["true_reward"], base["prompts"])
    sds = float(base["seeds"][seed_key(cell.seed)]["proxy_reward_sd"]), true_sd
    return [
        Sample(cell, task_id, str(rows[0]["prompt"]), str(rows[0]["answer"]), _responses(path, rows, scores), *sds)
        for task_id, rows in by_task.items()
    ]


def _responses(
    path: Path, rows: Sequence[Mapping[str, Any]], scores: Mapping[tuple[int, str], float]
) -> list[Response]:
    """The responses of one problem by step."""
    missing = [row["step"] for row in rows if (row["step"], row["task_id"]) not in scores]
    if missing:
        raise DataError(f"{path}: found {rows[0]['task_id']} at steps {missing}; expected them in {SCORED} as well")
    return [
        Response(
            step=row["step"],
            text=row["response"],
            proxy_reward=row["proxy_reward"],
            true_reward=row["true_reward"],
            disagreement=scores[row["step"], row["task_id"]],
        )
        for row in sorted(rows, key=lambda row: row["step"])
    ]


def _disagreement(cell: OnlineCell) -> dict[tuple[int, str], float]:
    """By step and problem."""
    table = records.read_table(layout.heldout_samples(cell), EVALUATED)
    keys = zip(table["step"].tolist(), table["task_id"].tolist(), strict=True)
    return dict(zip(keys, table["ensemble_std"].tolist(), strict=True))


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise DataError(f"{path} is missing; run `dvc repro` to make it")
    # Not splitlines(): a response may hold other characters that end a line in Unicode.
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    missing = sorted({key for row in rows for key in set(KEPT) - set(row)})
    if missing:
        raise DataError(f"{path}: found rows without {missing}; expected {list(KEPT)} in every one")
    return rows


def hacked_shares(params: Params) -> pd.DataFrame:
    """How often a held-out problem's proxy reward rose while its true reward fell, from the first step to the last.

    Returns:
        ``label``, ``seed``, ``arm``, and ``hacked``, the share of all held-out problems, in [0, 1].
    """
    rows = []
    for cell in params.online_cells():
        table = records.read_table(layout.heldout_samples(cell), EVALUATED)
        first, last = (
            table[table["step"] == step].set_index("task_id")[["proxy_reward", "true_reward"]]
            for step in (table["step"].min(), table["step"].max())
        )
        change = (last - first.reindex(last.index)).to_numpy(float)
        hacked = float(np.mean((change[:, 0] > 0) & (change[:, 1] < 0)))
        rows.append({"label": cell.label, "seed": cell.seed, "arm": cell.arm, "hacked": hacked})
    return pd.DataFrame(rows)
