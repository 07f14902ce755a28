"""The ensemble as TRL's reward function, and the watch over its trainer, against TRL's own paths."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from pessimism.data.prompts import reward_text
from pessimism.errors import DataError, ParamsError, SourceError
from pessimism.experiment.protocol import Aggregation
from pessimism.integrations.trl import EnsembleReward, GoodhartMonitor
from pessimism.reward.aggregation import aggregate, disagreement
from support.random_models import chat_tokenizer, save_config, small_config

PROMPTS = ["Mia had 5 apples.", "Tom had 3 books. How many?"]
COMPLETIONS = ["\n\n5+3=8", "\n\n3-1=2\n#### 2"]
TURNS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
REPLIES = [[{"role": "assistant", "content": text.strip()}] for text in COMPLETIONS]


def save_classifier(directory: Path, seed: int, **changes: Any) -> Path:
    torch.manual_seed(seed)
    config = small_config("qwen3", **{"num_labels": 1} | changes)
    save_config(config, directory)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("members")
    return [save_classifier(root / str(seed), seed) for seed in range(3)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policy")
    torch.manual_seed(7)
    config = small_config("qwen3")
    save_config(config, directory)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


def digits(completions: list[Any], **_: Any) -> list[float]:
    """A true reward: digits in the completion."""
    texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
    return [float(sum(map(str.isdigit, text))) for text in texts]


def trainer(policy: Path, rewards: list[Any], folder: Path, kind: str = "GRPO", **changes: Any) -> GRPOTrainer:
    made, config = {"GRPO": (GRPOTrainer, GRPOConfig), "RLOO": (RLOOTrainer, RLOOConfig)}[kind]
    arguments = {
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "reward_weights": [1.0] + [0.0] * (len(rewards) - 1),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_on_start": True,
        "per_device_eval_batch_size": 4,
        "save_strategy": "no",
        "report_to": "none",
    }
    return made(
        model=str(policy),
        processing_class=chat_tokenizer(),
        reward_funcs=rewards,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS * 4}),
        eval_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        args=config(output_dir=str(folder), **arguments | changes),
    )


# the ensemble


@pytest.mark.parametrize(("prompts", "completions"), [(PROMPTS, COMPLETIONS), (TURNS, REPLIES)], ids=["text", "turns"])
def test_a_member_scores_as_trl_has_its_own_reward_model_score(
    members: list[Path], policy: Path, tmp_path: Path, prompts: Any, completions: Any
) -> None:
    own = trainer(policy, [str(members[1])], tmp_path)
    rewards_B_1 = own._calculate_rewards([{"prompt": prompt} for prompt in prompts], prompts, completions, None)
    for size in (1, 16):  # padded by nothing, and by the longer text
        scores_K_B = EnsembleReward(members, batch_size=size).score(prompts, completions)
        np.testing.assert_allclose(scores_K_B[1], rewards_B_1[:, 0].cpu().numpy(), atol=1e-5)
    assert np.ptp(scores_K_B, axis=0).min() > 1e-3


@pytest.mark.parametrize(("kind", "weight"), [("mean", None), ("min", None), ("uwo", 2.0), ("log_mean_exp", 3.0)])
def test_rewards_are_aggregated_and_the_members_are_logged(members: list[Path], kind: Any, weight: Any) -> None:
    metrics: dict[str, float] = {}
    columns: dict[str, list[float]] = {}
    ensemble = EnsembleReward(members, aggregation=kind, weight=weight)
    rewards = ensemble(
        prompts=PROMPTS,
        completions=COMPLETIONS,
        completion_ids=[[1], [2]],
        log_metric=metrics.__setitem__,
        log_extra=columns.__setitem__,
    )
    scores_K_B = ensemble.score(PROMPTS, COMPLETIONS)
    np.testing.assert_allclose(rewards, aggregate(scores_K_B, Aggregation(kind, weight)), rtol=1e-6)
    assert columns == {f"member_{k}": scores_B.tolist() for k, scores_B in enumerate(scores_K_B)}
    assert metrics["ensemble/member_2"] == pytest.approx(scores_K_B[2].mean())
    assert metrics["ensemble/disagreement"] == pytest.approx(disagreement(scores_K_B).mean())


def test_standardised_members_have_mean_0_and_sd_1_on_the_given_texts(members: list[Path]) -> None:
    pairs = [(prompt, text) for prompt in PROMPTS for text in COMPLETIONS]
    scores_K_N = EnsembleReward(members, standardized_on=pairs).score(*zip(*pairs, strict=True))
    np.testing.assert_allclose(scores_K_N.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(scores_K_N.std(axis=1), 1, atol=1e-5)


def test_members_may_read_another_format(members: list[Path]) -> None:
    """Those that the pipeline trains read prompt, blank line and response."""
    read = EnsembleReward(members, read=reward_text).score(["Mia had 5 apples. "], ["5+3=8"])
    np.testing.assert_allclose(read, EnsembleReward(members).score(["Mia had 5 apples."], ["\n\n5+3=8"]), atol=1e-6)


def test_adapters_share_their_base(members: list[Path], tmp_path: Path) -> None:
    adapted, expected = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = AutoModelForSequenceClassification.from_pretrained(members[0])
        model = get_peft_model(
            base, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"], init_lora_weights=False)
        )
        model.eval().save_pretrained(tmp_path / str(seed))
        ids = torch.tensor([chat_tokenizer()(PROMPTS[0] + COMPLETIONS[0], add_special_tokens=False)["input_ids"]])
        expected.append(model(input_ids=ids).logits.item())
        adapted.append(tmp_path / str(seed))
    ensemble = EnsembleReward(adapted, base=members[0])
    np.testing.assert_allclose(ensemble.score(PROMPTS[:1], COMPLETIONS[:1])[:, 0], expected, atol=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-4


def test_an_ensemble_has_members_of_one_score(members: list[Path], policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"found 1 member"):
        EnsembleReward(members[:1])
    with pytest.raises(ParamsError, match="found the aggregation 'median'; expected one of"):
        EnsembleReward(members, aggregation="median")
    with pytest.raises(ParamsError, match="found no weight of lcb"):
        EnsembleReward(members, aggregation="lcb")
    with pytest.raises(DataError, match="on standardized_on"):
        EnsembleReward(members, standardized_on=[(PROMPTS[0], COMPLETIONS[0])] * 2)
    headless = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    get_peft_model(AutoModelForCausalLM.from_pretrained(policy), headless).save_pretrained(tmp_path / "headless")
    with pytest.raises(SourceError, match="found an adapter trained as CAUSAL_LM"):
        EnsembleReward([tmp_path / "headless"] * 2, base=policy)
    two = save_classifier(tmp_path / "two", 0, num_labels=2)
    with pytest.raises(SourceError, match="a model of 2 scores"):
        EnsembleReward([members[0], two])


# the watch


@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_trainer_logs_the_ensemble_and_the_gap(members: list[Path], policy: Path, tmp_path: Path, kind: str) -> None:
    ensemble = EnsembleReward(members)
    run = trainer(policy, [ensemble, digits], tmp_path, kind)
    monitor = GoodhartMonitor(run, ensemble, digits, threshold=1e6)
    run.train()
    logs = [row for row in run.state.log_history if "eval_reward" in row]
    assert monitor.steps == [row["step"] for row in logs] == [0, 1, 2, 3] and monitor.onset_step is None
    names = ("EnsembleReward", "digits")
    proxy, true = (np.array([row[f"eval_rewards/{name}/mean"] for row in logs]) for name in names)
    sds = [logs[0][f"eval_rewards/{name}/std"] for name in names]
    gaps = (proxy - proxy[0]) / sds[0] - (true - true[0]) / sds[1]
    np.testing.assert_allclose([row["eval_goodhart/gap"] for row in logs], gaps, atol=1e-6)
    assert logs[-1]["eval_goodhart/signed_augc"] == pytest.approx(np.trapezoid(gaps, [0, 1, 2, 3]))
    trained = [row for row in run.state.log_history if "reward" in row]
    assert {"ensemble/member_0", "ensemble/disagreement"} <= trained[0].keys()


class Seen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What the monitor says."""
    handler, said_by = Seen(), logging.getLogger("pessimism.integrations.trl")
    said_by.addHandler(handler)
    yield handler
    said_by.removeHandler(handler)


