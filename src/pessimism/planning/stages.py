"""What each stage holds in memory and which passes it makes: the stages' loops, counted for one cell."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pessimism.experiment.params import DpoParams, TrainingParams
from pessimism.models import hyperparameters as derive
from pessimism.models.compute.batching import training_batch_size
from pessimism.offline.objective import find_objective
from pessimism.online.hyperparameters import online_hyperparameters
from pessimism.planning.role import Role
from pessimism.planning.setting import Pass, Setting

PLACEBO = "adapt_online, placebo"
"""Its cells of arms that are never trained, which the plan counts by themselves."""


@dataclass(frozen=True)
class StageWork:
    """One cell of a stage.

    Attributes:
        roles: models that it loads, one after another where one stands several times.
        resident: bytes in memory all the time, by component.
        values: hyperparameters and sizes of batches, as set or derived.
        written: whose adapter it writes.
    """

    name: str
    roles: tuple[Role, ...]
    resident: dict[str, float]
    passes: list[Pass] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    written: Role | None = None


def every_stage(setting: Setting) -> list[StageWork]:
    """Those that run a model, in the order of dvc.yaml; that of a placebo where the design has one."""
    roles = (setting.policy, setting.reward)
    return [
        StageWork("prepare_base", roles, {"weights": max(role.weight_bytes for role in roles)}),
        measure_reference(setting),
        _training("train_reward_model", setting, setting.reward, setting.scale.reward_training),
        assess_ensemble(setting),
        measure_base(setting),
        train_dpo(setting),
        adapt_online(setting),
        *([] if setting.params.placebo is None else [measure_placebo(setting, setting.params.placebo)]),
        probe_policy(setting),
        select_best_of_n(setting),
    ]


def measure_reference(setting: Setting) -> StageWork:
    role, rows, texts = setting.policy, setting.rows, setting.texts
    drawn, alone = max(1, derive.beta_grid_pairs(rows.train_pairs)), texts.sides._replace(scored=texts.sides.whole - 1)
    passes = [
        setting.reading("log-probabilities", role, texts.pairs, rows.train_pairs + rows.val_pairs, adapted=False),
        setting.reading("beta grid", role, alone, 2 * drawn, adapted=False),
    ]
    return StageWork("measure_reference", (role,), {"weights": role.weight_bytes}, passes, {"beta_grid_pairs": drawn})


def assess_ensemble(setting: Setting) -> StageWork:
    role, texts = setting.reward, 2 * setting.rows.val_pairs * len(setting.params.reward_cells())
    passes = [setting.reading("reward scores", role, setting.texts.sides, texts)]
    return StageWork("assess_ensemble", _by_seed(setting), _resident(setting, (role,)), passes)


def measure_base(setting: Setting) -> StageWork:
    heldout, sampling = setting.rows.heldout_tasks, setting.params.protocol.sampling
    passes = setting.generation([heldout], sampling, adapted=False)
    passes.append(setting.scoring(heldout, len(setting.params.seeds)))
    roles, values = (setting.policy, setting.reward), {"generation_batch_size": setting.generation_batch}
    return StageWork("measure_base", (setting.policy, *_by_seed(setting)), _resident(setting, roles), passes, values)


def _by_seed(setting: Setting) -> tuple[Role, ...]:
    """The reward model, loaded once for the ensemble of each seed."""
    return (setting.reward,) * len(setting.params.seeds)


def train_dpo(setting: Setting) -> StageWork:
    role, work = setting.policy, _training("train_dpo", setting, setting.policy, setting.scale.dpo)
    texts, rows, objective = setting.texts.pairs, setting.rows, find_objective(setting.params)
    passes = [*work.passes, setting.reading("log-probabilities", role, texts, rows.val_pairs)]
    if objective.further_forwards:
        seen = setting.scale.dpo.epochs * rows.train_pairs
        seen += 0 if objective.reference_point is None else rows.val_pairs
        forwards = objective.further_forwards
        passes.append(setting.reading("the objective's own", role, texts, seen, forwards=forwards))
    return replace(work, passes=passes)


def adapt_online(setting: Setting) -> StageWork:
    # Another arm that is trained differs in the learning rate at most.
    role, values = setting.policy, _online_values(setting, setting.params.primary_arm)
    batch, steps, evaluations = (values[name] for name in ("batch_size", "steps", "evaluations"))
    heldout = setting.rows.heldout_tasks
    passes = [
        *setting.generation([batch] * steps + [heldout] * evaluations, setting.params.protocol.sampling),
        setting.scoring(heldout, evaluations),
        setting.scoring(batch, steps),
        setting.online_training(batch, steps, values["micro_batch_size"]),
        setting.reading("held-out log-probabilities", role, setting.texts.answered, evaluations * heldout, forwards=2),
    ]
    roles = (role, setting.reward)
    resident = _resident(setting, roles, policies=2) | {"optimiser": role.optimiser_bytes}
    return StageWork("adapt_online", roles, resident, passes, values, role)


def measure_placebo(setting: Setting, arm: str) -> StageWork:
    """A cell of adapt_online in an arm that is never trained: what the trained ones measure, all steps at once."""
    role, values = setting.policy, _online_values(setting, arm)
    batch, steps, evaluations = (values[name] for name in ("batch_size", "steps", "evaluations"))
    measured, heldout = len({*range(0, steps, values["measure_every"]), steps - 1}), setting.rows.heldout_tasks
    passes = [
        *setting.generation([evaluations * heldout, measured * batch], setting.params.protocol.sampling),
        setting.scoring(heldout, evaluations),
        setting.scoring(batch, measured),
        setting.online_measuring(batch, measured, values["micro_batch_size"]),
        setting.reading("held-out log-probabilities", role, setting.texts.answered, evaluations * heldout, forwards=2),
    ]
    roles = (role, setting.reward)
    return StageWork(PLACEBO, roles, _resident(setting, roles, policies=2), passes, values, role)


def _online_values(setting: Setting, arm: str) -> dict[str, Any]:
    role, online = setting.policy, setting.scale.online
    chosen = online_hyperparameters(
        setting.scale, setting.params.arm(arm), role.parameters, role.trainable, setting.rows.test_tasks
    )
    part = min(online.micro_batch_size or chosen.batch_size, chosen.batch_size)
    evaluations = len(range(0, chosen.steps, online.heldout_every)) + 1
    return asdict(chosen) | {"micro_batch_size": part, "evaluations": evaluations}


def probe_policy(setting: Setting) -> StageWork:
    rows, probes, policies, roles = setting.rows, setting.scale.probes, 2, (setting.policy, setting.reward)
    prompts = min(rows.test_tasks, probes.prompts or derive.probe_size(rows.test_tasks))
    references = min(rows.train_pairs, probes.references or derive.probe_size(rows.train_pairs))
    drawn, heldout, texts = prompts * probes.responses, rows.heldout_tasks, setting.texts.answered
    read = len(setting.params.ensemble_members) * (policies * drawn + references)
    # The policy's states wait for the base's; of a reward model, those of every layer are read.
    passes = [
        *setting.generation(policies * [drawn], setting.params.protocol.sampling),
        *setting.generation(policies * [heldout], "full"),
        setting.reading("divergence", setting.policy, texts, policies * heldout, forwards=2, waiting=1),
        setting.reading(
            "representations", setting.reward, setting.texts.judged, read, waiting=setting.reward.layers - 2
        ),
    ]
    values = {"prompts": prompts, "references": references, "responses": probes.responses}
    return StageWork("probe_policy", roles, _resident(setting, roles, policies), passes, values)


def select_best_of_n(setting: Setting) -> StageWork:
    chosen, roles = setting.scale.best_of_n, (setting.policy, setting.reward)
    prompts = min(setting.rows.heldout_tasks, chosen.prompts)
    responses = prompts * chosen.draws
    passes = [*setting.generation([responses], setting.params.protocol.sampling), setting.scoring(responses)]
    values = {"prompts": prompts, "draws": chosen.draws}
    return StageWork("select_best_of_n", roles, _resident(setting, roles, policies=1), passes, values)


def _training(name: str, setting: Setting, role: Role, training: TrainingParams) -> StageWork:
    """A stage that trains an adapter on pairs."""
    values = training_values(setting, role, training)
    whole = values["batch_size"] * values.get("accumulation", 1)
    part = micro_batch_size(training, values["batch_size"], whole)
    load, forwards = setting.texts.trained_pairs(whole, part)
    steps = setting.training(role, load, training.epochs, part, training.gradient_checkpointing)
    values |= {"micro_batch_size": part, "padded_over_real": load.padding, "forward_passes_per_micro_batch": forwards}
    resident = {"weights": role.weight_bytes, "adapters": role.adapter_bytes, "optimiser": role.optimiser_bytes}
    return StageWork(name, (role,), resident, [steps], values, role)


def training_values(setting: Setting, role: Role, training: TrainingParams) -> dict[str, Any]:
    """Hyperparameters that all cells share: the scale's where it sets them, else by the paper's formulas (App. C)."""
    pairs, rate = setting.rows.train_pairs, training.learning_rate
    batch = training_batch_size(setting.scale, training, role.parameters)
    values: dict[str, Any] = {"epochs": training.epochs, "batch_size": batch}
    if isinstance(training, DpoParams):
        given = training.accumulation
        values["accumulation"] = derive.accumulation(pairs, batch) if given is None else given
    steps = derive.optimizer_steps(pairs, batch, values.get("accumulation", 1), training.epochs)
    return values | {
        "steps": steps,
        "warmup_steps": derive.warmup_steps(steps),
        "learning_rate": derive.learning_rate(role.trainable) if rate is None else rate,
        "weight_decay": derive.weight_decay(pairs),
        "clip_norm": derive.clip_norm(role.trainable),
        "lora_rank": role.rank,
        "lora_alpha": derive.lora_alpha(role.rank),
        "lora_dropout": role.dropout,
        "trainable_parameters": role.trainable,
    }


def micro_batch_size(training: TrainingParams, batch: int, whole: int) -> int:
    """Pairs that one process computes at once, of a ``batch`` and a ``whole`` step (models.training.batch_parts)."""
    largest = batch if training.micro_batch_size is None else min(training.micro_batch_size, batch)
    return max(part for part in range(1, largest + 1) if whole % part == 0)


def _resident(setting: Setting, roles: tuple[Role, ...], policies: int = 0) -> dict[str, float]:
    """The bases of ``roles``, every reward model's adapter, and so many of the policy."""
    adapters = len(setting.params.ensemble_members) * setting.reward.adapter_bytes
    adapters += policies * setting.policy.adapter_bytes
    return {"weights": sum(role.weight_bytes for role in roles), "adapters": adapters}
