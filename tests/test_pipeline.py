"""dvc.yaml agrees with the code: DVC knows nothing of imports, so what it is not told it does not rerun."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ruamel.yaml
import yaml

from pessimism.experiment import layout, pipeline
from pessimism.experiment.cells import DpoCell, OnlineCell, RewardCell
from pessimism.experiment.params import Params, Protocol, Scale, load_params
from support import import_closure
from support.repository import CHECKOUT, python_files
from support.stage_code import (
    BODIES,
    CODE,
    CONSTANTS,
    FINDERS,
    FOUND_BY_NAME,
    JUDGE,
    NOT_TRACKED,
    ROOMS,
    STAGES,
    TABLE_STAGES,
    TRL_STAGES,
    WRITTEN,
    closure,
    filled,
    needs_trl,
    param_keys,
    script,
    touches_adapters,
    tracked,
)

RECORDERS = [name for name in STAGES if name.endswith(pipeline.INPUTS)]
MATRIX = [name for name, stage in STAGES.items() if stage.axes]
SHARED_STAGES = (*TRL_STAGES, "adapt_online")  # may be run by several processes


def test_import_closure_sees_every_kind_of_import(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import pessimism.experiment.rng\n"
        "from pessimism import cells\n"
        "from pessimism.experiment.records import read_json\n"
        "if TYPE_CHECKING:\n    import peft\n    from pessimism.cli import main\n"
        "def late():\n    import trl.trainer\n"
    )
    names = {path.relative_to(import_closure.SOURCE).as_posix() for path in import_closure.closure(file)}
    assert {
        "pessimism/experiment/rng.py",
        "pessimism/experiment/cells.py",
        "pessimism/experiment/records.py",
        "pessimism/experiment/layout.py",
    } <= names
    assert "pessimism/cli.py" not in names
    assert "trl" in import_closure.libraries(file) and "peft" not in import_closure.libraries(file)
    assert "trl" not in import_closure.libraries_at_start(file)


def test_what_only_a_refusal_needs_is_not_tracked(tmp_path: Path) -> None:
    refusing, resources = (
        import_closure.SOURCE / "pessimism" / name for name in ("checks/startup.py", "machine/resources.py")
    )
    file = tmp_path / "script.py"
    file.write_text("from pessimism.checks import startup\n")
    assert {refusing, resources} <= import_closure.closure(file)
    assert refusing in import_closure.closure(file, ends={refusing})
    assert resources not in import_closure.closure(file, ends={refusing})
    both = tmp_path / "both.py"
    both.write_text(file.read_text() + "from pessimism.machine import resources\n")
    assert resources in import_closure.closure(both, ends={refusing})


def test_one_script_per_stage_and_no_other() -> None:
    assert {path.stem for path in python_files("stages")} == {stage.script for stage in STAGES.values()}
    named = {name: "record_inputs" if name in RECORDERS else name.removesuffix("_by_label") for name in STAGES}
    assert {name: stage.script for name, stage in STAGES.items()} == named


@pytest.mark.parametrize("stage", [name for name in STAGES if name.endswith("_by_label")])
def test_more_cells_differ_from_the_first_ones_in_their_labels_alone(stage: str) -> None:
    first = STAGES[stage].script
    own = ("desc", "vars", "matrix")
    assert {key: value for key, value in WRITTEN[stage].items() if key not in own} == {
        key: value for key, value in WRITTEN[first].items() if key not in own
    }
    assert STAGES[stage].axes == STAGES[first].axes | {"label": "offline_cells"}
    assert [BODIES[name]["vars"] for name in (first, stage)] == [[{"prefix": "p"}], [{"prefix": ""}]]


@pytest.mark.parametrize("stage", MATRIX)
def test_cells_depend_on_their_record_of_inputs_and_else_on_results(stage: str) -> None:
    """A line per file of code and cell would make DVC's time for its lock grow with their product."""
    code = [path for path in WRITTEN[stage]["deps"] if path.startswith(CODE)]
    assert code == []
    assert str(layout.shared_inputs(STAGES[stage].script)) in WRITTEN[stage]["deps"]
    for keys in (keys for entry in WRITTEN[stage].get("params", []) for keys in entry.values()):
        assert all("${" in key for key in keys), "a parameter of all cells belongs to the stage that records them"


