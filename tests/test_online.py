"""The online loop on a random model: what is measured, what is trained, what is shared between arms."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from pessimism.errors import DataError, ParamsError
from pessimism.experiment import rng
from pessimism.experiment.params import Aggregation, Params
from pessimism.measures import goodhart
from pessimism.measures.epsilon import EPS
from pessimism.models.adapters import trainable_parameters, use_adapter
from pessimism.models.compute.generation import FULL, Rollouts, RowDraw, Sampling, sample_responses
from pessimism.models.compute.logprobs import ResponseBatch, TokenLogps, pad_pairs, response_logps
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.online import loop, rollout, stopping
from pessimism.online.hyperparameters import online_hyperparameters
from pessimism.online.loop import OnlineRun
from pessimism.online.rollout import ScoredRollouts, reward_summary, shown_rollouts, trained_response_ids
from pessimism.online.terms import normalized_advantages
from pessimism.online.update import POLICY, REFERENCE, Passes
from pessimism.reward.ensemble import RewardEnsemble
from support.online_world import QUIET, make_run, random_adapter, tasks, with_protocol


def finished(run: OnlineRun) -> pd.DataFrame:
    run.train()
    return pd.DataFrame(run.rows)


def adapter_weights(run: OnlineRun, name: str) -> dict[str, torch.Tensor]:
    marker = f".{name}."
    return {key: value.clone() for key, value in run.model.state_dict().items() if marker in key}


def test_kl_is_exactly_zero_before_the_first_update(trained_world: Params) -> None:
    rows = finished(make_run(with_protocol(trained_world, **QUIET)))
    first = rows[rows["step"] == 0]
    assert set(first["prompt_set"]) == {"batch", "heldout"}
    assert (first[["kl_k1", "kl_k3"]] == 0.0).all(axis=None)
    assert (rows.loc[rows["step"] > 0, "kl_k3"] > 0).all()


def test_policy_dropout_of_the_published_loss_makes_kl_nonzero_at_the_start(trained_world: Params) -> None:
    scale = dataclasses.replace(
        trained_world.scale, policy=dataclasses.replace(trained_world.scale.policy, lora_dropout=0.5)
    )
    params = with_protocol(dataclasses.replace(trained_world, scale=scale), reward_dropout=False)
    random_adapter(load_policy_base(params), params, "CAUSAL_LM", Path("models/dpo/checkpoint"), "dpo")
    for dropout, moved in ((True, True), (False, False)):
        rows = finished(make_run(with_protocol(params, policy_dropout=dropout)))
        batch, heldout = (rows[(rows["step"] == 0) & (rows["prompt_set"] == name)] for name in ("batch", "heldout"))
        assert (float(batch["kl_k3"].iloc[0]) > 0) is moved
        assert float(heldout["kl_k3"].iloc[0]) == 0.0


def test_every_policy_weight_moves_and_the_base_and_the_reference_do_not(trained_world: Params) -> None:
    run = make_run(with_protocol(trained_world, **QUIET))
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    run.train()
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, before[key]) is (f".{POLICY}." not in key), key


def test_the_placebo_is_the_proxy_run_with_no_movement(trained_world: Params) -> None:
    params = with_protocol(trained_world, **QUIET)
    placebo_run = make_run(params, "placebo")
    before = adapter_weights(placebo_run, POLICY)
    placebo, proxy = finished(placebo_run), finished(make_run(params, "proxy"))
    assert all(torch.equal(value, before[key]) for key, value in adapter_weights(placebo_run, POLICY).items())
    assert (placebo["kl_k3"] == 0).all()
    pd.testing.assert_frame_equal(placebo[placebo["step"] == 0], proxy[proxy["step"] == 0])
    assert not placebo.equals(proxy)


def test_a_placebo_is_measured_as_the_loop_with_learning_rate_0_would(trained_world: Params) -> None:
    """The same tokens, problems and rows; numbers up to the rounding of batches of other sizes."""
    scale = dataclasses.replace(
        trained_world.scale, policy=dataclasses.replace(trained_world.scale.policy, lora_dropout=0.2)
    )
    scale = dataclasses.replace(scale, online=dataclasses.replace(scale.online, heldout_every=2, micro_batch_size=4))
    params = with_protocol(dataclasses.replace(trained_world, scale=scale), policy_dropout=True, reward_dropout=True)
    random_adapter(load_policy_base(params), params, "CAUSAL_LM", Path("models/dpo/checkpoint"), "dpo")
    placebo = make_run(params, "placebo", steps=5, measure_every=2)
    looped = make_run(params, "proxy", steps=5, measure_every=2)
    looped.hyperparameters = placebo.hyperparameters
    rows, expected = finished(placebo), finished(looped)
    exact = ["step", "prompt_set", "prompts", "true_reward", "tokens", "response_length", "finished_fraction"]
    pd.testing.assert_frame_equal(rows[exact], expected[exact])
    pd.testing.assert_frame_equal(rows, expected, rtol=1e-4, atol=1e-5)
    assert (rows.loc[rows["prompt_set"] == "batch", "kl_k3"] > 0).all(), "dropout is that of the loop"
    samples, expected_samples = pd.concat(placebo.samples), pd.concat(looped.samples)
    pd.testing.assert_frame_equal(samples, expected_samples, rtol=1e-5, atol=1e-6)
    texts = [[(row["step"], row["task_id"], row["response"]) for row in run.rollouts] for run in (placebo, looped)]
    assert texts[0] == texts[1] and len(texts[0]) == 4 * len(looped.heldout_tasks)


def test_a_placebo_is_never_differentiated_and_drawn_twice(
    trained_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the evaluations of all steps, once for their batches."""
    drawn, sample = [], rollout.sample_responses

    def watched(model: object, tokenizer: object, prompts: list[str], *rest: object) -> Rollouts:
        drawn.append(len(prompts))
        return sample(model, tokenizer, prompts, *rest)

    monkeypatch.setattr(rollout, "sample_responses", watched)
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_: pytest.fail("a placebo learns nothing"))
    run = make_run(trained_world, "placebo")
    run.train()
    assert drawn == [2 * len(run.heldout_tasks), 3 * 6]


