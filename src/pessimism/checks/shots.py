"""Whether shots leave room for the problems that they stand before, told before a run where both are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pessimism.data.prompts import online_prompt_ids
from pessimism.experiment.params import Params
from pessimism.models.support import policy_tokenizer
from pessimism.tasks.parts.declaration import SHOTS
from pessimism.tasks.parts.posing import as_shots, posed

LONGEST = 16
"""Problems that are looked at, the longest by their characters: the longest in tokens is one of them or close."""


def check_prompts_fit(params: Params, problems: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Refuse shots that the longest problems' prompts would lose; a stage refuses whatever this does not see.

    Args:
        problems: rows by split, with the shots.

    Raises:
        ParamsError: as :func:`pessimism.data.prompts.online_prompt_ids`.
        SourceError: the tokenizer cannot be read, or its chat template takes no turns of the assistant.
    """
    if params.scale.policy.source == "embedded":  # whose tokenizer is made with it
        return
    tokenizer, shots = policy_tokenizer(params), as_shots(problems[SHOTS], params)
    questions = [row["question"] for split, rows in problems.items() if split != SHOTS for row in rows]
    for prompt in posed(sorted(questions, key=len)[-LONGEST:], params):
        online_prompt_ids(tokenizer, prompt, params.protocol, params.scale.lengths, shots)
