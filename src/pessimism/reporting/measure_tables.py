"""Tables per beta and arm: what training did on held-out problems, both measures of hacking, Table 1 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from pessimism.experiment.cells import percentile_label
from pessimism.measures.intervals import log_t_interval
from pessimism.probes.parts.declaration import all_columns
from pessimism.published import printed
from pessimism.reporting.claim_tables import BY, CONTROLLED, PAPER
from pessimism.reporting.curves import Arms, beta_levels
from pessimism.reporting.tables import NONE, Entry, Table, bounds, lines, number, over_seeds, step, steps
from pessimism.scoring.column import DETAILS, MORE, Column
from pessimism.scoring.columns import ALL, LABEL, shown_in
from pessimism.scoring.scores import beta_label

BETA = "β (percentile)"
WORDS = {"proxy_reward": "proxy", "true_reward": "true"}
COMPONENTS = {
    "seed": "between seeds",
    "prompt": "between problems",
    "residual": "rest, one answer",
    "standard_error": "standard error of the mean change",
}


def _runs(cells: pd.DataFrame, arms: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Label of the beta, arm and runs, betas ascending."""
    for level in beta_levels(cells):
        for arm in arms:
            runs = cells[(cells[LABEL] == level.label) & (cells["arm"] == arm)]
            yield beta_label(level.beta, level.label), arm, runs


def _headings(*names: str) -> list[str]:
    return [ALL[name].heading for name in names]


def heldout_outcome(cells: pd.DataFrame, arms: Arms) -> Table:
    """What the online phase did to both rewards on problems that it was not trained on."""
    endings = ("change", "change_excess") if arms.placebo else ("change",)
    rewards = [f"heldout_{reward}_{ending}" for reward in WORDS for ending in endings]
    groups = [("", 2), ("proxy reward", len(endings)), ("true reward (accuracy)", len(endings)), ("final KL", 1)]
    columns = [ALL[name] for name in (*rewards, "final_kl_k1")]
    return _plain(cells, arms, columns, groups)


def _entry(runs: pd.DataFrame, column: Column, is_placebo: bool) -> Entry:
    """As :func:`entry_of`; the placebo has no excess over itself."""
    return Entry("") if is_placebo and column.excess_of else entry_of(runs, column)


def entry_of(runs: pd.DataFrame, column: Column) -> Entry:
    """Mean over seeds, each seed's value and, where it has one, its interval."""
    entry, ends = over_seeds(runs[column.name], column.signed), (f"{column.name}_low", f"{column.name}_high")
    if not set(ends) <= set(ALL):
        return entry
    return Entry(entry.main, lines(entry.small, *map(bounds, runs[[*ends]].itertuples(index=False))))


def heldout_details(cells: pd.DataFrame, arms: Arms) -> Table:
    """Where the held-out rewards started, and what else changed."""
    return _plain(cells, arms, shown_in(DETAILS))


def _plain(cells: pd.DataFrame, arms: Arms, columns: Sequence[Column], groups: Sequence[tuple[str, int]] = ()) -> Table:
    rows = [
        [Entry(label), Entry(arm), *(_entry(runs, column, arm == arms.placebo) for column in columns)]
        for label, arm, runs in _runs(cells, arms.names)
    ]
    return Table([BETA, "arm", *(column.heading for column in columns)], rows, groups=groups)


def both_measures(cells: pd.DataFrame, arms: Arms) -> Table:
    """AUGC and onset by either measure, and how far the signed controlled AUGC is above the placebo's."""
    rows = []
    for label, arm, runs in _runs(cells, arms.names):
        rows.append(
            [
                Entry(label),
                Entry(arm),
                _paper_augc(runs),
                Entry(steps(runs["onset_step"])),
                _augc(runs["controlled_augc"]),
                _entry(runs, ALL["controlled_signed_augc_excess"], arm == arms.placebo),
                _onset_with_interval(runs),
            ]
        )
    controlled = ("controlled_augc", "controlled_signed_augc_excess", "controlled_onset_step")
    headers = [BETA, "arm", *_headings("augc", "onset_step", *controlled)]
    return Table(headers, rows, groups=[("", 2), (BY[PAPER], 2), (BY[CONTROLLED], 3)])


def _augc(values: pd.Series) -> Entry:
    """Mean, every seed, and a 95 % t interval on logarithms, where every AUGC is positive."""
    entry = over_seeds(values)
    interval = log_t_interval(values.to_numpy(float))
    return Entry(entry.main, lines(entry.small, "" if interval is None else bounds((interval.low, interval.high))))


