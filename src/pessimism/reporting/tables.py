"""The report's tables: Table 1 of the paper from our runs, the held-out outcome, the claims, every metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pessimism.analysis import published
from pessimism.analysis.scores import beta_label
from pessimism.reporting.curves import beta_levels

NONE = "–"
NEVER = "never"
ROUNDING = 1e-12  # what is left of a parameter whose optimum is 0


@dataclass(frozen=True)
class Entry:
    """One entry of a table: what stands in it, and what stands under it in smaller print."""

    main: str
    small: str = ""


@dataclass(frozen=True)
class Table:
    """Headers and rows; ``quiet_rows`` are set apart, as the published numbers are."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    quiet_rows: Sequence[Sequence[Entry]] = ()


def number(value: Any, signed: bool = False, digits: int = 3) -> str:
    """Rounded to ``digits`` significant digits, or a dash where there is no value."""
    if value is None or pd.isna(value):
        return NONE
    if abs(value) < ROUNDING:
        return "0"
    sign = "+" if signed else ""
    if 10**digits <= abs(value) < 1e5:
        return f"{value:{sign}.0f}"
    return f"{value:{sign}.{digits}g}"


def over_seeds(values: pd.Series, signed: bool = False) -> Entry:
    """Mean over seeds, each seed's value under it, shorter."""
    if len(values) == 1:
        return Entry(number(values.iloc[0], signed))
    mean = values.dropna().mean() if values.notna().any() else None
    return Entry(number(mean, signed), " · ".join(number(value, signed, digits=2) for value in values))


def _onset(values: pd.Series) -> Entry:
    return Entry(" · ".join(NEVER if pd.isna(value) else str(int(value)) for value in values))


def table_1(cells: pd.DataFrame, arms: Sequence[str]) -> Table:
    """The paper's Table 1 from our runs, AUGC of the other arms beside it, the published rows under it."""
    headers = [
        "β (percentile)",
        "AUGC, gap × steps",
        "mean ensemble std",
        "onset step",
        "UQ-gap Pearson r",
        *(f"AUGC, {arm}" for arm in arms[1:]),
    ]
    rows = []
    for level in beta_levels(cells):
        of_beta = cells[cells["beta_percentile"] == level.beta_percentile]
        runs = of_beta[of_beta["arm"] == arms[0]]
        rows.append(
            [
                Entry(beta_label(level.beta, level.beta_percentile)),
                over_seeds(runs["augc"]),
                over_seeds(runs["mean_ensemble_std"]),
                _onset(runs["onset_step"]),
                over_seeds(runs["uq_gap_correlation"], signed=True),
                *(over_seeds(of_beta.loc[of_beta["arm"] == arm, "augc"]) for arm in arms[1:]),
            ]
        )
    return Table(headers, rows, [_published_row(row, len(arms) - 1) for row in published.BETAS])


def _published_row(row: published.PublishedBeta, other_arms: int) -> list[Entry]:
    values = [
        f"published: {beta_label(row.beta, row.beta_percentile)}",
        number(row.augc),
        number(row.mean_ensemble_std),
        str(row.onset_step),
        number(row.uq_gap_correlation, signed=True),
        *[NONE] * other_arms,
    ]
    return [Entry(value) for value in values]


def heldout_outcome(cells: pd.DataFrame, arms: Sequence[str]) -> Table:
    """What the online phase did to rewards on problems it was not trained on, per beta and arm."""
    headers = [
        "β (percentile)",
        "arm",
        "proxy at step 0",
        "proxy change",
        "true at step 0",
        "true change",
        "final KL, nats",
        "ensemble std change",
        "length change, tokens",
    ]
    rows = []
    for level in beta_levels(cells):
        for arm in arms:
            runs = cells[(cells["beta_percentile"] == level.beta_percentile) & (cells["arm"] == arm)]
            rows.append(
                [
                    Entry(beta_label(level.beta, level.beta_percentile)),
                    Entry(arm),
                    over_seeds(runs["heldout_proxy_reward_start"]),
                    over_seeds(runs["heldout_proxy_reward_change"], signed=True),
                    over_seeds(runs["heldout_true_reward_start"]),
                    over_seeds(runs["heldout_true_reward_change"], signed=True),
                    over_seeds(runs["final_kl_k1"]),
                    over_seeds(runs["heldout_ensemble_std_change"], signed=True),
                    over_seeds(runs["heldout_response_length_change"], signed=True),
                ]
            )
    return Table(headers, rows)


def claims_table(claims: Mapping[str, Mapping[str, Any]]) -> Table:
    """The ten claims with our numbers. There is no verdict in it."""
    direction = {+1: "rises", -1: "falls", 0: "either"}
    rows = []
    for name in sorted(claims, key=lambda claim: int(claim[1:])):
        claim = claims[name]
        trend = "predicted" in claim
        estimate = f"ρ = {number(claim['estimate'], signed=True)}" if trend else _labelled(claim)
        rows.append(
            [
                Entry(name),
                Entry(str(claim["statement"]), str(claim["note"])),
                Entry(direction[claim["predicted"]] if trend else NONE),
                Entry(estimate),
                Entry(_difference(claim) if trend else NONE),
            ]
        )
    headers = ["", "claim", "predicted with β", "estimate", "highest β minus lowest"]
    return Table(headers, rows)


def _difference(claim: Mapping[str, Any]) -> str:
    missing = claim["difference"] is None
    return NONE if missing else f"{number(claim['difference'], signed=True)} {claim['unit']}"


def _labelled(claim: Mapping[str, Any]) -> str:
    symbol = {"b": "b", "beta_star": "β*"}[claim["quantity"]]
    return f"{symbol} = {number(claim['estimate'])}"


def power_law_table(found: Mapping[str, Any]) -> Table:
    """Parameters of the fit and beta* by both readings, ours and the published ones."""
    names = {
        "a": "a",
        "b": "b",
        "c": "c",
        "beta_star_over_grid": "β*, minimum over the grid",
        "beta_star_over_observed": "β*, minimum at the smallest β",
    }
    ours = [Entry("these runs"), *(Entry(number(found.get(key))) for key in names)]
    theirs = [Entry("published"), *(Entry(number(published.POWER_LAW[key])) for key in names)]
    return Table(["", *names.values()], [ours], [theirs])


def metrics_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every entry of the given metrics files, one row each."""
    rows = []
    for file, record in records.items():
        for name, value in leaves(record):
            rows.append([Entry(file), Entry(name), Entry(value if isinstance(value, str) else number(value))])
    return Table(["file", "metric", "value"], rows)


def leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested record, in its order."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def settings_table(settings: Mapping[str, Any]) -> Table:
    """Names and values of settings as they are."""
    rows = [[Entry(name), Entry(NONE if value is None else _spelled(value))] for name, value in leaves(settings)]
    return Table(["setting", "value"], rows)


def _spelled(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
