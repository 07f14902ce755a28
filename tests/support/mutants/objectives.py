"""Bugs in the objectives: online (Eq. 8-10), offline (Eq. 1), and what is derived from sizes (Eq. 4, App. C)."""

from support.mutants.mutant import Mutant

_TERMS = "online/terms.py"
_DIVERGENCE = "online/divergence.py"
_DERIVED = "models/hyperparameters.py"
_RLOO = "online/objectives/rloo.py"
_GRPO = "online/objectives/grpo.py"
_ONLINE = ("test_online_objectives.py",)
_OBJECTIVE = ("test_objective.py",)
_SIZES = ("test_hyperparameters.py",)

MUTANTS = (
    Mutant("advantages by the population's deviation", _TERMS, "std(correction=1)", "std(correction=0)", _OBJECTIVE),
    Mutant("advantages are not centred", _TERMS, "(rewards_B - rewards_B.mean())", "rewards_B", _OBJECTIVE),
    Mutant(
        "kappa by signed log-ratios", _TERMS, "log_ratios_B.detach().abs().float()", "log_ratios_B.detach()", _OBJECTIVE
    ),
    Mutant("kappa carries a gradient", _TERMS, "log_ratios_B.detach().abs()", "log_ratios_B.abs()", _OBJECTIVE),
    Mutant("the noise floor is ignored", _TERMS, "if scale < noise_floor:", "if scale < 0:", _OBJECTIVE),
    Mutant("the penalty is not squared", _TERMS, "reference_logps_B).square()", "reference_logps_B)", _OBJECTIVE),
    Mutant("the loss has the wrong sign", _TERMS, "return -(advantages_B", "return (advantages_B", _OBJECTIVE),
    Mutant("the penalty rewards distance", _TERMS, "+ coefficient.detach()", "- coefficient.detach()", _OBJECTIVE),
    Mutant("the penalty's weight lacks its 2", _TERMS, "2 * coefficient * log", "coefficient * log", _OBJECTIVE),
    Mutant("RLOO has no penalty", _RLOO, "rewards_B - coefficient * log_ratios_B", "rewards_B", _ONLINE),
    Mutant(
        "RLOO's baseline holds the response itself",
        _RLOO,
        "(rewards_P_S.sum(dim=1, keepdim=True) - rewards_P_S)",
        "rewards_P_S.sum(dim=1, keepdim=True)",
        _ONLINE,
    ),
    Mutant("GRPO weighs tokens alike", _GRPO, "/ tokens_B).mean()", "/ tokens_B.float().mean()).mean()", _ONLINE),
    Mutant("GRPO has no penalty", _GRPO, "coefficient * kl_k3", "0 * kl_k3", _ONLINE),
    Mutant(
        "GRPO standardises over the batch", _GRPO, "rewards_P_S.std(dim=1, keepdim=True)", "rewards_P_S.std()", _ONLINE
    ),
    Mutant(
        "the adaptive beta rises", "online/objectives/adaptive.py", "max(1.0, disagreement)", "disagreement", _ONLINE
    ),
    Mutant(
        "disagreement is of the last batch",
        "online/loop.py",
        "next(stds, ensemble_std)",
        "[ensemble_std, *stds][-1]",
        _ONLINE,
    ),
    Mutant(
        "k1 has the wrong sign",
        _DIVERGENCE,
        "(logps_B_T - reference_logps_B_T)",
        "(reference_logps_B_T - logps_B_T)",
        _OBJECTIVE,
    ),
    Mutant(
        "k3 of the other direction",
        _DIVERGENCE,
        "= reference_logps_B_T - logps_B_T",
        "= logps_B_T - reference_logps_B_T",
        _OBJECTIVE,
    ),
    Mutant(
        "DPO's loss falls where the margin falls",
        "offline/objectives/dpo.py",
        "-beta * scores",
        "beta * scores",
        ("test_offline_objectives.py::test_an_objective_is_judged_by_the_loss_that_trl_trains",),
    ),
    Mutant(
        "epsilon-DPO relaxes where it should tighten",
        "offline/objectives/epsilon_dpo.py",
        "return rises.float() - falls.float()",
        "return falls.float() - rises.float()",
        ("test_offline_objectives.py::test_epsilon_dpo_relaxes_beta_by_the_sign_of_the_perturbation",),
    ),
    Mutant(
        "beta stays where it was",
        "offline/objectives/epsilon_dpo.py",
        "self.beta /= 1 + EPSILON * float(mean)",
        "pass",
        ("test_offline_objectives.py::test_epsilon_dpo_relaxes_beta_by_the_sign_of_the_perturbation",),
    ),
    Mutant(
        "KTO's reference point is of matched texts",
        "offline/objectives/kto.py",
        "return [*rows[-1:], *rows[:-1]]",
        "return list(rows)",
        ("test_offline_objectives.py::test_kto_judges_each_text_against_the_divergence_of_mismatched_ones",),
    ),
    Mutant(
        "KTO's mismatched texts are longer than the pairs",
        "offline/objectives/kto.py",
        "ids[: longest - len(pair.prompt_ids)]",
        "ids",
        ("test_offline_objectives.py::test_a_mismatched_text_is_no_longer_than_the_pairs_are",),
    ),
    Mutant(
        "ORPO trains on the odds of what is certain",
        "offline/objectives/orpo.py",
        "means_P.float().clamp(max=HIGHEST)",
        "means_P",
        ("test_offline_objectives.py::test_a_response_that_is_certain_has_finite_odds",),
    ),
    Mutant(
        "means over tokens are sums",
        "offline/trainer.py",
        "found.log_probs.sum(dim=1) / scored_2P_T.sum(dim=1)",
        "found.log_probs.sum(dim=1)",
        ("test_offline_objectives.py::test_mean_log_probabilities_are_those_that_trl_computes",),
    ),
    Mutant(
        "another slope of the line between strengths",
        "commands/strengths.py",
        "* here / (here - there)",
        "/ 2",
        ("test_strengths.py::test_the_strength_lies_on_the_line_between_two_neighbours",),
    ),
    Mutant(
        "LoRA rank rounds down", _DERIVED, "2 ** round(math.log2(root))", "2 ** math.floor(math.log2(root))", _SIZES
    ),
    Mutant("LoRA rank without an upper bound", _DERIVED, "4, 64))", "4, 1e9))", _SIZES),
    Mutant("LoRA alpha equals the rank", _DERIVED, "return 2 * rank", "return rank", _SIZES),
    Mutant(
        "dropout grows with the data",
        _DERIVED,
        "_clip(32 / math.sqrt(n_train), 0.01",
        "_clip(math.sqrt(n_train) / 32, 0.01",
        _SIZES,
    ),
    Mutant("inference does not double the batch", _DERIVED, "(2 if inference else 1)", "1", _SIZES),
    Mutant(
        "small models get a larger batch", _DERIVED, "max(billions_of_parameters, 1)", "billions_of_parameters", _SIZES
    ),
    Mutant(
        "accumulation rounds down",
        _DERIVED,
        "math.ceil(math.isqrt(n_train) / batch)",
        "math.isqrt(n_train) // batch",
        _SIZES,
    ),
    Mutant("learning rate does not fall with size", _DERIVED, "base / math.sqrt(trainable / 1e7)", "base", _SIZES),
    Mutant(
        "the learning rate's peak is not clipped",
        _DERIVED,
        "low, high)\n\n\ndef clip_norm",
        "low, math.inf)\n\n\ndef clip_norm",
        _SIZES,
    ),
    Mutant("warmup is a tenth", _DERIVED, "math.isqrt(total_steps)", "total_steps // 10", _SIZES),
    Mutant("weight decay by size, not its root", _DERIVED, "1 / math.sqrt(n_train)", "1 / n_train", _SIZES),
    Mutant(
        "the last batch of an epoch is dropped", _DERIVED, "math.ceil(n_train / batch)", "(n_train // batch)", _SIZES
    ),
    Mutant("online steps of all problems", _DERIVED, "0.5 * n_test", "n_test", _SIZES),
    Mutant("the grid's pairs by log 2", _DERIVED, "math.log(n_train))", "math.log2(n_train))", _SIZES),
    Mutant("a probe rounds down", _DERIVED, "math.ceil(math.sqrt(n))", "math.isqrt(n)", _SIZES),
)
