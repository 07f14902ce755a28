"""Word problems of the embedded world, drawn without end, with answers in GSM8K's format."""

from pessimism.data import embedded_world
from pessimism.tasks.parts.answers import marked_problem, number_verdicts, runs_on
from pessimism.tasks.parts.declaration import Task

ARITHMETIC = Task(
    prompt="{question}\n\n",  # as the base was trained
    problem=marked_problem,
    rewards=number_verdicts,
    draw=embedded_world.task_rows,
    runs_on=runs_on,
)