def evaluation(proxy: float, true: float, proxy_sd: float | None = 1.0, true_sd: float | None = 0.5) -> dict[str, Any]:
    """What a trainer logs of one."""
    return {
        "eval_rewards/EnsembleReward/mean": proxy,
        "eval_rewards/EnsembleReward/std": proxy_sd,
        "eval_rewards/digits/mean": true,
        "eval_rewards/digits/std": true_sd,
    }


def log(run: Any, *evaluations: dict[str, Any], start: int = 0) -> None:
    for step, logs in enumerate(evaluations, start=start):
        run.state.global_step = step
        run.log(dict(logs))


@pytest.fixture
def run(members: list[Path], policy: Path, tmp_path: Path) -> Any:
    return trainer(policy, [EnsembleReward(members), digits], tmp_path)


HACKED = [evaluation(0.0, 1.0), evaluation(1.6, 1.0), evaluation(1.7, 1.0), evaluation(2.0, 1.0)]


def test_the_onset_is_told_once(run: Any, seen: Seen) -> None:
    monitor = GoodhartMonitor(run, "EnsembleReward", "digits")
    log(run, *HACKED)
    assert monitor.onset_step == 2 and not run.control.should_training_stop
    assert len(seen.said) == 1 and seen.said[0].startswith("step 2: EnsembleReward has risen 1.70 sd more than digits")
    assert "eval_goodhart/onset_step" not in run.state.log_history[1]
    assert [row["eval_goodhart/onset_step"] for row in run.state.log_history[2:]] == [2, 2]


