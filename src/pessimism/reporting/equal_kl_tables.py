"""Tables and sentences about the runs of an arm at one KL: metrics/equal_kl.json beside each run's own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pessimism.reporting.curves import Arms, beta_levels
from pessimism.reporting.measure_tables import BETA
from pessimism.reporting.tables import NONE, Entry, Table, bounds, lines, number, seed_values
from pessimism.scoring.columns import ALL, LABEL
from pessimism.scoring.equal_kl import QUANTITIES
from pessimism.scoring.scores import beta_label

Record = Mapping[str, Mapping[str, Any]]


def arms_compared(record: Record, arms: Arms) -> list[str]:
    """Arms that learn, in the order of params.yaml."""
    return [arm for arm in arms.names if arm in record]


def gains_table(record: Record, cells: pd.DataFrame, arms: Arms) -> Table:
    """Both gains and the gap of every beta at the KL of its arm; under them the highest beta minus the lowest."""
    columns = [ALL[f"equal_kl_{name}"] for name in QUANTITIES]
    rows = []
    for arm in arms_compared(record, arms):
        found = record[arm]
        for label, title in _betas(cells):
            runs = cells[(cells[LABEL] == label) & (cells["arm"] == arm)]
            estimates = (_estimate(found["by_label"][label][name], runs[f"equal_kl_{name}"]) for name in QUANTITIES)
            read_at = Entry(seed_values(runs["equal_kl_step"]))
            rows.append([Entry(title), Entry(arm), Entry(number(found["kl"])), *estimates, read_at])
        contrast = found.get("highest_minus_lowest_beta")
        if contrast is not None:
            estimates = (_estimate(contrast[name]) for name in QUANTITIES)
            rows.append([Entry("highest β minus lowest"), Entry(arm), Entry(""), *estimates, Entry("")])
    headers = [BETA, "arm", "KL, nats", *(f"{column.heading}, {column.unit}" for column in columns), "read at step"]
    return Table(headers, rows)


def _betas(cells: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Label and title of every beta, ascending."""
    for level in beta_levels(cells):
        yield level.label, beta_label(level.beta, level.label)


def _estimate(found: Mapping[str, float], runs: pd.Series | None = None) -> Entry:
    seeds = "" if runs is None or len(runs) == 1 else seed_values(runs, signed=True)
    return Entry(number(found["mean"], signed=True), lines(seeds, bounds((found["low"], found["high"]))))


def reach_table(record: Record, cells: pd.DataFrame, arms: Arms) -> Table:
    """How many runs come to each of a few KLs, of an arm and of each of its betas."""
    betas = list(_betas(cells))
    rows = []
    for arm in arms_compared(record, arms):
        reach, size = record[arm]["reach"], int((cells["arm"] == arm).sum())
        for place, kl in enumerate(reach["kl"]):
            by_beta = [reach["runs"][label][place] for label, _ in betas]
            counts = (Entry(str(count) if count else NONE) for count in by_beta)
            rows.append([Entry(arm), Entry(number(kl)), Entry(f"{sum(by_beta)} of {size}"), *counts])
    return Table(["arm", "KL, nats", "runs that reach it", *(title for _, title in betas)], rows)


def sentence(record: Record, arms: Arms) -> str:
    """Where each arm is read."""
    of_arms = ", ".join(f"{number(record[arm]['kl'])} in arm {arm}" for arm in arms_compared(record, arms))
    return (
        "A run that moves less also hacks less. Here the betas are compared at one distance from their checkpoints: "
        f"the largest KL (k3, nats per response) that every run of an arm reaches, {of_arms}."
    )
