"""Offline objectives: each is judged by the loss that TRL trains, and a file more is an objective more."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from pessimism.checks import preflight
from pessimism.data.prompts import EncodedPair
from pessimism.errors import DataError, ParamsError
from pessimism.experiment import extensions
from pessimism.experiment.params import Params, load_params
from pessimism.models.adapters import active_adapter, trainable_parameters, use_adapter
from pessimism.models.pair_trainer import PairTrainer
from pessimism.offline import objectives
from pessimism.offline.first_loss import first_loss_tolerance
from pessimism.offline.objective import OBJECTIVES, OfflineObjective, PairScores, find_objective
from pessimism.offline.objectives.kto import mismatched
from pessimism.offline.reference import pair_logps
from pessimism.offline.training import ReferencedPairs
from support.pair_training import BETA, policy_trainer, referenced, train_policy, with_dpo
from support.repository import CHECKOUT, Edit

FOLDER = CHECKOUT / "tests/support/objectives"
OURS = extensions.names(OBJECTIVES)
ADAPTIVE = "epsilon_dpo"  # its beta, and with it its loss, depends on more than a pair's log-ratios
EVERY_PAIR_ALIKE = [name for name in OURS if name not in (ADAPTIVE, "kto")]
ADDED = ["likelihood"]
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


def move(trainer: PairTrainer, seed: int = 5) -> None:
    """Weights as in the middle of a training."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable_parameters(trainer.model):
        parameter.data.normal_(std=0.2, generator=generator)


def first_batch(trainer: PairTrainer) -> dict[str, torch.Tensor]:
    return trainer.data_collator([trainer.train_dataset[row] for row in range(PAIRS)])


def trained_loss(trainer: PairTrainer, seed: int = 5) -> float:
    """TRL's loss of the first pairs by weights as in the middle of a training."""
    move(trainer, seed)
    return trainer.compute_loss(trainer.model.train(), first_batch(trainer)).item()


def log_ratios(trainer: PairTrainer, pairs: list[EncodedPair]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of chosen and of rejected responses, float64 nats, from whole logits of one text at a time."""
    model = trainer.model.eval()
    found = []
    for name in ("chosen_ids", "rejected_ids"):
        sums = []
        for adapter in (active_adapter(model), None):
            with use_adapter(model, adapter):
                sums.append([text_logp(model, pair.prompt_ids, getattr(pair, name)) for pair in pairs])
        found.append(np.array(sums[0]) - np.array(sums[1]))
    return found[0], found[1]


@torch.no_grad()
def text_logits(model: PeftModel, prompt: list[int], response: list[int]) -> torch.Tensor:
    """(T, V) float64 logits that predict the response's tokens."""
    logits_T_V = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].double()
    return logits_T_V[len(prompt) - 1 : -1]


def text_logp(model: PeftModel, prompt: list[int], response: list[int]) -> float:
    logps_T_V = text_logits(model, prompt, response).log_softmax(dim=-1)
    return logps_T_V[range(len(response)), response].sum().item()


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


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


@pytest.mark.parametrize(("seed", "diverges"), [(2, True), (5, False)])
def test_kto_judges_each_text_against_the_divergence_of_mismatched_ones(
    referenced_world: Params, seed: int, diverges: bool
) -> None:
    """Eq. 7 by hand, by float64; the validation loss is the same function of its own reference point."""
    params = with_objective(referenced_world, "kto")
    objective, trainer = find_objective(params), policy_trainer(params)
    found, everything = trained_loss(trainer, seed), referenced(params, "train").pairs
    others = [
        EncodedPair(pair.prompt_ids, other.chosen_ids, other.rejected_ids)
        for pair, other in zip(everything, [everything[-1], *everything], strict=False)
    ]
    divergence = max(0, np.concatenate(log_ratios(trainer, others[:PAIRS])).mean())
    assert (divergence > 0.01) == diverges
    chosen, rejected = log_ratios(trainer, everything[:PAIRS])
    texts = [1 - sigmoid(BETA * (chosen - divergence)), 1 - sigmoid(BETA * (divergence - rejected))]
    assert found == pytest.approx(np.mean(texts), abs=1e-5)
    scores = first_pairs(params, objective).scores(*pair_logps(trainer.model, everything[:PAIRS], 0, 1000, "pairs"))
    scores = dataclasses.replace(scores, reference_point=divergence)
    assert objective.losses(BETA, scores) == pytest.approx(np.mean(texts, axis=0), abs=1e-5)
    assert objective.reference_point is not None
    whole = max(0, np.concatenate(log_ratios(trainer, others)).mean())
    assert objective.reference_point(trainer.model, everything, 0, 1000) == pytest.approx(whole, abs=1e-5)


