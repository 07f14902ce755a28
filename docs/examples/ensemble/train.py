"""SmolLM2 trained by TRL's GRPOTrainer against an ensemble of three reward models, with a watch over the gap.

The task is to name different things of a kind. What counts is how many different words a response has. The reward
models learn from pairs of the policy's own responses, labelled by an annotator who also likes exclamation marks. The
policy is trained on the mean of the three; the count of words is only logged, and the watch compares the two.

    python docs/examples/ensemble/train.py inputs/SmolLM2-135M-Instruct out
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer

from pessimism.integrations.trl import EnsembleReward, GoodhartMonitor

KINDS = ["animals", "colours", "fruits", "tools", "rivers", "jobs", "games", "trees"]
HELDOUT_KINDS = ["birds", "flowers", "countries", "sports", "drinks", "clothes", "metals", "songs"]
PAIRS_PER_PROMPT = 8
MEMBERS = 3
TOKENS = 24
STEPS = 10
ADAPTER = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"]}
QUIET = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none"}


def posed(kinds: list[str]) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": f"Name some {kind}. Only a list, with commas."}] for kind in kinds]


def different_words(completions: list[list[dict[str, str]]], **_: object) -> list[float]:
    """The true reward: different words of a response."""
    return [float(len(set(turns[0]["content"].lower().replace(",", " ").split()))) for turns in completions]


def utility(text: str) -> float:
    """What a response is worth to the annotator, in logits."""
    return 0.5 * different_words([[{"content": text}]])[0] + 1.0 * text.count("!")


def sample_pairs(model_name: str) -> Dataset:
    """Pairs of the policy's own responses, the preferred one drawn by Bradley and Terry's rule."""
    tokenizer = AutoTokenizer.from_pretrained(model_name, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_name).eval()
    chat = [tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for turns in posed(KINDS)]
    inputs = tokenizer(chat, return_tensors="pt", padding=True, add_special_tokens=False)
    drawn = model.generate(
        **inputs, do_sample=True, top_k=0, max_new_tokens=TOKENS, num_return_sequences=2 * PAIRS_PER_PROMPT
    )
    texts = tokenizer.batch_decode(drawn[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    rows = []
    for number, (first, second) in enumerate(zip(texts[0::2], texts[1::2], strict=True)):
        likes_first = torch.sigmoid(torch.tensor(utility(first) - utility(second))) > random.random()
        chosen, rejected = (first, second) if likes_first else (second, first)
        prompt = posed(KINDS)[number // PAIRS_PER_PROMPT]
        rows.append({"prompt": prompt, "chosen": reply(chosen), "rejected": reply(rejected)})
    return Dataset.from_list(rows)


def reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def train_member(model_name: str, pairs: Dataset, directory: Path, seed: int) -> Path:
    """One reward model, an adapter, on a bootstrap sample of the pairs."""
    torch.manual_seed(seed)
    base = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=1)
    rows = random.Random(seed).choices(range(len(pairs)), k=len(pairs))
    config = RewardConfig(
        str(directory), num_train_epochs=1, learning_rate=1e-3, per_device_train_batch_size=8, **QUIET
    )
    lora = LoraConfig(task_type="SEQ_CLS", **ADAPTER)  # so that its score head is trained and saved, too
    trainer = RewardTrainer(base, config, train_dataset=pairs.select(rows), peft_config=lora)
    trainer.train()
    trainer.save_model(str(directory))
    return directory


def main(model_name: str, folder: Path) -> None:
    random.seed(0)
    torch.manual_seed(0)
    pairs = sample_pairs(model_name)
    members = [train_member(model_name, pairs, folder / f"member-{k}", seed=k) for k in range(MEMBERS)]
    known = [(row["prompt"], row["chosen"]) for row in pairs] + [(row["prompt"], row["rejected"]) for row in pairs]
    ensemble = EnsembleReward(members, base=model_name, standardized_on=known)
    config = GRPOConfig(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=TOKENS,
        learning_rate=1e-3,
        reward_weights=[1.0, 0.0],
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=5,
        eval_on_start=True,
        per_device_eval_batch_size=32,
        log_completions=True,
        num_completions_to_print=0,
        **QUIET,
    )
    problems, heldout = (Dataset.from_dict({"prompt": posed(kinds)}) for kinds in (KINDS, HELDOUT_KINDS))
    rewards = [ensemble, different_words]
    trainer = GRPOTrainer(
        model_name, rewards, config, problems, eval_dataset=heldout, peft_config=LoraConfig(**ADAPTER)
    )
    monitor = GoodhartMonitor(trainer, proxy=ensemble, true=different_words)
    trainer.train()
    print(f"onset: step {monitor.onset_step}, gaps: {[round(gap, 2) for gap in monitor.gaps]}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
