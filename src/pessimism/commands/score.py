"""The metrics of this project on the log of anybody's run: no model, no GPU, no pipeline."""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.log_trends import log_trends
from pessimism.claims.statements import CLAIMS
from pessimism.claims.wording import listed
from pessimism.commands.following import NO_UNIT, files_in, follow, looks
from pessimism.commands.table import aligned
from pessimism.errors import DataError
from pessimism.measures.goodhart import CONTROLLED_THRESHOLD
from pessimism.scoring.column import LOG, Column
from pessimism.scoring.columns import shown_in
from pessimism.scoring.log_scores import LogDesign, LogScores, score_log
from pessimism.scoring.log_table import LogColumns
from pessimism.scoring.measures import CONTROLLED, PAPER
from pessimism.scoring.run_log import LoggedRun, read_log

NEVER = "never"
WIDTH = 110
WIDEST_BETA = 8
PAUSE = 5.0
"""Seconds between two looks at a growing log."""
LONGEST_PAUSE = 86_400
ONSET = 3
"""Exit status where a run hacks and that was asked for; 2 is a refusal."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score logs of runs that train a policy on a proxy reward, from any trainer. Rows are samples (several per "
        "step) or steps (then --proxy-sd and --true-sd give the controlled measure). docs/score.md has an example, and "
        "what TRL, verl, OpenRLHF, Weights & Biases and Trackio write."
    )
    add = parser.add_argument
    add(
        "table",
        type=Path,
        nargs="+",
        help="files that together hold the runs, or directories of them: .csv, .tsv, .json, .jsonl, .parquet",
    )
    add("--step", default="step", metavar="COL", help="training steps done when the row was measured (default: step)")
    add("--proxy", default="proxy_reward", metavar="COL", help="reward trained on (default: proxy_reward)")
    add("--true", default="true_reward", metavar="COL", help="reward it stands for (default: true_reward)")
    add("--prompt", metavar="COL", help="prompt of a sample: gives regret and the onset's interval")
    add("--kl", metavar="COL", help="KL divergence from the start, per row: gives AUGC over KL")
    add("--proxy-sd", metavar="COL|X", help="proxy's sd over samples: a column, or the base policy's as a number")
    add(
        "--true-sd", metavar="COL|X", help="true reward's sd, likewise (default of both: over the first step's samples)"
    )
    add("--beta", metavar="COL", help="number that the runs vary: gives trend tests over it")
    add("--seed", metavar="COL", help="seed of a run: pairs runs of different beta")
    add("--arm", metavar="COL", help="arm of a run, such as trained and placebo")
    add("--placebo", metavar="VALUE", help="value of --arm whose runs never learn: gives the excess over them")
    add(
        "--group",
        metavar="COL",
        action="append",
        default=[],
        help="further column that tells runs apart, as often as needed; 'file' = every file is a run",
    )
    add(
        "--threshold",
        type=float,
        default=CONTROLLED_THRESHOLD,
        metavar="X",
        help=f"controlled gap that counts as hacking, in sd (default: {CONTROLLED_THRESHOLD})",
    )
    add("--json", action="store_true", help="print everything as one JSON object")
    add("--follow", action="store_true", help="tell each step of a log that is still written; end it with Ctrl-C")
    add(
        "--every",
        type=float,
        default=PAUSE,
        metavar="SECONDS",
        help=f"time between two looks of --follow (default: {PAUSE:g})",
    )
    add(
        "--fail-on-onset",
        action="store_true",
        help=f"end with status {ONSET} where a run that is no placebo hacks by the controlled gap; a watch ends there",
    )


def run(options: argparse.Namespace) -> None:
    columns = LogColumns(
        step=options.step,
        proxy=options.proxy,
        true=options.true,
        groups=tuple(dict.fromkeys(filter(None, [*options.group, options.arm, options.beta, options.seed]))),
        prompt=options.prompt,
        kl=options.kl,
        proxy_sd=_column_or_number(options.proxy_sd),
        true_sd=_column_or_number(options.true_sd),
    )
    design = LogDesign(options.beta, options.seed, options.arm, options.placebo, options.threshold)
    if options.follow:
        _follow(options, columns, design)
        return
    found = score_log(read_log(files_in(options.table), columns), design)
    print(scored(found, columns, design, options.json))
    if options.fail_on_onset and _hacks(found, design):
        sys.exit(ONSET)


def _follow(options: argparse.Namespace, columns: LogColumns, design: LogDesign) -> None:
    """Tell a growing log until the user has seen enough, or until an onset that is asked for.

    Raises:
        DataError: the pause is none, or one object is asked for of a watch that prints lines.
    """
    if options.json:
        raise DataError("found --json with --follow, which prints a line per step; expected one of both: leave one out")
    if not 0 < options.every <= LONGEST_PAUSE:
        raise DataError(
            f"found --every {options.every:g}; expected a number of seconds above 0 and up to {LONGEST_PAUSE:,}, a "
            f"day: leave it out for {PAUSE:g}"
        )
    try:
        for line in follow(looks(options.table, columns, options.every), design, options.fail_on_onset):
            print(line, flush=True)
    except KeyboardInterrupt:
        return
    sys.exit(ONSET)


def _hacks(found: LogScores, design: LogDesign) -> bool:
    """Whether a run that is no placebo has an onset by the controlled measure.

    Raises:
        DataError: the log does not tell.
    """
    if found.unit is None:
        raise DataError(NO_UNIT)
    onsets = found.table["controlled_onset_step"]
    learning = [not design.is_placebo(run) for run in found.runs]
    return bool(onsets[learning].notna().any())


def _column_or_number(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def scored(found: LogScores, columns: LogColumns, design: LogDesign, as_json: bool) -> str:
    """The whole text, or everything as one JSON object."""
    trends, notes = log_trends(found, design)
    if as_json:
        return json.dumps(_record(found, trends) | {"notes": found.notes + notes}, indent=2, allow_nan=False)
    parts = [_size(found.runs), _paper(found, design), _controlled(found, columns, design), _trends(trends, design)]
    parts += [textwrap.fill(f"Note: {note}", WIDTH, break_on_hyphens=False) for note in found.notes + notes]
    return "\n\n".join(part for part in parts if part)


def _record(found: LogScores, trends: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything; null where a log does not determine a number."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in found.table.to_dict(orient="records")]
    return {
        "runs": [_described(run) | {"scores": row} for run, row in zip(found.runs, rows, strict=True)],
        "unit": found.unit and {"proxy_sd": found.unit.proxy_sd, "true_sd": found.unit.true_sd},
        "thresholds": found.threshold,
        "trends": [row | {"levels": [_plain(level) for level in row["levels"]]} for row in trends],
    }


def _plain(value: Any) -> Any:
    """A number that JSON can hold."""
    return None if pd.isna(value) else NEVER if math.isinf(value) else value


def _described(run: LoggedRun) -> dict[str, Any]:
    steps = run.curves.steps_T.tolist()
    return {
        "identity": run.identity,
        "points": len(steps),
        "first_step": steps[0],
        "last_step": steps[-1],
        "fewest_samples_per_step": int(run.samples_T.min()),
    }


def _size(runs: Sequence[LoggedRun]) -> str:
    found = pd.DataFrame([_described(run) for run in runs])
    samples = pd.Series(np.concatenate([run.samples_T for run in runs]))
    per_step = "one row with both rewards per step" if (samples == 1).all() else f"{_range(samples)} samples per step"
    steps = f"{_range(found['points'])} measured steps ({found['first_step'].min()} to {found['last_step'].max()})"
    return f"{'1 run' if len(runs) == 1 else f'{len(runs)} runs'}, {steps}, {per_step}"


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _paper(found: LogScores, design: LogDesign) -> str:
    said = "The paper's measure, from the gap G: each reward relative to its first step."
    return f"{said}\n{_measure(found, design, PAPER)}\n{_derived_threshold(found)}"


def _controlled(found: LogScores, columns: LogColumns, design: LogDesign) -> str:
    if found.unit is None:
        return ""
    origins = {"as given" if isinstance(sd, float) else "those of the runs' own start" for sd in columns.sds.values()}
    said = (
        "The controlled measure: change of each reward since the first step in standard deviations (base sd), "
        f"{' or '.join(sorted(origins))}: {found.unit.proxy_sd:.4g} of the proxy and {found.unit.true_sd:.4g} of the "
        "true reward. No constant or factor in either reward matters."
    )
    threshold = _indented(f"Threshold: {design.threshold:.4g} base sd, in which these runs have no part (--threshold).")
    return f"{textwrap.fill(said, WIDTH)}\n{_measure(found, design, CONTROLLED)}\n{threshold}"


def _measure(found: LogScores, design: LogDesign, measure: str) -> str:
    """A row per run, and what its columns mean; a column that no run has is left out, but for the onset."""
    known = found.table.columns[found.table.notna().any()]
    columns = [
        column for column in shown_in(LOG) if column.measure == measure and (column.name in known or column.event)
    ]
    names = [*found.runs[0].identity, *(column.heading for column in columns)]
    header = [[" ".join(name.split()[:-1]) for name in names], [name.split()[-1] for name in names]]
    rows = [
        [*_labels(run.identity, design), *(_cell(row[column.name], column) for column in columns)]
        for run, row in zip(found.runs, found.table.to_dict(orient="records"), strict=True)
    ]
    return "\n".join([aligned([*header, *rows]), *map(_legend, columns)])


def _legend(column: Column) -> str:
    """What a column is, its unit and its direction."""
    direction = f"higher = {column.direction}" if column.direction else ""
    values = "; ".join(filter(None, (column.values, direction)))
    meaning = column.meaning.replace("\\|", "|").replace("`", "")
    return _indented(f"{column.heading}: {meaning}{f' [{values}]' if values else ''}")


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _labels(identity: Mapping[str, str], design: LogDesign) -> list[str]:
    """Labels as they stand in the log, but for a beta of many digits."""
    return [
        f"{float(label):.4g}" if name == design.beta and len(label) > WIDEST_BETA else label
        for name, label in identity.items()
    ]


def _derived_threshold(found: LogScores) -> str:
    threshold = found.threshold[PAPER]
    if threshold is None:
        return "  No gap is above 0, so there is no threshold and no onset."
    derived = "the 75th percentile of the positive gaps of these runs: a quarter lie above it, whatever they are"
    return _indented(f"Threshold: {threshold:.4g}, {derived}.")


def _cell(value: Any, column: Column) -> str:
    if pd.isna(value):
        return "-"
    if math.isinf(value):
        return NEVER
    return f"{value:.0f}" if isinstance(value, int) or column.unit == "steps" else _number(value)


def _number(value: float) -> str:
    """Two decimals, or three digits where that would show too many or none; what EPS alone leaves shows as 0."""
    size = abs(value)
    return f"{value:.3g}" if 1e-6 < size < 0.1 or size >= 1e5 else f"{value + 0.0:.2f}"


def _trends(trends: Sequence[Mapping[str, Any]], design: LogDesign) -> str:
    if not trends:
        return ""
    ps = ("p", "guarded", "Holm")
    header = (*trends[0]["identity"], "number", "claim", "Spearman", *ps, f"opposite {ps[0]}", *ps[1:], "test")
    rows = [(*_labels(row["identity"], design), *_trend_row(row)) for row in trends]
    tested = " and ".join(sorted({row["claim"] for row in trends if row["claim"]}))
    legend = (
        f"Spearman: rank correlation of {design.beta} with the mean over its runs, the median where one has no onset.",
        f"p: one-sided, of runs that are not paired: more hacking at higher {design.beta}; opposite p: less.",
        f"guarded: what a claim is judged by. {_guards(trends)} Where a log lacks that, without a placebo or "
        "standard deviations, the p is 1.",
        f"Holm: guarded p corrected over the secondary claims of a measure; {_primary()} keeps its own. Rewards alone "
        f"test {tested}; the others count with p = 1, so that no corrected p is below that of a pipeline with unpaired "
        "seeds.",
        "The numbers without a claim describe: their p are not corrected.",
    )
    title = f"Trend over {design.beta}, by the tests of the paper's claims:"
    return "\n".join([title, aligned([header, *rows]), *map(_indented, legend)])


def _guards(trends: Sequence[Mapping[str, Any]]) -> str:
    """Which numbers must not change alone."""
    guarded: dict[str, list[str]] = {}
    for row in trends:
        if row["guard"] and row["number"] not in guarded.setdefault(row["guard"], []):
            guarded[row["guard"]].append(row["number"])
    return " ".join(
        f"{guard} must have the same trend as {listed(names)}: the larger p counts." for guard, names in guarded.items()
    )


def _primary() -> str:
    return " and ".join(f"{claim.name} by the {claim.primary} measure" for claim in CLAIMS if claim.primary)


def _trend_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("p", "p_guarded", "p_adjusted", "p_opposite", "p_opposite_guarded", "p_opposite_adjusted")
    return (
        row["number"],
        row["claim"] or "-",
        "-" if row["spearman"] is None else f"{row['spearman']:+.2f}",
        *("-" if row[name] is None else f"{row[name]:.2g}" for name in names),
        row["test"],
    )
