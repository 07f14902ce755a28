"""Best-of-n selection from the checkpoints: its sentence, figure and table."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pessimism.claims.verdicts import Outcome
from pessimism.reporting.claim_tables import BY, CONTROLLED, WORDS, Claims, about
from pessimism.reporting.curves import INK, BetaLevel, Series, beta_levels
from pessimism.reporting.drawing import DASHES, PANEL_WIDTH, draw_series, legend_below, make_grid, share_y
from pessimism.reporting.measure_tables import BETA, entry_of
from pessimism.reporting.tables import Entry, Table, over_seeds, p_value
from pessimism.scoring.best_of_n import AGGREGATE, GAINS, MEMBER, TRUTH
from pessimism.scoring.columns import ALL, LABEL
from pessimism.scoring.scores import beta_label

PANELS = {AGGREGATE: "Chosen by the ensemble", MEMBER: "By one reward model, mean", TRUTH: "By the truth"}
STYLES = {"proxy_gain": "-", "true_gain": DASHES}
COLUMNS = ("best_of_n_gap", "best_of_n_proxy_gain", "best_of_n_true_gain")


def sentence(claims: Claims) -> str:
    """What selection is for, and the verdict on the claim about it."""
    (name,) = about(claims, "best_of_n_gap")
    found = claims[name][CONTROLLED]
    p = found["reason"] if found["p_adjusted"] is None else f"adjusted p {p_value(found['p_adjusted'])}"
    return (
        "An optimiser that only chooses among a checkpoint's own responses needs no training and pays no penalty: what "
        f"it gains in proxy and not in truth, the checkpoint alone gives. {name}, that this grows with β, is "
        f"{WORDS[Outcome(found['verdict'])]} by {BY[CONTROLLED]} ({p})."
    )


def figure(curves: pd.DataFrame) -> Figure:
    """Gains over the KL, one panel per kind of selector; ``curves`` is plots/best_of_n.csv."""
    levels = beta_levels(curves)
    drawing, grid = make_grid(1, len(PANELS), width=1.1 * PANEL_WIDTH, height=3.0)
    share_y(grid[0], curves[list(GAINS.values())].to_numpy().ravel())
    for axes, (selector, title) in zip(grid[0], PANELS.items(), strict=True):
        chosen = curves[curves["selector"].str.startswith(selector)]
        for level in levels:
            _draw(axes, chosen[chosen[LABEL] == level.label], level)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set(title=title, xlabel="KL of selection (nats)")
    grid[0, 0].set_ylabel("gain (base sd)")
    hues = [Line2D([], [], color=level.colour, linewidth=2.1, label=level.title) for level in levels]
    kinds = zip(("proxy reward", "true reward"), STYLES.values(), strict=True)
    legend_below(drawing, [*hues, *(Line2D([], [], color=INK, linestyle=style, label=name) for name, style in kinds)])
    return drawing


def _draw(axes: Axes, rows: pd.DataFrame, level: BetaLevel) -> None:
    for gain, style in STYLES.items():
        by_seed = rows.groupby(["seed", "kl"])[gain].mean().unstack("kl")
        name = gain.removesuffix("_gain") + " reward"
        runs = Series(name, list(by_seed.index), by_seed.columns.to_numpy(float), by_seed.to_numpy(float), axis="KL")
        draw_series(axes, runs, seeds=False, color=level.colour, linestyle=style)


def table(primary: pd.DataFrame, curves: pd.DataFrame) -> Table:
    """Per beta the gap and both gains, and the gain in true reward where the truth chooses."""
    ideal = curves[(curves["selector"] == TRUTH) & (curves["n"] == curves["n"].max())]
    rows = []
    for level in beta_levels(primary):
        runs, bound = primary[primary[LABEL] == level.label], ideal.loc[ideal[LABEL] == level.label, "true_gain"]
        entries = (entry_of(runs, ALL[name]) for name in COLUMNS)
        rows.append([Entry(beta_label(level.beta, level.label)), *entries, over_seeds(bound, signed=True)])
    headers = [f"{ALL[name].heading}, {ALL[name].unit}" for name in COLUMNS]
    return Table([BETA, *headers, "true reward, chosen by the truth, base sd"], rows)
