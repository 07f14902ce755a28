"""Plant every bug and write docs/mutants.md; given words, those in files whose path holds one, and keep other rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support.mutants import MUTANTS
from support.mutants.mutant import Mutant
from support.mutants.page import PAGE, SURVIVED, key, outcomes, page
from support.project_copy import copy_tracked


def main(words: Sequence[str]) -> None:
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.path for word in words)]
    found = outcomes()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_tracked(root)
        _require_green(root, sorted({test for mutant in chosen for test in mutant.tests}))
        for mutant in chosen:
            found[key(mutant)] = _outcome(root, mutant)
            print(f"{mutant.path}: {mutant.what}: {found[key(mutant)]}", flush=True)
    PAGE.write_text(page(MUTANTS, found), encoding="utf-8")
    survivors = [mutant for mutant in chosen if found[key(mutant)] == SURVIVED]
    sys.exit(f"{len(survivors)} of {len(chosen)} bugs were not noticed" if survivors else None)


def _require_green(root: Path, tests: Sequence[str]) -> None:
    done = _pytest(root, tests)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nthe tests fail without any bug planted: mend that first")


def _outcome(root: Path, mutant: Mutant) -> str:
    path = root / "src" / "pessimism" / mutant.path
    sound = path.read_text(encoding="utf-8")
    path.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        done = _pytest(root, mutant.tests)
    finally:
        path.write_text(sound, encoding="utf-8")
    if not done.returncode:
        return f"equivalent: {mutant.equivalent}" if mutant.equivalent else SURVIVED
    noticed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[| |$)", done.stdout, re.M)
    if noticed is None:
        sys.exit(f"{done.stdout}{done.stderr}\nfound no failed test; expected one, or that all pass")
    return f"`{noticed[1]}`"


def _pytest(root: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # Bytecode is found by time and size of the source, and a bug may have the size of what it replaces.
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    paths = [f"tests/{test}" for test in tests]
    return subprocess.run([*command, *paths], cwd=root, env=environment, capture_output=True, text=True)


if __name__ == "__main__":
    main(sys.argv[1:])
