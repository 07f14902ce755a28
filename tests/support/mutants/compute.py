"""Bugs in what computes states, log-probabilities and draws: batches, pairs in one row, generation."""

from support.mutants.mutant import Mutant

_LOGPS = "models/compute/logprobs.py"
_PREFIX = "models/compute/prefix_sharing.py"
_BATCHING = "models/compute/batching.py"
_GENERATION = "models/compute/generation.py"
_ARCHITECTURE = "models/architecture.py"
_STOPPING = "models/compute/stopping.py"
_PROMPTS = "data/prompts.py"
_PLAIN = ("test_logprobs.py::test_log_probs_entropy_and_gradients_are_those_of_the_plain_softmax",)
_PAIRS = (
    "test_prefix_sharing.py::test_states_of_pairs_in_one_row_are_those_of_the_batch",
    "test_prefix_sharing.py::test_pairs_in_one_row_are_what_each_text_is_by_itself",
)
_WINDOWS = (
    "test_prefix_sharing.py::test_prefixes_are_shared_where_every_layer_looks_back_at_everything",
    "test_prefix_sharing.py::test_a_window_of_all_layers_is_seen_without_their_types",
)
_GROUPS = (
    "test_length_groups.py::test_groups_by_hand",
    "test_length_groups.py::test_groups_hold_every_row_once_and_no_cut_is_left_that_saves_enough",
)


def _online(name: str) -> tuple[str, ...]:
    return (f"test_online.py::test_{name}",)


_DRAWN = _online("what_may_be_drawn_is_what_hugging_face_would_draw_from")