def test_arms_meet_the_same_draws_at_a_step_and_others_at_the_next(trained_world: Params) -> None:
    """So a placebo's noise is that of the run beside it, and the steps' noises average out."""
    params = with_protocol(trained_world, **QUIET)

    def texts(arm: str, purpose: str, step: int) -> list[str]:
        run = make_run(params, arm)
        return run._roll_out(purpose, step, run.heldout_tasks).rollouts.texts

    for purpose in ("heldout", "batch"):
        assert texts("proxy", purpose, 2) == texts("placebo", purpose, 2) != texts("placebo", purpose, 0)


def test_two_runs_are_equal_bit_for_bit(trained_world: Params) -> None:
    pd.testing.assert_frame_equal(finished(make_run(trained_world)), finished(make_run(trained_world)))


def test_betas_share_prompts_and_draws_only_where_the_protocol_pairs_them(trained_world: Params) -> None:
    for paired in (True, False):
        params = with_protocol(trained_world, paired_seeds=paired, **QUIET)
        low, high = (finished(make_run(params, "placebo", percentile)) for percentile in (20, 80))
        assert low["proxy_reward"].equals(high["proxy_reward"]) is paired


def with_arm(params: Params, **changes: object) -> Params:
    """The arm proxy with other values."""
    return with_protocol(params, arms={"proxy": dataclasses.replace(params.arm("proxy"), **changes)})


def test_an_arm_trains_on_the_reward_that_it_declares(trained_world: Params) -> None:
    run = make_run(trained_world, "oracle")
    scored = run._roll_out("heldout", 0, run.heldout_tasks)
    assert run._training_reward(0, scored) is scored.true_reward
    assert make_run(trained_world)._training_reward(0, scored) is scored.proxy_reward
    noise, again = (make_run(with_arm(trained_world, reward="random"))._training_reward(3, scored) for _ in range(2))
    assert noise.tolist() == again.tolist() and abs(np.corrcoef(noise, scored.proxy_reward)[0, 1]) < 0.9


def test_the_proxy_is_the_aggregation_that_the_parameters_name(trained_world: Params) -> None:
    for aggregation in ("mean", "min"):
        params = dataclasses.replace(with_protocol(trained_world, **QUIET), aggregation=aggregation)
        run = make_run(params, "placebo")
        scored = run._roll_out("heldout", 0, run.heldout_tasks)
        scores_K_B = run.ensemble.score(scored.prompts, scored.rollouts.texts)
        assert scored.proxy_reward == pytest.approx(getattr(scores_K_B, aggregation)(axis=0))


def test_an_arm_trains_on_its_own_aggregation_and_is_measured_by_the_designs(trained_world: Params) -> None:
    params = with_arm(with_protocol(trained_world, **QUIET), aggregation=Aggregation("min"))
    run = make_run(params)
    scored = run._roll_out("heldout", 0, run.heldout_tasks)
    assert scored.proxy_reward.tolist() == scored.member_rewards.mean(axis=0).tolist()
    assert run._training_reward(0, scored).tolist() == scored.member_rewards.min(axis=0).tolist()
    rows, mean_rows = finished(run), finished(make_run(with_protocol(trained_world, **QUIET)))
    first, mean_first = (table[table["step"] == 0] for table in (rows, mean_rows))
    measured = ["proxy_reward", "proxy_reward_sd", "true_reward", "ensemble_std"]
    pd.testing.assert_frame_equal(first[measured], mean_first[measured])
    assert rows["kl_k3"].iloc[-1] != mean_rows["kl_k3"].iloc[-1], "the arms learn other policies"


