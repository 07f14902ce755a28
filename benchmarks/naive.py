"""Peer N: the naive loop that docs/paper_map.md tells of, written from that description.

Every batch is padded to its longest text, logits are computed at every position and normalised at once, policy and
reference are two copies of the base, the reference is asked again at every step of every beta, each reward member is a
model of its own, responses are generated four at a time, and their texts are tokenised again for every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.prompts import EncodedPair
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.models.adapters import lora_config, trainable_parameters
from pessimism.models.loading import load_policy_base, load_reward_base
from pessimism.online.terms import kl_coefficient, normalized_advantages, online_loss

GENERATED_TOGETHER = 4


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids and mask, padded on the right to the longest row."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in rows])
    return ids.to(device), mask.to(device)


def full_logps(model: torch.nn.Module, ids_B_T: torch.Tensor, mask_B_T: torch.Tensor) -> torch.Tensor:
    """(B, T-1) log-probabilities of every token after the first, padding included."""
    logps_B_T_V = model(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).logits.float().log_softmax(dim=-1)
    return logps_B_T_V[:, :-1].gather(-1, ids_B_T[:, 1:, None]).squeeze(-1)


def full_entropy(model: torch.nn.Module, ids_B_T: torch.Tensor, mask_B_T: torch.Tensor) -> torch.Tensor:
    """(B, T) entropy of the next-token distribution at every position."""
    logps_B_T_V = model(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).logits.float().log_softmax(dim=-1)
    return -(logps_B_T_V.exp() * logps_B_T_V).sum(dim=-1)


def pair_sums(
    model: torch.nn.Module, pairs: Sequence[EncodedPair], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) summed log-probabilities of the chosen and of the rejected responses."""
    rows = [pair.prompt_ids + pair.chosen_ids for pair in pairs] + [
        pair.prompt_ids + pair.rejected_ids for pair in pairs
    ]
    ids, mask = padded(rows, pad, device)
    answered = mask.clone()
    for row, pair in zip(answered, [*pairs, *pairs], strict=True):
        row[: len(pair.prompt_ids)] = 0
    sums = (full_logps(model, ids, mask) * answered[:, 1:]).sum(dim=1)
    return sums[: len(pairs)], sums[len(pairs) :]


def train_dpo(params: Params, beta: float, pairs: Sequence[EncodedPair], pad: int) -> PeftModel:
    """One epoch of DPO on two copies of the base."""
    base, reference = load_policy_base(params), load_policy_base(params)
    lora = lora_config(params.scale.policy, base.config.hidden_size, len(pairs), "CAUSAL_LM")
    policy = get_peft_model(base, lora).train()
    dpo = params.scale.dpo
    assert dpo.learning_rate and dpo.batch_size and dpo.accumulation
    optimizer = torch.optim.AdamW(trainable_parameters(policy), lr=dpo.learning_rate)
    size, accumulation = dpo.batch_size, dpo.accumulation
    order = np.random.default_rng(0).permutation(len(pairs))
    batches = [[pairs[row] for row in order[start : start + size]] for start in range(0, len(pairs), size)]
    for number, batch in enumerate(batches, 1):
        chosen, rejected = pair_sums(policy, batch, pad, base.device)
        with torch.no_grad():
            reference_chosen, reference_rejected = pair_sums(reference, batch, pad, base.device)
        margins = (chosen - reference_chosen) - (rejected - reference_rejected)
        (-F.logsigmoid(beta * margins).mean() / accumulation).backward()
        if number % accumulation == 0 or number == len(batches):
            torch.nn.utils.clip_grad_norm_(trainable_parameters(policy), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return policy


def train_reward(
    params: Params, chosen: Sequence[Sequence[int]], rejected: Sequence[Sequence[int]], pad: int
) -> PeftModel:
    """One epoch of Bradley-Terry training."""
    base = load_reward_base(params)
    lora = lora_config(params.scale.reward, base.config.hidden_size, len(chosen), "SEQ_CLS", ["score"])
    model = get_peft_model(base, lora).train()
    training = params.scale.reward_training
    assert training.learning_rate and training.batch_size
    optimizer = torch.optim.AdamW(trainable_parameters(model), lr=training.learning_rate)
    size = training.batch_size
    order = np.random.default_rng(0).permutation(len(chosen))
    for start in range(0, len(chosen), size):
        rows = order[start : start + size]
        ids, mask = padded([side[row] for side in (chosen, rejected) for row in rows], pad, base.device)
        scores = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0]
        (-F.logsigmoid(scores[: len(rows)] - scores[len(rows) :]).mean()).backward()
        torch.nn.utils.clip_grad_norm_(trainable_parameters(model), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model


@dataclass
class Ensemble:
    """K reward models, each with a base of its own, that score one after the other."""

    models: list[PeftModel]
    tokenizer: PreTrainedTokenizerBase
    longest: int

    @classmethod
    def load(cls, params: Params, tokenizer: PreTrainedTokenizerBase) -> Ensemble:
        members = map(layout.reward_member, params.ensemble(params.seeds[0]))
        models = [PeftModel.from_pretrained(load_reward_base(params), str(path)).eval() for path in members]
        return cls(models, tokenizer, params.scale.lengths.sequence)

    @torch.no_grad()
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """(K, B) scores of texts cut at ``longest`` tokens."""
        scores = []
        for model in self.models:
            texts = [f"{prompt}\n\n{response}" for prompt, response in zip(prompts, responses, strict=True)]
            rows = [ids[: self.longest] for ids in self.tokenizer(texts)["input_ids"]]
            ids, mask = padded(rows, self.tokenizer.pad_token_id, model.device)
            scores.append(model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].float().cpu().numpy())
        return np.stack(scores)


