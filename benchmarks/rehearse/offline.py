"""What measure_reference and the two trainings on pairs compute."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from benchmarks import worlds
from benchmarks.rehearse.bases import with_scale
from benchmarks.rehearse.measuring import LastStep, Line, measure
from benchmarks.rehearse.passes import Stage
from benchmarks.rehearse.texts import Drawn
from pessimism.experiment.cells import DpoCell, RewardCell
from pessimism.models.adapters import count_trainable, lora_config
from pessimism.models.compute.batching import evaluation_tokens
from pessimism.models.loading import SCORE_HEAD, load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.pair_trainer import PairTrainer
from pessimism.models.training import TrainingHyperparameters, run_trainer
from pessimism.offline.first_loss import ROUNDING, first_loss_tolerance
from pessimism.offline.objective import find_objective
from pessimism.offline.reference import pair_logps, sequence_logps
from pessimism.offline.training import ReferencedPairs, offline_hyperparameters, offline_trainer
from pessimism.reward.bootstrap import member_stream
from pessimism.reward.bradley_terry import reward_hyperparameters, reward_trainer

COMPARED = 16  # pairs that are read alone too
STEPS = 2  # of a training: the first warms up
FEW = 2  # batches of a step on texts of the greatest length: memory is that of a part
STRENGTH = 1.0  # beta of the 50th percentile
CELL, MEMBER, DIRECTORY = DpoCell("p50", 0), RewardCell(0, 0), Path("trainer")
ZERO_LOSS = 1e-5  # nats that a first loss may lie off where every margin is exactly 0


def measure_reference(stage: Stage) -> Iterator[Line]:
    model = load_policy_base(stage.params)
    for drawn in Drawn.every(stage.params):
        yield from _reference(stage, drawn, model)


def _reference(stage: Stage, drawn: Drawn, model: PreTrainedModel) -> Iterator[Line]:
    setting, policy, texts = drawn.setting, drawn.setting.policy, drawn.setting.texts
    count, dtypes = drawn.reads, (torch.float32, torch.bfloat16)
    pairs, given = drawn.pairs(count), (worlds.PAD, evaluation_tokens(stage.params, "policy"), "rehearsal")

    def read(rows: int) -> np.ndarray:
        return np.stack(pair_logps(model, pairs[:rows], *given), axis=1)

    def read_whole(rows: int) -> np.ndarray:
        whole = [pair.prompt_ids + pair.chosen_ids for pair in pairs[:rows]]
        return sequence_logps(model, whole, [1] * rows, *given, dtypes=dtypes)

    def noise(together_N_2: np.ndarray) -> dict[str, float]:
        alone = np.array([pair_logps(model, [pair], *given) for pair in pairs[:COMPARED]])
        granted = ROUNDING[stage.params.scale.policy.dtype]
        return layout_noise(together_N_2[:COMPARED], alone[..., 0]) | {"granted_nats": granted}

    plan = setting.reading("log-probabilities", policy, texts.pairs, count, adapted=False)
    yield stage.measured(drawn, count, plan.name, [plan], lambda: read(count), lambda: read(1), noise)
    plan = setting.reading(
        "beta grid", policy, texts.sides._replace(scored=texts.sides.whole - 1), count, adapted=False
    )
    yield stage.measured(drawn, count, plan.name, [plan], lambda: read_whole(count), lambda: read_whole(1))


def layout_noise(together_N_2: np.ndarray, alone_N_2: np.ndarray) -> dict[str, float]:
    """How far log-probabilities of pairs, chosen and rejected, depend on what they are computed with; nats."""
    differences_N_2 = together_N_2.astype(float) - alone_N_2.astype(float)
    return {
        "largest_difference_nats": float(np.abs(differences_N_2).max()),
        "log_ratio_sd_nats": float((differences_N_2[:, 0] - differences_N_2[:, 1]).std(ddof=1)),
    }


def train_dpo(stage: Stage) -> Iterator[Line]:
    params, tokenizer, objective = stage.params, load_tokenizer(stage.params, "policy"), find_objective(stage.params)
    strength = None if objective.strength is None else STRENGTH
    for drawn in Drawn.every(params):
        sizes = stage.work(drawn).values
        accumulation = sizes["accumulation"] if drawn.kind == "real" else FEW
        sized, whole = with_scale(params, dpo={"accumulation": accumulation}), sizes["batch_size"] * accumulation
        base, pairs = load_policy_base(params), drawn.pairs(STEPS * whole)
        logps = pair_logps(base, pairs, tokenizer.pad_token_id, evaluation_tokens(params, "policy"), "reference")
        train = ReferencedPairs(pairs, *logps)
        train = train if objective.needs_reference else train.without_reference()
        lora = lora_config(params.scale.policy, base.config.get_text_config().hidden_size, len(pairs), "CAUSAL_LM")
        parameters, trainable = base.num_parameters(), count_trainable(base, lora)
        chosen = offline_hyperparameters(sized, CELL, strength, len(pairs), parameters, lora, trainable)
        trainer = offline_trainer(sized, objective, chosen, base, tokenizer, train, lora, DIRECTORY)
        expected = {}
        if objective.first_loss is not None:
            allowed = first_loss_tolerance(objective, strength, params.scale.policy, train.unmoved(), whole)
            expected = {"expected_loss": objective.first_loss(strength), "tolerance": allowed}
        yield _trained(stage, drawn, trainer, chosen, whole, expected)
        del base, trainer
        gc.collect()  # layers with adapters refer to themselves


def train_reward_model(stage: Stage) -> Iterator[Line]:
    """The head stays 0, where the stage draws one: every margin is then 0 at first, whatever the weights."""
    params, tokenizer = stage.params, load_tokenizer(stage.params, "reward")
    for drawn in Drawn.every(params):
        whole = stage.work(drawn).values["batch_size"]
        base, pairs = load_reward_base(params), drawn.pairs(STEPS * whole)
        hidden = base.config.get_text_config().hidden_size
        lora = lora_config(params.scale.reward, hidden, len(pairs), "SEQ_CLS", modules_to_save=[SCORE_HEAD])
        parameters, trainable = base.num_parameters(), count_trainable(base, lora)
        stream = member_stream(params, MEMBER)
        chosen = reward_hyperparameters(params, stream, len(pairs), parameters, lora, trainable)
        chosen_ids = [pair.prompt_ids + pair.chosen_ids for pair in pairs]
        rejected_ids = [pair.prompt_ids + pair.rejected_ids for pair in pairs]
        train = Dataset.from_dict({"chosen_ids": chosen_ids, "rejected_ids": rejected_ids})
        trainer = reward_trainer(params, chosen, base, tokenizer, train, lora, DIRECTORY)
        yield _trained(stage, drawn, trainer, chosen, whole, {"expected_loss": math.log(2), "tolerance": ZERO_LOSS})
        del base, trainer
        gc.collect()


def _trained(
    stage: Stage,
    drawn: Drawn,
    trainer: PairTrainer,
    chosen: TrainingHyperparameters,
    whole: int,
    expected: dict[str, float],
) -> Line:
    """The line of a training: seconds are those of its last optimiser step, of ``whole`` pairs."""
    last = LastStep()
    trainer.add_callback(last)
    taken = measure(lambda: run_trainer(trainer, chosen, STEPS * whole, "rehearsal"))
    taken.seconds, work = last.seconds, stage.work(drawn)
    share = whole / (drawn.setting.rows.train_pairs * work.values["epochs"])
    checks = {"first_loss": taken.result[0], **expected} if expected else {}
    return stage.line(drawn, whole, "training step", work.passes[:1], taken, share, **checks)
