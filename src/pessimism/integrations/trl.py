"""A reward ensemble, and a watch over reward hacking, for TRL's GRPOTrainer and RLOOTrainer::

    config = GRPOConfig(reward_weights=[1.0, 0.0], eval_strategy="steps", eval_steps=10, eval_on_start=True)
    ensemble = EnsembleReward(["rewards/0", "rewards/1", "rewards/2"], aggregation="min")
    trainer = GRPOTrainer(model, [ensemble, accuracy], config, train_dataset=problems, eval_dataset=heldout)
    GoodhartMonitor(trainer, proxy=ensemble, true=accuracy, at_onset="stop")
    trainer.train()

``accuracy`` is a reward function of the user's. Its weight is 0, so that it is logged and not trained on.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_type_hints

import numpy as np
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState
from trl.data_utils import apply_chat_template
from trl.trainer.utils import get_callable_name

from pessimism.errors import DataError, ParamsError
from pessimism.experiment.protocol import Aggregation
from pessimism.integrations.members import load_members
from pessimism.measures.detectors import MONITOR
from pessimism.measures.goodhart import controlled_gap, hacking_onset, signed_augc
from pessimism.reward.aggregation import aggregate, disagreement

logger = logging.getLogger(__name__)

Turns = str | list[dict[str, Any]]
"""A text, or messages of a conversation: TRL gives its reward functions either."""


class EnsembleReward:
    """Several reward models as one reward function of TRL; higher = the members together prefer the completion more.

    The trainer logs the members' mean scores and their disagreement (standard deviation over members, ddof 1, mean over
    completions) as ``ensemble/...``; its table of completions gets every member's score as a column. The members lie on
    the device of this process, which TRL's configuration sets where there are several: make that first.

    Args:
        members: directories or hub ids of reward models with one score: whole models, or LoRA adapters of one base.
        base: directory or hub id of the base of adapters; None: the members are whole models.
        aggregation: of the members' scores: ``mean``, ``min``, ``uwo``, ``lcb`` or ``log_mean_exp``
            (:func:`pessimism.reward.aggregation.aggregate`).
        weight: of the last three, at least 0; higher = disagreement costs more.
        standardized_on: pairs of prompt and completion. Scores then count in each member's standard deviations over
            them, around its mean there; None: raw scores, whose zeros and units differ between members.
        read: prompt, completion -> the text that members read. None: a conversation by the member's chat template, or
            prompt and completion joined, as TRL has its own reward models read.
        batch_size: texts of a forward pass.

    Raises:
        ParamsError: there are fewer than two members, no such aggregation, or one without the weight that it takes.
        SourceError: a member gives another number of scores than one, or an adapter is not of a reward model.
        DataError: a member gives every text of ``standardized_on`` the same score.
    """

    def __init__(
        self,
        members: Sequence[str | Path],
        base: str | Path | None = None,
        aggregation: str = "mean",
        weight: float | None = None,
        standardized_on: Sequence[tuple[Turns, Turns]] | None = None,
        read: Callable[[Turns, Turns], str] | None = None,
        batch_size: int = 16,
    ) -> None:
        if len(members) < 2:
            raise ParamsError(f"found {len(members)} member(s) of an ensemble; expected 2 or more: give further models")
        self.aggregation, self.read, self.batch_size = _aggregation(aggregation, weight), read, batch_size
        self.device = PartialState().device
        self.members = load_members(list(map(str, members)), base, self.device)
        self._statistics: tuple[np.ndarray, np.ndarray] | None = None
        if standardized_on is not None:
            self._statistics = _statistics(self.score(*zip(*standardized_on, strict=True)))

    def __call__(
        self,
        prompts: Sequence[Turns],
        completions: Sequence[Turns],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[float]], None] | None = None,
        **_: Any,
    ) -> list[float]:
        """The reward of each completion; TRL gives both ``log_...`` and more."""
        scores_K_B = self.score(prompts, completions)
        for k, scores_B in enumerate(scores_K_B):
            if log_metric:
                log_metric(f"ensemble/member_{k}", float(scores_B.mean()))
            if log_extra:
                log_extra(f"member_{k}", scores_B.tolist())
        if log_metric:
            log_metric("ensemble/disagreement", float(disagreement(scores_K_B).mean()))
        return aggregate(scores_K_B, self.aggregation).tolist()

    def score(self, prompts: Sequence[Turns], completions: Sequence[Turns]) -> np.ndarray:
        """(K, B) float32, every member's score of every completion."""
        pairs = list(zip(prompts, completions, strict=True))
        scores_K_B = np.empty((len(self.members), len(pairs)), dtype=np.float32)
        for k, member in enumerate(self.members):
            read = self.read or functools.partial(_text, member.tokenizer)
            texts = [read(*pair) for pair in pairs]
            for start in range(0, len(texts), self.batch_size):
                rows = slice(start, start + self.batch_size)
                scores_K_B[k, rows] = member.score(texts[rows], self.device)
        if self._statistics is None:
            return scores_K_B
        mean_K_1, sd_K_1 = self._statistics
        return (scores_K_B - mean_K_1) / sd_K_1


