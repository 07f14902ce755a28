"""Scripts that run as forks of one process: they see, write and end as in an interpreter of their own."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pessimism.errors import ParamsError, ResourceError
from pessimism.fanout import resident
from pessimism.machine import hand_over
from support.quick_cells import until
from support.repository import CHECKOUT

SCRIPT = """'''What a script sees.'''
import os, sys
from pessimism.machine import hand_over
hand_over.to_resident()
"""
TELL = """
import json
print(json.dumps([sys.argv, sys.path[0], os.getcwd(), __name__, __doc__, input(), "seen" in vars(os)]))
print("mistaken", file=sys.stderr)
os.seen = True
"""
LOADED = f"""
loaded = [library for library in {resident.LIBRARIES} if library in sys.modules]
print(loaded, sorted(name for name in sys.modules if name.startswith('pessimism')))
"""
OWN = ["pessimism", "pessimism.errors", "pessimism.machine", "pessimism.machine.hand_over"]
WAIT = """
import signal, time
signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(8))
try:
    print(os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, and a resident; of tests that run in the background it would inherit that interrupts are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(CHECKOUT / "src"))
        with resident.started():
            yield tmp_path_factory.mktemp("scripts")
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hand_over.ADDRESS)


def command(home: Path, code: str, *arguments: str) -> list[str]:
    (home / "code").mkdir(exist_ok=True)
    (home / "code/script.py").write_text(SCRIPT + code)
    return [sys.executable, "code/script.py", *arguments]


def run(home: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, code, *arguments), cwd=home, input="said\n", capture_output=True, text=True, timeout=120
    )


def heed_hang_ups() -> None:
    """Of tests that run in the background a script would inherit that they are ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def opened(home: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A script that waits: the interpreter that DVC would start, and the fork."""
    process = subprocess.Popen(
        command(home, WAIT),
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_hang_ups,
    )
    assert process.stdout
    return process, psutil.Process(int(process.stdout.readline()))


def test_a_script_sees_what_it_would_see_alone_and_nothing_of_those_before(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [run(home, TELL, "--seed", "1") for _ in range(2)]
    monkeypatch.delenv(hand_over.ADDRESS)
    by_itself = run(home, TELL, "--seed", "1")
    for one in there:
        assert (one.stdout, one.stderr, one.returncode) == (by_itself.stdout, "mistaken\n", 0)
    expected = [["code/script.py", "--seed", "1"], str(home / "code"), str(home), "__main__", "What a script sees."]
    assert json.loads(by_itself.stdout) == [*expected, "said", False]


def test_the_libraries_are_there_and_the_project_is_read_anew(home: Path) -> None:
    assert run(home, LOADED).stdout == f"{[*resident.LIBRARIES]} {sorted([*OWN, 'pessimism.fanout'])}\n"


def test_what_every_stage_imports_hands_it_over(home: Path) -> None:
    code = f"import sys\nfrom pessimism.checks import stage\nprint({resident.LIBRARIES[2]!r} in sys.modules)"
    (home / "stage.py").write_text(code)
    told = subprocess.run([sys.executable, "stage.py"], cwd=home, capture_output=True, text=True, timeout=120)
    assert (told.stdout, told.stderr) == ("True\n", "")


def test_its_environment_is_that_of_the_script_without_the_way_to_the_resident(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE", "cell@1")
    code = "import json\nprint(json.dumps(dict(os.environ)))"
    there = json.loads(run(home, code).stdout)
    monkeypatch.delenv(hand_over.ADDRESS)
    assert there == json.loads(run(home, code).stdout) and there["STAGE"] == "cell@1"


def test_without_a_resident_the_script_runs_by_itself(home: Path, alone: None) -> None:
    assert run(home, LOADED).stdout == f"{[]} {OWN}\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), 15)", -15),
        ("os.kill(os.getpid(), 9)", -9),
        ("raise ValueError('no')", 1),
        ("pass", 0),
    ],
)
def test_it_ends_as_the_script_does(home: Path, code: str, status: int) -> None:
    ended = run(home, code)
    assert ended.returncode == status
    assert ("ValueError: no" in ended.stderr) == ("ValueError" in code)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, -15), (signal.SIGHUP, 8)])
def test_signals_are_passed_on(home: Path, number: signal.Signals, status: int) -> None:
    process, fork = opened(home)
    try:
        process.send_signal(number)
        assert process.wait(timeout=30) == status
        until(lambda: not fork.is_running(), seconds=10)
    finally:
        process.kill()


