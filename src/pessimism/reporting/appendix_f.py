"""The paper's Appendix F: what a benchmark must report and state, and whether these runs do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pessimism.measures.power_law import FOUND
from pessimism.reporting.curves import beta_levels
from pessimism.reporting.results import Results
from pessimism.reporting.tables import Entry, Table, count, number

FEWEST_POINTS = 50
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Point:
    """One point of the protocol.

    Attributes:
        wanted: what must be reported or stated.
        found: what these runs have, or what is missing.
        satisfied: whether that is enough.
    """

    wanted: str
    found: str
    satisfied: bool


def points(results: Results) -> list[Point]:
    """Every point, in the paper's order: first numbers, then statements."""
    return [*_reported(results), *_stated(results)]


def sentence(answers: Sequence[Point]) -> str:
    """How many points are satisfied, and which are not."""
    missing = [point.wanted for point in answers if not point.satisfied]
    tail = "" if not missing else f" Missing: {'; '.join(missing)}."
    return f"{len(answers) - len(missing)} of {len(answers)} points are satisfied by this run.{tail}"


def table(answers: Sequence[Point]) -> Table:
    rows = [[Entry(point.wanted), _answer(point.satisfied), Entry(point.found)] for point in answers]
    return Table(["asked for", "satisfied", "this run"], rows)


def _answer(satisfied: bool) -> Entry:
    return Entry("yes", mark="supported") if satisfied else Entry("no", mark="contradicted")


def _reported(results: Results) -> list[Point]:
    cells, hacking = results.primary, results.hacking
    evaluated = int(cells["measured_points"].min())
    heldout = results.heldout["step"].nunique()
    seeds = len(results.params.seeds)
    spearman, uq_gap = hacking.get("spearman_beta_augc"), hacking.get("uq_gap_correlation")
    return [
        Point(
            f"gap series at {FEWEST_POINTS} evaluation points or more",
            f"{evaluated} per run by the paper's measure, {heldout} by the controlled one "
            "(online.steps, online.measure_every and online.heldout_every of the scale)",
            evaluated >= FEWEST_POINTS,
        ),
        Point(
            f"AUGC with its standard error over {FEWEST_SEEDS} seeds or more",
            f"{count(seeds, 'seed')}: {_per_beta(cells, 'augc', with_error=True)}",
            seeds >= FEWEST_SEEDS,
        ),
        Point("entropy of the DPO checkpoint", f"{_per_beta(cells, 'entropy_dpo')}, nats per token", True),
        Point("entropy collapse", f"{_per_beta(cells, 'entropy_collapse')}, nats per token", True),
        Point("OOD cosine distance", _per_beta(cells, "ood_cosine_distance"), True),
        Point("response diversity", _per_beta(cells, "response_diversity"), True),
        Point(
            "Spearman correlation of β and AUGC",
            "none: it needs two betas with different AUGC" if spearman is None else number(spearman, signed=True),
            spearman is not None,
        ),
        Point(
            "UQ-gap correlation",
            "none: a series is constant" if uq_gap is None else f"{number(uq_gap, signed=True)}, mean over runs",
            uq_gap is not None,
        ),
        *_power_law(results),
    ]


def _per_beta(cells: pd.DataFrame, column: str, with_error: bool = False) -> str:
    """Mean over seeds at each beta, with the standard error of the mean where asked and seeds allow."""
    texts = []
    for level in beta_levels(cells):
        values = cells.loc[cells["label"] == level.label, column].astype(float)
        error = f" ± {number(values.sem())}" if with_error and len(values) > 1 else ""
        texts.append(f"{level.label} {number(values.mean())}{error}")
    return ", ".join(texts)


def _power_law(results: Results) -> list[Point]:
    law = results.power_law
    fitted = law["fit"] == FOUND
    star = results.power_law_curve[results.power_law_curve["kind"] == "beta_star"]
    parameters = ", ".join(f"{name} = {number(law.get(name))}" for name in "abc")
    return [
        Point("power-law parameters", parameters if fitted else f"no fit: {law['fit']}", fitted),
        Point(
            "β* and AUGC at β*",
            "not identified by Eq. 15"
            if star.empty
            else f"β* = {number(star['beta'].iloc[0])}, AUGC {number(star['augc'].iloc[0])}",
            not star.empty,
        ),
    ]


