"""Bugs in the online phase: rollouts, the loop and the update."""

from support.mutants.mutant import Mutant

_ROLLOUT = "online/rollout.py"
_LOOP = "online/loop.py"
_UPDATE = "online/update.py"
_LAST_TOKEN = "models/compute/last_token.py"


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"test_online.py::test_{name}" for name in names)


_GRADIENTS = _tests("gradients_are_those_of_eq_8_however_the_batch_is_computed")
_SUMMARY = _tests("a_summary_of_a_batch_by_hand")
_STOPPING = "online/stopping.py"
_STOPS = _tests("an_arm_with_a_budget_stops_at_the_first_evaluation_above_it")
_CLIPPED = _tests("a_gradient_is_clipped_to_its_largest_norm")

MUTANTS = (
    Mutant(
        "all problems of best-of-n share their draws' streams",
        "online/best_of_n.py",
        "*stream, problem, rows=",
        "*stream, rows=",
        ("test_best_of_n.py::test_betas_of_a_seed_draw_from_the_same_streams_where_paired",),
    ),
    Mutant(
        "the last layer is computed at the last column",
        _LAST_TOKEN,
        "(columns_T * (input_ids != pad_id)).argmax(dim=1)",
        "torch.full_like(input_ids[:, 0], -1)",
        ("test_last_token.py::test_scores_are_those_of_the_plain_pass",),
    ),
    Mutant(
        "the whole last layer is computed",
        _LAST_TOKEN,
        "if name in BEHIND_ATTENTION]",
        "if False]",
        ("test_last_token.py::test_what_follows_the_last_attention_sees_one_token_of_each_row",),
    ),
    Mutant(
        "no clipping",
        _LOOP,
        "torch.nn.utils.clip_grad_norm_(parameters, self.hyperparameters.clip_norm",
        "torch.nn.utils.clip_grad_norm_(parameters, float('inf')",
        _CLIPPED,
    ),
    Mutant("a summary by the population's deviation", _ROLLOUT, "proxy.std(ddof=1)", "proxy.std()", _SUMMARY),
    Mutant(
        "the true reward's deviation is the population's",
        _ROLLOUT,
        "true_reward.std(ddof=1)",
        "true_reward.std()",
        _SUMMARY,
    ),
    Mutant(
        "tokens are averaged",
        _ROLLOUT,
        "int(scored.response_tokens.sum())",
        "int(scored.response_tokens.mean())",
        _SUMMARY,
    ),
    Mutant(
        "the ensemble's scores are always averaged",
        _ROLLOUT,
        "aggregate(scores_K_B, proxy_aggregation(params))",
        "scores_K_B.mean(axis=0)",
        _tests("the_proxy_is_the_aggregation_that_the_parameters_name"),
    ),
    Mutant(
        "an arm's own aggregation is not what it trains on",
        _LOOP,
        "if self._arm.aggregation is not None:",
        "if False:",
        _tests("an_arm_trains_on_its_own_aggregation_and_is_measured_by_the_designs"),
    ),
    Mutant(
        "an arm that stops is updated once more",
        _LOOP,
        """                    self._measure_frozen(step)
                    return
            row =""",
        """                    self._update(step, tasks, optimizer, parameters)
                    self._measure_frozen(step)
                    return
            row =""",
        _STOPS,
    ),
    Mutant("a stopped run is measured from the start again", _LOOP, "if step >= since and", "if", _STOPS),
    Mutant(
        "a limit stops an arm that comes to it",
        _STOPPING,
        'now["kl_k3"] > arm.kl_budget',
        'now["kl_k3"] >= arm.kl_budget',
        _tests("only_the_limit_of_an_arm_stops_it_and_only_above_it"),
    ),
    Mutant(
        "the gap that stops an arm is the proxy's change alone",
        _STOPPING,
        "float(proxy - true)",
        "float(proxy)",
        _tests("the_gap_that_stops_is_the_controlled_one_in_units_of_the_checkpoint"),
    ),
    Mutant(
        "the end token is not trained on",
        _ROLLOUT,
        "return [whole if protocol.score_eos else body",
        "return [body",
        _tests("any_end_of_the_generation_config_ends_a_response_and_is_what_is_trained_on"),
    ),
    Mutant(
        "the policy is not moved",
        _LOOP,
        "        optimizer.step()\n",
        "",
        _tests("every_policy_weight_moves_and_the_base_and_the_reference_do_not"),
    ),
    Mutant(
        "gradients add up over steps",
        _LOOP,
        "        optimizer.zero_grad()\n",
        "",
        _tests("a_step_begins_without_a_gradient"),
    ),
    Mutant(
        "prompts are drawn with replacement",
        _LOOP,
        "size=prompts, replace=False",
        "size=prompts, replace=True",
        _tests("a_batch_holds_no_problem_twice"),
    ),
    Mutant(
        "a random reward is the ensemble's",
        _LOOP,
        'self._arm.reward == "random"',
        "False",
        _tests("an_arm_trains_on_the_reward_that_it_declares"),
    ),
    Mutant(
        "a fixed numerator is coupled",
        _LOOP,
        '{"fixed": self.params.protocol.kl_numerator',
        '{"fixed": self.beta',
        _tests("fixed_coupling_ignores_beta_and_coupled_does_not"),
    ),
    Mutant(
        "held-out rewards keep dropout",
        _LOOP,
        "self.params.protocol.reward_dropout and purpose == BATCH",
        "self.params.protocol.reward_dropout",
        _tests("every_share_has_masks_of_reward_dropout_of_its_own"),
    ),
    Mutant(
        "every step draws alike",
        _LOOP,
        "purpose, *self._stream, step, rows",
        "purpose, *self._stream, rows",
        _tests("arms_meet_the_same_draws_at_a_step_and_others_at_the_next"),
    ),
    Mutant(
        "every arm draws for itself",
        _LOOP,
        "purpose, *self._stream, step, rows",
        "purpose, self.cell.arm, *self._stream, step, rows",
        _tests("arms_meet_the_same_draws_at_a_step_and_others_at_the_next"),
    ),
    Mutant(
        "a placebo goes through the loop",
        _LOOP,
        "        if self._arm.is_placebo:\n",
        "        if False:\n",
        _tests("a_placebo_is_never_differentiated_and_drawn_twice"),
    ),
    Mutant(
        "a placebo's evaluations stand at other places than the loop's",
        _LOOP,
        '        self.rows.sort(key=lambda row: row["step"])',
        "        pass",
        _tests("a_placebo_is_measured_as_the_loop_with_learning_rate_0_would"),
    ),
    Mutant(
        "a part of a placebo weighs as a whole batch",
        _UPDATE,
        "kappa).item() * len(advantages) / len(advantages_B)",
        "kappa).item()",
        _tests("a_placebo_is_measured_as_the_loop_with_learning_rate_0_would"),
    ),
    Mutant(
        "a part weighs as a whole batch",
        _UPDATE,
        "part_loss * (len(advantages) / len(advantages_B))",
        "part_loss * 1",
        _GRADIENTS,
    ),
    Mutant(
        "parts take the advantages of others", _UPDATE, "mine.stop].split(", "mine.stop].flip(0).split(", _GRADIENTS
    ),
    Mutant(
        "the second pass has other dropout",
        _UPDATE,
        "policy if keep else passes.trained_policy(part, seed)",
        "policy if keep else passes.trained_policy(part, seed + 1)",
        _tests("both_passes_of_a_part_have_the_same_dropout"),
    ),
    Mutant(
        "the reference is the policy",
        _UPDATE,
        "use_adapter(self.model, REFERENCE)",
        "use_adapter(self.model, POLICY)",
        _tests(
            "every_policy_weight_moves_and_the_base_and_the_reference_do_not",
            "the_placebo_is_the_proxy_run_with_no_movement",
        )
        + _GRADIENTS,
    ),
)