def test_a_mismatched_text_is_no_longer_than_the_pairs_are() -> None:
    pairs = [EncodedPair([1] * 3, [2] * 2, [3]), EncodedPair([4], [5] * 4, [6] * 3)]
    assert mismatched(pairs) == [EncodedPair([1] * 3, [5] * 2, [6] * 2), EncodedPair([4], [2] * 2, [3])]


def test_a_response_that_is_certain_has_finite_odds(referenced_world: Params) -> None:
    scores = PairScores(np.array([0.0, -1.0]), np.array([-1.0, 0.0]), np.array([1, 1]), np.array([1, 1]))
    losses = find_objective(with_objective(referenced_world, "orpo")).losses(1.0, scores)
    assert np.isfinite(losses).all() and losses[0] < losses[1]
    trainer = policy_trainer(with_objective(referenced_world, "orpo"), 1.0)
    means_P = [torch.tensor(values, requires_grad=True) for values in ([0.0, -1.0], [-1.0, 0.0])]
    ratios_P = trainer.odds_ratio_loss(*means_P)[0]
    ratios_P.sum().backward()
    assert all(mean_P.grad is not None and mean_P.grad.isfinite().all() for mean_P in means_P)
    np.testing.assert_allclose(-ratios_P.detach().numpy() - scores.token_means()[0], losses, rtol=1e-5)


def test_kto_is_refused_where_a_pass_has_one_pair(referenced_world: Params) -> None:
    with pytest.raises(ParamsError, match="dpo.micro_batch_size: found 1 pair per forward pass; expected 2 or more"):
        policy_trainer(with_dpo(with_objective(referenced_world, "kto"), micro_batch_size=1))


def test_epsilon_dpo_relaxes_beta_by_the_sign_of_the_perturbation(referenced_world: Params) -> None:
    """Per pair and by hand, from whole logits in float64; the next step's beta follows the mean sign."""
    params = with_objective(referenced_world, ADAPTIVE)
    trainer = policy_trainer(params)
    found, pairs = trained_loss(trainer), referenced(params, "train").pairs[:PAIRS]
    epsilon = sys.modules[f"{OBJECTIVES}.{ADAPTIVE}"].EPSILON
    model = trainer.model.eval()
    ratios = np.zeros((3, PAIRS))
    for sign, name in ((1, "chosen_ids"), (-1, "rejected_ids")):
        for row, pair in enumerate(pairs):
            texts = pair.prompt_ids, getattr(pair, name)
            policy = text_logits(model, *texts)
            with use_adapter(model, None):
                base = text_logits(model, *texts)
            for way, share in enumerate((1 + epsilon, 1, 1 - epsilon)):
                logps = ((1 - share) * base + share * policy).log_softmax(dim=-1)
                ratios[way, row] += sign * logps[range(len(texts[1])), texts[1]].sum().item()
    steps = np.diff(ratios, axis=0)
    signs = (steps < 0).all(axis=0).astype(float) - (steps > 0).all(axis=0)
    assert {-1, 1} <= set(signs)
    chosen, rejected = log_ratios(trainer, pairs)
    losses = np.logaddexp(0, -BETA / (1 + epsilon * signs) * (chosen - rejected))
    assert found == pytest.approx(losses.mean(), abs=1e-5)
    plain = np.logaddexp(0, -BETA * (chosen - rejected)).mean()
    assert abs(found - plain) > 1e-4
    assert trainer.beta == BETA
    trainer.get_batch_samples(iter([]), 0, torch.device("cpu"))
    assert trainer.beta == pytest.approx(BETA / (1 + epsilon * signs.mean()))


