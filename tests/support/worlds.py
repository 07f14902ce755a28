"""Finished runs of several worlds in one Git repository, made of invented effects."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pessimism.claims.statements import QUANTITY
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from support.yaml_edits import set_key

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")


def git(*arguments: str) -> str:
    """What Git prints, run in the working directory."""
    done = subprocess.run(["git", *IDENTITY, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def cells(params: Params, effects: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Runs whose quantity is 10 at the lowest beta and moves by a seed's effect of its arm up to the highest.

    Args:
        effects: by arm, one number per seed; arms that are not named have 0.
    """
    rows = []
    for cell in params.online_cells():
        place = params.labels.index(cell.label) / (len(params.labels) - 1)
        effect = dict(zip(params.seeds, effects.get(cell.arm, [0.0] * len(params.seeds)), strict=True))[cell.seed]
        value = 0.0 if cell.arm == params.placebo else 10.0 + place * effect
        beta = 0.4 + place
        rows.append(
            {
                "label": cell.label,
                "beta": beta,
                "beta_label": f"{beta:.3f} ({cell.label})",
                "seed": cell.seed,
                "arm": cell.arm,
                QUANTITY.name: np.nan if params.placebo is None else value,
            }
        )
    return pd.DataFrame(rows)


def commit_world(project: Path, branch: str, effects: Mapping[str, Sequence[float]], **design: object) -> None:
    """Commit a run on a branch of its own, from the state of the working tree.

    Args:
        design: keys of params.yaml to set.
    """
    if not (project / ".git").exists():
        git("init", "-q", "-b", "main")
    for key, value in design.items():
        set_key(project / layout.PARAMS, key, value)
    git("checkout", "-q", "--orphan", branch)
    records.write_table(project / layout.CELL_SCORES, cells(load_params(project), effects))
    git("add", "-A")
    git("commit", "-q", "-m", branch)


def tag_as_experiment(commit: str, name: str, baseline: str = "ab/" + 38 * "0") -> None:
    """Have a commit lie where DVC keeps an experiment."""
    git("update-ref", f"refs/exps/{baseline}/{name}", commit)
