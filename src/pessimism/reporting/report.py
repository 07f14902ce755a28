"""The report: the paper's figures 3 to 6 and Table 1 from our runs, as PNG files and one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from pessimism import layout, records
from pessimism.analysis import published, scores
from pessimism.params import Params
from pessimism.reporting import captions, figures, page, tables

TITLE = "Conservative preference tuning and reward hacking: what these runs measured"


@dataclass(frozen=True)
class Results:
    """Everything that the report shows, as the stages before it left it."""

    params: Params
    cells: pd.DataFrame
    gaps: pd.DataFrame
    heldout: pd.DataFrame
    log_ratios: pd.DataFrame
    power_law_curve: pd.DataFrame
    beta_grid: Mapping[str, Any]
    ensemble: Mapping[str, Any]
    base: Mapping[str, Any]
    hacking: Mapping[str, Any]
    power_law: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def arm(self) -> str:
        return self.params.primary_arm


def read_results(params: Params) -> Results:
    """Read what the earlier stages wrote.

    Raises:
        DataError: a file, a column or a cell of the design is missing.
    """
    return Results(
        params=params,
        cells=scores.read_cells(params),
        gaps=records.read_table(layout.GOODHART_GAP, [*scores.IDENTITY, "step", "goodhart_gap"]),
        heldout=records.read_table(layout.HELDOUT_REWARDS, [*scores.IDENTITY, "step", "proxy_reward", "true_reward"]),
        log_ratios=records.read_table(layout.LOG_RATIOS, ["precision", "quantile", "delta"]),
        power_law_curve=records.read_table(layout.POWER_LAW_CURVE, ["kind", "beta", "augc"]),
        beta_grid=records.read_json(layout.BETA_GRID),
        ensemble=records.read_json(layout.ENSEMBLE),
        base=records.read_json(layout.BASE_METRICS),
        hacking=records.read_json(layout.HACKING),
        power_law=records.read_json(layout.POWER_LAW),
        claims=records.read_json(layout.CLAIMS),
    )


def write_report(results: Results) -> None:
    """Write every figure as PNG and the page that embeds them."""
    _draw_figures(results)
    sections = [
        _heldout_section(results),
        _gap_section(results),
        _mechanism_section(results),
        _power_law_section(results),
        _claims_section(results),
        _method_section(results),
    ]
    layout.REPORT_PAGE.write_text(page.page(TITLE, _lead(results), sections), encoding="utf-8")


def _draw_figures(results: Results) -> None:
    cells, arms = results.cells, results.params.arms
    threshold = results.hacking.get("hacking_threshold")
    drawings = {
        "heldout": lambda: figures.heldout_figure(results.heldout, arms, results.base),
        "figure_3_goodhart_gap": lambda: figures.goodhart_gap_figure(results.gaps, arms, threshold),
        "figure_4_entropy": lambda: figures.entropy_figure(cells, results.arm),
        "figure_5_power_law": lambda: figures.power_law_figure(cells, results.power_law_curve, results.power_law, arms),
        "figure_6_representation": lambda: figures.representation_figure(cells, results.arm),
        "beta_grid": lambda: figures.beta_grid_figure(results.log_ratios, cells),
    }
    for name, draw in drawings.items():
        figures.save(draw, layout.figure(name))


def _lead(results: Results) -> str:
    params, scale = results.params, results.params.scale
    return (
        f"Scale {params.scale_name} (policy {scale.policy.name}, {scale.policy.source}; reward models "
        f"{scale.reward.name}, {scale.reward.source}; problems {scale.tasks.name}), protocol {params.protocol_name}. "
        f"{_count(len(params.beta_percentiles), 'beta')} × {_count(len(params.seeds), 'seed')} × "
        f"{_count(len(params.arms), 'arm')} ({', '.join(params.arms)}), {len(params.ensemble_members)} reward models "
        f"aggregated by {params.aggregation}, root seed {params.root_seed}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _figure(name: str, alternative: str, caption: str) -> str:
    return page.figure(layout.figure(name), alternative, caption)


def _heldout_section(results: Results) -> str:
    return page.section(
        "Rewards on held-out problems",
        page.paragraph(
            "Reward hacking is a rising proxy reward with a falling true reward, beyond what the placebo arm shows. "
            "No policy is trained on these problems."
        ),
        _figure(
            "heldout",
            "Held-out proxy and true reward over online steps, per beta",
            captions.heldout_caption(results.base, results.arm, results.params.arms),
        ),
        page.table(tables.heldout_outcome(results.cells, results.params.arms)),
        page.note("Mean over seeds, each seed's value under it. KL is to the DPO checkpoint (k1), per response."),
    )


def _gap_section(results: Results) -> str:
    betas = len(results.params.beta_percentiles)
    return page.section(
        "The paper's measure: Goodhart gap and AUGC",
        page.paragraph(f"Figure 3 and Table 1 of the paper, from arm {results.arm} of these runs."),
        _figure(
            "figure_3_goodhart_gap",
            "Goodhart gap over online steps, per beta",
            captions.gap_caption(results.cells, results.hacking, results.arm),
        ),
        page.table(tables.table_1(results.cells, results.params.arms)),
        page.note(
            f"{captions.trend_caption(results.hacking, betas)} Published rows: {published.SOURCE}; threshold "
            f"{tables.number(published.HACKING_THRESHOLD)}."
        ),
    )


def _mechanism_section(results: Results) -> str:
    return page.section(
        "Entropy, distance and diversity",
        _figure(
            "figure_4_entropy",
            "Entropy of each checkpoint and its collapse online, per beta",
            "Figure 4 of the paper: entropy of the next token over the problems' own tokens (Eq. 11); dots are seeds, "
            "bars their means. Right: positive means that the policy lost entropy online. The vertical axes do not "
            "start at 0.",
        ),
        _figure(
            "figure_6_representation",
            "Cosine distance from the reward model's data and response diversity, per beta",
            "Figure 6 of the paper: cosine distance of responses from the mean of the reward model's training data "
            "(Eq. 12), and mean pairwise cosine distance between responses, which answer different problems. "
            "The vertical axes do not start at 0.",
        ),
    )


def _power_law_section(results: Results) -> str:
    return page.section(
        "AUGC as a power law of beta",
        _figure(
            "figure_5_power_law",
            "AUGC over beta with the fitted power law",
            f"Figure 5 of the paper. {captions.power_law_caption(results.power_law, results.power_law_curve)}",
        ),
        page.table(tables.power_law_table(results.power_law)),
        page.note(
            f"Published: {published.SOURCE}; AUGC at β* (minimum over the grid) "
            f"{tables.number(published.AUGC_AT_BETA_STAR)}."
        ),
    )


def _claims_section(results: Results) -> str:
    return page.section(
        "The paper's claims, in numbers",
        page.paragraph(
            "ρ is the Spearman correlation of β with the quantity, over betas (means over seeds). These are estimates: "
            "no test stands behind them, and no verdict follows from them."
        ),
        page.table(tables.claims_table(results.claims)),
    )


def _method_section(results: Results) -> str:
    params = results.params
    metrics = {
        "beta_grid": results.beta_grid,
        "ensemble": results.ensemble,
        "base": results.base,
        "hacking": results.hacking,
        "power_law": results.power_law,
    }
    return page.section(
        "How it was measured",
        page.paragraph(
            f"Betas are percentiles of the reference policy's absolute log-ratios over their median (Eq. 6, 7), in "
            f"{results.beta_grid['precision']}. Every beta has its own checkpoint per seed; all arms of a checkpoint "
            f"draw the same prompts."
        ),
        _figure(
            "beta_grid",
            "Distribution of absolute log-ratios with the percentiles that give the betas",
            "Absolute log-ratio of the chosen over the rejected response of each pair, in both precisions; vertical "
            "lines are the percentiles in use. The highest hundredth is cut off.",
        ),
        page.folded(f"Protocol {params.protocol_name}", page.table(tables.settings_table(asdict(params.protocol)))),
        page.folded(f"Scale {params.scale_name}", page.table(tables.settings_table(asdict(params.scale)))),
        page.folded("Every metric", page.table(tables.metrics_table(metrics))),
    )