@torch.no_grad()
def generate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    new_tokens: int,
    **sampling: object,
) -> list[str]:
    """Texts of the responses, a few prompts at a time in the given order, padded on the left to the longest of them."""
    texts: list[str] = []
    for start in range(0, len(prompts), GENERATED_TOGETHER):
        batch = list(prompts[start : start + GENERATED_TOGETHER])
        inputs = tokenizer(batch, padding=True, padding_side="left", return_tensors="pt").to(model.device)
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            **sampling,
        )
        texts += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


@dataclass
class OnlineLoop:
    """Policy and reference as two copies of the base, and an ensemble of K."""

    params: Params
    beta: float
    policy: PeftModel
    reference: PeftModel
    tokenizer: PreTrainedTokenizerBase
    ensemble: Ensemble
    optimizer: torch.optim.Optimizer

    @classmethod
    def load(cls, params: Params, checkpoint: str, tokenizer: PreTrainedTokenizerBase, beta: float) -> OnlineLoop:
        policy = PeftModel.from_pretrained(load_policy_base(params), checkpoint, is_trainable=True).eval()
        reference = PeftModel.from_pretrained(load_policy_base(params), checkpoint).eval()
        optimizer = torch.optim.AdamW(trainable_parameters(policy), lr=1e-5)
        return cls(params, beta, policy, reference, tokenizer, Ensemble.load(params, tokenizer), optimizer)

    def sample(self, prompts: Sequence[str]) -> list[str]:
        protocol, length = self.params.protocol, self.params.scale.lengths.response
        sampling = {"do_sample": True, "temperature": protocol.temperature, "top_p": protocol.top_p}
        return generate(self.policy, self.tokenizer, prompts, length, **sampling)

    def step(self, prompts: Sequence[str]) -> float:
        """Sample, score and update once; returns the loss of Eq. 8."""
        return self.update(prompts, self.sample(prompts))

    def update(self, prompts: Sequence[str], responses: Sequence[str]) -> float:
        rewards = torch.tensor(self.ensemble.score(prompts, responses).mean(axis=0))
        advantages = normalized_advantages(rewards).to(self.policy.device)
        prompt_ids = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        rows = [
            self.tokenizer(f"{prompt} {response}")["input_ids"]
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        ids, mask = padded(rows, self.tokenizer.pad_token_id, self.policy.device)
        answered = mask.clone()
        for row, prompt in zip(answered, prompt_ids, strict=True):
            row[: len(prompt)] = 0
        policy = (full_logps(self.policy, ids, mask) * answered[:, 1:]).sum(dim=1)
        with torch.no_grad():
            reference = (full_logps(self.reference, ids, mask) * answered[:, 1:]).sum(dim=1)
        kappa = kl_coefficient(self.beta, policy - reference, self.params.protocol.kl_percentile, 0.0)
        loss = online_loss(policy, reference, advantages, kappa)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable_parameters(self.policy), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)
