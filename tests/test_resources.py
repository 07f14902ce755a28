"""What a machine lacks is refused, and what it has is measured where containers limit it."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from pessimism.errors import ResourceError
from pessimism.machine import resources
from pessimism.machine.resources import GIB, DiskNeed

Usage = namedtuple("Usage", "total used free")


def disk_of(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(100 * GIB, 0, int(free * GIB)))


def test_needs_of_one_disk_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [DiskNeed(tmp_path, GIB, "outputs"), DiskNeed(tmp_path / "not/yet/there", 28 * GIB, "the download of a/b")]
    disk_of(monkeypatch, 29.0)
    resources.check_disk(needs)
    disk_of(monkeypatch, 28.5)
    with pytest.raises(ResourceError) as raised:
        resources.check_disk(needs)
    text = str(raised.value)
    assert "found 28.5 GiB free on the disk of" in text and "expected at least 29.0 GiB" in text
    assert "28.0 GiB below" in text and "for the download of a/b" in text and "HF_HOME" in text


def test_disks_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc stands for another disk; it is full from the start."""
    resources.check_disk([DiskNeed(Path("/"), 0, "outputs"), DiskNeed(Path("/proc"), 0, "nothing")])
    with pytest.raises(ResourceError, match="free on the disk of /proc"):
        resources.check_disk([DiskNeed(Path("/"), 0, "outputs"), DiskNeed(Path("/proc"), 1, "a byte")])


def test_a_scale_for_a_gpu_is_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    resources.check_device("auto")
    with pytest.raises(
        ResourceError, match=r"found no CUDA device .*CUDA_VISIBLE_DEVICES=7.*the scale says `device: cuda`"
    ):
        resources.check_device("cuda")


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        resources.check_device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ResourceError, match=r"found 2 CUDA device\(s\); expected one for each of the 4 processes"):
        resources.check_device("cuda")


def test_memory_is_that_of_this_processes_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: ((10 + index) * GIB, 80 * GIB))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a GPU")
    monkeypatch.setenv("LOCAL_RANK", "1")
    resources.check_memory(11 * GIB, "the weights of policy")
    with pytest.raises(ResourceError, match=r"found 11.0 GiB free on GPU 1 \(a GPU\); expected at least 11.1 GiB"):
        resources.check_memory(int(11.1 * GIB), "the weights of policy")


def test_processes_share_the_memory_of_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(resources, "free_ram", lambda: 8 * GIB)
    resources.check_memory(8 * GIB, "the weights of policy")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ResourceError, match="found 4.0 GiB free in this machine's memory"):
        resources.check_memory(5 * GIB, "the weights of policy")


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "OWN_CGROUP", tmp_path / "own")
    return tmp_path / "cgroup"


def group(directory: Path, limit: str, usage: int, cache: int, names: tuple[str, str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / names[0]).write_text(f"{limit}\n")
    (directory / names[1]).write_text(f"{usage}\n")
    (directory / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_a_container_of_version_2_limits_memory_at_each_level(cgroups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/job/step\n")
    group(cgroups / "job/step", "max", 900, 0, V2)
    assert resources.free_ram() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    group(cgroups / "job", "1000", 900, 300, V2)
    assert resources.free_ram() == 400
    group(cgroups / "job/step", "950", 900, 100, V2)
    assert resources.free_ram() == 150


def test_a_container_of_version_1_sees_its_own_group_at_the_root(cgroups: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("3:cpuset:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    group(cgroups / "memory", "5000", 4500, 1000, V1)
    assert resources.free_ram() == 1500
    group(cgroups / "memory", "5000", 7000, 0, V1)
    assert resources.free_ram() == 0


def test_no_control_groups_no_limit(cgroups: Path) -> None:
    assert resources.free_ram() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
