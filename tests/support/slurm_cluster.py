"""A SLURM of one node on this machine: controller, daemon, accounting and a database, in a directory of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("munged", "mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
"""In the order in which they start; each writes its number to run/NAME.pid."""
GPUS = 2
_SECONDS = 120.0
_PASSWORD = "x"  # of a database that only this machine reaches, and that ends with the tests

SLURM_CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
KillWait=2
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmctldPidFile={home}/run/slurmctld.pid
SlurmdPidFile={home}/run/slurmd.pid
SlurmdSpoolDir={home}/spool
StateSaveLocation={home}/state
SlurmctldLogFile={home}/log/slurmctld.log
SlurmdLogFile={home}/log/slurmd.log
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={home}/munge/socket
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={gpus} RealMemory=1000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
LogFile={home}/log/slurmdbd.log
PidFile={home}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass={password}
StorageLoc=accounting
"""
DATABASE = f"""
create database accounting;
create user slurm@'127.0.0.1' identified by '{_PASSWORD}';
create user slurm@localhost identified by '{_PASSWORD}';
grant all on accounting.* to slurm@'127.0.0.1';
grant all on accounting.* to slurm@localhost;
"""


def missing() -> str | None:
    """Why no cluster can be started here; None where one can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if absent:
        return f"found no {', '.join(absent)}: needs the packages slurm-wlm, munge, slurmdbd and mariadb-server"
    return None if os.geteuid() == 0 else "SLURM's daemons start jobs as other users: needs root"


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Cluster:
    """The cluster's directory. Its configuration is found through the variables of ``environment``."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.home / "etc/slurm.conf"), "PATH": _path()}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**os.environ, **self.environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )

    def succeed(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, daemon: str) -> None:
        """Start one of ``DAEMONS`` (slurmctld with the jobs that it had) and wait for its number."""
        home = self.home
        munge = home / "munge"
        options = {
            "munged": [f"--socket={munge}/socket", f"--key-file={munge}/key", f"--log-file={munge}/log",
                       f"--seed-file={munge}/seed", f"--pid-file={home}/run/munged.pid", "--num-threads=2"],
            "mariadbd": ["--no-defaults", "--user=root", f"--datadir={home}/mysql", f"--socket={home}/run/mysql",
                         f"--pid-file={home}/run/mariadbd.pid", "--bind-address=127.0.0.1",
                         f"--port={self._port('mariadbd')}", "--innodb-buffer-pool-size=64M"],
        }  # fmt: skip
        with (home / f"log/{daemon}.out").open("a") as log:
            started = subprocess.Popen(
                [daemon, *options.get(daemon, [])],
                env={**os.environ, **self.environment},
                cwd=home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def runs() -> bool:
            assert not started.poll(), f"{daemon} ended: {(home / f'log/{daemon}.out').read_text()}"
            return self.process(daemon) is not None

        until(runs, daemon)

    def stop(self, daemon: str) -> None:
        process = self.process(daemon)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            with suppress(psutil.TimeoutExpired):
                process.wait(15)
            if process.is_running():
                process.kill()

    def process(self, daemon: str) -> psutil.Process | None:
        """The daemon, as far as the number that it wrote still is its own."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.home / f"run/{daemon}.pid").read_text()))
            if process.name() == daemon and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _port(self, daemon: str) -> str:
        return (self.home / f"etc/{daemon}.port").read_text()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster whose only node is idle. Afterwards its daemons have ended and its directory is gone."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as directory:
        made = Cluster(Path(directory))
        made.home.chmod(0o755)  # munged insists that everyone reaches its socket
        _configure(made.home)
        try:
            for daemon in DAEMONS:
                _before(made, daemon)
                made.start(daemon)
            until(lambda: made.run("sinfo", "--noheader", "--format=%T").stdout.strip() == "idle", "an idle node")
            yield made
        finally:
            made.run("scancel", "--state=RUNNING", "--signal=KILL", "--full", "--me")
            for daemon in reversed(DAEMONS):
                made.stop(daemon)


def _configure(home: Path) -> None:
    for folder in ("etc", "run", "state", "spool", "log", "munge", "mysql", "gpu"):
        (home / folder).mkdir()
    host = socket.gethostname().partition(".")[0]
    ports = dict(zip(("mariadbd", "slurmdbd", "slurmctld", "slurmd"), free_ports(4), strict=True))
    for daemon, port in ports.items():
        (home / f"etc/{daemon}.port").write_text(str(port))
    facts = {"home": home, "host": host, "gpus": GPUS, "password": _PASSWORD, **ports}
    for gpu in range(GPUS):  # a device like /dev/null: for regular files SLURM sets no CUDA_VISIBLE_DEVICES
        os.mknod(home / f"gpu/nvidia{gpu}", 0o600 | 0o020000, os.makedev(1, 3))
    files = {
        "slurm.conf": SLURM_CONF.format(**facts),
        "slurmdbd.conf": SLURMDBD_CONF.format(**facts),
        "gres.conf": f"NodeName={host} Name=gpu File={home}/gpu/nvidia[0-{GPUS - 1}]\n",
    }
    for name, text in files.items():
        (home / "etc" / name).write_text(text)
        (home / "etc" / name).chmod(0o600)
    (home / "munge/key").write_bytes(secrets.token_bytes(128))
    (home / "munge/key").chmod(0o600)


def _before(made: Cluster, daemon: str) -> None:
    """What must be there when the daemon starts."""
    home = made.home
    if daemon == "mariadbd":
        made.succeed("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={home}/mysql", "--skip-test-db",
                     "--auth-root-authentication-method=socket")  # fmt: skip
    if daemon == "slurmdbd":
        client = ("mariadb", "--no-defaults", f"--socket={home}/run/mysql", "--execute")
        until(lambda: made.run(*client, "select 1").returncode == 0, "the database")
        made.succeed(*client, DATABASE)
    if daemon == "slurmctld":
        until(lambda: made.run("sacctmgr", "--immediate", "add", "cluster", "one").returncode == 0, "the accounting")


def free_ports(count: int) -> Sequence[int]:
    """Ports of this machine that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


def until(condition: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.2)
