"""A copy of the checkout with its own Git history and its own cache, in which the pipeline is small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.micro import GIT_USER, copy_tracked, make_small, set_params
from support.repository import CHECKOUT

FAN_IN = ["score_hacking", "fit_power_law", "trace_mechanism", "check_claims", "report"]

SECRETS = {
    "HF_TOKEN": "hf_planted0token0of0a0user",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED0KEY0ID00",
    "AWS_SECRET_ACCESS_KEY": "planted/secret/key/of/a/user/0123456789",
    "AWS_SESSION_TOKEN": "planted0session0token0of0a0user",
}
"""What the environment of every command holds and no file may: credentials where a user has none of their own."""


@dataclass
class Project:
    """A copy of the checkout with its own Git history and its own cache."""

    root: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        home = self.root.parent
        environment = {
            **SECRETS,
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root / 'src'}{os.pathsep}{CHECKOUT / 'tests' / 'support' / 'traced'}",
            "TRACED_PARAMS": str(home),
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        }
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    def succeed(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def dvc(self, *arguments: str) -> list[str]:
        """Run a DVC command that must succeed; return the stages it ran."""
        return re.findall(r"^Running stage '([^']+)'", self.succeed(sys.executable, "-m", "dvc", *arguments), re.M)

    def pessimism(self, *arguments: str) -> str:
        return self.succeed(sys.executable, "-m", "pessimism.cli", *arguments)

    def design(self, **changes: Any) -> None:
        set_params(self.root, **changes)

    def results(self) -> dict[str, bytes]:
        """Content of every file under metrics/ and plots/."""
        files = [path for folder in ("metrics", "plots") for path in (self.root / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}


def leaks(root: Path) -> list[str]:
    """Files below ``root`` that hold one of the planted SECRETS."""
    files = (path for path in root.rglob("*") if path.is_file())
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS.values())]


def new_project(root: Path) -> Project:
    """Copy the checkout and commit it at micro size."""
    copy_tracked(root)
    make_small(root)
    (root.parent / "gitconfig").write_text(GIT_USER)
    project = Project(root)
    project.succeed("git", "init", "-q")
    commit(project, "design")
    return project


def commit(project: Project, message: str) -> None:
    project.succeed("git", "add", "--all")
    project.succeed("git", "commit", "-q", "-m", message)
