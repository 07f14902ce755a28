"""Bugs in the scorer: which runs, which steps and which placebo a score is made of."""

from support.mutants.mutant import Mutant

_SCORES = "scoring/scores.py"
_SCORER = "scoring/scorer.py"
_SELECTION = "scoring/best_of_n.py"
_COMPARISON = "scoring/log_comparison.py"


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"test_scores.py::test_{name}" for name in names)


_SWITCHES = _tests("gap_switches_choose_rewards_and_baseline")
_PLACEBO = _tests("the_excess_is_over_the_placebo_of_the_same_checkpoint")
_NUMBERS = _tests("one_row_per_cell_with_its_own_numbers")
_COMMON = ("test_log_comparison.py",)
_CURVES = ("test_best_of_n.py::test_curves_by_hand",)

MUTANTS = (
    Mutant(
        "an excess is the value itself", _SCORER, "values - np.array(level)", "values - 0 * np.array(level)", _PLACEBO
    ),
    Mutant(
        "gains of best-of-n have no unit",
        _SELECTION,
        "standardized_change(curve[reward].to_numpy(), sd)",
        "standardized_change(curve[reward].to_numpy(), sd / sd)",
        _CURVES,
    ),
    Mutant(
        "the truth chooses by the proxy",
        _SELECTION,
        'selectors[TRUTH] = values["true_reward"]',
        'selectors[TRUTH] = values["proxy_reward"]',
        _CURVES,
    ),
    Mutant(
        "every run has the mean placebo", _SCORER, "values[placebos.get(checkpoint, every)]", "values[every]", _PLACEBO
    ),
    Mutant(
        "thresholds of all arms together",
        _SCORES,
        "for cell in measurements.runs if cell.arm == arm]",
        "for cell in measurements.runs if cell.arm]",
        _tests("thresholds_and_onsets_come_from_the_primary_arm"),
    ),
    Mutant(
        "the gap's rewards are always those of batches",
        _SCORES,
        "heldout if protocol.gap_rewards == HELDOUT else",
        "heldout if False else",
        _SWITCHES,
    ),
    Mutant(
        "the gap's baseline is always its own",
        _SCORES,
        "heldout if protocol.gap_baseline == HELDOUT else",
        "heldout if False else",
        _SWITCHES,
    ),
    Mutant(
        "the baseline is the last step",
        _SCORES,
        "start.mean_T[reward][0]",
        "start.mean_T[reward][-1]",
        _NUMBERS + _SWITCHES,
    ),
    Mutant(
        "the signed area is clipped",
        "scoring/run_columns.py",
        "goodhart.signed_augc(run.controlled.steps_T, run.gap_T)",
        "goodhart.augc(run.controlled.steps_T, run.gap_T)",
        _NUMBERS,
    ),
    Mutant(
        "the controlled onset takes the paper's threshold",
        "scoring/run_columns.py",
        "run.gap_T, run.threshold[CONTROLLED])",
        "run.gap_T, run.threshold[PAPER])",
        _tests("a_controlled_onset_hangs_on_no_other_run"),
    ),
    Mutant(
        "a problem's gap is not since the first evaluation",
        "scoring/measured.py",
        "value_T_N[1:].mean(axis=0) - value_T_N[0]",
        "value_T_N[1:].mean(axis=0)",
        _tests("disagreement_and_gap_are_correlated_over_problems"),
    ),
    Mutant(
        "the variance is of levels, not changes",
        "scoring/variance.py",
        "value_T_N[-1] - value_T_N[0]",
        "value_T_N[-1]",
        _tests("variance_is_of_the_change_since_step_0"),
    ),
    Mutant(
        "cells measured at other steps pass",
        "scoring/runs.py",
        "if _measured_steps(run) != expected:",
        "if False:",
        _tests("a_cell_measured_at_other_steps_is_refused"),
    ),
    Mutant(
        "a log's runs keep their own steps",
        _COMPARISON,
        "kept_T = np.isin(run.curves.steps_T, steps)",
        "kept_T = np.isin(run.curves.steps_T, run.curves.steps_T)",
        _COMMON,
    ),
    Mutant("few common steps are enough", _COMPARISON, "LEAST_SHARE = 0.5", "LEAST_SHARE = 0.0", _COMMON),
    Mutant(
        "runs may lack their first steps",
        _COMPARISON,
        "    if max(starts) > min(starts):\n        raise",
        "    if False:\n        raise",
        _COMMON,
    ),
    Mutant("another scale of ten passes", _COMPARISON, "LIKE = 5.0", "LIKE = 50.0", _COMMON),
    Mutant(
        "the placebo's gaps move a log's threshold",
        "scoring/log_scores.py",
        "strict=True) if not placebo]",
        "strict=True)]",
        ("test_scorer.py::test_a_log_of_the_pipelines_samples_gets_the_pipelines_numbers", "test_log_comparison.py"),
    ),
)