def _stated(results: Results) -> list[Point]:
    texts = {
        "how β was derived": _betas(results),
        "how the threshold was derived": _threshold(results),
        "the evaluation seed protocol": _evaluation_seeds(results),
        "the logging policy": _logging(results),
        "dataset coverage statistics": coverage(results.sources),
    }
    return [Point(wanted, text, True) for wanted, text in texts.items()]


def _betas(results: Results) -> str:
    grid, params = results.beta_grid, results.params
    percentiles = (
        f"Percentiles {', '.join(map(str, params.beta_percentiles))} of the absolute log-ratio of chosen over rejected "
        f"response under the base, over its median (Eq. 6, 7), from {grid['pairs']:,} training pairs, log-probs summed "
        f"in {grid['precision']}."
    )
    named = f"Cells by their labels: {', '.join(params.offline_cells)}."
    return " ".join([percentiles] * bool(params.beta_percentiles) + [named] * bool(params.offline_cells))


def _threshold(results: Results) -> str:
    value = results.hacking.get("hacking_threshold")
    threshold = "none, as no gap is positive" if value is None else number(value)
    return (
        f"By the paper's measure the 75th percentile of the positive gaps of all betas and seeds of arm {results.arm}: "
        f"{threshold}. The placebo's gaps do not enter. By the controlled one a fixed "
        f"{number(results.params.protocol.controlled_threshold)} standard deviations of the base policy."
    )


def _evaluation_seeds(results: Results) -> str:
    params, protocol = results.params, results.params.protocol
    paired = "the betas of a seed share them" if protocol.paired_seeds else "every beta has its own"
    return (
        f"Every random stream is derived from the root seed {params.root_seed} and the name of what it drives; "
        f"evaluation draws are streams of their own per training run and step, so that evaluating changes no training. "
        f"Training runs (seeds {', '.join(map(str, params.seeds))}): {paired}; all arms of a checkpoint share theirs. "
        f"One response to each of {int(results.base['prompts'])} held-out problems at each evaluation, the same "
        f"problems in all runs."
    )


def _logging(results: Results) -> str:
    steps = sorted(results.heldout["step"].unique().tolist())
    return (
        f"On-policy batches are measured before their update, at every step that online.measure_every names and at the "
        f"last; held-out problems at steps {', '.join(map(str, steps))}. Kept for every run: means of each measured "
        f"batch, rewards of each held-out response, a sample of response texts, the derived hyperparameters "
        f"(data/online/)."
    )


def coverage(sources: Mapping[str, Any]) -> str:
    """What data/sources.json says of the pairs and problems."""
    pairs, tasks = sources["preferences"], sources["tasks"]
    found = pairs["coverage"]
    split = " / ".join(f"{pairs['rows'][name]:,} {name}" for name in ("train", "val", "test"))
    problems = " / ".join(f"{tasks['rows'][name]:,} {name}" for name in ("train", "heldout", "test"))
    lengths = ", ".join(
        f"{name} {number(size['p50'])} ({number(size['p5'])} to {number(size['p95'])})"
        for name, size in found["characters"].items()
    )
    return (
        f"Pairs ({pairs['source']}: {pairs['name']}): {found['pairs']:,}, {found['unique_prompts']:,} different "
        f"prompts; {split}, {pairs['prompts_in_two_splits']} prompts in two splits; "
        f"{sum(pairs['rows_dropped'].values()):,} rows dropped. Characters, median (5 % to 95 %): {lengths}; the "
        f"chosen response is the longer one in {100 * found['chosen_longer']:.0f} %. "
        f"Problems ({tasks['source']}: {tasks['name']}): {problems}, {tasks['problems_in_two_splits']} in two "
        f"splits; {sum(tasks['rows_dropped'].values()):,} copies dropped."
    )