def test_a_training_may_end_at_the_onset(run: Any) -> None:
    GoodhartMonitor(run, "EnsembleReward", "digits", at_onset="stop")
    log(run, *HACKED[:2])
    assert not run.control.should_training_stop
    log(run, *HACKED[2:], start=2)
    assert run.control.should_training_stop


def test_a_resumed_run_keeps_its_baseline(members: list[Path], policy: Path, tmp_path: Path) -> None:
    """Also where it evaluates the step again at which it goes on."""
    rewards = [EnsembleReward(members), digits]
    whole = trainer(policy, rewards, tmp_path / "whole", save_strategy="steps", save_steps=2)
    before = GoodhartMonitor(whole, "EnsembleReward", "digits", threshold=1e6)
    whole.train()
    resumed = trainer(policy, rewards, tmp_path / "resumed")
    after = GoodhartMonitor(resumed, "EnsembleReward", "digits", threshold=1e6)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-2"))
    assert after.steps == [0, 1, 2, 3]
    np.testing.assert_allclose(after.gaps[:2], before.gaps[:2])


def test_a_run_resumed_after_its_onset_is_told_again_and_ends(run: Any, seen: Seen) -> None:
    GoodhartMonitor(run, "EnsembleReward", "digits", at_onset="stop")
    log(run, *HACKED[:3])
    run.callback_handler.on_train_begin(run.args, run.state, run.control)
    assert run.control.should_training_stop and len(seen.said) == 2


def test_a_second_training_begins_anew(run: Any) -> None:
    monitor = GoodhartMonitor(run, "EnsembleReward", "digits")
    log(run, *HACKED)
    run.state.log_history.clear()
    run.callback_handler.on_train_begin(run.args, run.state, run.control)
    assert monitor.steps == [] and monitor.onset_step is None


def test_the_unit_is_that_of_the_first_evaluation_in_which_both_rewards_vary(run: Any) -> None:
    monitor = GoodhartMonitor(run, "EnsembleReward", "digits")
    log(run, evaluation(0.0, 0.0, true_sd=0.0), evaluation(1.0, 0.0, true_sd=None))
    assert monitor.gaps == [] and "eval_goodhart/gap" not in run.state.log_history[-1]
    log(run, evaluation(2.0, 1.0, proxy_sd=2.0, true_sd=4.0), start=2)
    np.testing.assert_allclose(monitor.gaps, [0.0, 0.5, 0.75])


def test_the_unit_may_be_given(run: Any) -> None:
    monitor = GoodhartMonitor(run, "EnsembleReward", "digits", proxy_sd=2.0, true_sd=0.25)
    log(run, evaluation(0.0, 0.0, true_sd=0.0), evaluation(1.0, -0.5))
    np.testing.assert_allclose(monitor.gaps, [0.0, 2.5])


def test_a_watch_needs_both_rewards_and_evaluations(
    members: list[Path], policy: Path, tmp_path: Path, run: Any
) -> None:
    with pytest.raises(ParamsError, match=r"found the reward functions .* expected 'accuracy' once"):
        GoodhartMonitor(run, "EnsembleReward", "accuracy")
    blind = trainer(policy, [EnsembleReward(members), digits], tmp_path, eval_strategy="no")
    with pytest.raises(ParamsError, match="found a trainer that does not evaluate"):
        GoodhartMonitor(blind, "EnsembleReward", "digits")
    run.eval_dataset = {"a": run.eval_dataset, "b": run.eval_dataset}
    with pytest.raises(ParamsError, match=r"data sets \['a', 'b'\]; expected one"):
        GoodhartMonitor(run, "EnsembleReward", "digits")
