"""Are the log-probabilities of responses those of the model?"""

from __future__ import annotations

import copy

import torch
from peft import PeftModel

from pessimism.models.generation import Rollouts
from pessimism.models.logprobs import ResponseBatch, response_logits, response_logps
from pessimism.online.rollout import response_batches
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.instrument import Instrument

RESPONSES = 8
TOLERANCE = 1e-4  # nats per token


def check_response_logps(instrument: Instrument) -> Finding:
    """Log-probs of a padded batch, as the loop takes them, against the same model in float64, row by row, unpadded.

    In float64 are all weights and products; the norms and rotary angles of transformers stay in float32. A bfloat16 or
    quantised model has no float64 twin whose difference were rounding alone: there the softmax of the same logits is
    taken in float64, which tries the softmax and the choice of tokens but not the padding.
    """
    rollouts, chosen = instrument.base.rollouts, instrument.params.scale.policy
    model, rows = instrument.model, range(min(RESPONSES, len(rollouts.response_ids)))
    batch = next(response_batches(rollouts, rollouts.response_ids, rows, instrument.tokenizer, model.device, RESPONSES))
    whole = chosen.dtype == "float32" and chosen.quantization == "none"
    with torch.no_grad():
        measured = response_logps(model, batch)
        exact_B_R = _float64_logps(model, rollouts, batch) if whole else _float64_softmax(model, batch)
    errors_B_R = ((measured.logps_B_R - exact_B_R) * batch.response_mask).abs()
    return Finding(
        figure=f"largest error {float(errors_B_R.max()):.1e} nats per token of {int(batch.response_mask.sum())}",
        criterion=f"at most {TOLERANCE:g} from " + ("the model in float64" if whole else "the softmax in float64"),
        passed=float(errors_B_R.max()) <= TOLERANCE,
    )


def _float64_logps(model: PeftModel, rollouts: Rollouts, batch: ResponseBatch) -> torch.Tensor:
    """(B, R) float64 log-probs of the responses in ``batch``, each computed alone; 0 after its end."""
    exact = copy.deepcopy(model).double()
    logps_B_R = torch.zeros(batch.response_mask.shape, dtype=torch.float64, device=model.device)
    for row in range(len(logps_B_R)):
        prompt, response = rollouts.prompt_ids[row], rollouts.response_ids[row]
        logits_T_V = exact(input_ids=torch.tensor([prompt + response], device=model.device), use_cache=False).logits[0]
        logps_R_V = logits_T_V[len(prompt) - 1 : -1].log_softmax(dim=-1)
        targets_R_1 = torch.tensor(response, device=model.device).unsqueeze(-1)
        logps_B_R[row, : len(response)] = logps_R_V.gather(-1, targets_R_1).squeeze(-1)
    return logps_B_R


def _float64_softmax(model: PeftModel, batch: ResponseBatch) -> torch.Tensor:
    """(B, R) log-probs whose softmax is taken in float64, of the logits that the loop takes it of."""
    logps_B_R_V = response_logits(model, batch).double().log_softmax(dim=-1)
    targets_B_R_1 = batch.input_ids[:, -batch.response_mask.shape[1] :].unsqueeze(-1)
    return logps_B_R_V.gather(-1, targets_B_R_1).squeeze(-1)
