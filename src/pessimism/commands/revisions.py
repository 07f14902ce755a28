"""Runs that Git holds: the parameters and the table of cells of a branch, a commit or an experiment of DVC."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pessimism.errors import DataError, PessimismError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.runs.revisions import check_cells, extract, resolve
from pessimism.scoring.columns import IDENTITY

if TYPE_CHECKING:
    import pandas as pd

FILES = (layout.PARAMS, layout.SCALES, layout.PROTOCOLS, layout.CELL_SCORES)


@dataclass(frozen=True)
class Run:
    """A finished run as a revision holds it.

    Attributes:
        revision: as the user named it.
        commit: its hash.
        cells: plots/cells.csv, one row per online run of the parameters.
    """

    revision: str
    commit: str
    params: Params
    cells: pd.DataFrame


def read_run(revision: str, column: str) -> Run:
    """The run that a revision holds.

    Args:
        revision: of Git, or the name of an experiment as ``dvc exp list`` has it.
        column: of plots/cells.csv that it must have.

    Raises:
        DataError: there is no such revision, it holds no results, or they are not those of its parameters.
    """
    commit = resolve(revision)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        extract(commit, FILES, root, revision)
        try:
            params = load_params(root)
            cells = records.read_table(root / layout.CELL_SCORES, [*IDENTITY, column])
        except PessimismError as error:
            reason = " ".join(str(error).replace(f"{root}/", "").split())
            raise DataError(f"revision {revision}: {reason}") from error
    check_cells(cells, params, f"revision {revision}")
    return Run(revision, commit, params, cells)
