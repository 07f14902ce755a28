"""Everything that can be refused before a run: parameters, the sources that they name, and this machine.

DVC deletes a stage's outputs before it runs the stage. What is refused here, by the first stage or before DVC, costs
nothing; what is refused later has cost the outputs of the stage that refuses. Nor does DVC watch files outside the
project: local rows and models are compared here with what prepare_data and prepare_base recorded of them.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pessimism.checks import startup
from pessimism.data.hashing import content_hash, ways_out
from pessimism.data.preferences import load_preferences
from pessimism.errors import ParamsError, PessimismError, ResourceError, SourceError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import strength_in
from pessimism.experiment.params import ModelParams, Params
from pessimism.experiment.sections import section
from pessimism.experiment.yaml_files import parse_yaml
from pessimism.machine import hub, resources
from pessimism.machine.hub import Kind
from pessimism.machine.resources import GIB
from pessimism.offline.objective import find_objective
from pessimism.tasks.parts.problems import load_problems, usable_task

ROLES = ("policy", "reward")
FLOAT32_BYTES = 4
TEXT_BYTES = 200
"""Of one problem and its solution as Python holds them; real ones take more."""


def check(params: Params) -> None:
    """Find what the parameters name, and see whether this machine has room for it.

    Raises:
        ParamsError: a parameter names a file of the package that is not there, or a key is missing that DVC reads.
        ResourceError: this machine lacks the disk, the memory or the device.
        SourceError: a local file or directory is missing or is not what was recorded of it, the hub is out of reach
            or lacks a repository, or a model cannot be used.
        DataError: a row of a local file is not usable.
    """
    _check_keys(params)
    _check_objectives(params)
    _check_machine(params)
    _check_embedded_fits(params)
    models = [partial(_check_model, params, role) for role in ROLES]
    _all_of([*models, partial(_check_preferences, params), partial(_check_problems, params)])
    _check_hub(params)
    for role in ROLES:
        _check_usable(params, role)


def _all_of(checks: Sequence[Callable[[], None]]) -> None:
    """Run every check; what several of them refuse is said in one message."""
    errors: list[PessimismError] = []
    for check in checks:
        try:
            check()
        except PessimismError as error:
            errors.append(error)
    if len(errors) > 1:
        listed = "".join(f"\n  - {error}" for error in errors)
        raise type(errors[0])(f"{len(errors)} problem(s) with local files:{listed}")
    if errors:
        raise errors[0]


def _check_keys(params: Params) -> None:
    """See that the files of scale and protocol hold every key that dvc.yaml names: DVC knows none of our defaults."""
    stages = parse_yaml(layout.PIPELINE.read_text(encoding="utf-8"), str(layout.PIPELINE))["stages"].values()
    entries = [entry for stage in stages for entry in stage.get("params", []) if isinstance(entry, dict)]
    files = {
        str(layout.scale_file("${scale}")): layout.scale_file(params.scale_name),
        str(layout.protocol_file("${protocol}")): layout.protocol_file(params.protocol_name),
    }
    missing = []
    for named, file in files.items():
        raw = parse_yaml(file.read_text(encoding="utf-8"), str(file))
        keys = {key for entry in entries for key in entry.get(named) or [] if "${" not in key}
        missing += [f"{file}: {key}" for key in sorted(keys) if not _holds(raw, key)]
    if missing:
        raise ParamsError(
            f"{', '.join(missing)}: missing; expected every key that {layout.PIPELINE} names, for DVC knows no "
            "default: add it, as the other files of that directory have it"
        )


def _holds(raw: Any, key: str) -> bool:
    """Whether a mapping has the key, whose parts of nested mappings are parted by dots."""
    for part in key.split("."):
        if not isinstance(raw, Mapping) or part not in raw:
            return False
        raw = raw[part]
    return True


def _check_objectives(params: Params) -> None:
    """See that the offline cells and the arms suit the strength of the offline objective, or none."""
    objective, name = find_objective(params), params.offline.objective
    if objective.strength is None:
        unfit = [label for label in params.labels if label != name]
        expected = f"beta_percentiles: [] and offline_cells: [{name}], for {name} has no strength"
    else:
        unfit = [label for label in params.offline_cells if strength_in(label) is None]
        expected = (
            f"labels such as b0.05, for {name} has a strength; a label without one is the name of "
            "offline.objective, and its file is in src/pessimism/offline/objectives"
        )
    if unfit:
        raise ParamsError(f"params.yaml: found the offline cells {unfit}; expected {expected}")
    coupled = [arm for arm in params.arms if params.arm(arm).kappa == "coupled"]
    if objective.strength is None and coupled:
        raise ParamsError(
            f"params.yaml: arms: found {coupled}, whose penalty is coupled to a strength that {name} has not; expected "
            f"arms whose kappa is fixed or none, or other entries in {layout.protocol_file(params.protocol_name)}: arms"
        )
    trained = [arm for arm in coupled if not params.arm(arm).is_placebo]
    if not objective.couples and trained:
        raise ParamsError(
            f"params.yaml: arms: found {trained}, whose penalty is coupled to the strength, which for {name} is not "
            f"the price of a nat ({objective.strength}); expected trained arms whose kappa is fixed or none, such as "
            "arms: [uncoupled, placebo]"
        )


def _check_machine(params: Params) -> None:
    """Check launcher, disk and device; the memory too where the scale requires a GPU, as that is then what decides."""
    try:
        launcher = shlex.split(params.launcher)[:1]
    except ValueError as error:
        raise ParamsError(f"params.yaml: launcher: found {params.launcher!r} ({error}); expected a command") from error
    if not launcher or not shutil.which(launcher[0]):
        raise ParamsError(
            f"params.yaml: launcher: found {params.launcher!r}; expected a command on the PATH, such as python"
        )
    resources.check_disk([startup.outputs_need()])
    resources.check_device(params.scale.device)
    if params.scale.device == "cuda":
        for stage in startup.HELD:
            startup.check_weights_fit(params, stage)


def _check_embedded_fits(params: Params) -> None:
    """Check that the base of the embedded world can be trained, where prepare_base trains it.

    Counts the weights of its matrices, each with its gradient and AdamW's two averages, and the texts it is trained on.
    """
    scale = params.scale
    sizes = scale.embedded
    if sizes is None or "embedded" not in (scale.policy.source, scale.reward.source):
        return
    matrices = sizes.matrix_weights
    needed = 4 * FLOAT32_BYTES * matrices + TEXT_BYTES * sizes.steps * sizes.batch_size
    free = resources.free_ram()
    if free < needed:
        raise ResourceError(
            f"{layout.scale_file(params.scale_name)}: embedded: found a model of {matrices:,} weights or more and "
            f"{sizes.steps * sizes.batch_size:,} texts, which take at least {needed / GIB:,.1f} GiB to train; expected "
            f"at most the {free / GIB:.1f} GiB that this machine has free: lower its sizes, steps or batch_size"
        )


def _check_hub(params: Params) -> None:
    """Find every hub repository of the scale, and room for all that is not yet downloaded; each counts once."""
    scale = params.scale
    kinds: list[tuple[Kind, str, Any]] = [
        ("model", "policy", scale.policy),
        ("model", "reward", scale.reward),
        ("dataset", "preferences", scale.preferences),
        ("dataset", "tasks", scale.tasks),
    ]
    found = {}
    for kind, name, source in kinds:
        if source.source == "hub":
            with section(params, name):
                key = (kind, source.name, source.revision)
                found[key] = hub.find(kind, source.name, source.revision)
    needs = [startup.download_need(name, files) for (_, name, _), files in found.items()]
    resources.check_disk([startup.outputs_need(), *needs])


def _check_usable(params: Params, role: str) -> None:
    """Have the configuration of a model judged, unless this project trains it itself."""
    if params.scale.model(role).source == "embedded":
        return
    from pessimism.models.support import check_support

    check_support(params, role)


def _check_preferences(params: Params) -> None:
    """Read the pairs, unless they are the hub's."""
    if params.scale.preferences.source != "hub":
        with section(params, "preferences"):
            loaded = load_preferences(params.scale.preferences, params.root_seed, params.scale.annotator)
            _check_rows_unchanged("preferences", loaded.record)


