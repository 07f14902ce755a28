"""Several stages of a DVC project at a time: the order they run in, what is kept, and what a plain run would leave."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pessimism.commands import repro as command
from pessimism.errors import ParamsError
from pessimism.experiment.params import load_params
from pessimism.fanout import side_by_side
from pessimism.fanout.errors import FanoutError
from pessimism.machine import cores, resources
from support.quick_cells import until
from support.repository import CHECKOUT, Edit

CELL = "sh cell.sh"
# A cell says that it has started, does what it was told, and writes what it read.
SCRIPT = """touch cell-$1.started
if [ -e meet ]; then until [ -e cell-$((1 - $1)).started ]; do sleep 0.05; done; fi
if [ -e slow-$1 ]; then sleep "$(cat slow-$1)"; fi
if [ -e fail-$1 ]; then echo "cell $1 does not want to"; exit 3; fi
cat first.txt > cell-$1.txt
"""
STAGES: dict[str, Any] = {
    "last": {"cmd": "cat cell-0.txt cell-1.txt > last.txt", "deps": ["cell-0.txt", "cell-1.txt"], "outs": ["last.txt"]},
    "first": {"cmd": "head -1 source > first.txt", "deps": ["source"], "outs": ["first.txt"]},
    "cell": {
        "matrix": {"n": [0, 1]},
        "cmd": f"{CELL} ${{item.n}}",
        "deps": ["first.txt"],
        "outs": ["cell-${item.n}.txt"],
    },
}


def dvc(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("new")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    (root / "cell.sh").write_text(SCRIPT)
    (root / "source").write_text("one\ntwo\n")
    for arguments in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(arguments, cwd=root, check=True)
    return root


@pytest.fixture
def small(new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a stage, two cells that read it and one stage that reads both, in the working directory."""
    root = tmp_path / "small"
    shutil.copytree(new, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    return root


def started(lines: list[str]) -> list[str]:
    return [line.removesuffix(" started") for line in lines if line.endswith(" started")]


def test_cells_run_at_one_time_and_a_stage_after_those_it_reads(small: Path) -> None:
    (small / "meet").touch()  # each cell waits until the other has started
    lines = list(command.repro(2))
    assert started(lines) == ["first", "cell@0", "cell@1", "last"]
    assert lines.index("last started") > max(lines.index(line) for line in lines if "cell@" in line)
    assert (small / "last.txt").read_text() == "one\none\n"
    assert "4 of 4 stages ran" in lines[-1]


def test_no_more_than_the_jobs_run_at_one_time(small: Path) -> None:
    lines = [line.partition(" after")[0] for line in command.repro(1)][1:-1]
    names = ["first", "cell@0", "cell@1", "last"]
    assert lines == [line for name in names for line in (f"{name} started", f"{name} finished")]


def test_the_lock_becomes_that_of_a_plain_run_whichever_cell_ends_first(small: Path) -> None:
    dvc("repro")
    plain = (small / "dvc.lock").read_bytes()
    (small / "dvc.lock").unlink()
    shutil.rmtree(small / ".dvc/cache")
    (small / "slow-0").write_text("4")
    lines = list(command.repro(2))
    ends = [line.partition(" ")[0] for line in lines if " finished" in line]
    assert ends.index("cell@1") < ends.index("cell@0")
    assert (small / "dvc.lock").read_bytes() == plain


def test_entries_of_the_lock_keep_their_places(small: Path) -> None:
    dvc("repro", "cell@1")
    dvc("repro", "cell@0")
    shutil.copytree(small, small.parent / "plain")
    dvc("--cd", str(small.parent / "plain"), "repro")
    list(command.repro(2))
    assert list(yaml.safe_load((small / "dvc.lock").read_text())["stages"]) == ["first", "cell@1", "cell@0", "last"]
    assert (small / "dvc.lock").read_bytes() == (small.parent / "plain/dvc.lock").read_bytes()


def test_what_is_up_to_date_starts_no_process(small: Path) -> None:
    list(command.repro(2))
    lines = list(command.repro(2))
    assert started(lines) == [] and "0 of 4 stages ran" in lines[-1]
    (small / "source").write_text("one\nthree\n")  # of which `first` makes what it made before
    assert started(list(command.repro(2))) == ["first"]
    (small / "source").write_text("four\n")
    assert started(list(command.repro(2))) == ["first", "cell@0", "cell@1", "last"]
    assert "up to date" in dvc("repro")


def test_a_failure_starts_no_other_and_what_ended_is_kept(small: Path) -> None:
    (small / "fail-0").touch()
    (small / "slow-1").write_text("3")
    with pytest.raises(FanoutError, match=r"cell@0 failed(.|\n)*cell 0 does not want to"):
        list(command.repro(2))
    assert list(yaml.safe_load((small / "dvc.lock").read_text())["stages"]) == ["first", "cell@1"]
    (small / "fail-0").unlink()
    assert started(list(command.repro(2))) == ["cell@0", "last"]


def test_a_failure_leaves_cells_that_have_not_started_alone(small: Path) -> None:
    (small / "fail-0").touch()
    with pytest.raises(FanoutError, match="cell@0 failed"):
        list(command.repro(1))
    assert not (small / "cell-1.started").exists()


def test_a_failure_leaves_a_free_place_free(small: Path) -> None:
    stages = {**STAGES, "cell": {**STAGES["cell"], "matrix": {"n": [0, 1, 2]}}}
    (small / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (small / "fail-0").touch()
    (small / "slow-1").write_text("3")
    with pytest.raises(FanoutError, match="cell@0 failed"):
        list(command.repro(2))
    assert (small / "cell-1.txt").exists() and not (small / "cell-2.started").exists()


def below(root: Path) -> list[psutil.Process]:
    """Processes at work in a project, but for this one."""
    found = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(root)]
    return [process for process in found if process.pid != os.getpid()]


def heed_signals() -> None:
    """In a driver before it starts: of tests that run in the background it inherits that they are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_no_process_and_loses_nothing(small: Path, number: signal.Signals) -> None:
    for cell in (0, 1):
        (small / f"slow-{cell}").write_text("600")
    driver = subprocess.Popen(
        [sys.executable, "-m", "pessimism.cli", "repro", "--jobs", "2"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "src")},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    try:
        until(lambda: (small / "cell-0.started").exists() and (small / "cell-1.started").exists())
        driver.send_signal(number)
        _, printed = driver.communicate(timeout=60)
        left = below(small)
    finally:
        for process in [driver, *below(small)]:
            process.kill()
    assert driver.returncode == 130 and "interrupted" in printed
    assert left == []
    for cell in (0, 1):
        (small / f"slow-{cell}").unlink()
    assert started(list(command.repro(2))) == ["cell@0", "cell@1", "last"]


def test_a_driver_that_is_killed_leaves_no_process_and_loses_nothing(small: Path) -> None:
    """It can end nothing itself, and its stages are in process groups of their own."""
    for cell in (0, 1):
        (small / f"slow-{cell}").write_text("600")
    driver = subprocess.Popen(
        [sys.executable, "-m", "pessimism.cli", "repro", "--jobs", "2"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "src")},
        start_new_session=True,
        preexec_fn=heed_signals,
    )
    try:
        until(lambda: (small / "cell-0.started").exists() and (small / "cell-1.started").exists())
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        until(lambda: below(small) == [], seconds=15)  # less than what those get that do not heed an interrupt
    finally:
        for process in [driver, *below(small)]:
            process.kill()
    for cell in (0, 1):
        (small / f"slow-{cell}").unlink()
    assert started(list(command.repro(2))) == ["cell@0", "cell@1", "last"]


@pytest.mark.parametrize("cut", ["in a hash", "in a name", "in the first entry", "at its start"])
@pytest.mark.parametrize("copied", [True, False])
def test_a_lock_whose_writing_was_cut_off_loses_no_stage(small: Path, cut: str, copied: bool) -> None:
    """DVC writes it in place, and a full disk ends that anywhere. Results that its cache holds need no copy of it."""
    list(command.repro(2))
    lock, copy = small / "dvc.lock", small / ".dvc/tmp/repro/dvc.lock"
    whole = lock.read_text()
    end = {
        "in a hash": whole.rindex("md5: ") + 15,
        "in a name": whole.rindex("    outs:") + 6,
        "in the first entry": whole.index("md5: "),
        "at its start": 0,
    }
    lock.write_text(whole[: end[cut]])
    if not copied:
        copy.unlink()
    for cell in (0, 1):
        (small / f"cell-{cell}.started").unlink()
    lines = list(command.repro(2))
    assert not (small / "cell-0.started").exists() and not (small / "cell-1.started").exists()
    assert not copied or started(lines) == []
    assert lock.read_text() == whole


def test_a_file_of_paths_at_work_that_was_cut_off_is_in_nobodys_way(small: Path) -> None:
    list(command.repro(2))
    (small / "source").write_text("another\n")
    (small / ".dvc/tmp/rwlock").write_text("")
    assert "unable to read" in subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True
    ).stderr.lower().replace("\n", " ")
    lines = list(command.repro(2))
    assert ".dvc/tmp/rwlock: removed, its text was cut off" in lines
    assert started(lines) == ["first", "cell@0", "cell@1", "last"]


def test_what_does_not_end_when_interrupted_is_killed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_GRACE_SECONDS", 0.5)
    (small / "cell.sh").write_text("trap '' INT\ntouch cell-$1.started\nsleep 600\n")
    lines = command.repro(2)
    while next(lines) != "cell@1 started":
        pass
    until(lambda: (small / "cell-0.started").exists() and (small / "cell-1.started").exists())
    try:
        lines.close()  # type: ignore[attr-defined]
        until(lambda: below(small) == [], seconds=20)
    finally:
        for process in below(small):
            process.kill()


def test_the_number_of_jobs_is_checked(small: Path) -> None:
    with pytest.raises(ParamsError, match="--jobs: found 0; expected 1 or more"):
        list(command.repro(0))


def test_one_job_per_core_and_one_where_the_scale_fills_a_gpu(project: Path, edit: Edit, monkeypatch: Any) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 7)
    assert command.default_jobs(load_params()) == 7
    assert command.default_jobs(load_params(scale="paper")) == 1


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "350000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000"}, 1),
        ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("", {}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text(lines)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(f"{text}\n")
    assert cores.usable() == expected


def test_a_system_without_affinity_has_all_of_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(resources, "OWN_CGROUP", tmp_path / "none")
    assert cores.usable() == 6


@pytest.mark.parametrize(("load", "warns"), [(0.2, False), (1.4, False), (1.6, True), (9.0, True)])
def test_a_busy_machine_is_named_once(monkeypatch: pytest.MonkeyPatch, load: float, warns: bool) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    warning = cores.busy_warning()
    assert bool(warning) == warns
    assert not warning or re.fullmatch(rf"warning: found a load of {load} on 2 core\(s\).*", warning)
