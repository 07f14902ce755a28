"""Disturb the micro pipeline, and write what it cost into docs/chaos.md.

python -m benchmarks.chaos             # 50 disturbances: every stage at work, and 20 results
python -m benchmarks.chaos --seed 1    # others; only the default's table is written
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from benchmarks.chaos import checks, disk, page
from benchmarks.chaos.disturb import IN_CACHE, Account, Disturbed
from benchmarks.chaos.plan import FULL_DISK, Disturbance, plan
from benchmarks.chaos.project import Project

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="of the plan (default: %(default)s)")
    seed = parser.parse_args().seed
    refused = disk.enter_namespace("benchmarks.chaos")
    if refused:
        print(f"no disk is filled: {refused}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        accounts = run(Path(folder), seed, with_disk=refused is None)
    print(page.summary(accounts))
    if seed == SEED:
        page.write(accounts, seed, refused)
    sys.exit(not all(account.is_clean for account in accounts))


def run(folder: Path, seed: int, with_disk: bool) -> list[Account]:
    """One undisturbed run, then one that is disturbed as planned; prints each account."""
    undisturbed = Project(folder / "undisturbed", folder / "notes-undisturbed")
    disturbed = Project(folder / "disturbed", folder / "notes-disturbed")
    with disk.mounted(disturbed.home) if with_disk else nullcontext():
        for project in (undisturbed, disturbed):
            project.make()
        undisturbed.succeed("pessimism", "repro", "--resident")
        planned = plan(list(checks.lock_entries(undisturbed.root)), cached_of(undisturbed), seed)
        chosen = [disturbance for disturbance in planned if with_disk or disturbance.kind != FULL_DISK]
        try:
            return disturb(Disturbed(disturbed, undisturbed, checks.files(undisturbed)), chosen)
        finally:
            checks.orphans(disturbed)


def cached_of(project: Project) -> list[str]:
    """Stages with an output in DVC's cache."""
    entries = checks.lock_entries(project.root)
    return [name for name, entry in entries.items() if any(out["path"].startswith(IN_CACHE) for out in entry["outs"])]


def disturb(disturbed: Disturbed, planned: list[Disturbance]) -> list[Account]:
    """Disturb a project as planned; the stages at work first, then the results of the whole run."""
    for number, disturbance in enumerate(planned, start=1):
        if number > 1 and disturbance.is_of_result and not planned[number - 2].is_of_result:
            disturbed.go_on()
        print(f"{number} of {len(planned)}: {disturbance}", flush=True)
        disturbed.disturb(disturbance)
        for account in disturbed.accounts[-2:]:
            if not account.is_clean:
                print(f"  found {account}", flush=True)
    if not planned[-1].is_of_result:
        disturbed.go_on()
    disturbed.close()
    return disturbed.accounts


if __name__ == "__main__":
    main()
