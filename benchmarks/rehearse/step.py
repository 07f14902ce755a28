"""One step of the rehearsal, in this process: ``python -m benchmarks.rehearse.step SCALE STAGE`` prints its lines.

A step makes the passes of the stage of its name, by what the stage's script calls. ``assess_ensemble``,
``measure_base`` and ``select_best_of_n`` make no pass that is not among those of ``adapt_online``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

from benchmarks.rehearse import offline, online
from benchmarks.rehearse.bases import project
from benchmarks.rehearse.measuring import Line
from benchmarks.rehearse.passes import Stage
from pessimism.machine import processes

STEPS: dict[str, Callable[[Stage], Iterator[Line]]] = {
    "measure_reference": offline.measure_reference,
    "train_dpo": offline.train_dpo,
    "adapt_online": online.adapt_online,
    "train_reward_model": offline.train_reward_model,
    "probe_policy": online.probe_policy,
}
"""In the order in which they tell most."""


def lines(scale: str, name: str) -> Iterator[Line]:
    """The lines of one step, each as soon as it is measured."""
    with project(scale) as params:
        yield from STEPS[name](Stage(name, params))


if __name__ == "__main__":
    processes.use_one_gpu()
    for found in lines(*sys.argv[1:]):
        print(json.dumps(found), flush=True)
