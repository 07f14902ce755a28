"""A stage whose passes are measured, each beside what is planned of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.rehearse.measuring import Line, Taken, measure, problems
from benchmarks.rehearse.texts import Drawn
from pessimism.experiment.params import Params
from pessimism.planning.hardware import find_gpu, gpu_here, seconds
from pessimism.planning.setting import Pass
from pessimism.planning.stages import StageWork, every_stage

GPU = "H100 80GB"


class Stage:
    """A stage by its name.

    Attributes:
        gpu: this machine's, else the one that scales/paper.yaml is made for.
    """

    def __init__(self, name: str, params: Params) -> None:
        self.name, self.params = name, params
        self.gpu = gpu_here() or find_gpu(GPU)

    def work(self, drawn: Drawn) -> StageWork:
        """What is planned of one cell of the whole stage."""
        return next(work for work in every_stage(drawn.setting) if work.name == self.name)

    def measured(
        self,
        drawn: Drawn,
        rows: int,
        name: str,
        plan: Sequence[Pass],
        call: Callable[[], Any],
        warm_up: Callable[[], Any],
        checks: Callable[[Any], dict[str, float]] = lambda _: {},
    ) -> Line:
        """The line of one pass over ``rows`` texts.

        Args:
            plan: the same pass.
            warm_up: a smaller one, which is not measured.
            checks: further numbers of the line, from what ``call`` returned.
        """
        warm_up()
        taken = measure(call)
        return self.line(drawn, rows, name, plan, taken, **checks(taken.result))

    def line(
        self,
        drawn: Drawn,
        rows: int,
        name: str,
        plan: Sequence[Pass],
        taken: Taken,
        share: float = 1.0,
        **checks: float,
    ) -> Line:
        """The line of what was measured, beside a ``share`` of the planned calls.

        Planned bytes are those of the pass at its largest, with all that stays in memory during the stage.

        Args:
            checks: further numbers; :func:`problems` says which of them are judged.
        """
        resident, precision = self.work(drawn).resident, self.params.scale.matmul_precision
        planned = share * sum(made.calls * seconds(made.kernels, self.gpu, precision) for made in plan)
        largest = max(sum((resident | made.memory).values()) for made in plan)
        found: Line = {
            "step": self.name,
            "pass": name,
            "lengths": drawn.kind,
            "rows": rows,
            "seconds": taken.seconds,
            "planned_seconds": planned,
            "seconds_ratio": taken.seconds / planned,
            "device_peak_bytes": taken.device_peak,
            "device_reserved_bytes": taken.device_reserved,
            "host_peak_bytes": taken.host_peak,
            "planned_bytes": largest,
            "bytes_ratio": None if taken.device_peak is None else taken.device_peak / largest,
            "attention": sorted(taken.attention),
            **checks,
        }
        reasons = problems(found)
        return found | {"ok": not reasons, "reason": "; ".join(reasons) or None}