def _check_problems(params: Params) -> None:
    """Read the problems, unless they are the hub's, and compare their number with the batch that is drawn from them."""
    tasks = params.scale.tasks
    with section(params, "tasks"):
        usable_task(tasks)
        if tasks.source == "hub":
            _check_batch(params, {"train": tasks.train_limit, "test": tasks.test_limit})
            return
        problems = load_problems(tasks, params.root_seed)
        _check_batch(params, {split: len(rows) for split, rows in problems.rows.items()})
        _check_rows_unchanged("tasks", problems.record)
        if tasks.shots:
            from pessimism.checks.shots import check_prompts_fit

            check_prompts_fit(params, problems.rows)


def _check_batch(params: Params, counts: Mapping[str, int | None]) -> None:
    """Compare the prompts of an online batch with the problems of each split; None where their number is not known."""
    batch, split = params.scale.online.batch_size, params.protocol.prompt_split
    problems = counts[split]
    if batch is None or problems is None or batch <= problems:
        return
    from pessimism.checks.launch import prompts_of_batch

    prompts = prompts_of_batch(params, batch)
    if prompts > problems:
        raise ParamsError(
            f"found {problems} problems in split {split}; expected {prompts} or more, the prompts of an online batch "
            f"(online.batch_size: {batch}): lower it, or give more problems (tasks.{split}_limit)"
        )