def test_a_fork_is_killed_with_the_interpreter_that_handed_it_over(home: Path) -> None:
    process, fork = opened(home)
    process.kill()
    process.wait()
    try:
        until(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE, seconds=10)
    finally:
        fork.kill()


def test_a_fork_is_killed_with_the_process_that_watches_over_it(home: Path) -> None:
    process, fork = opened(home)
    attendant = fork.parent()
    assert attendant
    attendant.kill()
    until(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE, seconds=10)
    assert process.wait(timeout=10) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_resident_ends_with_its_driver(tmp_path: Path, alone: None, number: signal.Signals) -> None:
    """The driver leaves its socket behind."""
    code = "import time\nfrom pessimism.fanout import resident\nwith resident.started():\n    time.sleep(600)"
    driver = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)})
    until(lambda: bool(psutil.Process(driver.pid).children()), seconds=30)
    (left,) = psutil.Process(driver.pid).children()
    driver.send_signal(number)
    driver.wait()
    until(lambda: not left.is_running(), seconds=30)


def test_a_resident_that_has_no_script_is_not_waited_for(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports for seconds before it would see that nothing is left to do."""
    begun: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **others: begun.append(popen(*args, **others)) or begun[-1])
    with resident.started():
        pass
    assert begun[0].returncode == -signal.SIGTERM


def test_a_temporary_directory_too_long_for_a_socket_is_refused(
    alone: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ("long" * 30)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    with (
        pytest.raises(ResourceError, match=r"found no way to make .*too long.*; expected .*TMPDIR"),
        resident.started(),
    ):
        pass


def test_an_answer_that_does_not_come_is_told(home: Path) -> None:
    """Who watches the fork is gone, as where memory was short."""
    process = subprocess.Popen(
        command(home, WAIT), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout and process.stderr
    fork = psutil.Process(int(process.stdout.readline()))
    attendant = fork.parent()
    assert attendant
    attendant.kill()
    assert process.wait(timeout=30) == 1
    fork.kill()  # it holds the pipe open
    assert "has ended (no answer); expected" in process.stderr.read()


def test_a_signal_to_a_script_that_has_just_ended_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(hand_over, "_SIGNALS", (signal.SIGUSR1,))
    before = signal.getsignal(signal.SIGUSR1)
    try:
        hand_over._pass_signals_on(ended.pid)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_resident_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(hand_over.ADDRESS, str(tmp_path / "gone"))
    with pytest.raises(ResourceError, match=r"has ended \(.*No such file.*\); expected it to outlive them: run"):
        hand_over.to_resident()


def test_another_environment_is_refused(home: Path) -> None:
    order = {"library": "/other/lib/site-packages"}
    with pytest.raises(ResourceError, match=r"packages in /other/lib/.*; expected .*: activate one environment"):
        resident._check(order, resident._packages())


def test_another_name_of_the_same_python_is_not(home: Path) -> None:
    """A run begun by `python3` has stages whose commands say `python`."""
    for name in ("python", "python3"):
        python = Path(sys.prefix) / "bin" / name
        told = subprocess.run([python, *command(home, "print('ran')")[1:]], cwd=home, capture_output=True, text=True)
        assert (told.stdout, told.stderr) == ("ran\n", "")


@pytest.mark.parametrize("name", ["new-1.0.dist-info", "old-1.0.dist-info"])
def test_changed_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One that is new, and one whose version is installed again."""
    monkeypatch.setattr(sysconfig, "get_path", lambda kind: str(tmp_path))
    (tmp_path / "old-1.0.dist-info").mkdir()
    order, before = {"library": str(tmp_path)}, resident._packages()
    resident._check(order, before)
    (tmp_path / name).mkdir(exist_ok=True)
    os.utime(tmp_path / name, ns=(1, 1))
    with pytest.raises(ResourceError, match="found packages that were installed or removed"):
        resident._check(order, before)


def test_a_thread_of_a_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has the thread that forked alone: what waited for another would wait for ever."""
    monkeypatch.setattr(resident, "LIBRARIES", ("json",))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with pytest.raises(ResourceError, match=r"--resident: found \d+ threads after the imports; expected 1"):
            resident.serve(socket.socket())
    finally:
        gc.enable()
        ended.set()
        thread.join()


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(ParamsError, match="--resident: found .*; expected Linux: leave it out"), resident.started():
        pass
