"""Every column of the tables: which there are, who a row is about, and a column of many runs as seeds by betas.

A column is one entry of ``run_columns``, ``heldout_columns``, ``checkpoint_columns`` or ``step_columns``. The scorer
fills it, plots/cells.csv and ``pessimism score`` hold it, the report shows it where it says, and
``python -m pessimism.scoring.columns`` writes its row of docs/metrics.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pessimism.scoring.checkpoint_columns import CHECKPOINT_COLUMNS
from pessimism.scoring.column import Column
from pessimism.scoring.heldout_columns import EXCESS_COLUMNS, HELDOUT_COLUMNS
from pessimism.scoring.run_columns import MEASURE_COLUMNS
from pessimism.scoring.step_columns import EVALUATED_COLUMNS, MEASURED_COLUMNS, UPDATED_COLUMNS, VERDICT_COLUMNS

LABEL = "label"
CELL = [LABEL, "seed", "arm"]
IDENTITY = [LABEL, "beta", "beta_label", "seed", "arm"]
"""Columns that say which run a row is about; those of CELL alone tell runs apart."""

RUN_COLUMNS = [*MEASURE_COLUMNS, *HELDOUT_COLUMNS]
CELL_COLUMNS = [column for column in RUN_COLUMNS if column.in_cells]
LOG_COLUMNS = [column for column in MEASURE_COLUMNS if "ensemble_std" not in column.needs]
"""Columns of a run that plots/cells.csv has, and those that rewards over steps determine."""
ALL = {column.name: column for column in [*RUN_COLUMNS, *CHECKPOINT_COLUMNS, *EXCESS_COLUMNS]}
EVENTS = {column.name: "Int64" for column in ALL.values() if column.event}
"""Types of the tables: a step is a whole number also where other runs have none."""

DOCUMENT = Path("docs/metrics.md")
DOCUMENTED: dict[str, Sequence[Column]] = {
    "runs": [*CELL_COLUMNS, *EXCESS_COLUMNS],
    "checkpoints": CHECKPOINT_COLUMNS,
    "steps": [*MEASURED_COLUMNS, *VERDICT_COLUMNS, *EVALUATED_COLUMNS, *UPDATED_COLUMNS],
    "logs": [column for column in RUN_COLUMNS if not column.in_cells],
}
"""Tables of docs/metrics.md by the name in their marker."""


def shown_in(table: str) -> list[Column]:
    """Columns that a table shows, from left to right."""
    return sorted((column for column in ALL.values() if table in column.shown), key=lambda column: column.shown[table])


def over_beta(cells: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Runs of ``arm`` that have a place among betas: not those of an objective without strength."""
    return cells[(cells["arm"] == arm) & cells["beta"].notna()]


def size(cells: pd.DataFrame, arm: str) -> tuple[int, int]:
    """Number of seeds of ``arm``, and of its betas: none of an objective without strength."""
    return int(cells.loc[cells["arm"] == arm, "seed"].nunique()), int(over_beta(cells, arm)["label"].nunique())


def by_seed(runs: pd.DataFrame, column: str) -> np.ndarray:
    """(S, K) one row per seed, betas ascending; missing values stay missing, an event that never came is infinite."""
    table = runs.pivot(index="seed", columns="beta", values=column).sort_index(axis=1)
    values = table.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isnan(values), np.inf, values) if column in ALL and ALL[column].event else values


def documented(text: str) -> str:
    """``text`` of docs/metrics.md with the tables of columns as the entries have them."""
    return re.sub(
        r"(<!-- columns: (\w+) -->\n).*?(<!-- end -->)",
        lambda block: f"{block[1]}{_markdown(DOCUMENTED[block[2]])}\n{block[3]}",
        text,
        flags=re.DOTALL,
    )


def _markdown(columns: Sequence[Column]) -> str:
    rows = [(f"`{column.name}`", column.meaning, column.values, column.direction) for column in columns]
    header = ("column", "meaning", "unit", "higher means"), ("---",) * 4
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (*header, *rows))


if __name__ == "__main__":
    DOCUMENT.write_text(documented(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
