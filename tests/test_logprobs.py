"""Chunked log-probabilities against the plain softmax of all logits, and what they leave out of memory."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Gemma2Config, PreTrainedModel, Qwen3Config

from pessimism.errors import DataError, SourceError
from pessimism.models.compute import logprobs
from pessimism.models.compute.batching import token_batches
from pessimism.models.compute.logprobs import pad_pairs, response_logps
from pessimism.models.resolving import check_head
from pessimism.offline.reference import sequence_logps
from pessimism.probes.parts.distributions import batch_entropy_and_kl

VOCABULARY = 5 * logprobs.CHUNK + 7  # the last tile is narrower
PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12]]
RESPONSES = [[13, 14], [15, 3000, 17, 18], [VOCABULARY - 1]]


@pytest.fixture(params=["plain", "biased head", "soft cap"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    capped = request.param == "soft cap"
    make, changes = (Gemma2Config, {"final_logit_softcapping": 2.0}) if capped else (Qwen3Config, {})
    config = make(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=False,
        initializer_range=0.3,
        **changes,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    if request.param == "biased head":
        model.lm_head.bias = torch.nn.Parameter(torch.randn(VOCABULARY))
    return model


def plain(model: PreTrainedModel, batch: logprobs.ResponseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition: (B, T) log-probabilities and entropies from the logits of every position."""
    logits = model(input_ids=batch.input_ids, attention_mask=(batch.input_ids != 0).long()).logits
    logps_B_T_V = logits[:, :-1].log_softmax(dim=-1)
    logps = logps_B_T_V.gather(-1, batch.input_ids[:, 1:, None])[..., 0]
    entropy = -(logps_B_T_V.exp() * logps_B_T_V).sum(dim=-1)
    after_first = batch.scored_B_T[:, 1:]
    return tuple(torch.nn.functional.pad(values * after_first, (1, 0)) for values in (logps, entropy))


def test_log_probs_entropy_and_gradients_are_those_of_the_plain_softmax(model: PreTrainedModel) -> None:
    batch = pad_pairs(PROMPTS, RESPONSES, 0, torch.device("cpu"))
    expected, entropy = plain(model, batch)
    weights = torch.randn(len(PROMPTS), generator=torch.Generator().manual_seed(1))
    (expected.sum(dim=1) * weights).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    found = response_logps(model, batch)
    (found.sums * weights).sum().backward()
    assert torch.allclose(found.logps_B_T, expected, atol=1e-5)
    assert torch.allclose(found.entropy_B_T, entropy, atol=1e-5) and not found.entropy_B_T.requires_grad
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], atol=1e-4), name


@pytest.mark.parametrize(("column", "dtype", "tolerance"), [(0, torch.float32, 1e-6), (1, torch.bfloat16, 0.01)])
def test_sums_in_either_dtype_are_those_of_the_models_own_logits(
    model: PreTrainedModel, column: int, dtype: torch.dtype, tolerance: float
) -> None:
    sequences = [prompt + response for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    contexts = [len(prompt) for prompt in PROMPTS]
    dtypes = (torch.float32, torch.bfloat16)
    found = sequence_logps(model, sequences, contexts, 0, 100, "test", dtypes)[:, column]
    for row, (ids, context) in enumerate(zip(sequences, contexts, strict=True)):
        logits = model(input_ids=torch.tensor([ids])).logits[0, context - 1 : -1]
        logps = logits.to(dtype).log_softmax(dim=-1).gather(-1, torch.tensor(ids[context:])[:, None])
        assert found[row] == pytest.approx(logps.sum().item(), rel=tolerance)


def test_a_prompt_without_a_token_is_refused() -> None:
    with pytest.raises(DataError, match=r"found no prompt token in rows \[1\]"):
        pad_pairs([[5], [], [6]], [[7], [8], [9]], 0, torch.device("cpu"))


class Tensors(TorchDispatchMode):
    """Shapes of all tensors that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.shapes += [leaf.shape for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return result


def test_the_head_reads_scored_positions_only_and_no_row_of_logits_is_whole(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    score = logprobs.score_positions

    def counted(model: PreTrainedModel, hidden_N_H: torch.Tensor, *rest: Any) -> Any:
        rows.append(len(hidden_N_H))
        return score(model, hidden_N_H, *rest)

    monkeypatch.setattr(logprobs, "score_positions", counted)
    weights = {parameter.shape for parameter in model.parameters()} | {model.lm_head.weight.T.shape}
    with Tensors() as tensors:
        response_logps(model, pad_pairs(PROMPTS, RESPONSES, 0, torch.device("cpu"))).sums.sum().backward()
    assert rows == [sum(map(len, RESPONSES))]
    wide = {shape for shape in tensors.shapes if shape and shape[-1] > logprobs.CHUNK} - weights
    assert not wide


def test_entropy_and_divergence_are_those_of_the_whole_distributions(tmp_path: Any, model: PreTrainedModel) -> None:
    from peft import LoraConfig, get_peft_model

    base_logits = plain_distribution(model)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()
    policy = plain_distribution(adapted)
    batch = pad_pairs(PROMPTS, RESPONSES, 0, torch.device("cpu"))
    entropy_B, kl_B = batch_entropy_and_kl(adapted, batch)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        where = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        p, q = policy[row][where], base_logits[row][where]
        assert float(entropy_B[row]) == pytest.approx(float(-(p.exp() * p).sum(dim=-1).mean()), abs=1e-4)
        assert float(kl_B[row]) == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)
        assert kl_B[row] > 0.01


def plain_distribution(model: torch.nn.Module) -> list[torch.Tensor]:
    """(T, V) log-probabilities of each row alone."""
    with torch.no_grad():
        return [
            model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(dim=-1)
            for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
        ]


def test_a_head_that_scales_its_logits_is_refused(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    check_head(model)
    forward = model.forward

    def scaled(*args: Any, **given: Any) -> Any:
        output = forward(*args, **given)
        output.logits = output.logits / 4
        return output

    monkeypatch.setattr(model, "forward", scaled)
    with pytest.raises(SourceError, match="differ by .* nats from its own forward's"):
        check_head(model)


def test_token_batches_hold_every_row_once_within_the_budget_and_neighbours_by_length() -> None:
    lengths = [3, 17, 5, 5, 30, 1, 8, 8, 8, 2]
    batches = token_batches(lengths, 24)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= 24
    assert [lengths[row] for batch in batches for row in batch] == sorted(lengths, reverse=True)
    assert batches[0] == [4]  # longer than the budget, alone
