"""``import pessimism as ps``: what it loads, and finished runs from directories and revisions, from wherever one is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pandas as pd
import pytest

import pessimism as ps
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from support import notebook
from support.repository import CHECKOUT, Edit
from support.worlds import git, tag_as_experiment
from support.yaml_edits import set_key

HELD = ("params.yaml", "scales", "protocols", "metrics", "plots")
GENEROUS = 5.0


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed run on a branch of a repository of its own, as working directory."""
    for name in HELD:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "run")
    return tmp_path


@pytest.fixture
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")


def in_a_new_interpreter(code: str) -> str:
    environment = {"PYTHONPATH": str(CHECKOUT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_loads_nothing_and_takes_no_time() -> None:
    code = """
        import sys, time
        before, start = set(sys.modules), time.perf_counter()
        import pessimism as ps
        print(time.perf_counter() - start, *(set(sys.modules) - before))
    """
    seconds, *loaded = in_a_new_interpreter(re.sub("^ +", "", code, flags=re.M)).split()
    assert not {"torch", "pandas", "numpy", "matplotlib", "transformers", "dvc"} & set(loaded)
    assert [name for name in loaded if name.startswith("pessimism")] == ["pessimism"]
    assert float(seconds) < GENEROUS


def test_a_run_is_loaded_without_a_model_library() -> None:
    code = f"import sys, pessimism as ps; ps.load_run({str(CHECKOUT)!r}); print(*sys.modules)"
    assert not {"torch", "transformers", "dvc", "matplotlib"} & set(in_a_new_interpreter(code).split())


def test_what_the_package_offers() -> None:
    assert set(ps.__all__) <= set(dir(ps))
    released = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert ps.__version__ == released
    assert ps.measures.goodhart.augc([0, 1], [1.0, 1.0]) == 1.0
    assert {"goodhart", "trends"} <= set(dir(ps.measures))
    for package in (ps, ps.measures):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018


def test_a_directory_and_a_revision_are_one_run(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    by_directory, commit = ps.load_run(finished), git("rev-parse", "HEAD")
    tag_as_experiment(commit, "tried")
    (finished / "notebooks").mkdir()
    monkeypatch.chdir(finished / "notebooks")
    for run in (ps.load_run(), ps.load_run("main"), ps.load_run(commit[:12]), ps.load_run("tried")):
        assert run.params == by_directory.params == load_params(CHECKOUT)
        pd.testing.assert_frame_equal(run.cells, by_directory.cells)
        assert run.metrics == by_directory.metrics and run.tables.keys() == by_directory.tables.keys()
    assert (ps.load_run("main").commit, ps.load_run("main").name, by_directory.commit) == (commit, "main", None)
    monkeypatch.chdir("/")
    assert ps.load_run("main", repository=finished / "notebooks").commit == commit


def test_a_revision_is_read_as_it_was(finished: Path, edit_root: Edit) -> None:
    edit_root("params.yaml", "root_seed", 7)
    cells = pd.read_csv(layout.CELL_SCORES)
    cells["augc"] = 1.0
    records.write_table(layout.CELL_SCORES, cells)
    now, then = ps.load_run(), ps.load_run("HEAD")
    assert (now.params.root_seed, then.params.root_seed) == (7, 42)
    assert now.cells["augc"].eq(1.0).all() and not then.cells["augc"].eq(1.0).any()
    assert now.parameters.compare(then.parameters).index.tolist() == ["root_seed"]


@pytest.fixture
def edit_root(finished: Path) -> Edit:
    return lambda name, key, value: set_key(finished / name, key, value)


def test_tables_are_those_of_the_files() -> None:
    run = ps.load_run(CHECKOUT)
    assert set(run.tables) == {path.stem for path in (CHECKOUT / "plots").glob("*.csv")}
    pd.testing.assert_frame_equal(run.tables["heldout_rewards"], pd.read_csv(CHECKOUT / layout.HELDOUT_REWARDS))
    claims = records.read_json(CHECKOUT / layout.CLAIMS)
    assert list(run.claims.index.unique("claim"))[:2] == ["C1", "C2"] and len(run.claims) == 2 * len(claims["claims"])
    found, told = run.claims.loc[("C1", "controlled")], claims["claims"]["C1"]["controlled"]
    assert (found["verdict"], found["estimate"]) == (told["verdict"], told["estimate"])
    assert [found["low"], found["high"]] == told["interval"]
    assert list(run.contrasts.index) == ["coupling", "offline", "total"]
    assert run.contrasts.loc["total", "estimate"] == claims["contrasts"]["total"]["estimate"]


def test_figures_are_drawn_on_axes(pyplot: object) -> None:
    run = ps.load_run(CHECKOUT)
    panels = run.draw("gap")
    assert [axes.get_title(loc="left") for axes in panels] == [
        "β\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}" + beta for beta in ("0.38", "1", "1.8")
    ]
    own = matplotlib.figure.Figure().subplots(1, 3)
    assert run.draw("doors", own) == list(own) and all(axes.lines for axes in own)
    with pytest.raises(DataError, match="found 2 axes; expected 3, one per panel"):
        run.draw("doors", own[:2])
    with pytest.raises(DataError, match="found no figure 'nothing'; expected one of"):
        run.draw("nothing")


def test_where_there_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ((), ("main",)):
        with pytest.raises(
            DataError, match=r"found no params.yaml with protocols/ beside it in .*; expected a project"
        ):
            ps.load_run(*arguments)


def test_what_is_no_finished_run(finished: Path, edit_root: Edit) -> None:
    with pytest.raises(DataError, match="no revision of Git named 'nowhere'; .*; nor is it a directory with"):
        ps.load_run("nowhere")
    git("rm", "-q", "-r", "--cached", "metrics")
    git("commit", "-q", "-m", "no results")
    with pytest.raises(
        DataError, match="revision HEAD: found no results .*metrics.*; expected the commit of a finished"
    ):
        ps.load_run("HEAD")
    (finished / layout.CLAIMS).unlink()
    with pytest.raises(DataError, match="found no metrics/claims.json; expected a finished run"):
        ps.load_run()
    edit_root("params.yaml", "seeds", [0, 1])
    git("checkout", "-q", "HEAD~1", "--", "metrics")
    with pytest.raises(
        DataError, match="found 27 runs in plots/cells.csv that params.yaml does not list and 0 missing"
    ):
        ps.load_run()
    (finished / "params.yaml").write_text("seeds: nothing")
    with pytest.raises(DataError, match=f"{finished}: (.|\n)*seeds: found 'nothing'"):
        ps.load_run(finished)


def test_the_notebook_prints_what_it_shows(
    pyplot: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells in order, against the committed run; `make notebook` runs it anew."""
    monkeypatch.chdir(notebook.NOTEBOOK.parent)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)  # the page's own way of showing
    names: dict[str, object] = {}
    for cell in notebook.code_cells():
        exec("".join(cell["source"]), names)
        assert capsys.readouterr().out == notebook.printed(cell), "".join(cell["source"])
    outputs = [output.get("data", {}) for cell in notebook.code_cells() for output in cell["outputs"]]
    assert sum("image/png" in data for data in outputs) == 2


def test_the_example_of_the_page_runs(pyplot: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    (example,) = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs/python.md").read_text(), re.DOTALL)
    exec(example, {})
