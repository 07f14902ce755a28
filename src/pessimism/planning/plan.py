"""The plan of a whole run: every stage's size, memory, hours and cost, and how cells share GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pessimism.experiment import layout, pipeline
from pessimism.experiment.params import Params
from pessimism.planning import schedule
from pessimism.planning.architectures import row_counts, stored_bytes
from pessimism.planning.hardware import Assumptions, Gpu, needed_bytes, seconds
from pessimism.planning.workload import StageWork, Use, Workload

HOUR = 3600.0


@dataclass(frozen=True)
class PassPlan:
    """One kind of pass of one cell.

    Attributes:
        rows: of the largest call.
        tokens: of all calls together, in the rows that they really have; so are ``flops``.
        peak_bytes: with everything that is resident in its stage.
    """

    name: str
    calls: float
    rows: int
    tokens: float
    flops: float
    hours: float
    peak_bytes: int


@dataclass(frozen=True)
class StagePlan:
    """One stage that runs a model. Tokens, FLOPs and hours are of one cell.

    Attributes:
        memory: bytes by component at the largest moment of the stage.
        peak_in: the pass in which that is.
        needed_bytes: the peak with the allocator's and the driver's share.
    """

    name: str
    cells: int
    models: dict[str, str]
    parameters: dict[str, int]
    trainable_parameters: int | None
    hyperparameters: dict[str, Any]
    passes: tuple[PassPlan, ...]
    tokens: float
    flops: float
    memory: dict[str, int]
    peak_bytes: int
    peak_in: str
    needed_bytes: float
    fits: bool
    hours: float
    cost_usd: float


@dataclass(frozen=True)
class Storage:
    """Bytes on disk and from the network."""

    download_bytes: float
    output_bytes: float


@dataclass(frozen=True)
class Plan:
    """A whole run; hours are estimates.

    Attributes:
        work_assumptions: what the counted work rests on; name, value, meaning.
        precision: of float32 products.
        total_hours: of GPUs, all cells.
        critical_path: names of the cells of the longest chain.
        wall_hours: hours until the end by number of GPUs.
    """

    scale: str
    protocol: str
    gpu: Gpu
    gpus: int
    assumptions: Assumptions
    work_assumptions: list[tuple[str, float, str]]
    precision: str
    rows: dict[str, int]
    stages: tuple[StagePlan, ...]
    storage: Storage
    total_hours: float
    total_cost_usd: float
    critical_path: tuple[str, ...]
    critical_path_hours: float
    wall_hours: dict[int, float]

    def as_json(self) -> dict[str, Any]:
        """Everything, machine readable."""
        return asdict(self)


def make_plan(
    params: Params, gpu: Gpu, gpus: int = 1, price: float | None = None, assumed: Assumptions | None = None
) -> Plan:
    """Plan a run of everything that ``params`` list.

    Args:
        price: US dollars per hour and GPU; None takes the assumption about this GPU.

    Raises:
        SourceError: a model or a data set is neither known nor in reach.
    """
    gpu = gpu if price is None else replace(gpu, usd_per_hour=price)
    assumed = assumed or Assumptions()
    rows = row_counts(params, str(layout.scale_file(params.scale_name)))
    workload = Workload(params, rows, assumed)
    cells = schedule.cells_of(pipeline.load_stages(), params)
    counts = {stage: sum(cell.stage == stage for cell in cells) for stage in {cell.stage for cell in cells}}
    stages = tuple(_stage(work, workload, counts[work.name], gpu) for work in workload.stages())
    hours = dict.fromkeys(counts, assumed.other_stage_hours) | {stage.name: stage.hours for stage in stages}
    on_gpu = {stage.name for stage in stages}
    path = schedule.critical_path(cells, hours)
    total = sum(stage.hours * stage.cells for stage in stages)
    return Plan(
        scale=params.scale_name,
        protocol=params.protocol_name,
        gpu=gpu,
        gpus=gpus,
        assumptions=assumed,
        work_assumptions=workload.assumptions(),
        precision=params.scale.matmul_precision,
        rows=asdict(rows),
        stages=stages,
        storage=_storage(workload, counts),
        total_hours=total,
        total_cost_usd=total * gpu.usd_per_hour,
        critical_path=tuple(cell.name for cell in path),
        critical_path_hours=sum(hours[cell.stage] for cell in path),
        wall_hours={count: schedule.makespan(cells, hours, on_gpu, count) for count in sorted({1, gpus})},
    )


def _stage(work: StageWork, workload: Workload, cells: int, gpu: Gpu) -> StagePlan:
    assumed, params = workload.assumed, workload.params
    roles = {role: getattr(workload, role) for role in work.roles}
    resident = sum(work.resident.values())
    passes = tuple(_pass(use, workload, gpu, resident) for use in work.uses)
    largest = max(work.uses, key=lambda use: sum(use.traced.memory.values()), default=None)
    memory = work.resident | (largest.traced.memory if largest else {})
    peak = sum(memory.values())
    stored = sum(stored_bytes(params, role, size.parameters) for role, size in roles.items())
    hours = sum(entry.hours for entry in passes) + stored / assumed.read_bytes_per_second / HOUR
    if work.name == "prepare_base":
        hours += _downloaded(workload) / assumed.download_bytes_per_second / HOUR
    needed = needed_bytes(peak, assumed)
    return StagePlan(
        name=work.name,
        cells=cells,
        models={role: params.scale.model(role).name for role in roles},
        parameters={role: size.parameters for role, size in roles.items()},
        trainable_parameters=_trained(work, workload),
        hyperparameters=work.hyperparameters,
        passes=passes,
        tokens=sum(entry.tokens for entry in passes),
        flops=sum(entry.flops for entry in passes),
        memory=memory,
        peak_bytes=peak,
        peak_in=largest.traced.name if largest else "loading",
        needed_bytes=needed,
        fits=needed <= gpu.memory_bytes,
        hours=hours,
        cost_usd=hours * cells * gpu.usd_per_hour,
    )


def _trained(work: StageWork, workload: Workload) -> int | None:
    trained = {"train_reward_model": "reward", "train_dpo": "policy", "adapt_online": "policy"}.get(work.name)
    return None if trained is None else getattr(workload, trained).trainable


def _pass(use: Use, workload: Workload, gpu: Gpu, resident: int) -> PassPlan:
    work, precision = use.traced.work.filled(use.fill), workload.params.scale.matmul_precision
    return PassPlan(
        name=use.traced.name,
        calls=use.calls,
        rows=use.traced.rows,
        tokens=use.calls * use.traced.tokens * use.fill.positions,
        flops=use.calls * work.total_flops,
        hours=use.calls * seconds(work, gpu, workload.assumed, precision) / HOUR,
        peak_bytes=resident + sum(use.traced.memory.values()),
    )


def _storage(workload: Workload, counts: Mapping[str, int]) -> Storage:
    adapters = counts["train_reward_model"] * workload.reward.trainable
    adapters += (counts["train_dpo"] + counts["adapt_online"]) * workload.policy.trainable
    return Storage(download_bytes=_downloaded(workload), output_bytes=4 * adapters)


def _downloaded(workload: Workload) -> float:
    """Bytes of hub models, each once, and of hub data sets."""
    scale = workload.params.scale
    models = {
        scale.model(role).name: stored_bytes(workload.params, role, getattr(workload, role).parameters)
        for role in ("policy", "reward")
        if scale.model(role).source == "hub"
    }
    uses_hub_rows = "hub" in (scale.preferences.source, scale.tasks.source)
    return sum(models.values()) + (workload.assumed.data_set_bytes if uses_hub_rows else 0)