def stopped_run(params: Params, **limit: float) -> OnlineRun:
    """Evaluated before every second of five updates."""
    params = with_arm(with_protocol(params, **QUIET), **limit)
    online = dataclasses.replace(params.scale.online, heldout_every=2)
    params = dataclasses.replace(params, scale=dataclasses.replace(params.scale, online=online))
    return make_run(params, steps=5)


def test_an_arm_with_a_budget_stops_at_the_first_evaluation_above_it(trained_world: Params) -> None:
    """Before, it is the run without a limit; after, its policy is one, drawn anew at the steps of every arm."""
    free, stopped = stopped_run(trained_world), stopped_run(trained_world, kl_budget=1e-6)
    rows, expected = finished(stopped), finished(free)
    assert (free.frozen_from, stopped.frozen_from) == (None, 2)
    until = (expected["step"] < 2) | ((expected["step"] == 2) & (expected["prompt_set"] == "heldout"))
    pd.testing.assert_frame_equal(rows[until], expected[until])
    exact = ["step", "prompt_set", "prompts"]
    pd.testing.assert_frame_equal(rows[exact], expected[exact])
    assert (rows.loc[~until, "kl_k3"] != expected.loc[~until, "kl_k3"]).sum() >= 4
    steps = list(dict.fromkeys(row["step"] for row in stopped.rollouts))
    assert steps == [0, 2, 4, 5] == pd.concat(stopped.samples)["step"].unique().tolist()
    halted = stopped_run(trained_world)
    halted.hyperparameters = dataclasses.replace(halted.hyperparameters, steps=2)
    halted.train()
    for name, weight in adapter_weights(stopped, POLICY).items():
        assert torch.equal(weight, adapter_weights(halted, POLICY)[name]), name


def test_a_limit_that_is_not_exceeded_changes_nothing(trained_world: Params) -> None:
    free, limited = stopped_run(trained_world), stopped_run(trained_world, kl_budget=1e9, stop_at_gap=1e9)
    pd.testing.assert_frame_equal(finished(limited), finished(free))
    assert limited.frozen_from is None


def evaluation(proxy: float, true: float, kl: float = 0.0) -> dict[str, float]:
    return {"prompts": 9, "proxy_reward": proxy, "proxy_reward_sd": 2.0, "true_reward": true, "kl_k3": kl}


def test_the_gap_that_stops_is_the_controlled_one_in_units_of_the_checkpoint() -> None:
    for right in (0, 4, 9):
        first, now = evaluation(1.0, right / 9), evaluation(2.0, 5 / 9)
        proxy_T, true_T = (np.array([row[name] for row in (first, now)]) for name in ("proxy_reward", "true_reward"))
        expected = goodhart.controlled_gap(proxy_T, true_T, 2.0, goodhart.smoothed_sd(right / 9, 9))[1]
        assert stopping.gap_since(first, now) == pytest.approx(expected)


def test_a_proxy_without_spread_has_no_gap() -> None:
    first = evaluation(1.0, 4 / 9) | {"proxy_reward_sd": 0.0}
    with pytest.raises(DataError, match=r"standard deviation of 0\.0 of the proxy reward.*stop_at_gap"):
        stopping.gap_since(first, first)


def test_only_the_limit_of_an_arm_stops_it_and_only_above_it(trained_world: Params) -> None:
    first, hacked = evaluation(0.0, 4 / 9), evaluation(1.0, 4 / 9, kl=0.2)  # a gap of half a standard deviation
    arm = trained_world.arm("proxy")
    for limit, at_it, below in (("stop_at_gap", 0.5, 0.49), ("kl_budget", 0.2, 0.19)):
        assert not stopping.stops(arm, first, hacked)
        assert not stopping.stops(dataclasses.replace(arm, **{limit: at_it}), first, hacked)
        assert stopping.stops(dataclasses.replace(arm, **{limit: below}), first, hacked)
        assert not stopping.stops(dataclasses.replace(arm, **{limit: below}), first, first)


def three_responses(prompts: list[str]) -> ScoredRollouts:
    rollouts = Rollouts([[1]] * 3, [[2], [2, 3], [2, 3, 4]], ["a", "b", "c"], [True, True, False], [""] * 3)
    rewards = {"true_reward": np.array([0.0, 1.0, 1.0]), "true_reward_flexible": np.array([1.0, 1.0, 1.0])}
    members = np.array([[0.5, 1.5, 4.0], [1.5, 2.5, 8.0]])
    proxy, spread, runs_on = members.mean(axis=0), np.array([0.5, 0.5, 2.0]), np.array([True, False, False])
    return ScoredRollouts(["x", "y", "z"], prompts, rollouts, members, proxy, spread, rewards, runs_on)