EXPERIMENTAL = {
    "simpo": ("concatenated_forward", "tokenize_row", "cpo_loss", "get_batch_loss_metrics"),
    "orpo": ("concatenated_forward", "tokenize_row", "odds_ratio_loss", "get_batch_loss_metrics"),
}
"""What is replaced of TRL's experimental trainers, and what of theirs is used."""


@pytest.mark.parametrize(("name", "methods"), EXPERIMENTAL.items())
def test_what_is_used_of_an_experimental_trainer_is_there(name: str, methods: tuple[str, ...]) -> None:
    """These may change with any release of TRL: the message says which did."""
    try:
        objective = extensions.find(OBJECTIVES, name, OfflineObjective, "")
    except ImportError as error:
        pytest.fail(f"TRL {version('trl')} moved what {name} imports: {error}")
    assert objective.trainer is not None
    theirs = next(base for base in objective.trainer.__mro__ if base.__module__.startswith("trl.experimental"))
    expected = {
        "concatenated_forward": ["self", "model", "batch"],
        "tokenize_row": ["self", "feature", "model"],
        "cpo_loss": ["self", "policy_chosen_logps", "policy_rejected_logps"],
        "odds_ratio_loss": ["self", "policy_chosen_logps", "policy_rejected_logps"],
        "get_batch_loss_metrics": ["self", "model", "batch", "train_eval"],
    }
    found = {method: list(inspect.signature(getattr(theirs, method)).parameters) for method in methods}
    assert found == {method: expected[method] for method in methods}, f"TRL {version('trl')}, {theirs.__name__}"


@pytest.mark.parametrize("name", EXPERIMENTAL)
def test_mean_log_probabilities_are_those_that_trl_computes(referenced_world: Params, name: str) -> None:
    trainer = policy_trainer(with_objective(referenced_world, name))
    move(trainer)
    batch = first_batch(trainer)
    found = trainer.concatenated_forward(trainer.model.eval(), batch)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    theirs: Any = next(base for base in type(trainer).__mro__ if base.__module__.startswith("trl.experimental"))
    trainer.concatenated_inputs = lambda *_, **__: {
        "concatenated_labels": labels,
        **{f"concatenated_{key}": batch[key] for key in ("input_ids", "attention_mask")},
    }
    expected = theirs.concatenated_forward(trainer, trainer.model, batch | {"chosen_labels": labels[:PAIRS]})
    for ours, trls in zip(found[:2], expected[:2], strict=True):
        assert torch.allclose(ours, trls, atol=1e-5)


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
    assert (record.get("final_beta", strength) != strength) == (name == ADAPTIVE)
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
    chosen, rejected = (np.array(values, np.float32) for values in ([3.0, -2.0], [1.0, 2.0]))
    scores = PairScores(chosen, rejected, chosen_tokens=np.array([3, 4]), rejected_tokens=np.array([2, 1]))
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
    edit("params.yaml", "offline.objective", "ppo")
    message = r"params.yaml: offline.objective: found 'ppo'; expected one of \['dpo'.*\], or a new file .*/ppo.py"
    with pytest.raises(ParamsError, match=message):
        preflight.check(load_params())


@pytest.mark.parametrize("name", OURS)
def test_an_objective_says_in_words_what_it_is(name: str) -> None:
    objective = extensions.find(OBJECTIVES, name, OfflineObjective, "")
    assert objective.strength is None or ": " in objective.strength
    assert sys.modules[f"{OBJECTIVES}.{name}"].__doc__
