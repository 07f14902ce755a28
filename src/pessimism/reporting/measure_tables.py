"""Tables per beta and arm: what training did on held-out problems, both measures of hacking, Table 1 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from pessimism.measures.intervals import log_t_interval
from pessimism.published import printed
from pessimism.reporting.claim_tables import BY, CONTROLLED, PAPER
from pessimism.reporting.curves import beta_levels
from pessimism.reporting.tables import NONE, Entry, Table, bounds, lines, number, over_seeds, step, steps
from pessimism.scoring.scores import PLACEBO, beta_label

BETA = "β (percentile)"
EXCESS = "_excess"
MORE_COLUMNS = {
    "signed AUGC": ("controlled_signed_augc", True),
    "signed AUGC above the placebo": ("controlled_signed_augc_excess", True),
    "AUGC over KL": ("controlled_augc_over_kl", False),
    "final gap": ("controlled_final_gap", True),
    "true regret": ("true_regret", True),
    "overoptimisation": ("overoptimization", False),
    "UQ-gap Pearson r": ("controlled_uq_gap_correlation", True),
}
"""Column and whether it is signed, by heading."""
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
            runs = cells[(cells["beta_percentile"] == level.beta_percentile) & (cells["arm"] == arm)]
            yield beta_label(level.beta, level.beta_percentile), arm, runs


def heldout_outcome(cells: pd.DataFrame, arms: Sequence[str]) -> Table:
    """What the online phase did to both rewards on problems that it was not trained on."""
    with_placebo = PLACEBO in arms
    headers = [BETA, "arm", "change", "above the placebo", "change", "above the placebo", "nats per response"]
    groups = [("", 2), ("proxy reward", 2), ("true reward (accuracy)", 2), ("final KL", 1)]
    if not with_placebo:
        headers, groups = [BETA, "arm", *["change"] * 2, headers[-1]], [groups[0], *((g, 1) for g, _ in groups[1:])]
    rows = []
    for label, arm, runs in _runs(cells, arms):
        row = [Entry(label), Entry(arm)]
        for reward in ("proxy_reward", "true_reward"):
            row.append(over_seeds(runs[f"heldout_{reward}_change"], signed=True))
            if with_placebo:
                row.append(_excess(runs, f"heldout_{reward}_change", arm))
        rows.append([*row, over_seeds(runs["final_kl_k1"])])
    return Table(headers, rows, groups=groups)


def _excess(runs: pd.DataFrame, column: str, arm: str) -> Entry:
    """The placebo has no excess over itself."""
    return Entry("") if arm == PLACEBO else over_seeds(runs[f"{column}{EXCESS}"], signed=True)


def heldout_details(cells: pd.DataFrame, arms: Sequence[str]) -> Table:
    """Where the held-out rewards started, and what else changed."""
    columns = {
        "proxy at step 0": ("heldout_proxy_reward_start", False),
        "true at step 0": ("heldout_true_reward_start", False),
        "flexible true reward, change": ("heldout_true_reward_flexible_change", True),
        "ensemble std at step 0": ("heldout_ensemble_std_start", False),
        "ensemble std, change": ("heldout_ensemble_std_change", True),
        "length change, tokens": ("heldout_response_length_change", True),
        "final KL (k3), nats": ("final_kl_k3", False),
    }
    return _plain(cells, arms, columns)


def _plain(cells: pd.DataFrame, arms: Sequence[str], columns: dict[str, tuple[str, bool]]) -> Table:
    rows = []
    for label, arm, runs in _runs(cells, arms):
        entries = [
            Entry("") if arm == PLACEBO and column.endswith(EXCESS) else over_seeds(runs[column], signed)
            for column, signed in columns.values()
        ]
        rows.append([Entry(label), Entry(arm), *entries])
    return Table([BETA, "arm", *columns], rows)


def both_measures(cells: pd.DataFrame, arms: Sequence[str]) -> Table:
    """AUGC and onset by either measure, and how far the controlled AUGC is above the placebo's."""
    rows = []
    for label, arm, runs in _runs(cells, arms):
        rows.append(
            [
                Entry(label),
                Entry(arm),
                _paper_augc(runs),
                Entry(steps(runs["onset_step"])),
                _augc(runs["controlled_augc"]),
                _excess(runs, "controlled_augc", arm),
                _onset_with_interval(runs),
            ]
        )
    headers = [BETA, "arm", "AUGC", "onset step", "AUGC", "above the placebo", "onset step"]
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
    return Entry(entry.main, lines(entry.small, f"baseline 0 in {degenerate} of {len(runs)}"), mark="warning")


