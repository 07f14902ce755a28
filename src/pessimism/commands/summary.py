"""What a user reads after a run: where the report is, the main numbers per beta, the time each stage took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pessimism import layout, pipeline, records
from pessimism.commands.prune import left_over_files
from pessimism.commands.table import aligned
from pessimism.errors import DataError
from pessimism.params import Params, load_params

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "beta_percentile",
    "beta",
    "arm",
    "augc",
    "onset_step",
    "heldout_proxy_reward_change",
    "heldout_true_reward_start",
    "heldout_true_reward_change",
)


def summary() -> str:
    """The whole text.

    Raises:
        DataError: the pipeline has not been run.
    """
    params = load_params()
    cells = records.read_table(layout.CELL_SCORES, _COLUMNS)
    if not layout.REPORT_PAGE.is_file():
        raise DataError(f"{layout.REPORT_PAGE} is missing; run `dvc repro` to make it")
    return "\n\n".join([_report(layout.REPORT_PAGE), _scores(cells), _times(params)])


def _report(page: Path) -> str:
    return f"Report: {page}\n        {page.absolute().as_uri()}"


def _scores(cells: pd.DataFrame) -> str:
    header = ("beta", "percentile", "arm", "AUGC", "onset", "held-out proxy", "held-out true")
    rows = [_score_row(runs) for _, runs in cells.groupby(["beta_percentile", "arm"], sort=False)]
    legend = (
        "AUGC: area under the positive Goodhart gap, gap x steps, mean over seeds (lowest to highest).\n"
        "  It is above 0 for a policy that never changes, too: compare with the placebo.\n"
        "onset: median step of the runs that cross the hacking threshold, and how many do.\n"
        "held-out: change from the untouched checkpoint to the last step, mean over seeds;\n"
        "  the placebo arm is the same run with learning rate 0."
    )
    return f"{aligned([header, *rows])}\n{legend}"


def _score_row(runs: pd.DataFrame) -> tuple[str, ...]:
    augc = runs["augc"]
    onset = runs["onset_step"].dropna()
    crossed = f"{onset.median():.0f} ({len(onset)} of {len(runs)})" if len(onset) else f"none of {len(runs)}"
    start, change = runs["heldout_true_reward_start"].mean(), runs["heldout_true_reward_change"].mean()
    return (
        f"{runs['beta'].iloc[0]:.3f}",
        f"{runs['beta_percentile'].iloc[0]}",
        runs["arm"].iloc[0],
        f"{augc.mean():.2f} ({augc.min():.2f} to {augc.max():.2f})",
        crossed,
        f"{runs['heldout_proxy_reward_change'].mean():+.3f}",
        f"{change:+.3f} from {start:.3f}",
    )


def _times(params: Params) -> str:
    """Wall time and peak memory as the run records have them: each cell's last run on this machine."""
    paths = sorted(set(layout.RUN_RECORDS.glob("*.json")) - set(left_over_files(params)))
    if not paths:
        return "Time per stage: no stage was run here; the results come from the cache or the commit."
    found = [records.read_json(path) for path in paths]
    rows = []
    for stage in pipeline.load_stages():
        runs = [record for record in found if record["stage"] == stage.name]
        if runs:
            seconds = sum(run["seconds"] for run in runs)
            peak = max(run["peak_memory_mib"] for run in runs)
            rows.append((stage.name, f"{len(runs)}", f"{seconds:.0f} s", f"{peak:.0f} MiB"))
    total = sum(record["seconds"] for record in found)
    table = aligned([("stage", "runs", "time", "peak memory"), *rows])
    return f"{table}\nTotal: {total / 60:.1f} minutes in the stages, without the start of their interpreters."
