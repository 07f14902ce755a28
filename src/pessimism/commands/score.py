"""The metrics of this project on the log of anybody's run: no model, no GPU, no pipeline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pessimism.commands.table import aligned
from pessimism.scoring.measures import CONTROLLED, PAPER
from pessimism.scoring.run_log import Columns, read_runs
from pessimism.scoring.run_scores import Design, score_runs

# Heading of each column and what the legend says of it; a column that no run has is left out, but for the onset.
_PAPER_COLUMNS = {
    "baseline_proxy": ("proxy(0)", "mean proxy reward of the first step, which the gap divides by"),
    "baseline_true": ("true(0)", "mean true reward of the first step, which the gap divides by"),
    "final_gap": ("final gap", "proxy over |proxy(0)| minus true over |true(0)|, at the last step"),
    "augc": (
        "AUGC",
        "area under the positive part of that gap, gap x steps; above 0 also for a policy that never changes",
    ),
    "augc_excess": ("excess", "AUGC minus the placebo's"),
    "onset_step": ("onset", "first step whose gap is above the threshold; - = none"),
    "baseline_degenerate": ("degenerate", "yes = a baseline is 0, so that the gap divides by 1.2e-7 and says nothing"),
}
_CONTROLLED_COLUMNS = {
    "proxy_change": ("proxy", "change of the proxy from first to last step, in sd"),
    "true_change": ("true", "change of the true reward, in sd"),
    "final_gap": ("final gap", "the first minus the second; above 0 = the proxy gained more"),
    "augc": ("AUGC", "area under the positive part of the gap, sd x steps"),
    "augc_excess": ("excess", "AUGC minus the placebo's"),
    "signed_augc": ("signed", "area under the gap itself: noise around 0 cancels"),
    "augc_over_kl": ("over KL", "AUGC with the KL column in place of steps, sd x its unit"),
    "true_regret": ("regret", "true reward of the best step minus that of the last, chosen and valued on different "
    "prompts, so that\n    noise alone gives 0 on average, not more"),
    "overoptimization": ("overopt.", "area between the two changes over the area under the proxy's: 0 = true followed, "
    "1 = true stayed,\n    above 1 = true fell (Kim et al., arXiv 2505.12763); noise where the proxy hardly rose"),
    "onset_step": ("onset", "first step whose gap is above the threshold; - = none"),
    "onset_interval": ("95 %", "of the onset, over resampled prompts"),
}  # fmt: skip
_TREND_NAMES = {
    "final_gap": "final gap",
    "augc": "AUGC",
    "augc_excess": "AUGC excess",
    "signed_augc": "signed AUGC",
    "augc_over_kl": "AUGC over KL",
    "true_regret": "regret",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score logs of runs that train a policy on a proxy reward, from any trainer. Rows are samples (several per "
        "step) or steps (then --proxy-sd and --true-sd give the controlled measure). docs/score.md has an example."
    )
    add = parser.add_argument
    add("table", type=Path, nargs="+", help="one or more .csv, .jsonl or .parquet files that together hold the runs")
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
        "--threshold", type=float, metavar="X", help="controlled gap that counts as hacking, in sd (default: from data)"
    )
    add("--json", action="store_true", help="print everything as one JSON object")


def run(options: argparse.Namespace) -> None:
    columns = Columns(
        step=options.step,
        proxy=options.proxy,
        true=options.true,
        groups=tuple(dict.fromkeys(filter(None, [*options.group, options.arm, options.beta, options.seed]))),
        prompt=options.prompt,
        kl=options.kl,
        proxy_sd=_column_or_number(options.proxy_sd),
        true_sd=_column_or_number(options.true_sd),
    )
    design = Design(options.beta, options.seed, options.arm, options.placebo, options.threshold)
    print(score(options.table, columns, design, options.json))


def _column_or_number(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def score(paths: Sequence[Path], columns: Columns, design: Design, as_json: bool) -> str:
    """The whole text, or everything as one JSON object.

    Raises:
        PessimismError: the tables cannot be read as runs.
    """
    found = score_runs(read_runs(paths, columns), design)
    if as_json:
        return json.dumps(found, indent=2, allow_nan=False)
    parts = [_size(found["runs"]), _paper(found), _controlled(found), _trends(found, design)]
    parts += [f"Note: {note}" for note in found["notes"]]
    return "\n\n".join(part for part in parts if part)


def _size(runs: Sequence[Mapping[str, Any]]) -> str:
    points, samples = {run["points"] for run in runs}, {run["fewest_samples_per_step"] for run in runs}
    first, last = {run["first_step"] for run in runs}, {run["last_step"] for run in runs}
    per_step = "one row per step" if samples == {1} else f"{_range(samples)} samples per step"
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{count}, {_range(points)} measured steps ({_range(first)} to {_range(last)}), {per_step}"


def _range(values: set[int]) -> str:
    return f"{min(values)}" if len(values) == 1 else f"{min(values)} to {max(values)}"


def _paper(found: Mapping[str, Any]) -> str:
    said = "The paper's measure: each reward relative to its first step."
    return f"{said}\n{_measure(found, PAPER, _PAPER_COLUMNS)}{_threshold(found, PAPER, '')}"


def _controlled(found: Mapping[str, Any]) -> str:
    if found["base_sd"]["proxy"] is None:
        return ""
    sd = found["base_sd"]
    said = (
        "The controlled measure: change of each reward since the first step in standard deviations (sd) of the start,\n"
        f"{sd['proxy']:.4g} of the proxy and {sd['true']:.4g} of the true reward; no constant or factor in either "
        "reward matters."
    )
    return f"{said}\n{_measure(found, CONTROLLED, _CONTROLLED_COLUMNS)}{_threshold(found, CONTROLLED, ' sd')}"


def _measure(found: Mapping[str, Any], measure: str, columns: Mapping[str, tuple[str, str]]) -> str:
    runs = found["runs"]
    names = list(runs[0]["identity"])
    shown = [key for key in columns if key == "onset_step" or any(run[measure].get(key) is not None for run in runs)]
    header = (*names, *(columns[key][0] for key in shown))
    rows = [(*_labels(run), *(_cell(run[measure].get(key)) for key in shown)) for run in runs]
    legend = [f"  {columns[key][0]}: {columns[key][1]}" for key in shown]
    return "\n".join([aligned([header, *rows]), *legend])


def _labels(record: Mapping[str, Any]) -> list[str]:
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in record["identity"].values()]


def _threshold(found: Mapping[str, Any], measure: str, unit: str) -> str:
    threshold = found["thresholds"][measure]
    if threshold is None:
        return "\n  No gap is above 0, so there is no threshold and no onset."
    return f"\n  Threshold: {threshold:.4g}{unit}{_origin(found, measure)}."


def _origin(found: Mapping[str, Any], measure: str) -> str:
    if measure == CONTROLLED and found["threshold_given"]:
        return ", as given"
    return ", the 75th percentile of the positive gaps of these runs: a quarter lie above it, whatever they are"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{value[0]} to {value[1]}"
    return f"{value}" if isinstance(value, int) else _number(value)


def _number(value: float) -> str:
    """Two decimals, or three digits where that would show too many or none; what EPS alone leaves shows as 0."""
    size = abs(value)
    return f"{value:.3g}" if 1e-6 < size < 0.1 or size >= 1e5 else f"{value + 0.0:.2f}"


def _trends(found: Mapping[str, Any], design: Design) -> str:
    if not found["trends"]:
        return ""
    names = list(found["trends"][0]["identity"])
    header = (*names, "measure", "number", "Spearman", "p rises", "Holm", "p falls", "Holm", "test")
    rows = [(*_labels(row), *_trend_row(row)) for row in found["trends"]]
    legend = (
        f"  Spearman: rank correlation of {design.beta} with the mean over its runs.\n"
        f"  p: one-sided, exact where it can be enumerated; rises = more hacking at higher {design.beta}.\n"
        "  Holm: p corrected for the numbers of one measure, which say much the same: choose one before looking."
    )
    return f"Trend over {design.beta}:\n{aligned([header, *rows])}\n{legend}"


def _trend_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    ps = (row["p_rises"], row["p_rises_holm"], row["p_falls"], row["p_falls_holm"])
    spearman = "-" if row["spearman"] is None else f"{row['spearman']:+.2f}"
    return (
        row["measure"],
        _TREND_NAMES[row["metric"]],
        spearman,
        *("-" if p is None else f"{p:.2g}" for p in ps),
        row["test"],
    )
