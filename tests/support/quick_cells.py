"""Reward models that are trained in no time, fanned out: what their training does, and what of it really ran."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.remote_project import Project, add_directory_remote, copied, prepared_project, start

MEMBERS = [f"train_reward_model@0-{member}" for member in range(3)]
FANOUT = (sys.executable, "-m", "pessimism.cli", "fanout")

# Noted by every Python that runs a stage, wherever it runs: which, by which process, where, on which GPUs, from when.
TRACE = """
import json, os, time
if "DVC_STAGE" in os.environ:
    line = [os.environ["DVC_STAGE"], os.getpid(), os.getcwd(), os.environ.get("CUDA_VISIBLE_DEVICES"), time.time()]
    with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "trace.jsonl"), "a") as file:
        file.write(json.dumps(line) + "\\n")
"""
# A training in no time, for what is about jobs and not about training. A member does first what the plan says of it.
QUICK = """
import json, os, sys, time
from pathlib import Path
home = Path({home!r})
member = sys.argv[-1]
def wait_for_member_2():
    while "train_reward_model@0-2" not in (home / "trace.jsonl").read_text():
        time.sleep(0.1)
match json.loads((home / "plan.json").read_text()).get(member):
    case "fail": sys.exit(f"error: member {{member}} does not want to")
    case "hang": time.sleep(600)
    case "slow": time.sleep(6)
    case "until 2": wait_for_member_2()
    case "beyond 2": wait_for_member_2(); time.sleep(15)
out = Path("models/reward/s0") / f"member-{{member}}"
out.mkdir(parents=True)
(out / "adapter.txt").write_text(member)
"""


def traced_project(home: Path) -> Project:
    """A project whose reward models can be trained, and whose stages note where they run."""
    project = prepared_project(home, "prepare_data", "prepare_base", "sample_pairs")
    (project.root.parent / "trace").mkdir()
    (project.root.parent / "trace/sitecustomize.py").write_text(TRACE)
    return project


@contextmanager
def quick_project(prepared: Project, home: Path) -> Iterator[Project]:
    """A copy whose reward models are trained in no time, by a script that no commit holds."""
    project = copied(prepared, home)
    (project.root / "stages/train_reward_model.py").write_text(QUICK.format(home=str(home)))
    plan(project)
    add_directory_remote(project)
    yield project
    for process in psutil.process_iter(["cwd"]):  # where a test fails, its jobs would go on
        if (process.info["cwd"] or "").startswith(str(home)):
            process.kill()


def plan(project: Project, **members: str) -> None:
    """What a member that is trained from now on does, given as m0, m1, m2."""
    content = {member.removeprefix("m"): word for member, word in members.items()}
    (project.root.parent / "plan.json").write_text(json.dumps(content))


def executions(project: Project) -> list[tuple[str, int, str, str, float]]:
    """What cells ran, as noted by the processes themselves."""
    path = project.root.parent / "trace.jsonl"
    noted = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [tuple(line) for line in noted if line[0] in MEMBERS]


def counts(project: Project) -> dict[str, int]:
    return dict(Counter(stage for stage, *_ in executions(project)))


def run(project: Project, *options: str, **variables: str) -> tuple[int, str]:
    process = start(project, *FANOUT, "train_reward_model", *options, **variables)
    try:
        printed, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, printed


def until(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def stage_process(project: Project, cell: str) -> psutil.Process:
    (pid,) = [pid for stage, pid, *_ in executions(project) if stage == cell]
    return psutil.Process(pid)
