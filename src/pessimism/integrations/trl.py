"""A reward ensemble, and a watch over reward hacking, for TRL's GRPOTrainer and RLOOTrainer::

    ensemble = EnsembleReward(["rewards/0", "rewards/1", "rewards/2"], aggregation="min")
    config = GRPOConfig(reward_weights=[1.0, 0.0], logging_steps=1)
    trainer = GRPOTrainer(model, [ensemble, accuracy], config, train_dataset=problems)
    GoodhartMonitor(trainer, proxy=ensemble, true=accuracy, at_onset="stop")
    trainer.train()

``accuracy`` is a reward function of the user's. Its weight is 0, so that it is logged and not trained on.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_type_hints

import numpy as np
import torch
from peft import PeftModel
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from trl.data_utils import apply_chat_template
from trl.trainer.utils import get_callable_name

from pessimism.errors import DataError, ParamsError, SourceError
from pessimism.experiment.protocol import Aggregation
from pessimism.measures.goodhart import CONTROLLED_THRESHOLD, controlled_gap, hacking_onset, signed_augc
from pessimism.reward.aggregation import aggregate, disagreement

logger = logging.getLogger(__name__)

Turns = str | list[dict[str, Any]]
"""A text, or messages of a conversation: TRL gives its reward functions either."""
Member = Callable[..., Any]
"""A reward model: takes ``input_ids`` and ``attention_mask``, (B, T) each; ``logits`` of what it gives are (B, 1)."""


class EnsembleReward:
    """Several reward models as one reward function of TRL; higher = the members together prefer the completion more.

    The trainer logs the members' mean scores and their disagreement (standard deviation over members, ddof 1, mean over
    completions) as ``ensemble/...``; its table of completions gets every member's score as a column.

    Args:
        members: directories or hub ids of reward models with one score: whole models, or LoRA adapters of one base.
        base: directory or hub id of the base of adapters; None: the members are whole models.
        aggregation: of the members' scores: ``mean``, ``min``, ``uwo``, ``lcb`` or ``log_mean_exp``
            (:func:`pessimism.reward.aggregation.aggregate`).
        weight: of the last three, at least 0; higher = disagreement costs more.
        standardized_on: pairs of prompt and completion. Scores then count in each member's standard deviations over
            them, around its mean there; None: raw scores, whose zeros and units differ between members.
        read: prompt, completion -> the text that members read, for those that were trained on another format than
            TRL's own: the conversation by the members' chat template, or prompt and completion joined.
        batch_size: texts of a forward pass.

    Raises:
        ParamsError: there are fewer than two members, no such aggregation, or one without the weight that it takes.
        SourceError: a member gives another number of scores than one.
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
        self.aggregation, self.batch_size = _aggregation(aggregation, weight), batch_size
        self.device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(base or members[0])
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.read = read or functools.partial(_text, self.tokenizer)
        names = list(map(str, members))
        self.members = self._adapted(names, str(base)) if base else [self._whole(name) for name in names]
        self._statistics: tuple[np.ndarray, np.ndarray] | None = None
        if standardized_on is not None:
            scores_K_N = self.score(*zip(*standardized_on, strict=True))
            self._statistics = _statistics(scores_K_N)

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
        texts = [self.read(*pair) for pair in zip(prompts, completions, strict=True)]
        scores_K_B = np.empty((len(self.members), len(texts)), dtype=np.float32)
        for start in range(0, len(texts), self.batch_size):
            rows = slice(start, start + self.batch_size)
            inputs = self.tokenizer(
                texts[rows], return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
            ).to(self.device)
            with torch.inference_mode():
                for k, member in enumerate(self.members):
                    scores_K_B[k, rows] = member(**inputs).logits[:, 0].float().cpu().numpy()
        if self._statistics is None:
            return scores_K_B
        mean_K_1, sd_K_1 = self._statistics
        return (scores_K_B - mean_K_1) / sd_K_1

    def _whole(self, name: str) -> Member:
        model = AutoModelForSequenceClassification.from_pretrained(name)
        if model.num_labels != 1:
            raise SourceError(f"{name}: found a model of {model.num_labels} scores; expected a reward model, of one")
        model.config.pad_token_id = self.tokenizer.pad_token_id
        return model.to(self.device).eval()

    def _adapted(self, names: list[str], base: str) -> list[Member]:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        adapted = PeftModel.from_pretrained(model, names[0], adapter_name="0")
        for k, name in enumerate(names[1:], start=1):
            adapted.load_adapter(name, adapter_name=str(k))
        adapted.to(self.device).eval()
        return [functools.partial(_with_adapter, adapted, str(k)) for k in range(len(names))]


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


def _with_adapter(model: PeftModel, name: str, **inputs: torch.Tensor) -> Any:
    model.set_adapter(name, inference_mode=True)
    return model(**inputs)