def _aggregation(kind: str, weight: float | None) -> Aggregation:
    kinds = get_args(get_type_hints(Aggregation)["kind"])
    if kind not in kinds:
        raise ParamsError(f"found the aggregation {kind!r}; expected one of {list(kinds)}")
    made = Aggregation(cast(Any, kind), weight)
    if made.problems:
        raise ParamsError(f"aggregation: {made.problems[0]}")
    return made


def _statistics(scores_K_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, 1) mean and standard deviation of each member."""
    mean_K_1, sd_K_1 = scores_K_N.mean(axis=1, keepdims=True), scores_K_N.std(axis=1, keepdims=True)
    if not (sd_K_1 > 0).all():
        raise DataError(
            f"found standard deviations of {sd_K_1[:, 0].tolist()} on standardized_on; expected numbers above 0: give "
            "more texts, or members that tell them apart"
        )
    return mean_K_1, sd_K_1


def _text(tokenizer: PreTrainedTokenizerBase, prompt: Turns, completion: Turns) -> str:
    if isinstance(prompt, str) and isinstance(completion, str):
        return prompt + completion
    return str(apply_chat_template({"messages": [*prompt, *completion]}, tokenizer)["text"])


class GoodhartMonitor(TrainerCallback):
    """Watches the gap between the reward that a trainer optimises and the one that it stands for.

    It reads the trainer's evaluations, whose problems are the same every time; training batches are of other problems
    at every step, and too noisy for an alarm. The first evaluation is the baseline: ``eval_on_start=True`` makes it the
    untouched policy's. To the log of each it adds ``eval_goodhart/gap``, ``eval_goodhart/signed_augc`` and, from then
    on, ``eval_goodhart/onset_step``, for every tracker.

    Attributes:
        steps, gaps: of the evaluations so far, the step and the controlled gap, in standard deviations.
        onset_step: first step whose gap is above the threshold; None as long as none is.

    Args:
        trainer: a GRPOTrainer or RLOOTrainer that evaluates, before it trains.
        proxy: the reward function that is trained on, or its name.
        true: the one that it stands for, of weight 0, or its name.
        threshold: controlled gap that counts as hacking, in standard deviations. The default is the one that 0 of 21
            clean runs of the embedded world passed (``docs/detectors.md``); another training may differ.
        at_onset: "warn", or "stop" to end the training too.
        proxy_sd, true_sd: standard deviation of each reward over the untouched policy's responses. None: that of the
            first evaluation in which both rewards vary, where TRL's log has the mean of its batches' own.

    Raises:
        ParamsError: the trainer has no such reward function, does not evaluate, or evaluates on several data sets.
    """

    def __init__(
        self,
        trainer: Trainer,
        proxy: Callable[..., Any] | str,
        true: Callable[..., Any] | str,
        threshold: float = MONITOR.threshold,
        at_onset: Literal["warn", "stop"] = "warn",
        proxy_sd: float | None = None,
        true_sd: float | None = None,
    ) -> None:
        self.proxy, self.true = (_reward_name(trainer, reward) for reward in (proxy, true))
        _require_evaluations(trainer)
        self.threshold, self.at_onset = threshold, at_onset
        self._given_sds = {self.proxy: proxy_sd, self.true: true_sd}
        self._forget()
        # Before the callbacks of trackers, so that they see what is added to a log.
        trainer.callback_handler.callbacks.insert(0, self)

    def _forget(self) -> None:
        self.steps: list[int] = []
        self.gaps: list[float] = []
        self.onset_step: int | None = None
        self._means: dict[str, list[float]] = {self.proxy: [], self.true: []}
        self._sds = dict(self._given_sds)
        self._is_told = False

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin anew with what a resumed run has logged before."""
        self._forget()
        for logs in state.log_history:
            if self._has_rewards(logs):
                self._take(logs, logs["step"])
        self._tell_onset(state, control)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Take the rewards of an evaluation into account; other logs have none."""
        if logs is None or not self._has_rewards(logs):
            return
        added = self._take(logs, state.global_step)
        for shown in (logs, state.log_history[-1]):
            shown |= {f"eval_goodhart/{name}": value for name, value in added.items()}
        self._tell_onset(state, control)

    def _has_rewards(self, logs: Mapping[str, Any]) -> bool:
        return all(logs.get(f"eval_rewards/{name}/mean") is not None for name in self._means)

    def _take(self, logs: Mapping[str, Any], step: int) -> dict[str, float]:
        """What there is to log at this step; a step that is evaluated again takes the place of what it was."""
        if self.steps and step == self.steps[-1]:
            self.steps.pop()
            for means in self._means.values():
                means.pop()
        self.steps.append(step)
        for name, means in self._means.items():
            means.append(float(logs[f"eval_rewards/{name}/mean"]))
        if None in self._sds.values():
            self._sds = self._sds_of(logs)
        proxy_sd, true_sd = self._sds[self.proxy], self._sds[self.true]
        if proxy_sd is None or true_sd is None:
            return {}
        steps_T = np.array(self.steps)
        gap_T = controlled_gap(np.array(self._means[self.proxy]), np.array(self._means[self.true]), proxy_sd, true_sd)
        self.gaps = gap_T.tolist()
        self.onset_step = hacking_onset(steps_T, gap_T, self.threshold)
        added = {"gap": self.gaps[-1], "signed_augc": signed_augc(steps_T, gap_T)}
        return added if self.onset_step is None else added | {"onset_step": self.onset_step}

    def _sds_of(self, logs: Mapping[str, Any]) -> dict[str, float | None]:
        """Those that were given, and those of a log in which both rewards vary; TRL logs None where it knows none."""
        logged = {name: float(logs.get(f"eval_rewards/{name}/std") or 0.0) for name in self._means}
        known = {name: given or logged[name] for name, given in self._given_sds.items()}
        return dict(known) if all(known.values()) else dict(self._given_sds)

    def _tell_onset(self, state: TrainerState, control: TrainerControl) -> None:
        """Say once that the run hacks, and end the training where that is asked for."""
        if self.onset_step is None or self._is_told:
            return
        self._is_told = True
        control.should_training_stop |= self.at_onset == "stop"
        if state.is_world_process_zero:
            gap, ends = self.gaps[self.steps.index(self.onset_step)], "; the training ends here"
            logger.warning(
                f"step {self.onset_step}: {self.proxy} has risen {gap:.2f} sd more than {self.true}, which is above "
                f"{self.threshold:g}: reward hacking{ends if self.at_onset == 'stop' else ''}"
            )


def _reward_name(trainer: Trainer, reward: Callable[..., Any] | str) -> str:
    name = reward if isinstance(reward, str) else get_callable_name(reward)
    if trainer.reward_func_names.count(name) != 1:
        raise ParamsError(
            f"found the reward functions {trainer.reward_func_names}; expected {name!r} once among them: the proxy is "
            "trained on, the true reward has weight 0"
        )
    return name


def _require_evaluations(trainer: Trainer) -> None:
    if trainer.args.eval_strategy == "no":
        raise ParamsError(
            "found a trainer that does not evaluate; expected evaluations on the same problems every time: set "
            "eval_strategy, eval_steps and eval_on_start, and give an eval_dataset"
        )
    if isinstance(trainer.eval_dataset, dict):
        raise ParamsError(
            f"found the evaluation data sets {list(trainer.eval_dataset)}; expected one, for TRL logs the rewards of "
            "all under one name"
        )