@pytest.mark.parametrize("stage", RECORDERS)
def test_a_record_of_inputs_is_of_the_stage_in_its_name(stage: str) -> None:
    cells = stage.removesuffix(pipeline.INPUTS)
    assert BODIES[stage]["cmd"] == f"python stages/record_inputs.py --stage {cells}"
    assert cells in MATRIX


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in RECORDERS])
def test_command_hands_over_the_cell_and_nothing_else(stage: str) -> None:
    values = {axis: "${prefix}${item.label}" if axis == "label" else f"${{item.{axis}}}" for axis in STAGES[stage].axes}
    flags = " ".join(f"--{axis} {value}" for axis, value in values.items())
    launcher = "${launcher}" if STAGES[stage].script in SHARED_STAGES else "python"
    assert BODIES[stage]["cmd"].split() == f"{launcher} stages/{STAGES[stage].script}.py {flags}".split()


@pytest.mark.parametrize("stage", STAGES)
def test_every_script_starts_and_ends_as_a_stage_does(stage: str) -> None:
    text = script(stage).read_text()
    assert f'\n@stage.main("{STAGES[stage].script}"' in text and text.endswith(
        '\n\nif __name__ == "__main__":\n    main()\n'
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_is_for(stage: str) -> None:
    assert STAGES[stage].description.endswith(".")


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_the_import_closure(stage: str) -> None:
    code = {path for path in BODIES[stage]["deps"] if path.endswith(".py")}
    needed = tracked(stage)
    assert sorted(needed - code) == [], "imported but not listed in dvc.yaml: a change would not rerun the stage"
    assert sorted(code - needed) == [], "listed in dvc.yaml but not imported: a change would rerun it for nothing"


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"check_params"}))
def test_a_file_found_by_name_is_told_to_dvc(stage: str) -> None:
    """The parameter check alone looks objectives up and does nothing with them."""
    modules, told = closure(stage), {*closure(stage), *BODIES[stage]["deps"]}
    for finder, ways in FINDERS.items():
        assert finder not in modules or set(ways) & told, f"{finder} finds a file of which dvc.yaml says nothing"
    finders = {path for path in modules if "extensions.find(" in (CHECKOUT / filled(path)).read_text()}
    assert finders <= FINDERS.keys()


def test_files_found_by_name_are_there_and_their_names_are_tracked() -> None:
    for stage in STAGES:
        for path in (path for path in closure(stage) if "${" in path):
            assert (CHECKOUT / filled(path)).is_file()
            assert set(re.findall(r"\$\{([\w.]+)\}", path)) <= (param_keys(stage, "params.yaml") or set())


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in RECORDERS])
def test_stages_that_find_files_by_name_depend_on_their_room(stage: str) -> None:
    found = {room for finder, room in ROOMS.items() if finder in closure(stage)}
    assert set(BODIES[stage]["deps"]) & set(ROOMS.values()) == found


def test_no_model_depends_on_a_whole_room() -> None:
    """A new task or probe must not train one again."""
    for stage in (name for name in STAGES if name.startswith(("train", "adapt", "measure", "assess", "prepare_base"))):
        assert not set(BODIES[stage]["deps"]) & set(ROOMS.values())


def test_what_judges_answers_depends_on_the_hash_of_the_judge() -> None:
    judges = [stage for stage in STAGES if JUDGE in closure(stage) and ROOMS.keys().isdisjoint(closure(stage))]
    before = {"prepare_base", "sample_pairs"}  # they pose and judge the problems set aside, beside which it lies too
    assert {STAGES[stage].script for stage in judges} == {"measure_base", "adapt_online", "select_best_of_n"} | before
    for stage in (*judges, "probe_policy"):
        assert str(layout.SET_ASIDE if stage in before else layout.TASK_CODE.parent) in BODIES[stage]["deps"]
        assert "tasks.kind" in (param_keys(stage, "scales/${scale}.yaml") or set())


@pytest.mark.parametrize(
    ("room", "stages"),
    [("tasks", ["check_params", "prepare_data"]), ("probes", ["probe_policy", "score_hacking", "report"])],
)
def test_files_found_by_name_import_nothing_that_is_not_tracked(room: str, stages: list[str]) -> None:
    folder = f"src/pessimism/{room}"
    for file in sorted((CHECKOUT / folder).glob("*.py")):
        outside = {path.relative_to(CHECKOUT).as_posix() for path in import_closure.closure(file)} - NOT_TRACKED
        outside = {path for path in outside if not path.startswith(f"{folder}/")}
        for stage in stages:
            assert outside <= set(BODIES[stage]["deps"]), f"{file.name} would not rerun {stage}"


