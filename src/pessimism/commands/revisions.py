"""Runs that Git holds: the parameters and the table of cells of a branch, a commit or an experiment of DVC."""

from __future__ import annotations

import io
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pessimism.errors import DataError, PessimismError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.scoring.columns import IDENTITY

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENTS = "refs/exps"
"""Where DVC keeps experiments: below it two parts of the commit that they start from, then their name."""
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
        _extract(commit, root, revision)
        try:
            params = load_params(root)
            cells = records.read_table(root / layout.CELL_SCORES, [*IDENTITY, column])
        except PessimismError as error:
            reason = " ".join(str(error).replace(f"{root}/", "").split())
            raise DataError(f"revision {revision}: {reason}") from error
    found = set(cells[["label", "seed", "arm"]].itertuples(index=False, name=None))
    expected = {(cell.label, cell.seed, cell.arm) for cell in params.online_cells()}
    if found != expected:
        raise DataError(
            f"revision {revision}: found {len(found - expected)} runs in {layout.CELL_SCORES} that {layout.PARAMS} "
            f"does not list and {len(expected - found)} missing; expected the results of its parameters: run "
            "`dvc repro` and commit"
        )
    return Run(revision, commit, params, cells)


def resolve(revision: str) -> str:
    """Hash of the commit.

    Raises:
        DataError: Git and DVC know none of this name, or DVC several.
    """
    known = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not known.returncode:
        return known.stdout.decode().strip()
    listed = _git("for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS).stdout.decode().splitlines()
    named = [line.split(" ")[0] for line in listed if line.split("/", maxsplit=4)[4:] == [revision]]
    if len(named) != 1:
        raise DataError(
            f"found {len(named)} experiments of DVC and no revision of Git named {revision!r}; expected one commit: "
            "`dvc exp list --all-commits` and `git branch` name them"
        )
    return named[0]


def _extract(commit: str, root: Path, revision: str) -> None:
    """Write FILES of the commit under ``root``."""
    archived = _git("archive", "--format=zip", commit, *map(str, FILES))
    if archived.returncode:
        raise DataError(
            f"revision {revision}: found no results ({' '.join(archived.stderr.decode().split())}); expected the "
            f"commit of a finished run, with {', '.join(map(str, FILES))}"
        )
    zipfile.ZipFile(io.BytesIO(archived.stdout)).extractall(root)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)