def test_the_responses_that_are_shown_are_to_problems_of_every_length() -> None:
    scored, tasks = three_responses(["longest", "short", "longer"]), pd.DataFrame({"answer": ["1", "2", "3"]})
    shown = {count: shown_rollouts(scored, tasks, count) for count in (1, 2, 3, 16)}
    assert {count: "".join(row["task_id"] for row in rows) for count, rows in shown.items()} == {
        1: "y",
        2: "yx",
        3: "yzx",
        16: "yzx",
    }
    assert shown[2][1] == {
        "task_id": "x",
        "prompt": "longest",
        "response": "a",
        "answer": "1",
        "proxy_reward": 1.0,
        "true_reward": 0.0,
        "true_reward_flexible": 1.0,
    }


def test_a_summary_of_a_batch_by_hand() -> None:
    summary = reward_summary(three_responses(["q"] * 3))
    assert summary == pytest.approx(
        {
            "prompts": 3,
            "proxy_reward": 3.0,
            "proxy_reward_sd": 7**0.5,  # (4 + 1 + 9) / 2
            "true_reward": 2 / 3,
            "true_reward_sd": (1 / 3) ** 0.5,
            "true_reward_flexible": 1.0,
            "ensemble_std": 1.0,
            "response_length": 2.0,
            "finished_fraction": 2 / 3,
            "run_on_fraction": 1 / 3,
            "tokens": 6,
        }
    )