@pytest.mark.parametrize("template", FOUND_BY_NAME.values())
def test_every_file_that_a_parameter_may_name_imports_what_is_tracked(template: str) -> None:
    """Named instead of the committed one, it must not bring imports of which DVC knows nothing."""
    stages = [stage for stage in STAGES if template in BODIES[stage]["deps"]]
    assert stages
    for file in python_files(str(Path(template).parent)):
        imported = {path.relative_to(CHECKOUT).as_posix() for path in import_closure.closure(file)} - NOT_TRACKED
        for stage in stages:
            assert imported <= set(BODIES[stage]["deps"]), (
                f"{file.name} would not rerun {stage} for all that it imports"
            )


@pytest.mark.parametrize("probe", sorted((CHECKOUT / "src/pessimism/probes").glob("*.py")), ids=lambda path: path.stem)
def test_a_probe_is_read_by_tables_and_needs_no_torch(probe: Path) -> None:
    assert import_closure.libraries_at_start(probe).isdisjoint({"torch", "transformers", "peft", "trl"})


@pytest.mark.parametrize(
    "stage", [name for name in STAGES if name.startswith(("prepare", "train", "adapt", "measure"))]
)
def test_what_computes_does_not_reach_what_reports(stage: str) -> None:
    """A new figure must not retrain a model."""
    assert [
        path
        for path in closure(stage)
        if path.split("/")[2] in ("measures", "scoring", "claims", "reporting") and path not in NOT_TRACKED | CONSTANTS
    ] == []


@pytest.mark.parametrize("stage", STAGES)
def test_slow_libraries_only_where_they_are_used(stage: str) -> None:
    """They take seconds to import: peft where adapters are read or written, trl where one trains or scores tokens."""
    libraries = import_closure.libraries(script(stage))
    assert "peft" not in libraries or touches_adapters(stage)
    assert "trl" not in libraries or needs_trl(stage)


@pytest.mark.parametrize("stage", TABLE_STAGES)
def test_tables_and_figures_need_no_torch(stage: str) -> None:
    assert import_closure.libraries_at_start(script(stage)).isdisjoint({"torch", "transformers", "peft", "trl"})


@pytest.mark.parametrize("command", python_files("src/pessimism/commands"), ids=lambda path: path.stem)
def test_the_console_script_needs_no_torch(command: Path) -> None:
    assert import_closure.libraries_at_start(command).isdisjoint({"torch", "transformers", "peft", "trl"})


def test_dvc_parses_yaml_in_c() -> None:
    parser = ruamel.yaml.YAML(typ="safe").Parser
    assert parser.__name__ == "CParser", f"found {parser}: every dvc command takes twice the time"


TABLE_FOLDERS = ("stages", *(f"src/pessimism/{room}" for room in ("scoring", "claims", "reporting")))


@pytest.mark.parametrize("folder", TABLE_FOLDERS)
def test_cells_are_listed_never_searched_for(folder: str) -> None:
    """A search would find cells that the parameters no longer list, and miss ones that they do."""
    search = re.compile(r"\b(r?glob|iterdir|listdir|scandir|walk)\(")
    assert [file.name for file in python_files(folder) if search.search(file.read_text())] == []


@pytest.mark.parametrize("stage", MATRIX)
def test_matrix_stages_have_cached_outputs_only(stage: str) -> None:
    """A cell with an output outside the cache would run again wherever the cache is shared."""
    assert not any(key in BODIES[stage] for key in ("metrics", "plots"))
    assert all(isinstance(entry, str) for entry in BODIES[stage]["outs"])


@pytest.mark.parametrize("stage", STAGES)
def test_fan_in_stages_track_the_axes_they_gather(stage: str) -> None:
    """Without them, removing a cell would not rerun the stage that iterates the cells.

    A directory of cells that the stage reads is one of all values of the axes that its own name does not hold.
    """
    tracked = param_keys(stage, "params.yaml")
    for writer in (writer for writer in STAGES.values() if writer.axes):
        below = [Path(path).relative_to(read) for path in writer.writes for read in within(path, STAGES[stage].reads)]
        gathered = {key for axis, key in writer.axes.items() for path in below if f"${{item.{axis}}}" in str(path)}
        assert tracked is None or gathered <= tracked


