"""What Git holds of a run: the files of a branch, a commit or an experiment of DVC."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Params

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENTS = "refs/exps"
"""Where DVC keeps experiments: below it two parts of the commit that they start from, then their name."""
HERE = Path()


def resolve(revision: str, project: Path = HERE) -> str:
    """Hash of the commit.

    Args:
        revision: of Git, or the name of an experiment as ``dvc exp list`` has it.
        project: a directory of the repository.

    Raises:
        DataError: Git and DVC know none of this name, or DVC several.
    """
    known = _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not known.returncode:
        return known.stdout.decode().strip()
    listed = _git(project, "for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS)
    lines = listed.stdout.decode().splitlines()
    named = [line.split(" ")[0] for line in lines if line.split("/", maxsplit=4)[4:] == [revision]]
    if len(named) != 1:
        raise DataError(
            f"found {len(named)} experiments of DVC and no revision of Git named {revision!r}; expected one commit: "
            "`dvc exp list --all-commits` and `git branch` name them"
        )
    return named[0]


def extract(commit: str, files: Sequence[Path], root: Path, revision: str, project: Path = HERE) -> None:
    """Write ``files`` of the commit, paths from the project's root, under ``root``.

    Args:
        revision: the commit as the user named it, for the message.

    Raises:
        DataError: the commit lacks one of them.
    """
    archived = _git(project, "archive", "--format=zip", commit, *map(str, files))
    if archived.returncode:
        raise DataError(
            f"revision {revision}: found no results ({' '.join(archived.stderr.decode().split())}); expected the "
            f"commit of a finished run, with {', '.join(map(str, files))}"
        )
    zipfile.ZipFile(io.BytesIO(archived.stdout)).extractall(root)


def file_at(commit: str, path: Path, project: Path = HERE) -> bytes | None:
    """Content of a file, whose path is from the project's root, in a commit; None where that has none."""
    shown = _git(project, "show", f"{commit}:./{path}")
    return None if shown.returncode else shown.stdout


def check_cells(cells: pd.DataFrame, params: Params, where: str) -> None:
    """Results must be those of the parameters beside them.

    Args:
        where: whose they are, for the message.

    Raises:
        DataError: runs are missing, or others are there.
    """
    found = set(cells[["label", "seed", "arm"]].itertuples(index=False, name=None))
    expected = {(cell.label, cell.seed, cell.arm) for cell in params.online_cells()}
    if found != expected:
        raise DataError(
            f"{where}: found {len(found - expected)} runs in {layout.CELL_SCORES} that {layout.PARAMS} "
            f"does not list and {len(expected - found)} missing; expected the results of its parameters: run "
            "`dvc repro` and commit"
        )


def _git(project: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=project, capture_output=True, check=False)