MUTANTS = (
    Mutant(
        "a name means every layer whose name ends so",
        _ARCHITECTURE,
        'f".{path}".endswith(f".{name}")',
        "path.endswith(name)",
        ("test_second_family.py::test_a_name_with_its_part_means_one_layer_and_a_bare_name_all",),
    ),
    Mutant(
        "weights that are stored transposed are taken for others",
        _ARCHITECTURE,
        "isinstance(part, Conv1D) and matching(path, names)",
        "False",
        ("test_second_family.py::test_a_fused_adapter_is_what_peft_merges_into_the_weights",),
    ),
    Mutant(
        "a GPT-2 has no linear layers",
        _ARCHITECTURE,
        "if isinstance(module, Conv1D):",
        "if False:",
        ("test_second_family.py::test_a_name_with_its_part_means_one_layer_and_a_bare_name_all",),
    ),
    Mutant(
        "layers have to be called layers",
        _ARCHITECTURE,
        "for child in model.get_decoder().children() if",
        'for name, child in model.get_decoder().named_children() if name == "layers" and',
        ("test_second_family.py::test_a_decoder_has_as_many_layers_as_its_configuration_says",),
    ),
    Mutant(
        "an embedded GPT-2 drops some of what its attention gives",
        "models/embedded.py",
        "attn_pdrop=0.0, resid_pdrop=0.0",
        "attn_pdrop=0.0",
        ("test_second_family.py::test_an_embedded_base_has_no_dropout_of_its_own",),
    ),
    Mutant(
        "a result that is added to in place is one token wide",
        "models/compute/last_token.py",
        "if any(hasattr(layer, name) for name in ADDED_TO)",
        "if True",
        ("test_last_token.py::test_scores_are_those_of_the_plain_pass",),
    ),
    Mutant("a state predicts its own token", _LOGPS, "scored_B_T.roll(-1, dims=1)", "scored_B_T", _PLAIN),
    Mutant(
        "the prompt's last token is scored",
        _LOGPS,
        "columns_T >= starts_B_1",
        "columns_T >= starts_B_1 - 1",
        _online("response_log_probs_agree_with_float64_and_ignore_padding"),
    ),
    Mutant("logits are not capped", _LOGPS, "columns, soft_cap(model), 1.0", "columns, None, 1.0", _PLAIN),
    Mutant(
        "entropy is summed over a response",
        _LOGPS,
        "self.entropy_B_T.sum(dim=1) / self.scored_B_T.sum(dim=1).clamp(min=1)",
        "self.entropy_B_T.sum(dim=1)",
        _online("response_log_probs_agree_with_float64_and_ignore_padding"),
    ),
    Mutant("the second text sees the first", _PREFIX, "return causal_W_W & ~(", "return causal_W_W | ~(", _PAIRS),
    Mutant(
        "the second text's rest goes on behind the first",
        _PREFIX,
        "columns_W - after_R_W * (longer_R_1 - shared_R_1)",
        "columns_W - after_R_W * 0 * (longer_R_1 - shared_R_1)",
        _PAIRS,
    ),
    Mutant(
        "the texts of a pair are swapped",
        _PREFIX,
        "first < second for first, second",
        "first >= second for first, second",
        _PAIRS,
    ),
    Mutant(
        "one token more is shared",
        _PREFIX,
        "list(map(min, equal, tokens[:pairs]",
        "list(map(min, [e + 1 for e in equal], tokens[:pairs]",
        _PAIRS,
    ),
    Mutant(
        "padding counts as shared", _PREFIX, "list(map(min, equal, tokens[:pairs], tokens[pairs:]))", "equal", _PAIRS
    ),
    Mutant(
        "a window is shared across", _PREFIX, 'set(kinds) == {"full_attention"}', '"full_attention" in kinds', _WINDOWS
    ),
    Mutant("eager attention gets a Boolean mask", _PREFIX, "text._attn_implementation != SDPA or not", "not", _WINDOWS),
    Mutant(
        "padding's states are kept",
        _PREFIX,
        "states_B_T_H.masked_fill(padding_B_T[..., None], 0)",
        "states_B_T_H",
        _PAIRS,
    ),
    Mutant(
        "a group is cut wherever padding is saved",
        _BATCHING,
        "if saved[best] <= enough:",
        "if saved[best] <= 0:",
        _GROUPS,
    ),
    Mutant(
        "a batch exceeds its budget by a row",
        _BATCHING,
        "(len(batches[-1]) + 1) <= budget",
        "len(batches[-1]) <= budget",
        ("test_logprobs.py::test_token_batches_hold_every_row_once_within_the_budget_and_neighbours_by_length",),
    ),
    Mutant(
        "the shortest rows come first",
        _BATCHING,
        "np.argsort(-lengths[rows]",
        "np.argsort(lengths[rows]",
        ("test_length_groups.py::test_a_batch_begins_with_its_longest_rows",),
    ),
    Mutant(
        "two queries are not left to the mask",
        _BATCHING,
        "lengths[rows[0]] - 2))",
        "lengths[rows[0]] - 1))",
        _PAIRS,
    ),
    Mutant(
        "every epoch has the same order",
        "models/compute/length_groups.py",
        '"epoch", self.epoch)',
        '"epoch", 0)',
        (
            "test_length_groups.py::test_an_epoch_is_every_row_once",
            "test_length_groups.py::test_what_a_batch_holds_is_random_and_does_not_depend_on_lengths",
        ),
    ),
    Mutant(
        "padding on the left passes",
        "models/compute/length_groups.py",
        "if uneven:",
        "if False:",
        ("test_length_groups.py::test_a_batch_that_groups_would_compute_wrongly_is_refused",),
    ),
    Mutant(
        "every row draws from one seed",
        _GENERATION,
        "manual_seed(seed) for seed in seeds]",
        "manual_seed(seeds[0]) for seed in seeds]",
        _online("noise_is_new_at_every_step_and_each_rows_own"),
    ),
    Mutant(
        "noise is not Gumbel's",
        _GENERATION,
        "scores_B_K - noise_B_K.log()",
        "scores_B_K - noise_B_K",
        _online("draws_have_the_frequencies_of_the_distribution"),
    ),
    Mutant("top-p is ignored", _GENERATION, "if self.top_p < 1:", "if False:", _DRAWN),
    Mutant(
        "the temperature is ignored",
        _GENERATION,
        "TemperatureLogitsWarper(self.temperature)",
        "TemperatureLogitsWarper(1.0)",
        _online("the_temperature_sharpens_what_is_drawn"),
    ),
    Mutant(
        "a response lacks the token that ended it",
        _GENERATION,
        "position + 1 for position, token",
        "position for position, token",
        _online("any_end_of_the_generation_config_ends_a_response_and_is_what_is_trained_on"),
    ),
    Mutant(
        "dropout stays on while drawing",
        _GENERATION,
        "    model.eval()\n    try:",
        "    try:",
        _online("responses_are_drawn_without_dropout_and_the_mode_is_restored"),
    ),
    Mutant(
        "a stop string is looked for in the prompt too",
        _STOPPING,
        "max(self.start, input_ids.shape[1] - self.tail)",
        "max(0, input_ids.shape[1] - self.tail)",
        ("test_stopping.py::test_the_end_of_the_prompt_is_no_part_of_a_stop_string",),
    ),
    Mutant(
        "the last stop string counts",
        _STOPPING,
        "text.find(stop), -len(stop), stop) for stop",
        "-text.find(stop), -len(stop), stop) for stop",
        ("test_stopping.py::test_the_first_stop_string_counts_and_of_two_at_one_place_the_longer",),
    ),
    Mutant(
        "a text keeps its stop string",
        _STOPPING,
        "return ids[:length], text[: text.find(stop)], stop",
        "return ids[:length], text, stop",
        ("test_stopping.py::test_a_response_ends_with_the_token_that_completes_the_stop_string",),
    ),
    Mutant(
        "only the last token of a stop string is its end",
        "online/rollout.py",
        "ids_within(tokenizer, drawn, text) if stop else len(drawn) - finished",
        "len(drawn) - finished",
        ("test_stopping.py::test_the_online_loss_takes_a_stop_string_as_it_takes_an_end",),
    ),
    Mutant(
        "a token that a shot spells is special",
        _PROMPTS,
        "any(first in turn for turn in within)",
        "first in within[-1]",
        ("test_prompts.py::test_a_token_that_any_turn_spells_is_text",),
    ),
    Mutant(
        "shots are cut where a prompt is too long",
        _PROMPTS,
        "if shots and len(ids) > lengths.prompt:",
        "if shots and len(ids) > 10 * lengths.prompt:",
        ("test_prompts.py::test_a_prompt_that_would_lose_of_its_shots_is_refused",),
    ),
    Mutant(
        "reward models read the shown prompt with its instruction",
        "tasks/parts/posing.py",
        "if params.scale.tasks.shots else posed(questions, params)",
        "if params.scale.tasks.shots > 9 else posed(questions, params)",
        ("test_tasks.py::test_shots_and_the_bare_question_are_what_policy_and_reward_models_read",),
    ),
    Mutant(
        "shots are trained on",
        "tasks/parts/problems.py",
        'kept[purpose], kept["train"]',
        "kept[purpose], rest[0 if purpose == SHOTS else count :]",
        ("test_tasks.py::test_shots_are_a_split_of_their_own_and_move_no_held_out_row",),
    ),
    Mutant(
        "partial credit is the reward",
        "tasks/reasoning_gym.py",
        "float(score == 1)",
        "float(score > 0)",
        ("test_reasoning_gym.py::test_partial_credit_is_no_reward_and_stands_beside_it",),
    ),
)
