"""What a user reads after a run: what beta does, verdicts, main numbers per beta and arm, time of each stage."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from pessimism.commands.prune import left_over_files
from pessimism.commands.report import located
from pessimism.commands.table import aligned
from pessimism.errors import DataError
from pessimism.experiment import layout, pipeline, records
from pessimism.experiment.params import Params, load_params
from pessimism.experiment.switches import protocol_sentence
from pessimism.reporting import contrast_tables
from pessimism.reporting.claim_tables import MEASURES, THIS_WORLD, primary_sentence, verdicts_by
from pessimism.reporting.tables import number
from pessimism.scoring.scores import beta_label

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 110
_VERDICT = ("role", "p", "p_opposite", "reason", "verdict")
"""What the verdict on a claim by one measure must hold to be told."""
_COLUMNS = (
    "label",
    "beta",
    "arm",
    "augc",
    "onset_step",
    "controlled_augc",
    "controlled_signed_augc_excess",
    "controlled_onset_step",
    "heldout_proxy_reward_change",
    "heldout_true_reward_start",
    "heldout_true_reward_change",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(options: argparse.Namespace) -> None:
    print(summary())


def summary() -> str:
    """The whole text.

    Raises:
        DataError: the pipeline has not been run, or by a version that wrote other verdicts.
    """
    params = load_params()
    verdicts = _verdicts(params)
    cells = records.read_table(layout.CELL_SCORES, _COLUMNS)
    report = located("Report", layout.REPORT_PAGE)
    measured = f"Measured: scale {params.scale_name}, {protocol_sentence(params)}"
    parts = [verdicts, measured, report, _scores(cells, params.placebo), _times(params)]
    return "\n\n".join(parts)


def _verdicts(params: Params) -> str:
    record = records.read_json(layout.CLAIMS)
    claims, contrasts = record.get("claims", {}), record.get("contrasts", {})
    lacking = [
        f"{name}.{measure}.{key}"
        for name, claim in claims.items()
        for measure in MEASURES
        for key in _VERDICT
        if key not in claim.get(measure, {})
    ]
    lacking += [] if contrasts else ["contrasts"]
    if lacking or not claims:
        raise DataError(
            f"{layout.CLAIMS}: found no {lacking[0] if claims else 'claims'}, as in a file of an older version; "
            "expected the verdicts of this one: run `make reproduce`"
        )
    said = (textwrap.fill(sentence, WIDTH, subsequent_indent="  ") for sentence in contrast_tables.answer(contrasts))
    answer = [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in said]
    opening = [*answer, "", textwrap.fill(THIS_WORLD[params.ensembles], WIDTH), primary_sentence(claims)]
    return "\n".join([*opening, *(verdicts_by(claims, measure) for measure in MEASURES)])


def _scores(cells: pd.DataFrame, placebo: str | None) -> str:
    groups = ("", "", "the paper's measure", "", "the controlled measure", "", "", "held-out rewards", "")
    header = ("beta", "arm", "AUGC", "onset", "AUGC", "above placebo", "onset", "proxy", "true")
    rows = [_score_row(runs, placebo) for _, runs in cells.groupby(["label", "arm"], sort=False)]
    legend = (
        "AUGC: area under the positive gap, mean over seeds (lowest to highest). Noise alone makes it positive:\n"
        "  compare with the placebo, the same run with learning rate 0.\n"
        "above placebo: the area with negative gaps counted as negative, minus the placebo's: noise cancels.\n"
        "onset: median step of the runs that cross the hacking threshold, and how many do.\n"
        "held-out rewards: change from the untouched checkpoint to the last step, mean over seeds."
    )
    return f"{aligned([groups, header, *rows])}\n{legend}"


def _score_row(runs: pd.DataFrame, placebo: str | None) -> tuple[str, ...]:
    start, change = runs["heldout_true_reward_start"].mean(), runs["heldout_true_reward_change"].mean()
    return (
        beta_label(runs["beta"].iloc[0], runs["label"].iloc[0]),
        runs["arm"].iloc[0],
        _mean_and_range(runs["augc"]),
        _onset(runs["onset_step"]),
        _mean_and_range(runs["controlled_augc"]),
        _excess(runs, placebo),
        _onset(runs["controlled_onset_step"]),
        f"{runs['heldout_proxy_reward_change'].mean():+.3f}",
        f"{change:+.3f} from {start:.3f}",
    )


def _mean_and_range(values: pd.Series) -> str:
    return f"{number(values.mean())} ({number(values.min())} to {number(values.max())})"


def _excess(runs: pd.DataFrame, placebo: str | None) -> str:
    """The placebo has none over itself, nor has any run where there is no placebo."""
    values = runs["controlled_signed_augc_excess"]
    return "" if runs["arm"].iloc[0] == placebo or values.isna().any() else number(values.mean(), signed=True)


def _onset(steps: pd.Series) -> str:
    crossed = steps.dropna()
    return f"{crossed.median():.0f} ({len(crossed)} of {len(steps)})" if len(crossed) else f"none of {len(steps)}"


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