def _onset_with_interval(runs: pd.DataFrame) -> Entry:
    intervals = [
        NONE if pd.isna(low) else f"[{step(low)}, {step(high)}]"
        for low, high in zip(runs["controlled_onset_low"], runs["controlled_onset_high"], strict=True)
    ]
    return Entry(steps(runs["controlled_onset_step"]), " · ".join(intervals) if set(intervals) != {NONE} else "")


def more_of_the_controlled_measure(cells: pd.DataFrame, arms: Sequence[str]) -> Table:
    """Numbers beside the controlled AUGC."""
    return _plain(cells, arms, MORE_COLUMNS)


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
    headers = [BETA, "AUGC, gap × steps", "mean ensemble std", "onset step", "UQ-gap Pearson r"]
    return Table(headers, rows, [_published_row(row) for row in printed.BETAS])


def _published_row(row: printed.PublishedBeta) -> list[Entry]:
    values = [
        f"published: {beta_label(row.beta, row.beta_percentile)}",
        number(row.augc),
        number(row.mean_ensemble_std),
        str(row.onset_step),
        number(row.uq_gap_correlation, signed=True),
    ]
    return [Entry(value) for value in values]


def checkpoints(primary: pd.DataFrame, entropy_tokens: str) -> Table:
    """How conservative each DPO checkpoint turned out, beside the beta that was asked for."""
    columns = {
        "KL to the base, nats per response": "kl_to_base",
        "entropy, response tokens": "response_entropy_dpo",
        **({} if entropy_tokens == "response" else {f"entropy, {entropy_tokens} tokens": "entropy_dpo"}),
        "win rate over the base, proxy": "dpo_win_rate",
        "accuracy of the implicit reward": "dpo_reward_accuracy",
    }
    return _per_checkpoint(primary, columns)


def representations(primary: pd.DataFrame) -> Table:
    """Distances and diversities of the probes, before and after the online run."""
    names = ["ood_cosine_distance", "ood_mahalanobis_distance", "ood_cosine_distance_all"]
    names += ["response_diversity", "within_prompt_diversity"]
    rows = []
    for label, _, runs in _runs(primary, primary["arm"].unique().tolist()):
        for when, suffix in (("DPO checkpoint", ""), ("after the online run", "_online")):
            rows.append([Entry(label), Entry(when), *(over_seeds(runs[f"{name}{suffix}"]) for name in names)])
    headers = [BETA, "", "cosine, paper's probe", "Mahalanobis, all members", "cosine, all members"]
    headers += ["diversity, paper's probe", "diversity within a prompt, all members"]
    return Table(headers, rows, groups=[("", 2), ("distance from the reward model's data", 3), ("diversity", 2)])


def _per_checkpoint(primary: pd.DataFrame, columns: dict[str, str]) -> Table:
    rows = [
        [Entry(label), *(over_seeds(runs[column]) for column in columns.values())]
        for label, _, runs in _runs(primary, primary["arm"].unique().tolist())
    ]
    return Table([BETA, *columns], rows)


def variance_table(variance: Mapping[str, Any]) -> Table:
    """Variance components of the held-out changes, by arm, beta percentile and reward."""
    rows = []
    for percentile in sorted(set().union(*variance.values()), key=lambda key: int(key.removeprefix("p"))):
        for arm, rewards in ((arm, found[percentile]) for arm, found in variance.items()):
            for reward, parts in rewards.items():
                numbers = (Entry(number(parts[name])) for name in COMPONENTS)
                rows.append([Entry(percentile), Entry(arm), Entry(WORDS[reward]), *numbers])
    return Table(["β percentile", "arm", "reward", *COMPONENTS.values()], rows)
