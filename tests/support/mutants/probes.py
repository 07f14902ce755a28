"""Bugs in the probes: draws, entropies, distances and diversity."""

from support.mutants.mutant import Mutant

_READINGS = "probes/parts/readings.py"
_STATES = "probes/parts/states.py"
_DISTRIBUTIONS = "probes/parts/distributions.py"


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"test_probes.py::test_{name}" for name in names)


_SEEDS = _tests("a_seed_draws_its_own_responses")
_BY_HAND = _tests("distance_and_diversity_across_are_of_first_responses_and_diversity_within_of_all")
_COSINE = _tests("cosine_distance_of_parallel_orthogonal_and_opposite_states")
_PAIRS = _tests("diversity_counts_each_unordered_pair_once_and_no_state_with_itself")
_ENTROPY = _tests("prompt_entropy_is_the_mean_over_each_prompts_own_tokens")
_KL = _tests(
    "divergence_from_the_base_is_none_without_an_adapter_and_positive_with_one",
    "divergence_is_the_mean_log_ratio_of_many_samples",
)
_WHOLE = ("test_logprobs.py::test_entropy_and_divergence_are_those_of_the_whole_distributions",)
_SHRUNK = _tests("shrinkage_keeps_the_trace_and_makes_few_rows_invertible")

MUTANTS = (
    Mutant("probe seed 0 for responses", _READINGS, '"probe-responses", self.seed', '"probe-responses", 0', _SEEDS),
    Mutant("probe seed 0 for divergences", _READINGS, '"probe-divergence", self.seed', '"probe-divergence", 0', _SEEDS),
    Mutant(
        "probe seed 0 for every checkpoint",
        "probes/parts/checkpoint.py",
        "probes, params, seed))",
        "probes, params, 0))",
        _SEEDS,
    ),
    Mutant(
        "a probe draws a problem twice",
        _READINGS,
        "size=count, replace=False",
        "size=count, replace=True",
        _tests("every_cell_is_probed_on_the_same_rows"),
    ),
    Mutant(
        "first responses are the first rows",
        _STATES,
        "self.states_NR_H[:: self.responses_per_prompt]",
        "self.states_NR_H[: len(self.states_NR_H) // self.responses_per_prompt]",
        _BY_HAND,
    ),
    Mutant(
        "the covariance is not shrunk",
        _STATES,
        "min(error, distance) / distance if distance > 0 else 1.0",
        "0.0",
        _SHRUNK,
    ),
    Mutant(
        "the covariance is shrunk to its diagonal",
        _STATES,
        "np.trace(sample_H_H) / width * np.eye(width)",
        "np.diag(np.diag(sample_H_H))",
        _SHRUNK,
    ),
    Mutant(
        "the centroid is not subtracted",
        "probes/ood_distance.py",
        "centred_N_H = states_N_H - reference.centroid_H",
        "centred_N_H = states_N_H",
        _BY_HAND,
    ),
    Mutant(
        "a distance is squared",
        "probes/ood_distance.py",
        'return np.sqrt(np.einsum("nh,hg,ng->n", centred_N_H, reference.precision_H_H, centred_N_H))',
        'return np.einsum("nh,hg,ng->n", centred_N_H, reference.precision_H_H, centred_N_H)',
        _BY_HAND,
    ),
    Mutant(
        "a similarity in place of a distance",
        "probes/ood_distance.py",
        "return 1 - directions",
        "return directions",
        _COSINE,
    ),
    Mutant(
        "a state is paired with itself",
        "probes/response_diversity.py",
        "np.triu_indices(count, k=1)",
        "np.triu_indices(count, k=0)",
        _PAIRS,
    ),
    Mutant(
        "diversity is a similarity",
        "probes/response_diversity.py",
        "float(1 - similarities_N_N[pairs].mean())",
        "float(similarities_N_N[pairs].mean())",
        _PAIRS,
    ),
    Mutant(
        "Eq. 11 takes the response's first token",
        _DISTRIBUTIONS,
        "for counted in (own_B_T, real_B_T)]",
        "for counted in (real_B_T, real_B_T)]",
        _ENTROPY,
    ),
    Mutant("the divergence of the base from the policy", _DISTRIBUTIONS, "REVERSE = 1.0", "REVERSE = 0.0", _WHOLE),
    Mutant(
        "a response's entropy is a sum",
        _DISTRIBUTIONS,
        "entropy_B = spread(entropy_N, batch.scored_B_T).sum(dim=1) / batch.scored_B_T.sum(dim=1)",
        "entropy_B = spread(entropy_N, batch.scored_B_T).sum(dim=1)",
        _WHOLE,
    ),
    Mutant(
        "the base is the policy",
        _DISTRIBUTIONS,
        "use_adapter(model, None)",
        "use_adapter(model, model.active_adapter)",
        _KL,
    ),
)