def within(path: str, directories: Iterable[str]) -> list[str]:
    """Those of ``directories`` that hold a path, its templates spelled alike."""
    return [directory for directory in directories if Path(path).is_relative_to(directory) and path != directory]


@pytest.mark.parametrize("stage", MATRIX)
def test_a_cell_depends_on_nothing_that_changes_with_another_seed(stage: str) -> None:
    """Else one more seed would run the cells of all seeds again."""
    whole = {str(layout.REWARD_MEMBERS), str(layout.REWARD_MEMBERS_RECORD), str(layout.ENSEMBLE)}
    assert whole.isdisjoint(BODIES[stage]["deps"])
    assert "seeds" not in (param_keys(stage, "params.yaml") or set())
    keys = param_keys(stage, str(layout.REWARD_MEMBERS_RECORD))
    assert keys == ({"s${item.seed}"} if STAGES[stage].script in ("adapt_online", "select_best_of_n") else set())


def test_the_grid_key_of_a_cell_is_the_only_one_it_tracks() -> None:
    """A stage that tracked the whole grid would retrain every cell when a percentile is added."""
    for stage in ("train_dpo", "adapt_online"):
        assert param_keys(stage, "metrics/beta_grid.json") == {"${prefix}${item.label}"}
        assert not any(path.startswith("metrics/beta_grid") for path in BODIES[stage]["deps"])


def test_outputs_are_where_the_layout_says() -> None:
    dpo = DpoCell("${prefix}${item.label}", "${item.seed}")  # type: ignore[arg-type]
    online = OnlineCell("${prefix}${item.label}", "${item.seed}", "${item.arm}")  # type: ignore[arg-type]
    reward = RewardCell("${item.seed}", "${item.member}")  # type: ignore[arg-type]
    expected = {
        "check_params": [layout.PARAMS_CHECKED],
        "record_inputs": [],
        "prepare_data": [layout.SOURCE_PREFERENCES, layout.TASKS, layout.SET_ASIDE, layout.DATA_RECORD],
        "prepare_base": [layout.BASE],
        "sample_pairs": [layout.PREFERENCES],
        "measure_reference": [layout.REFERENCE],
        "derive_beta_grid": [layout.BETA_GRID, layout.LOG_RATIOS],
        "train_reward_model": [layout.reward_member(reward)],
        "assess_ensemble": [layout.ENSEMBLE, layout.REWARD_MEMBERS_RECORD],
        "measure_base": [layout.BASE_METRICS, layout.BASE_SAMPLES],
        "train_dpo": [layout.dpo_adapter(dpo)],
        "adapt_online": [layout.online_run(online), layout.online_adapter(online)],
        "probe_policy": [layout.probe(dpo)],
        "select_best_of_n": [layout.best_of_n_draws(dpo)],
        "score_hacking": [
            layout.HACKING,
            layout.VARIANCE,
            layout.EQUAL_KL,
            layout.GOODHART_GAP,
            layout.HELDOUT_REWARDS,
            layout.BEST_OF_N,
            layout.CELL_SCORES,
        ],
        "fit_power_law": [layout.POWER_LAW, layout.BETA_STAR, layout.POWER_LAW_CURVE],
        "trace_mechanism": [layout.MECHANISM, layout.DISAGREEMENT, layout.MEMBER_PROBES],
        "check_claims": [layout.CLAIMS, layout.VERDICTS],
        "report": [layout.REPORT],
    }
    for name, stage in STAGES.items():
        recorded = [layout.shared_inputs(name.removesuffix(pipeline.INPUTS))] if name in RECORDERS else []
        assert sorted(stage.writes) == sorted(map(str, expected[stage.script] + recorded)), name
    assert expected.keys() == {stage.script for stage in STAGES.values()}


def test_every_file_a_stage_reads_is_written_or_committed() -> None:
    written = [path for stage in STAGES.values() for path in stage.writes]
    for stage in STAGES.values():
        for path in stage.reads:
            made = any(pipeline.overlap(output, path) for output in written)
            assert made or "${" in path or (CHECKOUT / path).exists(), f"{stage.name} reads {path}, which nothing makes"


