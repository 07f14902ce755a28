"""What an objective of the offline phase declares; each is a file of ``pessimism.offline.objectives``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pessimism.errors import ParamsError
from pessimism.experiment import extensions
from pessimism.experiment.params import Params

if TYPE_CHECKING:
    from peft import PeftModel

    from pessimism.data.prompts import EncodedPair
    from pessimism.models.pair_trainer import PairTrainer

OBJECTIVES = "pessimism.offline.objectives"
PARAMETER = "params.yaml: offline.objective"


@dataclass(frozen=True)
class PairScores:
    """How likely N pairs have become.

    Attributes:
        chosen, rejected: (N,) float32, nats: log-probability of a response, beyond the reference's where there is one.
        chosen_tokens, rejected_tokens: (N,) tokens of the response, at least 1.
        reference_point: what an objective without comparisons judges a text against, nats, at least 0.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    chosen_tokens: np.ndarray
    rejected_tokens: np.ndarray
    reference_point: float = 0.0

    def margins(self) -> np.ndarray:
        """(N,) by how much the chosen response has gained more, nats."""
        return (self.chosen - self.rejected).astype(float)

    def token_margins(self) -> np.ndarray:
        """(N,) the same of the means over each response's tokens, nats per token."""
        chosen, rejected = self.token_means()
        return chosen - rejected

    def token_means(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) means over the tokens of the chosen and of the rejected responses, nats per token."""
        return self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens

    def with_chosen(self, shift: float) -> PairScores:
        """The same with ``shift`` more, nats, for every chosen response."""
        return replace(self, chosen=self.chosen + shift)


@dataclass(frozen=True)
class OfflineObjective:
    """A way to learn from pairs: how TRL trains it, and how it is judged on pairs that it has not seen.

    Functions of the strength get None where the objective has none.

    Attributes:
        strength: what the strength is and which way it pulls, in words; None = the objective has none.
        couples: whether the strength is the price of a nat of divergence from the base, as beta of Eq. 1 is, so that
            arms whose kappa is coupled may take it as their numerator (Eq. 10).
        needs_reference: whether its scores are log-ratios to the base; otherwise they are log-probabilities.
        arguments: strength -> arguments of the trainer's configuration, TRL's loss among them.
        margins: scores -> (N,) what it drives apart: the implicit reward of a pair is the strength times this.
        losses: strength, scores -> (N,) loss of each pair, as trained.
        first_loss: strength -> loss at scores of 0, where a training with a reference starts; None without a reference.
        trainer: None = TRL's DPOTrainer (:class:`pessimism.offline.trainer.ReferencedDpoTrainer`).
        reference_point: trained model, pairs, id of padding, tokens of a pass -> that of :class:`PairScores`; None = 0.
        final_strength: trainer that is done -> the strength of its last step; None = the one it started with.
        further_forwards: passes without a gradient that a training makes over every batch beside its step.
    """

    strength: str | None
    couples: bool
    needs_reference: bool
    arguments: Callable[[Any], dict[str, Any]]
    margins: Callable[[PairScores], np.ndarray]
    losses: Callable[[Any, PairScores], np.ndarray]
    first_loss: Callable[[Any], float] | None
    trainer: type[PairTrainer] | None = None
    reference_point: Callable[[PeftModel, Sequence[EncodedPair], int, int], float] | None = None
    final_strength: Callable[[Any], float] | None = None
    further_forwards: int = 0

    def check_strength(self, strength: float | None) -> None:
        """Compare a cell's strength with what the objective takes.

        Raises:
            ParamsError: it has none and needs one, or has one for nothing.
        """
        if (strength is None) != (self.strength is None):
            expected = "no strength, which this objective does not have" if self.strength is None else self.strength
            raise ParamsError(f"{PARAMETER}: found a cell of strength {strength}; expected {expected}")


def find_objective(params: Params) -> OfflineObjective:
    """The objective that the parameters name.

    Raises:
        ParamsError: there is no file of that name, or it declares no objective.
    """
    return extensions.find(OBJECTIVES, params.offline.objective, OfflineObjective, PARAMETER)
