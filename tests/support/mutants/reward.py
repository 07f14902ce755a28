"""Bugs in the reward ensemble: its training sample, its scores, its assessment."""

from support.mutants.mutant import Mutant

_AGGREGATION = "reward/aggregation.py"
_ENSEMBLE = "reward/ensemble.py"
_ASSESSMENT = "reward/assessment.py"


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"test_ensemble.py::test_{name}" for name in names)


_BY_HAND = _tests("every_aggregation_by_hand")
_ASSESSED = _tests(
    "pair_accuracy_counts_ties_as_half",
    "brier_score_and_calibration_error_by_hand",
    "assessment_of_two_members_by_hand",
)
_SEEDS = _tests("the_ensembles_of_two_seeds_are_the_same_bytes_only_where_they_are_shared")
_BOOTSTRAP = _tests("bootstrap_draws_n_of_n_with_replacement_and_differs_between_members")

MUTANTS = (
    Mutant(
        "no bootstrap: every member trains on every pair",
        "reward/bradley_terry.py",
        "rows = bootstrap_rows(len(pairs), params.root_seed, stream)",
        "rows = np.arange(len(pairs))",
        _tests("a_member_trains_on_its_own_bootstrap_sample"),
    ),
    Mutant(
        "the bootstrap draws without replacement",
        "reward/bootstrap.py",
        "integers(n, size=n)",
        "permutation(n)",
        _BOOTSTRAP,
    ),
    Mutant(
        "every member has the same bootstrap",
        "reward/bootstrap.py",
        '"bootstrap", *stream)',
        '"bootstrap", stream[0])',
        _BOOTSTRAP,
    ),
    Mutant(
        "every member starts from the same head",
        "reward/bradley_terry.py",
        '"reward-head", *stream)',
        '"reward-head", stream[0])',
        _tests("every_member_starts_from_a_head_of_its_own"),
    ),
    Mutant(
        "the seeds share an ensemble whatever the parameter says",
        "reward/bootstrap.py",
        'if params.ensembles == "shared"',
        "if True",
        _SEEDS,
    ),
    Mutant(
        "every seed has an ensemble of its own whatever the parameter says",
        "reward/bootstrap.py",
        'if params.ensembles == "shared"',
        "if False",
        _SEEDS,
    ),
    Mutant(
        "the worst case is the best", _AGGREGATION, "_: scores_K_B.min(axis=0)", "_: scores_K_B.max(axis=0)", _BY_HAND
    ),
    Mutant(
        "the uncertainty weight has the wrong sign",
        _AGGREGATION,
        "- weight * scores_K_B.var(axis=0)",
        "+ weight * scores_K_B.var(axis=0)",
        _BY_HAND,
    ),
    Mutant(
        "uncertainty by members minus one",
        _AGGREGATION,
        "scores_K_B.var(axis=0)",
        "scores_K_B.var(axis=0, ddof=1)",
        _BY_HAND,
    ),
    Mutant(
        "the lower bound takes the variance",
        _AGGREGATION,
        "weight * disagreement(scores_K_B)",
        "weight * disagreement(scores_K_B) ** 2",
        _BY_HAND,
    ),
    Mutant(
        "log-mean-exp sums over the members",
        _AGGREGATION,
        "(scores_K_B - worst_B)).mean(axis=0)",
        "(scores_K_B - worst_B)).sum(axis=0)",
        ("test_ensemble.py::test_log_mean_exp_holds_the_mean_the_variance_and_the_minimum_as_limits",),
    ),
    Mutant(
        "disagreement by the population's deviation",
        _AGGREGATION,
        "scores_K_B.std(axis=0, ddof=1)",
        "scores_K_B.std(axis=0)",
        ("test_ensemble.py::test_disagreement_divides_by_members_minus_one",),
    ),
    Mutant(
        "scores are not centred per member",
        _ENSEMBLE,
        "(scores_K_B - mean_K[:, None])",
        "scores_K_B",
        _tests("normalisation_is_per_member"),
    ),
    Mutant(
        "every row of scores is the first member's",
        _ENSEMBLE,
        "use_adapter(self.model, member_name(member)):\n                    for",
        "use_adapter(self.model, member_name(self.members[0])):\n                    for",
        _tests("each_row_of_scores_is_its_own_member"),
    ),
    Mutant(
        "scores stand in the order of the batches",
        _ENSEMBLE,
        "scores_K_B[k, rows] =",
        "scores_K_B[k, sorted(rows)] =",
        _tests("scores_depend_neither_on_batch_size_nor_on_order"),
    ),
    Mutant(
        "padding counts in a text's state",
        _ENSEMBLE,
        "states_T_H[:length].mean(dim=0)",
        "states_T_H.mean(dim=0)",
        _tests("representations_are_states_of_a_layer_averaged_over_real_tokens"),
    ),
    Mutant(
        "the penultimate layer is the last",
        _ENSEMBLE,
        '"penultimate": -2',
        '"penultimate": -1',
        _tests("representations_are_states_of_a_layer_averaged_over_real_tokens"),
    ),
    Mutant(
        "raw scores whatever the protocol",
        _ENSEMBLE,
        "if params.protocol.normalize_rewards:",
        "if False:",
        _tests("statistics_are_used_only_where_the_protocol_says_so"),
    ),
    Mutant(
        "a tie counts as right",
        _ASSESSMENT,
        "(margins > 0).mean() + 0.5 * (margins == 0).mean()",
        "(margins >= 0).mean()",
        _ASSESSED,
    ),
    Mutant(
        "a tie counts as wrong",
        _ASSESSMENT,
        "(margins > 0).mean() + 0.5 * (margins == 0).mean()",
        "(margins > 0).mean()",
        _ASSESSED,
    ),
    Mutant(
        "a tie is wrong in the calibration",
        _ASSESSMENT,
        "(margins > 0) + 0.5 * (margins == 0)\n",
        "(margins > 0) * 1.0\n",
        _ASSESSED,
    ),
    Mutant(
        "errors of a bin do not cancel",
        _ASSESSMENT,
        "np.sum((confidence - correct)[bins == b])",
        "np.abs((confidence - correct)[bins == b]).sum()",
        _ASSESSED,
    ),
    Mutant(
        "the Brier score of confidence alone",
        _ASSESSMENT,
        "1 - _sigmoid(margins)",
        "1 - _sigmoid(np.abs(margins))",
        _ASSESSED,
    ),
    Mutant("a member's deviation is the population's", _ASSESSMENT, "std(ddof=1)", "std()", _ASSESSED),
)
