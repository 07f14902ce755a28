"""A finished run for a notebook or a script: parameters, tables, verdicts and figures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pessimism.errors import DataError, PessimismError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.reporting.claim_tables import in_order
from pessimism.reporting.tables import leaves
from pessimism.runs.revisions import check_cells, extract, resolve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pessimism.reporting.slides import Shown

FIRST = ["statement", "verdict", "quantity", "unit", "estimate", "low", "high", "p", "p_adjusted", "p_opposite"]
"""Columns of the table of claims that come first."""
FILES = (layout.PARAMS, layout.SCALES, layout.PROTOCOLS, layout.METRICS, layout.PLOTS)


@dataclass(frozen=True)
class FinishedRun:
    """What a run left in Git. Everything is read when it is loaded.

    Attributes:
        name: of the revision or the directory.
        commit: hash of the revision; None for a directory.
        params: the validated parameters.
        tables: every table of plots/ by its name, such as ``heldout_rewards``; docs/metrics.md explains their columns.
        metrics: every record of metrics/ by its name, such as ``hacking``.
    """

    name: str
    commit: str | None
    params: Params
    tables: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, Mapping[str, Any]]

    @property
    def cells(self) -> pd.DataFrame:
        """One row per online run."""
        return self.tables[layout.CELL_SCORES.stem]

    @property
    def parameters(self) -> pd.Series:
        """Value of every parameter by its dotted name, as in ``scale.dpo.batch_size``."""
        return pd.Series(dict(leaves(asdict(self.params))), dtype=object, name=self.name)

    @property
    def claims(self) -> pd.DataFrame:
        """One row per claim and measure: the paper's statement, and what the runs say of it."""
        claims, rows = self.metrics[layout.CLAIMS.stem]["claims"], []
        for name in in_order(claims):
            of_measure = {key: value for key, value in claims[name].items() if isinstance(value, Mapping)}
            said = {key: value for key, value in claims[name].items() if key not in of_measure}
            rows += [{"claim": name, "measure": key} | said | _row(found) for key, found in of_measure.items()]
        table = pd.DataFrame(rows).set_index(["claim", "measure"])
        return table[[*FIRST, *table.columns.difference(FIRST, sort=False)]]

    @property
    def contrasts(self) -> pd.DataFrame:
        """One row per question about hacking from the lowest beta to the highest: total, offline, coupling."""
        found = self.metrics[layout.CLAIMS.stem]["contrasts"].items()
        rows = {question: _row(contrast) for question, contrast in found if isinstance(contrast, Mapping)}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("question")

    def draw(self, figure: str, axes: Sequence[Axes] | None = None) -> list[Axes]:
        """Draw a figure of ``pessimism figures``.

        Args:
            figure: rewards, gap or doors.
            axes: one per panel; None: a new row of them by pyplot.

        Returns:
            The panels.

        Raises:
            DataError: there is no such figure, it has another number of panels, or the run lacks what it shows.
        """
        from pessimism.reporting import slides

        return slides.on_axes(slides.drawing(figure, self.shown()), axes)

    def shown(self) -> Shown:
        """What the figures are drawn from."""
        from pessimism.reporting.slides import Shown

        heldout, claims = self.tables[layout.HELDOUT_REWARDS.stem], self.metrics[layout.CLAIMS.stem]
        return Shown(self.params, self.cells, heldout, claims)


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict without the values of single runs; its interval as two columns."""
    low, high = found["interval"] or (None, None)
    kept = {key: value for key, value in found.items() if key not in ("interval", "values")}
    return kept | {"low": low, "high": high}


def load_run(run: str | Path | None = None, repository: str | Path | None = None) -> FinishedRun:
    """Load a finished run, from any working directory.

    Args:
        run: a project's directory, or a revision: a branch, a commit, a tag, an experiment of DVC. None: the project
            that the working directory lies in, as it is there.
        repository: a directory of the project whose revision ``run`` is; None: the working directory.

    Raises:
        DataError: there is no such project or revision, or it holds no finished run of its parameters.
    """
    if run is None:
        root = _project(Path(repository or "."))
        return _read(root, str(root), None, f"{root}")
    if (Path(run) / layout.PARAMS).is_file():
        root = Path(run).resolve()
        return _read(root, str(run), None, f"{root}")
    return _of_revision(str(run), _project(Path(repository or ".")))


def _project(start: Path) -> Path:
    """The project that a directory lies in."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / layout.PARAMS).is_file() and (folder / layout.PROTOCOLS).is_dir():
            return folder
    raise DataError(
        f"found no {layout.PARAMS} with {layout.PROTOCOLS}/ beside it in {here} or above; expected a project of "
        "pessimism: name its directory"
    )


def _of_revision(revision: str, project: Path) -> FinishedRun:
    try:
        commit = resolve(revision, project)
    except DataError as error:
        raise DataError(f"{error}; nor is it a directory with {layout.PARAMS}") from error
    with tempfile.TemporaryDirectory() as folder:
        extract(commit, FILES, Path(folder), revision, project)
        return _read(Path(folder).resolve(), revision, commit, f"revision {revision}")


def _read(root: Path, name: str, commit: str | None, where: str) -> FinishedRun:
    """The run of a directory; its files are found by their names, so that a run of an earlier version can be read."""
    try:
        params = load_params(root)
        tables = {path.stem: records.read_table(path) for path in sorted((root / layout.PLOTS).glob("*.csv"))}
        metrics = {path.stem: records.read_json(path) for path in sorted((root / layout.METRICS).glob("*.json"))}
    except PessimismError as error:
        raise DataError(f"{where}: {str(error).replace(f'{root}/', '')}") from error
    needed = {layout.CELL_SCORES, layout.HELDOUT_REWARDS, layout.CLAIMS}
    missing = sorted(str(path) for path in needed if path.stem not in {*tables, *metrics})
    if missing:
        raise DataError(f"{where}: found no {', '.join(missing)}; expected a finished run: make it with `dvc repro`")
    check_cells(tables[layout.CELL_SCORES.stem], params, where)
    return FinishedRun(name, commit, params, tables, metrics)
