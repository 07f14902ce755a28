"""Bugs in the offline phase and before it: warm start, sampled pairs, the reference's log-probabilities, the grid."""

from support.mutants.mutant import Mutant

_REFERENCE = "offline/reference.py"
_GRID = "offline/beta_grid.py"
_SUMS = ("test_reference.py::test_dpo_reference_is_the_response_given_the_prompt_in_float64",)
_PLAIN = ("test_reference.py::test_grid_reference_covers_prompt_and_response_of_the_plain_text",)
_SHUFFLE = ("test_reference.py::test_grid_pairs_are_a_shuffle_that_repeats",)
_BETAS = ("test_beta_grid.py",)
_SAMPLED = "offline/sampled_pairs.py"
_PAIRS = ("test_sampled_pairs.py",)
_LOADING = "models/loading.py"
_WARM = ("test_warm_start.py",)

MUTANTS = (
    Mutant("a cut response is shown", _SAMPLED, "if rollouts.finished[at] and", "if", _PAIRS),
    Mutant(
        "two responses are shown that do not differ",
        _SAMPLED,
        "if getattr(other, feature) != getattr(candidates[0], feature):",
        "if other.text:",
        _PAIRS,
    ),
    Mutant(
        "pairs show a style before what is right",
        _SAMPLED,
        '("correct", "exploits")',
        '("exploits", "correct")',
        _PAIRS,
    ),
    Mutant("every role begins at the warm start", _LOADING, 'if role not in record["roles"]:', "if not role:", _WARM),
    Mutant(
        "other weights are taken for the warm start",
        _LOADING,
        '    _check_unchanged(layout.WARM_START, record["content_sha256"])\n',
        "",
        _WARM,
    ),
    Mutant(
        "a validation without numbers is recorded",
        "offline/training.py",
        "    check_validation(cell, measured)\n",
        "",
        ("test_dpo.py::test_a_validation_that_is_no_number_is_refused",),
    ),
    Mutant(
        "markers with nothing between them are answers",
        "tasks/parts/answers.py",
        '_MARKER_AGAIN.sub("", response or "")',
        '(response or "")',
        ("test_answers.py",),
    ),
    Mutant(
        "a gap without a unit stops nothing",
        "online/stopping.py",
        'if not first["proxy_reward_sd"] > 0:',
        'if first["proxy_reward_sd"] < 0:',
        ("test_online.py::test_a_proxy_without_spread_has_no_gap",),
    ),
    Mutant(
        "the adapter of the warm start is lost",
        "models/warm_start.py",
        "set_peft_model_state_dict(target, get_peft_model_state_dict(adapted))",
        "set_peft_model_state_dict(target, {})",
        ("test_warm_start.py",),
    ),
    Mutant(
        "problems set aside are trained on",
        "tasks/parts/problems.py",
        "taken[purpose], rest = kept",
        "taken[purpose], _ = kept",
        ("test_tasks.py",),
    ),
    Mutant(
        "copies of problems that are set aside are trained on",
        "tasks/parts/problems.py",
        '"train": rest[count:]}, "question")',
        '"train": rest[count:]}, "task_id")',
        ("test_tasks.py::test_no_copy_of_a_problem_that_is_set_aside_is_used_for_anything_else",),
    ),
    Mutant(
        "every response contains an answer without words",
        "tasks/rows.py",
        "return bool(words) and f",
        "return f",
        ("test_rows.py::test_a_number_is_contained_as_a_whole",),
    ),
    Mutant(
        "the prompt is scored too",
        _REFERENCE,
        "2 * [len(pair.prompt_ids) for pair in pairs]",
        "2 * [1 for pair in pairs]",
        _SUMS,
    ),
    Mutant(
        "chosen and rejected are swapped",
        _REFERENCE,
        "return logps[: len(pairs)], logps[len(pairs) :]",
        "return logps[len(pairs) :], logps[: len(pairs)]",
        _SUMS,
    ),
    Mutant("padding is scored", _REFERENCE, "attention_mask.bool() & after", "after", _SUMS),
    Mutant(
        "a state predicts its own token",
        _REFERENCE,
        "states_B_T_H[scored_B_T.roll(-1, dims=1)]",
        "states_B_T_H[scored_B_T]",
        _SUMS,
    ),
    Mutant(
        "the grid is measured on the first pairs",
        _REFERENCE,
        ".permutation(len(train))",
        ".integers(1, size=1).repeat(0).tolist() or np.arange(len(train))",
        _SHUFFLE,
    ),
    Mutant(
        "the grid is measured on all pairs",
        _REFERENCE,
        "order[: max(1, beta_grid_pairs(len(train)))]",
        "order",
        _SHUFFLE,
    ),
    Mutant("the grid leaves out a second token", _REFERENCE, "[1] * len(sequences)", "[2] * len(sequences)", _PLAIN),
    Mutant(
        "bfloat16 is float32",
        _REFERENCE,
        "if dtype == torch.float32:",
        "if True:",
        ("test_reference.py::test_bfloat16_sums_carry_eight_bits",),
    ),
    Mutant(
        "a sum that is no number passes",
        _REFERENCE,
        "if bad.size:",
        "if False:",
        ("test_reference.py::test_a_model_that_gives_nan_is_refused",),
    ),
    Mutant("delta keeps its sign", _GRID, "return np.abs(difference)", "return difference", _BETAS),
    Mutant("betas over the mean", _GRID, "np.median(deltas) + EPS", "np.mean(deltas) + EPS", _BETAS),
    Mutant("percentiles from the top", _GRID, "np.percentile(deltas, p)", "np.percentile(deltas, 100 - p)", _BETAS),
    Mutant("a beta of 0 passes", _GRID, "if beta == 0]", "if beta < 0]", _BETAS),
)