def _check_model(params: Params, role: str) -> None:
    """See that a model directory is one, and is the one that was recorded."""
    model = params.scale.model(role)
    if model.source != "path":
        return
    with section(params, role):
        _check_model_directory(model)
        _check_model_unchanged(model, layout.base_record(role))


def _check_model_directory(model: ModelParams) -> None:
    config = Path(model.name) / "config.json"
    if not config.is_file():
        raise SourceError(
            f"found no {config.absolute()}; expected {model.name!r} to be the directory of a Hugging Face model: "
            "change `name`, or `source` to hub"
        )


def _check_model_unchanged(model: ModelParams, record: Path) -> None:
    """Compare a model directory with what prepare_base recorded of it, if that is the last it recorded.

    A record without a description was left by a prepare_base that failed: its files were never used.
    """
    if model.source != "path" or not record.is_file():
        return
    recorded = records.read_json(record)
    if (recorded["source"], recorded["name"]) != (model.source, model.name) or "architecture" not in recorded:
        return
    found, expected = content_hash(Path(model.name)), recorded["content_sha256"]
    if found != expected:
        raise SourceError(
            f"found content {found} in {model.name}; expected {expected}, which {record} records: "
            f"{ways_out('prepare_base', layout.BASE)}"
        )


def _check_rows_unchanged(name: str, found: Mapping[str, Any]) -> None:
    """Compare what was read of local files with what prepare_data recorded of them, if that is the last it recorded.

    Args:
        name: preferences or tasks.
        found: the record of the rows that were read now.
    """
    if found["source"] != "path" or not layout.DATA_RECORD.is_file():
        return
    recorded = records.read_json(layout.DATA_RECORD)[name]
    if (recorded["source"], recorded["name"]) != (found["source"], found["name"]):
        return
    changed = [key for key in found if key.startswith("sha256") and found[key] != recorded[key]]
    if changed:
        raise SourceError(
            f"found rows in {found['name']} that differ from those that {layout.DATA_RECORD} records "
            f"({', '.join(changed)}); expected the same: {ways_out('prepare_data', layout.DATA_RECORD)}"
        )
