"""The report: the paper's figures and tables from these runs, as PNG, SVG and PDF files and one self-contained page."""

from __future__ import annotations

from pessimism.experiment import layout
from pessimism.experiment.switches import protocol_sentence
from pessimism.reporting import best_of_n, effects, equal_kl_tables, evidence_figures, figures, page
from pessimism.reporting.results import Results
from pessimism.reporting.saving import save
from pessimism.reporting.sections import all_sections
from pessimism.reporting.tables import count

TITLE = "Conservative preference tuning and reward hacking: what these runs measured"

VECTOR_FORMATS = (".svg", ".pdf")


def write_report(results: Results) -> None:
    """Write every figure as PNG, SVG and PDF, and the page that embeds the first."""
    _draw_figures(results)
    title = f"{TITLE} ({protocol_sentence(results.params)})"
    layout.REPORT_PAGE.write_text(page.page(title, _lead(results), all_sections(results)), encoding="utf-8")


def _lead(results: Results) -> str:
    params = results.params
    betas = count(len(results.betas), "beta") if results.betas else "1 objective without strength"
    return (
        f"{betas} × {count(len(params.seeds), 'seed')} × "
        f"{count(len(params.arms), 'arm')} ({', '.join(params.arms)}), scale {params.scale_name}, "
        f"{protocol_sentence(params)}; offline objective {params.offline.objective}, online objective "
        f"{params.online.objective}."
    )


def _draw_figures(results: Results) -> None:
    cells, primary, arms = results.cells, results.primary, results.arms
    thresholds = (results.hacking.get("hacking_threshold"), results.params.protocol.controlled_threshold)
    tokens = results.params.protocol.entropy_tokens
    drawings = {
        "answer": lambda: effects.answer_figure(cells, arms, results.claims["contrasts"]),
        "claims": lambda: effects.claims_figure(results.claims["claims"]),
        "portrait": lambda: effects.portrait_figure(results.heldout, arms),
        "heldout": lambda: figures.heldout_figure(results.heldout, arms, results.base),
        "figure_3_goodhart_gap": lambda: figures.gap_figure(results.gaps, results.heldout, arms, thresholds),
        "figure_4_entropy": lambda: figures.entropy_figure(primary, results.arm, tokens, results.base),
        "figure_5_power_law": lambda: figures.power_law_figure(cells, results.power_law_curve, results.power_law, arms),
        "figure_6_representation": lambda: figures.representation_figure(primary, results.arm),
        "best_of_n": lambda: best_of_n.figure(results.best_of_n),
        "equal_kl": lambda: evidence_figures.equal_kl_figure(
            results.heldout, cells, results.equal_kl, equal_kl_tables.arms_compared(results.equal_kl, arms)
        ),
        "conservatism": lambda: evidence_figures.conservatism_figure(primary),
        "disagreement": lambda: evidence_figures.calibration_figure(results.disagreement, results.heldout, arms),
        "beta_grid": lambda: evidence_figures.beta_grid_figure(results.log_ratios, cells),
    }
    for name, draw in drawings.items():
        path = layout.figure(name)
        save(draw, path, *map(path.with_suffix, VECTOR_FORMATS))