def _paper_augc(runs: pd.DataFrame) -> Entry:
    entry = _augc(runs["augc"])
    degenerate = int(runs["baseline_degenerate"].sum())
    if not degenerate:
        return entry
    return Entry(
        entry.main, lines(entry.small, f"baseline near 0 or below in {degenerate} of {len(runs)}"), mark="warning"
    )


def _onset_with_interval(runs: pd.DataFrame) -> Entry:
    intervals = [
        NONE if pd.isna(low) else f"[{step(low)}, {step(high)}]"
        for low, high in zip(runs["controlled_onset_low"], runs["controlled_onset_high"], strict=True)
    ]
    return Entry(steps(runs["controlled_onset_step"]), " · ".join(intervals) if set(intervals) != {NONE} else "")


def more_of_the_controlled_measure(cells: pd.DataFrame, arms: Arms) -> Table:
    """Descriptions beside the controlled AUGC."""
    return _plain(cells, arms, shown_in(MORE))


def common_kl_sentence(cells: pd.DataFrame, common_kl: float) -> str:
    """Where areas over KL end, and how many runs of each arm go as far."""
    reached = cells.groupby("arm", sort=False)["controlled_augc_over_kl"].agg(["count", "size"])
    of_arms = ", ".join(f"{row.count} of {row.size} of arm {row.Index}" for row in reached.itertuples())
    return f"Areas over KL end at {number(common_kl)} nats, which {of_arms} reach."


def notes(table: str) -> str:
    """What a reader of a table must know of its columns."""
    return " ".join(column.note for column in shown_in(table) if column.note)


def table_1(cells: pd.DataFrame, arm: str) -> Table:
    """The paper's Table 1 from our runs, the published rows under it."""
    rows = [
        [
            Entry(label),
            over_seeds(runs["augc"]),
            over_seeds(runs["mean_ensemble_std"]),
            Entry(steps(runs["onset_step"])),
            over_seeds(runs["uq_gap_correlation"], signed=True),
        ]
        for label, _, runs in _runs(cells, [arm])
    ]
    augc, *others = (ALL[name] for name in ("augc", "mean_ensemble_std", "onset_step", "uq_gap_correlation"))
    headers = [BETA, f"{augc.heading}, {augc.unit}", *(column.heading for column in others)]
    return Table(headers, rows, [_published_row(row) for row in printed.BETAS])


def _published_row(row: printed.PublishedBeta) -> list[Entry]:
    values = [
        f"published: {beta_label(row.beta, percentile_label(row.beta_percentile))}",
        number(row.augc),
        number(row.mean_ensemble_std),
        str(row.onset_step),
        number(row.uq_gap_correlation, signed=True),
    ]
    return [Entry(value) for value in values]


CHECKPOINTS = ("kl_to_base", "response_entropy_dpo", "entropy_dpo", "dpo_win_rate", "dpo_reward_accuracy")


def checkpoints(primary: pd.DataFrame, entropy_tokens: str) -> Table:
    """How conservative each checkpoint turned out, and how good, by the beta that was asked for."""
    same = "entropy_dpo" if entropy_tokens == "response" else None
    columns = [ALL[name] for name in CHECKPOINTS if name != same]
    rows = [
        [Entry(label), *(over_seeds(runs[column.name]) for column in columns)]
        for label, _, runs in _runs(primary, primary["arm"].unique().tolist())
    ]
    return Table([BETA, *(column.heading for column in columns)], rows)


def probes(primary: pd.DataFrame) -> Table:
    """Every probe, before and after the online run."""
    columns = all_columns()
    rows = []
    for label, _, runs in _runs(primary, primary["arm"].unique().tolist()):
        for place, when in enumerate(("DPO checkpoint", "after the online run")):
            rows.append([Entry(label), Entry(when), *(over_seeds(runs[column.names[place]]) for column in columns)])
    return Table([BETA, "", *(column.heading for column in columns)], rows)


def probe_legend() -> str:
    """What every column of :func:`probes` is."""
    return " ".join(f"{column.heading}: {column.formula}; higher: {column.higher}." for column in all_columns())


def variance_table(variance: Mapping[str, Any], cells: pd.DataFrame) -> Table:
    """Variance components of the held-out changes, by label, arm and reward; the betas of ``cells`` ascending."""
    rows = []
    for label in (level.label for level in beta_levels(cells)):
        for arm, rewards in ((arm, found[label]) for arm, found in variance.items()):
            for reward, parts in rewards.items():
                numbers = (Entry(number(parts[name])) for name in COMPONENTS)
                rows.append([Entry(label), Entry(arm), Entry(WORDS[reward]), *numbers])
    return Table(["β", "arm", "reward", *COMPONENTS.values()], rows)
