"""A project of its first stages, which are run once and copied, and remotes for it: a directory, or an S3 server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.project_copy import Project, commit, new_project

DVC = (sys.executable, "-m", "dvc")
BUCKET = "pessimism"
# What a user would keep in .dvc/config.local: addresses and credentials are not in Git.
CREDENTIALS = {"access_key_id": "nobody", "secret_access_key": "nothing", "region": "us-east-1"}


def prepared_project(home: Path, *targets: str) -> Project:
    """A micro project of three reward models in which ``targets`` have been run."""
    project = new_project(home / "project")
    project.design(ensemble_members=[0, 1, 2])
    project.dvc("repro", *targets)
    commit(project, "prepared")
    return project


def copied(project: Project, home: Path) -> Project:
    shutil.copytree(project.root.parent, home, symlinks=True, dirs_exist_ok=True)
    return Project(home / "project")


def add_directory_remote(project: Project) -> None:
    """A directory beside the project, by a relative path, which DVC reads as relative to .dvc."""
    project.succeed(*DVC, "remote", "add", "--default", "storage", "../storage")


def add_s3_remote(project: Project, endpoint: str) -> None:
    project.succeed(*DVC, "remote", "add", "--default", "storage", f"s3://{BUCKET}/dvc")
    for option, value in {"endpointurl": endpoint, **CREDENTIALS}.items():
        project.succeed(*DVC, "remote", "modify", "--local", "storage", option, value)


@contextmanager
def s3_server() -> Iterator[str]:
    """Address of a server of the S3 protocol on this machine, with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=CREDENTIALS["access_key_id"],
            aws_secret_access_key=CREDENTIALS["secret_access_key"],
            region_name=CREDENTIALS["region"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


def start(project: Project, *command: str, **variables: str) -> subprocess.Popen[str]:
    """Like ``Project.run``, in the background, without the traces of tests/support/traced, and with ``variables``."""
    home = project.root.parent
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(project.root / "src"), str(home / "trace")]),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        **variables,
    }
    return subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
