"""Does the true reward read answers rightly?"""

from __future__ import annotations

import pandas as pd

from pessimism.experiment import layout, records
from pessimism.selfcheck.finding import Finding
from pessimism.selfcheck.instrument import Instrument
from pessimism.tasks.answers import audit
from pessimism.tasks.gsm8k import SPLITS


def check_answers(instrument: Instrument) -> Finding:
    """Reference solutions of every problem under the strict rule, and both rules on the base's held-out responses."""
    problems = pd.concat([records.read_table(layout.tasks(split)) for split in SPLITS])
    references = audit(list(problems["solution"]), list(problems["answer"]))["true_reward"]
    rates = audit(instrument.base.rollouts.texts, list(instrument.heldout_tasks["answer"]))
    return Finding(
        figure=(
            f"{references:.2%} of {len(problems)} reference solutions rewarded; responses rewarded "
            f"{rates['true_reward']:.1%} strict, {rates['true_reward_flexible']:.1%} flexible "
            f"({rates['disagreement']:.1%} differ); without an answer {rates['no_answer_strict']:.1%} strict, "
            f"{rates['no_answer_flexible']:.1%} flexible"
        ),
        criterion="every reference solution rewarded",
        passed=references == 1,
    )
