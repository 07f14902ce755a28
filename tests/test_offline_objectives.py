"""Offline objectives: each is judged by the loss that TRL trains, and a file more is an objective more."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pessimism.checks import preflight
from pessimism.errors import DataError, ParamsError
from pessimism.experiment import extensions
from pessimism.experiment.params import Params, load_params
from pessimism.models.adapters import trainable_parameters
from pessimism.models.pair_trainer import PairTrainer
from pessimism.offline import objectives
from pessimism.offline.first_loss import first_loss_tolerance
from pessimism.offline.objective import OBJECTIVES, OfflineObjective, PairScores, find_objective
from pessimism.offline.reference import pair_logps
from pessimism.offline.training import ReferencedPairs
from support.pair_training import BETA, policy_trainer, referenced, train_policy, with_dpo
from support.repository import CHECKOUT, Edit

FOLDER = CHECKOUT / "tests/support/objectives"
OURS = extensions.names(OBJECTIVES)
EVERY_PAIR_ALIKE = [*OURS, "ipo", "simpo"]  # the batch's loss is the mean over its pairs, not over its tokens
ADDED = ["ipo", "likelihood", "simpo"]
PAIRS = 8


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files of FOLDER as if they lay beside dpo.py."""
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(FOLDER)])
    yield
    for name in ADDED:
        sys.modules.pop(f"{OBJECTIVES}.{name}", None)


def with_objective(params: Params, name: str) -> Params:
    return dataclasses.replace(params, offline=dataclasses.replace(params.offline, objective=name))


def strength_of(objective: OfflineObjective) -> float | None:
    return None if objective.strength is None else BETA


def first_pairs(params: Params, objective: OfflineObjective) -> ReferencedPairs:
    whole = referenced(params, "train")
    first = ReferencedPairs(whole.pairs[:PAIRS], whole.chosen_logps[:PAIRS], whole.rejected_logps[:PAIRS])
    return first if objective.needs_reference else first.without_reference()


def trained_loss(trainer: PairTrainer) -> float:
    """TRL's loss of the first pairs by weights as in the middle of a training."""
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable_parameters(trainer.model):
        parameter.data.normal_(std=0.2, generator=generator)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(PAIRS)])
    return trainer.compute_loss(trainer.model.train(), batch).item()


@pytest.mark.parametrize("name", EVERY_PAIR_ALIKE)
def test_an_objective_is_judged_by_the_loss_that_trl_trains(referenced_world: Params, added: None, name: str) -> None:
    params = with_objective(referenced_world, name)
    objective = find_objective(params)
    trainer = policy_trainer(params, strength_of(objective))
    found, pairs = trained_loss(trainer), first_pairs(params, objective)
    scores = pairs.scores(*pair_logps(trainer.model.eval(), pairs.pairs, 0, 1000, "pairs"))
    losses = objective.losses(strength_of(objective), scores)
    assert losses.shape == (PAIRS,) and np.ptp(losses) > 1e-3
    assert found == pytest.approx(losses.mean(), abs=1e-5)


@pytest.mark.parametrize("name", [*OURS, *ADDED])
def test_a_training_starts_where_its_objective_does_and_lowers_its_loss(
    referenced_world: Params, added: None, name: str
) -> None:
    params = with_objective(referenced_world, name)
    objective = find_objective(params)
    strength = strength_of(objective)
    _, record = train_policy(params, strength=strength)
    assert (objective.first_loss is not None) == objective.needs_reference
    if objective.first_loss is not None:
        expected = objective.first_loss(strength)
        at_zero = objective.losses(strength, first_pairs(params, objective).unmoved())
        assert at_zero == pytest.approx(expected)
        assert record["losses"][0] == pytest.approx(expected, abs=1e-4)
    assert record["losses"][-1] < record["losses"][0]
    assert record["hyperparameters"]["beta"] == strength
    assert all(math.isfinite(value) for value in record["validation"].values())


def test_a_wrong_first_loss_stops_the_training(
    referenced_world: Params, added: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = with_objective(referenced_world, "ipo")
    right = find_objective(params)
    wrong = dataclasses.replace(right, first_loss=lambda tau: 1 / (2 * tau**2))
    monkeypatch.setattr(f"{OBJECTIVES}.ipo.OBJECTIVE", wrong)
    with pytest.raises(DataError, match="the first loss is 0.5102.*; expected 1.0204"):
        train_policy(params)


@pytest.mark.parametrize("name", ["dpo", "simpo"])
def test_without_a_reference_scores_are_log_probabilities(
    referenced_world: Params, added: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of a policy that does not move: the base's, which the reference table holds."""
    params = with_dpo(with_objective(referenced_world, name), learning_rate=1e-12)
    objective = dataclasses.replace(find_objective(params), needs_reference=False, first_loss=None)
    monkeypatch.setattr(f"{OBJECTIVES}.{name}.OBJECTIVE", objective)
    _, record = train_policy(params)
    for split, found in {"train": np.mean(record["losses"]), "val": record["validation"]["loss"]}.items():
        pairs = referenced(params, split)
        scores = pairs.without_reference().scores(pairs.chosen_logps, pairs.rejected_logps)
        assert found == pytest.approx(objective.losses(BETA, scores).mean(), rel=1e-4)


def test_margins_by_hand() -> None:
    scores = PairScores(*(np.array(values, np.float32) for values in ([3.0, -2.0], [1.0, 2.0], [3, 4], [2, 1])))
    assert scores.margins().tolist() == [2.0, -4.0]
    assert scores.token_margins() == pytest.approx([1 - 0.5, -0.5 - 2])
    assert scores.with_chosen(0.5).margins().tolist() == [2.5, -3.5]


def test_rounding_allowed_for_follows_the_slope_of_the_loss(referenced_world: Params, added: None) -> None:
    """IPO divides by the tokens of a response: noise of a whole log-ratio shifts its loss by so much less."""
    params = with_objective(referenced_world, "ipo")
    start, policy = referenced(params, "train").unmoved(), params.scale.policy
    slope = (1 / (BETA * start.chosen_tokens)).mean()
    expected = 0.003**2 * (start.chosen_tokens**-2.0).mean() + 2 * 2 * slope * 0.003 / math.sqrt(100)
    assert first_loss_tolerance(find_objective(params), BETA, policy, start, 100) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "strength", "message"),
    [
        ("dpo", None, "offline.objective: found a cell of strength None; expected beta: how much of a margin"),
        ("likelihood", 0.7, "found a cell of strength 0.7; expected no strength, which this objective does not have"),
    ],
)
def test_a_strength_for_nothing_and_a_missing_one_are_refused(
    referenced_world: Params, added: None, name: str, strength: float | None, message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        train_policy(with_objective(referenced_world, name), strength=strength)


def test_an_objective_without_a_file_is_refused_before_the_run(project: object, edit: Edit) -> None:
    edit("params.yaml", "offline.objective", "ipo")
    message = r"params.yaml: offline.objective: found 'ipo'; expected one of \['dpo'.*\], or a new file .*/ipo.py"
    with pytest.raises(ParamsError, match=message):
        preflight.check(load_params())


@pytest.mark.parametrize("name", OURS)
def test_an_objective_says_in_words_what_it_is(name: str) -> None:
    objective = extensions.find(OBJECTIVES, name, OfflineObjective, "")
    assert objective.strength is None or ": " in objective.strength
    assert sys.modules[f"{OBJECTIVES}.{name}"].__doc__
