"""Experiments beside one another, and what a switch did to the results."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pessimism import cli
from pessimism.commands import effects, experiments
from pessimism.commands.experiments import Run
from pessimism.experiment import layout, records
from support.endings import refused

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid")
DVC = (sys.executable, "-m", "dvc")
PAPER = str(layout.protocol_file("paper"))
VERDICTS: dict[str, Any] = {
    "C1": {"verdict": "contradicted", "verdict_paper": "insufficient", "estimate": -18.9, "p": 0.0003},
    "C2": {"verdict": "supported", "verdict_paper": "supported", "estimate": -0.01, "p": 0.001},
    "C9": {"verdict": "insufficient", "verdict_paper": "insufficient", "estimate": None, "p": None},
    "C10": {"verdict": "supported", "verdict_paper": "insufficient", "estimate": None, "p": None},
    "total": {"verdict": "falls with beta", "estimate": -18.949, "p": 0.0003},
    "offline": {"verdict": "undecided", "estimate": -4.705, "p": 0.06},
    "coupling": {"verdict": "undecided", "estimate": None, "p": None},
}
HACKING = {"augc": {"p20": 33.72645, "p50": 1.9, "p80": 0.00805}, "onset_fraction": 0.5}


def write(verdicts: dict[str, Any], hacking: dict[str, Any], **switches: Any) -> None:
    records.write_json(layout.VERDICTS, verdicts)
    records.write_json(layout.HACKING, hacking)
    records.write_text(Path(PAPER), yaml.safe_dump({"gap_baseline": "first_batch", "top_p": 0.95} | switches))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of DVC whose last commit holds a run, with one experiment that turned a switch."""
    monkeypatch.chdir(tmp_path)
    files = {"params": ["params.yaml", PAPER], "metrics": [str(layout.VERDICTS), str(layout.HACKING)]}
    Path("dvc.yaml").write_text(yaml.safe_dump(files))
    Path("params.yaml").write_text("scale: tiny\nseeds: [0, 1]\n")
    write(VERDICTS, HACKING)
    for command in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "t"),
        ("config", "user.email", "t@e.invalid"),
    ):
        subprocess.run((*GIT, *command), check=True)
    for command in ((*DVC, "init", "-q"), (*GIT, "add", "."), (*GIT, "commit", "-qm", "run")):
        subprocess.run(command, check=True)
    turned = VERDICTS | {"C1": VERDICTS["C1"] | {"verdict": "supported", "verdict_paper": "supported"}}
    write(turned, HACKING | {"augc": {"p20": 1.0, "p50": 2.0, "p80": 3.0}}, gap_baseline="heldout")
    subprocess.run((*DVC, "exp", "save", "-q", "--name", "heldout"), check=True)
    return tmp_path


def test_a_row_says_what_was_changed_and_what_came_of_it(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["experiments", "--csv", "runs.csv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*experiments.HEADER]
    assert lines[1].split()[:3] == ["workspace", "gap_baseline:", "heldout"], "the working tree still holds it"
    commit = next(line.split() for line in lines if line.startswith("main "))
    assert commit[2:] == ["33.7", "to", "0.00805", "-18.9*", "-4.71", "C2", "C2p", "C1"]
    row = next(place for place, line in enumerate(lines) if line.startswith("  heldout "))
    assert " ".join(lines[row].split()) == "heldout gap_baseline: heldout 1 to 3 -18.9* -4.71 C1 C1p C2"
    assert lines[row + 1].split() == ["C2p", "C10"]
    assert lines[row + 2].startswith(f"changed: parameters that are not those of {' '.join(commit[:2])};")
    with Path("runs.csv").open() as opened:
        rows = {row["run"]: row for row in csv.DictReader(opened)}
    assert rows["heldout"]["gap_baseline"] == "heldout" and rows["heldout"]["C1.verdict"] == "supported"
    assert float(rows[" ".join(commit[:2])]["augc.p20"]) == HACKING["augc"]["p20"]
    assert "top_p" not in rows["heldout"], "only parameters that differ have a column"


def invented(name: str, params: dict[str, Any], **metrics: Any) -> Run:
    read = {str(layout.VERDICTS): metrics.get("verdicts", {}), str(layout.HACKING): metrics.get("hacking", {})}
    return Run(name, name, "", metrics.get("state", ""), params, read)


def test_a_line_has_120_characters_whatever_it_holds() -> None:
    many = {f"{kind}{number}.verdict": outcome for kind in "CB" for number in range(1, 12) for outcome in ["supported"]}
    areas = {"augc.b10.0": 1234.5, "augc.b2.7": -0.00012345, "augc.b0.1": -0.00056789}
    long = {f"section.parameter_{number}": [1, 2] for number in range(9)}
    runs = [
        invented("main 1234567", {"params.yaml": dict.fromkeys(long, 0)}),
        invented("  a-name-of-more-than-twenty-four-letters", {"params.yaml": long}, verdicts=many, hacking=areas),
        invented("  queued", {"params.yaml": long}, state="queued"),
    ]
    text = experiments.table(runs)
    assert max(map(len, text.splitlines())) <= 120
    assert "-0.000568 to" in text and "1234" in text, "values of beta are in the order of their numbers"
    assert "queued (queued)" in text and text.index(" C11") > text.index(" C2 ")


def test_files_of_another_scale_are_not_compared() -> None:
    tiny = invented(
        "main", {"params.yaml": {"scale": "tiny"}, "scales/tiny.yaml": {"steps": 1}, "metrics/grid.json": {"p": 1}}
    )
    large = invented(
        "x", {"params.yaml": {"scale": "large"}, "scales/large.yaml": {"steps": 9}, "metrics/grid.json": {"p": 2}}
    )
    assert experiments.changes(large, tiny) == {"scale": "large"}
    same = invented("y", {"params.yaml": {"scale": "tiny"}, "scales/tiny.yaml": {"steps": 9}})
    assert experiments.changes(same, tiny) == {"steps": 9}


def test_bad_options_are_refused(repository: Path) -> None:
    with refused() as revision:
        cli.main(["experiments", "nosuch"])
    assert "`dvc exp show` failed" in revision.message and "nosuch" in revision.message
    with refused() as file:
        cli.main(["experiments", "--csv", "runs.txt"])
    assert file.message == "error: --csv: found runs.txt; expected a file that ends in .csv"


def test_what_a_switch_did() -> None:
    unchanged = {path: {} for path in effects.METRICS} | {layout.VERDICTS: VERDICTS, layout.HACKING: HACKING}
    turned = VERDICTS | {
        "C1": VERDICTS["C1"] | {"verdict": "insufficient", "verdict_paper": "supported", "estimate": 1}
    }
    moved = HACKING | {"augc": {"p20": 33.72646, "p50": 2.0, "p80": 0.00805}}
    found = unchanged | {layout.VERDICTS: turned, layout.HACKING: moved}
    assert effects.effect("gap_baseline: heldout", unchanged, found).splitlines() == [
        "gap_baseline: heldout",
        "  turns C1 contradicted -> insufficient; C1 (paper) insufficient -> supported",
        "  moves 2 of 6 numbers: hacking.augc 33.7 1.9 0.00805 -> 33.7 2 0.00805; C1.estimate -18.9 -> 1",
    ]
    nothing = effects.effect("top_p: 1", unchanged, unchanged)
    assert nothing == "top_p: 1\n  turns none of 11 verdicts\n  moves 0 of 6 numbers"