def test_no_metric_outside_git() -> None:
    for body in BODIES.values():
        assert all(next(iter(entry.values())) == {"cache": False} for entry in body.get("metrics", []))


def test_every_root_stage_and_the_grid_wait_for_the_parameter_check() -> None:
    pairs = pipeline.edges(list(STAGES.values()))
    assert set(STAGES) - {later for _, later in pairs} == {"check_params"}
    assert {"prepare_data", "prepare_base", "derive_beta_grid"} <= {
        later for first, later in pairs if first == "check_params"
    }


def leaves(kind: Any) -> set[str]:
    """Names of the plain values of a parameter dataclass and of those in it."""
    names = set()
    for field in dataclasses.fields(kind):
        nested = SECTIONS.get(field.name)
        names |= leaves(nested) if nested else {field.name}
    return names


SECTIONS = {
    field.name: type(getattr(load_params(CHECKOUT).scale, field.name))
    for field in dataclasses.fields(Scale)
    if dataclasses.is_dataclass(getattr(load_params(CHECKOUT).scale, field.name))
}


@pytest.mark.parametrize(
    "key", sorted({*SECTIONS, *leaves(Scale), *leaves(Protocol), *leaves(Params)} - {"scale", "protocol"})
)
def test_every_parameter_is_read_somewhere(key: str) -> None:
    files = [*python_files("src"), *python_files("stages")]
    trees = (ast.parse(file.read_text()) for file in files if file.name != "params.py")
    in_commands = any(f"${{{key}}}" in body["cmd"] for body in BODIES.values())
    assert in_commands or any(
        isinstance(node, ast.Attribute) and node.attr == key for tree in trees for node in ast.walk(tree)
    )


LOCK = CHECKOUT / layout.LOCK


@cache
def lock() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load(LOCK.read_text())["stages"]
    return stages


def recorded_files() -> list[tuple[str, dict[str, Any]]]:
    return [(name, entry) for name, body in lock().items() for entry in [*body.get("deps", []), *body.get("outs", [])]]


def test_lock_lists_the_cells_of_the_parameters_and_no_other() -> None:
    assert sorted(lock()) == sorted(pipeline.expected_lock_names(load_params(CHECKOUT)))


def test_lock_agrees_with_every_file_in_the_checkout() -> None:
    """Code, metrics and plots are the ones of the recorded run. data/ and models/ are in nobody's checkout."""
    stale = {
        f"{name}: {entry['path']}"
        for name, entry in recorded_files()
        if not entry["path"].startswith(("data/", "models/")) and entry["md5"] != dvc_md5(CHECKOUT / entry["path"])
    }
    assert sorted(stale) == []


def test_lock_agrees_with_itself() -> None:
    """What a stage read is what another wrote; directories of cells are the sum of what the cells wrote."""
    written = {entry["path"]: entry["md5"] for body in lock().values() for entry in body.get("outs", [])}
    read = [(name, entry) for name, body in lock().items() for entry in body.get("deps", [])]
    assert [
        f"{name}: {entry['path']}" for name, entry in read if written.get(entry["path"], entry["md5"]) != entry["md5"]
    ] == []


def test_lock_agrees_with_every_parameter() -> None:
    stale = []
    for name, body in lock().items():
        for file, values in body.get("params", {}).items():
            content = yaml.safe_load((CHECKOUT / file).read_text())
            stale += [f"{name}: {file}: {key}" for key, value in values.items() if _get(content, key) != value]
    assert stale == []


@pytest.mark.parametrize("stage", STAGES)
def test_lock_holds_the_command_and_all_dependencies(stage: str) -> None:
    """A dependency added to dvc.yaml after the run would be missing here."""
    for name, body in lock().items():
        if name.partition("@")[0] == stage:
            assert len(body["deps"]) == len(WRITTEN[stage]["deps"])
            assert body["cmd"].startswith(f"python stages/{STAGES[stage].script}.py")


def _get(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def dvc_md5(path: Path) -> str:
    """The hash that DVC records for a file or a directory."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    inside = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    files = sorted(file.as_posix() for file in inside if "__pycache__" not in file.parts)  # as .dvcignore says
    entries = [{"md5": dvc_md5(path / name), "relpath": name} for name in files]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"