def _text(tokenizer: PreTrainedTokenizerBase, prompt: Turns, completion: Turns) -> str:
    """What TRL has a reward model read: the conversation by its own template, or prompt and completion joined."""
    if isinstance(prompt, str) and isinstance(completion, str):
        return prompt + completion
    return str(apply_chat_template({"messages": [*prompt, *completion]}, tokenizer)["text"])


class GoodhartMonitor(TrainerCallback):
    """Watches the gap between the reward that a trainer optimises and the one that it stands for.

    It reads the trainer's own logs: of its evaluations where it has some, else of its training batches. There it adds
    ``goodhart/gap``, ``goodhart/signed_augc`` and, from then on, ``goodhart/onset_step``, for every tracker.

    Attributes:
        steps, gaps: what was seen so far: steps and the controlled gap there, in standard deviations of the start.
        onset_step: first step whose gap was above the threshold; None as long as none was.

    Args:
        trainer: a GRPOTrainer or RLOOTrainer, before it trains.
        proxy: the reward function that is trained on, or its name.
        true: the one that it stands for, of weight 0, or its name.
        threshold: controlled gap that counts as hacking, in standard deviations of the first log.
        at_onset: "warn", or "stop" to end the training too.
        true_sd: standard deviation of the true reward; None: that of the first log, which must be above 0.

    Raises:
        ParamsError: the trainer has no such reward function.
    """

    def __init__(
        self,
        trainer: Trainer,
        proxy: Callable[..., Any] | str,
        true: Callable[..., Any] | str,
        threshold: float = CONTROLLED_THRESHOLD,
        at_onset: Literal["warn", "stop"] = "warn",
        true_sd: float | None = None,
    ) -> None:
        self.proxy, self.true = (_reward_name(trainer, reward) for reward in (proxy, true))
        self.threshold, self.at_onset, self.true_sd = threshold, at_onset, true_sd
        self.prefix = "" if trainer.args.eval_strategy == "no" else "eval_"
        self.steps: list[int] = []
        self.gaps: list[float] = []
        self.onset_step: int | None = None
        self._means: dict[str, list[float]] = {self.proxy: [], self.true: []}
        self._sds: dict[str, float] = {}
        # Before the callbacks of trackers, so that they see what is added to a log.
        trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take into account what a resumed run has logged before."""
        for logs in state.log_history:
            if self._has_rewards(logs):
                self._take(logs, logs["step"])

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Take the rewards of a log into account, if it has them."""
        if logs is None or not self._has_rewards(logs):
            return
        added = self._take(logs, state.global_step)
        for shown in (logs, state.log_history[-1]):
            shown |= {f"{self.prefix}goodhart/{name}": value for name, value in added.items()}
        if self.onset_step == state.global_step:
            self._tell(control)

    def _has_rewards(self, logs: dict[str, Any]) -> bool:
        return all(logs.get(f"{self.prefix}rewards/{name}/mean") is not None for name in self._means)

    def _take(self, logs: dict[str, Any], step: int) -> dict[str, float]:
        """What there is to log at this step."""
        if not self._sds:
            self._sds = {name: self._starting_sd(logs, name) for name in self._means}
        for name, means in self._means.items():
            means.append(float(logs[f"{self.prefix}rewards/{name}/mean"]))
        self.steps.append(step)
        proxy_T, true_T = (np.array(self._means[name]) for name in (self.proxy, self.true))
        gap_T = controlled_gap(proxy_T, true_T, self._sds[self.proxy], self._sds[self.true])
        self.gaps = gap_T.tolist()
        self.onset_step = hacking_onset(np.array(self.steps), gap_T, self.threshold)
        added = {"gap": self.gaps[-1], "signed_augc": signed_augc(np.array(self.steps), gap_T)}
        return added if self.onset_step is None else added | {"onset_step": self.onset_step}

    def _tell(self, control: TrainerControl) -> None:
        ends = "; the training ends here" if self.at_onset == "stop" else ""
        logger.warning(
            f"step {self.onset_step}: {self.proxy} has risen {self.gaps[-1]:.2f} sd more than {self.true}, which "
            f"is above {self.threshold:g}: reward hacking{ends}"
        )
        control.should_training_stop |= self.at_onset == "stop"

    def _starting_sd(self, logs: dict[str, Any], name: str) -> float:
        if name == self.true and self.true_sd is not None:
            return self.true_sd
        sd = float(logs[f"{self.prefix}rewards/{name}/std"])
        if not sd > 0:
            raise DataError(
                f"found a standard deviation of {sd:g} of {name} in the first log; expected one above 0, in which its "
                "change counts: give true_sd, or more completions per log"
            )
        return sd


def _reward_name(trainer: Trainer, reward: Callable[..., Any] | str) -> str:
    name = reward if isinstance(reward, str) else get_callable_name(reward)
    if trainer.reward_func_names.count(name) != 1:
        raise ParamsError(
            f"found the reward functions {trainer.reward_func_names}; expected {name!r} once among them: the proxy is "
            "trained on, the true reward has weight 0"
        )
    return name