def test_a_gradient_is_clipped_to_its_largest_norm(trained_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: None = None) -> None:
            gradients = [parameter.grad for group in self.param_groups for parameter in group["params"]]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    for largest in (1e9, 1e-3):
        make_run(with_protocol(trained_world, **QUIET), steps=1, clip_norm=largest).train()
    assert norms[0] > 1e-2 and norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_a_step_begins_without_a_gradient(trained_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    run, accumulate, steps = make_run(with_protocol(trained_world, **QUIET)), loop.accumulate_gradients, []

    def watched(*arguments: object) -> object:
        steps.append([parameter.grad is not None for parameter in trainable_parameters(run.model)])
        return accumulate(*arguments)

    monkeypatch.setattr(loop, "accumulate_gradients", watched)
    run.train()
    assert len(steps) == 3 and not np.any(steps)


def test_a_batch_holds_no_problem_twice(trained_world: Params) -> None:
    run = make_run(with_protocol(trained_world, **QUIET), batch_size=16, steps=2)
    batches = [list(tasks["task_id"]) for _, tasks in run._batches()]
    assert [sorted(batch) for batch in batches] == [sorted(run.training_tasks["task_id"])] * 2
    assert batches[0] != batches[1]


def test_both_true_rewards_are_measured_on_the_same_responses(
    trained_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted responses: every other one names the right number without the marker.

    A placebo draws its two evaluations of eight problems together.
    """

    def sample(model: object, tokenizer: object, prompts: list[str], *_: object, **__: object) -> Rollouts:
        answers = [*run.heldout_tasks["answer"]] * 2 if len(prompts) == 16 else ["0"] * len(prompts)
        texts = [f"#### {answer}\nNext" if row % 2 else f"it is {answer}" for row, answer in enumerate(answers)]
        return Rollouts([[5]] * len(prompts), [[6]] * len(prompts), texts, [True] * len(prompts), [""] * len(prompts))

    monkeypatch.setattr("pessimism.online.rollout.sample_responses", sample)
    run = make_run(trained_world, "placebo", steps=1)
    run.train()
    for samples in run.samples:
        assert samples["true_reward"].tolist() == [0.0, 1.0] * 4
        assert samples["true_reward_flexible"].tolist() == [1.0] * 8
    rows = pd.DataFrame(run.rows)
    heldout = rows[rows["prompt_set"] == "heldout"]
    assert set(heldout["true_reward"]) == {0.5} and set(heldout["true_reward_flexible"]) == {1.0}
    assert [row["true_reward_flexible"] for row in run.rollouts[:4]] == [1.0] * 4
    assert set(pd.DataFrame(run.rows)["run_on_fraction"]) == {0.5}


def test_rows_are_measured_before_each_update_and_after_the_last(trained_world: Params) -> None:
    run = make_run(with_protocol(trained_world, **QUIET), steps=5, measure_every=2)
    scale = dataclasses.replace(run.params.scale, online=dataclasses.replace(run.params.scale.online, heldout_every=2))
    run.params = dataclasses.replace(run.params, scale=scale)
    rows = finished(run)
    steps = {name: rows.loc[rows["prompt_set"] == name, "step"].tolist() for name in ("batch", "heldout")}
    assert steps == {"batch": [0, 2, 4], "heldout": [0, 2, 4, 5]}
    samples = pd.concat(run.samples)
    assert samples.groupby("step").size().tolist() == [8, 8, 8, 8]
    means = samples.groupby("step")["proxy_reward"].mean()
    heldout = rows[rows["prompt_set"] == "heldout"].set_index("step")["proxy_reward"]
    assert means.to_numpy() == pytest.approx(heldout.to_numpy())


def test_fixed_coupling_ignores_beta_and_coupled_does_not(trained_world: Params) -> None:
    for kappa, expected in (("coupled", (1.0, 3.0)), ("fixed", (0.5, 0.5)), ("none", (0.0, 0.0))):
        params = with_protocol(with_arm(trained_world, kappa=kappa), kl_numerator=0.5)
        low, high = make_run(params), make_run(params)
        high.beta = 3.0
        assert (low._kl_numerator, high._kl_numerator) == expected


def test_both_arms_of_the_middle_beta_are_one_run(trained_world: Params) -> None:
    """By Eq. 7 it is 1 but for rounding, and here so is the numerator of arms that have one for every beta."""
    at_middle = with_protocol(trained_world, kl_numerator=1.0)
    proxy, uncoupled, other = (
        make_run(params, arm)
        for params, arm in (
            (at_middle, "proxy"),
            (at_middle, "uncoupled"),
            (with_protocol(trained_world, kl_numerator=0.5), "uncoupled"),
        )
    )
    assert proxy._kl_numerator == uncoupled._kl_numerator == 1.0
    coupled = finished(proxy)
    assert coupled.equals(finished(uncoupled)) and not coupled.equals(finished(other))
    rounded = make_run(at_middle, "proxy")
    rounded.beta = 0.99999998
    numbers = coupled.select_dtypes("number").columns
    np.testing.assert_allclose(finished(rounded)[numbers], coupled[numbers], rtol=1e-4, atol=1e-6)


def test_a_checkpoint_without_strength_has_no_penalty_to_couple(trained_world: Params) -> None:
    run = make_run(with_arm(trained_world, kappa="coupled"))
    run.beta = None
    with pytest.raises(ParamsError, match=r"found proxy, whose penalty is coupled .* p50, which has none"):
        run.train()


def test_responses_to_one_prompt_follow_one_another(trained_world: Params) -> None:
    run = make_run(with_protocol(trained_world, **QUIET), steps=1)
    run.objective = dataclasses.replace(run.objective, samples_per_prompt=3)
    ((_, batch),) = run._batches()
    seen = list(batch["task_id"])
    assert len(seen) == 6 and seen == [name for name in seen[::3] for _ in range(3)]


def test_response_log_probs_agree_with_float64_and_ignore_padding(trained_world: Params) -> None:
    model, tokenizer = load_policy_base(trained_world), load_tokenizer(trained_world, "policy")
    prompts = [[5, 6, 7, 8, 9], [10, 11], [12]]
    responses = [[13, 14], [15, 16, 17, 18], [19]]
    batch = pad_pairs(prompts, responses, tokenizer.pad_token_id, model.device)
    with torch.no_grad():
        measured = response_logps(model, batch)
        exact = model.double()
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            logits = exact(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            logps = logits.log_softmax(-1)
            expected = logps[torch.arange(len(response)), torch.tensor(response)].sum()
            entropy = -(logps.exp() * logps).sum(-1).mean()
            assert float(measured.sums[row]) == pytest.approx(float(expected), abs=1e-5)
            assert float(measured.mean_entropy[row]) == pytest.approx(float(entropy), abs=1e-5)


PARTS = [
    {},
    {"micro_batch_size": 1},
    {"micro_batch_size": 4},
    {"gradient_checkpointing": True},
    {"micro_batch_size": 2, "gradient_checkpointing": True},
]


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_eq_8_however_the_batch_is_computed(
    trained_world: Params, parts: dict[str, object], dropout: float
) -> None:
    """Against the loss of the whole batch in one pass."""
    if dropout and parts.get("micro_batch_size"):
        pytest.skip("the masks of a part are not those of the batch")
    policy = dataclasses.replace(trained_world.scale.policy, lora_dropout=dropout)
    online = dataclasses.replace(trained_world.scale.online, **parts)
    scale = dataclasses.replace(trained_world.scale, policy=policy, online=online)
    params = with_protocol(dataclasses.replace(trained_world, scale=scale), policy_dropout=True, reward_dropout=False)
    random_adapter(load_policy_base(params), params, "CAUSAL_LM", Path("models/dpo/checkpoint"), "dpo")
    run = make_run(params, steps=1)
    for name, parameter in run.model.named_parameters():
        if f".{POLICY}." in name:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    kept: list[torch.Tensor] = []
    updates = torch.optim.AdamW([next(run.model.parameters())], lr=0)
    updates.step = lambda: kept.extend(p.grad.clone() for p in trainable_parameters(run.model))  # type: ignore
    chosen = dataclasses.replace(run.hyperparameters, clip_norm=1e9)
    run.hyperparameters = chosen
    if online.gradient_checkpointing:
        run.model.activation_checkpointing_enable()
    row = run._update(0, run.training_tasks.iloc[:6], updates, trainable_parameters(run.model))

    run.model.zero_grad()
    scored = run._roll_out("batch", 0, run.training_tasks.iloc[:6])
    responses = trained_response_ids(scored.rollouts, run.tokenizer, params.protocol)
    batch = pad_pairs(scored.rollouts.prompt_ids, responses, run.tokenizer.pad_token_id, run.model.device)
    (seed,) = rng.row_seeds(params.root_seed, "policy-dropout", *run._stream, 0, rows=1)
    torch.manual_seed(seed)
    run.model.activation_checkpointing_disable()
    with use_adapter(run.model, POLICY):
        run.model.train()
        logps = response_logps(run.model, batch).sums
        run.model.eval()
    with use_adapter(run.model, REFERENCE), torch.no_grad():
        reference = response_logps(run.model, batch).sums
    advantages = normalized_advantages(torch.tensor(scored.proxy_reward))
    distance = (logps - reference).detach().abs()
    kappa = 1.0 / (distance.quantile(0.5) + EPS)
    loss = -(advantages * logps).mean() + kappa * (logps - reference).square().mean()
    loss.backward()
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert row["kappa"] == pytest.approx(kappa.item(), rel=1e-4) and distance.max() > 0
    for found, parameter in zip(kept, trainable_parameters(run.model), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-5)


def test_both_passes_of_a_part_have_the_same_dropout(trained_world: Params) -> None:
    """Kappa comes from the first, the gradient from the second."""
    policy = dataclasses.replace(trained_world.scale.policy, lora_dropout=0.3)
    online = dataclasses.replace(trained_world.scale.online, micro_batch_size=2)
    scale = dataclasses.replace(trained_world.scale, policy=policy, online=online)
    params = with_protocol(dataclasses.replace(trained_world, scale=scale), policy_dropout=True, reward_dropout=False)
    random_adapter(load_policy_base(params), params, "CAUSAL_LM", Path("models/dpo/checkpoint"), "dpo")
    run = make_run(params, steps=1)
    drawn: list[torch.Tensor] = []
    passes = Passes.trained_policy

    def kept(self: Passes, batch: ResponseBatch, seed: int) -> TokenLogps:
        policy = passes(self, batch, seed)
        drawn.append(policy.logps_B_T.detach())
        return policy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passes, "trained_policy", kept)
        run.train()
    assert len(drawn) == 6  # three parts, twice
    for first, second in zip(drawn[:3], drawn[3:], strict=True):
        assert torch.equal(first, second)


def test_layers_are_computed_again_where_the_scale_says_so(trained_world: Params) -> None:
    """In eval mode, which passes without dropout would be in, transformers keeps them."""
    online = dataclasses.replace(trained_world.scale.online, gradient_checkpointing=True)
    params = dataclasses.replace(trained_world, scale=dataclasses.replace(trained_world.scale, online=online))
    run = make_run(with_protocol(params, **QUIET), steps=1)
    forwards: dict[bool, int] = {True: 0, False: 0}
    run.model.get_base_model().model.layers[0].mlp.register_forward_pre_hook(
        lambda *_: forwards.update({torch.is_grad_enabled(): forwards[torch.is_grad_enabled()] + 1})
    )
    run.train()
    assert forwards[True] == 2  # once for the log-probs, once again in the backward pass


def test_a_response_depends_on_its_prompt_and_its_seed_alone(trained_world: Params) -> None:
    model, tokenizer = load_policy_base(trained_world), load_tokenizer(trained_world, "policy")
    prompts = [question + "\n\n" for question in tasks(8)["question"]]
    seeds = list(range(8))

    def drawn(rows: list[int], batch_size: int) -> list[list[int]]:
        params = dataclasses.replace(
            trained_world, scale=dataclasses.replace(trained_world.scale, evaluation_batch_size=batch_size)
        )
        chosen = [prompts[row] for row in rows], params, [seeds[row] for row in rows]
        return sample_responses(model, tokenizer, *chosen).response_ids

    together = drawn(seeds, 8)
    assert drawn(seeds, 1) == together
    assert drawn(seeds[::-1], 3) == together[::-1]
    assert drawn([5], 8) == [together[5]]
    seeds = [seed + 100 for seed in seeds]
    assert drawn(list(range(8)), 8) != together


@pytest.mark.parametrize(
    ("sampling", "default_top_k", "reachable"),
    [
        (FULL, 2, [0, 1, 2, 3, 4]),
        (Sampling(0.5, 1.0, 0), 2, [0, 1, 2, 3, 4]),
        (Sampling(1.0, 1.0, None), 2, [0, 1]),
        (Sampling(1.0, 1.0, 3), 2, [0, 1, 2]),
        (Sampling(1.0, 0.7, 0), 2, [0, 1]),  # 0.5 + 0.25 reach 0.7
        (Sampling(1.0, 0.8, 3), 2, [0, 1]),  # of the first three 0.556 + 0.278 do, of all only 0.75
    ],
)
def test_draws_have_the_frequencies_of_the_distribution(
    sampling: Sampling, default_top_k: int, reachable: list[int]
) -> None:
    """20,000 rows, each on a stream of its own; a draw lies within four standard errors of its probability."""
    model = SimpleNamespace(generation_config=SimpleNamespace(top_k=default_top_k), device=torch.device("cpu"))
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])
    rows = 20_000
    processors = sampling.processors(model, range(rows))  # type: ignore[arg-type]
    scores = processors(torch.zeros(rows, 1, dtype=torch.long), probabilities.log().expand(rows, -1))
    found = torch.bincount(scores.argmax(dim=1), minlength=5) / rows
    expected = torch.zeros(5)
    expected[reachable] = probabilities[reachable] ** (1 / sampling.temperature)
    expected /= expected.sum()
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / rows).sqrt()).all(), found
    assert (found[expected == 0] == 0).all()


CPU = torch.device("cpu")


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 0.7), (7, 0.6), (20, 0.95), (80, 0.5)])
def test_what_may_be_drawn_is_what_hugging_face_would_draw_from(top_k: int, top_p: float) -> None:
    rows, ids = 40, torch.zeros(40, 1, dtype=torch.long)
    scores = 3 * torch.randn(rows, 60, generator=torch.Generator().manual_seed(0))
    expected = TopPLogitsWarper(top_p)(ids, TopKLogitsWarper(top_k)(ids, scores))
    found = RowDraw(top_k, top_p, range(rows), CPU)(ids, scores)
    assert torch.equal(found.isfinite(), expected.isfinite())


def test_the_temperature_sharpens_what_is_drawn() -> None:
    """Odds of 3 to 1 are 9 to 1 at a temperature of 1/2."""
    rows, model = 4000, SimpleNamespace(device=CPU, generation_config=SimpleNamespace(top_k=None))
    scores = torch.tensor([[0.0, np.log(3.0)]]).float().expand(rows, 2).clone()
    processors = Sampling(temperature=0.5, top_p=1.0, top_k=0).processors(model, range(rows))
    drawn = processors(torch.zeros(rows, 1, dtype=torch.long), scores).argmax(dim=1)
    assert float(drawn.float().mean()) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (10, 0.9)])
def test_noise_is_new_at_every_step_and_each_rows_own(top_k: int, top_p: float) -> None:
    scores_V = torch.randn(60, generator=torch.Generator().manual_seed(0))

    def steps(seeds: list[int]) -> torch.Tensor:
        """(2, B, V) perturbed scores of two steps."""
        draw = RowDraw(top_k, top_p, seeds, CPU)
        ids, scores_B_V = torch.zeros(len(seeds), 1, dtype=torch.long), scores_V.expand(len(seeds), -1)
        return torch.stack([draw(ids, scores_B_V) for _ in range(2)])

    together = steps([3, 4, 5])
    assert len({tuple(row) for row in together.flatten(0, 1).tolist()}) == 6
    assert torch.equal(steps([5, 9, 3])[:, [2, 0]], together[:, [0, 2]])
    assert torch.equal(steps([4]), together[:, [1]])


def test_responses_are_drawn_without_dropout_and_the_mode_is_restored(
    trained_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = dataclasses.replace(trained_world.scale.policy, lora_dropout=0.5)
    params = dataclasses.replace(trained_world, scale=dataclasses.replace(trained_world.scale, policy=policy))
    random_adapter(load_policy_base(params), params, "CAUSAL_LM", Path("models/dpo/checkpoint"), "dpo")
    run = make_run(params)
    chosen = run.model, run.tokenizer, [question + "\n\n" for question in tasks(8)["question"]], params, range(8)
    expected = sample_responses(*chosen).response_ids
    assert not run.model.training
    run.model.train()
    assert sample_responses(*chosen).response_ids == expected
    assert run.model.training
    monkeypatch.setattr(run.model, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sample_responses(*chosen)
    assert run.model.training


def test_every_share_has_masks_of_reward_dropout_of_its_own(
    trained_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has those of a single process."""
    seeds: list[int | None] = []

    def score(self: RewardEnsemble, prompts: list[str], responses: list[str], seed: int | None) -> np.ndarray:
        seeds.append(seed)
        return np.zeros((2, len(prompts)), dtype=np.float32)

    monkeypatch.setattr(RewardEnsemble, "score", score)
    monkeypatch.setattr("pessimism.machine.sharing.gather", lambda items: items)
    run = make_run(with_protocol(trained_world, reward_dropout=True))
    for rank, count in ((0, 1), (0, 2), (1, 2)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(count))
        run._roll_out("batch", 4, run.training_tasks.iloc[:6])
    run._roll_out("heldout", 4, run.heldout_tasks)
    alone, first, second, heldout = seeds
    assert heldout is None
    assert alone == first == rng.seed(run.params.root_seed, "reward-dropout", *run._stream, 4)
    assert second not in (None, first)


def test_responses_hold_the_drawn_ids_and_end_at_the_first_eos(trained_world: Params) -> None:
    model, tokenizer = load_policy_base(trained_world), load_tokenizer(trained_world, "policy")
    prompts = [question + "\n\n" for question in tasks(8)["question"]]
    scale = dataclasses.replace(trained_world.scale, evaluation_batch_size=3)
    lengths = scale.lengths
    drawn = sample_responses(model, tokenizer, prompts, dataclasses.replace(trained_world, scale=scale), range(8))
    for ids, done in zip(drawn.response_ids, drawn.finished, strict=True):
        assert 1 <= len(ids) <= lengths.response
        assert ids.count(tokenizer.eos_token_id) == done == (ids[-1] == tokenizer.eos_token_id)


def test_any_end_of_the_generation_config_ends_a_response_and_is_what_is_trained_on(trained_world: Params) -> None:
    model, tokenizer = load_policy_base(trained_world), load_tokenizer(trained_world, "policy")
    prompts = [question + "\n\n" for question in tasks(8)["question"]]
    plain = sample_responses(model, tokenizer, prompts, trained_world, range(8))
    other = plain.response_ids[0][2]
    assert other != tokenizer.eos_token_id
    model.generation_config.eos_token_id = [other, tokenizer.eos_token_id]
    ended = sample_responses(model, tokenizer, prompts, trained_world, range(8))
    first = plain.response_ids[0].index(other)
    assert ended.response_ids[0] == plain.response_ids[0][: first + 1] and ended.finished[0]
    scored = dataclasses.replace(trained_world.protocol, score_eos=True, retokenize_responses=False)
    assert trained_response_ids(ended, tokenizer, scored) == ended.response_ids
    unscored = dataclasses.replace(scored, score_eos=False)
    assert trained_response_ids(ended, tokenizer, unscored)[0] == ended.response_ids[0][:-1]


def test_sampling_leaves_the_mode_and_the_reference_pass_leaves_the_policy_trainable(trained_world: Params) -> None:
    run = make_run(trained_world)
    trainable = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert trainable and all(f".{POLICY}." in name for name in trainable)
    run.model.train()
    run._roll_out("heldout", 0, run.heldout_tasks)
    assert run.model.training
    with use_adapter(run.model, REFERENCE):
        pass
    assert trainable == {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}


def test_derived_values_of_the_paper_scale(params_of_paper_sizes: dict[str, int], tiny_world: Params) -> None:
    unset = dataclasses.replace(
        tiny_world.scale.online, batch_size=None, steps=None, learning_rate=None, measure_every=None
    )
    lengths = dataclasses.replace(tiny_world.scale.lengths, prompt=192, response=448, sequence=640)
    dpo = dataclasses.replace(tiny_world.scale.dpo, batch_size=None)
    scale = dataclasses.replace(tiny_world.scale, online=unset, lengths=lengths, dpo=dpo, gpu_memory_gb=85.02)
    chosen = online_hyperparameters(scale, tiny_world.arm("proxy"), **params_of_paper_sizes)
    assert (chosen.batch_size, chosen.steps, chosen.measure_every) == (4, 165, 3)
    assert chosen.learning_rate == pytest.approx(3.4527e-6, rel=1e-4)
    assert chosen.weight_decay == pytest.approx(1.0918e-4, rel=1e-4)
    assert chosen.clip_norm == pytest.approx(1.1320, rel=1e-4)
    placebo = online_hyperparameters(scale, tiny_world.arm("placebo"), **params_of_paper_sizes)
    assert placebo == dataclasses.replace(chosen, learning_rate=0.0)


@pytest.fixture
def params_of_paper_sizes() -> dict[str, int]:
    return {"parameters": 14_768_307_200, "trainable": 83_886_080, "test_problems": 1319}


def test_the_updates_raise_a_learnable_reward(trained_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted reward: the share of digits. The loop must find it."""

    def digits(self: RewardEnsemble, prompts: list[str], responses: list[str], seed: int | None) -> np.ndarray:
        shares = [sum(map(str.isdigit, response)) / max(len(response), 1) for response in responses]
        return np.stack([shares, np.add(shares, 0.1)]).astype(np.float32)

    monkeypatch.setattr(RewardEnsemble, "score", digits)
    params = with_protocol(with_arm(trained_world, kappa="fixed"), kl_numerator=1e-6, **QUIET)
    rows = finished(make_run(params, steps=32, batch_size=16))
    heldout = rows.loc[rows["prompt_set"] == "heldout", "proxy_reward"]
    assert heldout.iloc[-3:].mean() > 1.4 * heldout.iloc[0]
