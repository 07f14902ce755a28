"""GSM8K (Cobbe et al., arXiv 2110.14168): grade-school word problems with a number as answer, after ``####``."""

from pessimism.tasks.parts.answers import marked_problem, number_verdicts, runs_on
from pessimism.tasks.parts.declaration import Task

GSM8K = Task(
    prompt=(
        "Work through this problem in a few short steps. Put the final number on a last line after ####.\n\n"
        "Problem: {question}\n\n"
        "Solution:"
    ),
    problem=marked_problem,
    rewards=number_verdicts,
    files="gsm8k_{split}.jsonl",
    runs_on=runs_on,
)
