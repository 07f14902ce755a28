"""The package as it is installed: a wheel in an environment of its own, its commands far from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from support.project_copy import copy_tracked
from support.repository import CHECKOUT

LOG = CHECKOUT / "docs/examples/grpo/run.csv"
COLUMNS = ["--prompt", "prompt", "--arm", "arm", "--placebo", "placebo"]


def succeed(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves files in its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copy_tracked(source)
    for name in ("scales", "protocols", "params.yaml", "dvc.yaml"):
        link = source / "src/pessimism/experiment/design" / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../../../{name}")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", out]
    succeed(*command, cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the wheel, which takes what it depends on from the one that runs the tests."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = home / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--force-reinstall"]
    succeed(*pip, wheel, cwd=home)
    where = succeed(python, "-c", "import pessimism; print(pessimism.__file__)", cwd=home)
    assert Path(where.strip()).is_relative_to(home), "another installation of the package is found first"
    return home / "bin"


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = CHECKOUT / "src/pessimism"
    folders = (package, *(package / "experiment/design").iterdir())
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".json", ".yaml"}]
    names = {path.relative_to(CHECKOUT / "src").as_posix() for path in files}
    with zipfile.ZipFile(wheel) as archive:
        assert names and names - set(archive.namelist()) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version"], "pessimism "),
        (
            ["score", str(LOG), *COLUMNS],
            "2 runs, 50 measured steps",
        ),
        (["replay", "--draws", "100"], "From the published AUGC values"),
        (["plan", "--scale", "paper"], "Scale paper, protocol paper, on H100 80GB"),
        (["figures", str(CHECKOUT), "--style", "paper", "--format", "svg"], "figures/gap_paper.svg"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_work_outside_the_repository(installed: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in succeed(installed / "pessimism", *arguments, cwd=tmp_path)


@pytest.mark.slow
def test_a_run_is_loaded_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    code = f"import pessimism as ps; run = ps.load_run({str(CHECKOUT)!r}); print(ps.__version__, len(run.cells))"
    assert succeed(installed / "python", "-c", code, cwd=tmp_path).endswith(" 45\n")


def test_the_design_that_the_package_brings_is_the_projects() -> None:
    """Links, which a copy or an archive may have turned into files of their own."""
    design = CHECKOUT / "src/pessimism/experiment/design"
    files = [path for path in design.rglob("*.yaml")] + [
        path for folder in ("scales", "protocols") for path in (design / folder).glob("*.yaml")
    ]
    assert len(files) >= len([*(CHECKOUT / "scales").iterdir(), *(CHECKOUT / "protocols").iterdir()]) + 2
    for path in files:
        assert path.read_bytes() == (CHECKOUT / path.relative_to(design)).read_bytes()


def test_dvc_takes_the_link_to_the_pipeline_for_no_second_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path))
    with Repo(str(CHECKOUT)) as repo:
        assert {Path(stage.path).parent for stage in repo.index.stages} == {CHECKOUT}
