"""Verdicts are metrics of DVC: a few scalars per claim, so that `dvc metrics diff` shows a verdict that turned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pessimism.claims.statements import CLAIMS
from pessimism.claims.verdict_metrics import verdict_metrics
from pessimism.claims.wording import DOORS
from pessimism.experiment import layout, records
from support.repository import CHECKOUT
from support.stage_code import BODIES

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return dict(records.read_json(CHECKOUT / layout.CLAIMS))


def test_every_claim_and_contrast_is_there_in_scalars(record: dict[str, Any]) -> None:
    found = verdict_metrics(record)
    assert set(found) == {claim.name for claim in CLAIMS} | set(DOORS)
    scalars = [value for numbers in found.values() for value in numbers.values()]
    assert all(value is None or isinstance(value, (str, float)) for value in scalars)


def test_the_p_is_the_one_that_decides(record: dict[str, Any]) -> None:
    found, primary = verdict_metrics(record), record["claims"]["C1"]["controlled"]
    assert primary["verdict"] == "contradicted" and found["C1"]["p"] == primary["p_opposite_adjusted"] < 0.05
    entropy = record["claims"]["C2"]["controlled"]
    assert entropy["verdict"] == "supported" and found["C2"]["p"] == entropy["p_adjusted"] < 0.05
    assert found["C2"]["verdict_paper"] == "insufficient"
    assert found["coupling"]["p"] == record["contrasts"]["coupling"]["p_falls"] < 0.05


def test_what_was_not_tested_has_no_number(record: dict[str, Any]) -> None:
    absent = {"verdict": "undecided", "estimate": None, "p_rises": None, "p_falls": None}
    found = verdict_metrics({**record, "contrasts": dict.fromkeys(DOORS, absent)})
    assert found["offline"] == {"verdict": "undecided", "estimate": None, "p": None}
    assert found["C9"] == {"verdict": "insufficient", "verdict_paper": "insufficient", "estimate": None, "p": None}


def test_dvc_shows_a_verdict_that_turned(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strings, numbers and nulls, as the pipeline's own entry of metrics declares them."""
    declared = BODIES["check_claims"]["metrics"]
    assert declared == [{str(layout.VERDICTS): {"cache": False}}]
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(yaml.safe_dump({"metrics": [path for entry in declared for path in entry]}))
    before, after = verdict_metrics(record), verdict_metrics(record)
    records.write_json(layout.VERDICTS, before)
    for command in ((*GIT, "init", "-q"), (*DVC, "init", "-q"), (*GIT, "add", "."), (*GIT, "commit", "-qm", "run")):
        subprocess.run(command, check=True)
    after["C1"] |= {"verdict": "insufficient", "p": 0.5}
    after["C4"] |= {"estimate": None}
    records.write_json(layout.VERDICTS, after)
    shown = subprocess.run((*DVC, "metrics", "diff", "--json"), check=True, capture_output=True, text=True).stdout
    changed = json.loads(shown)[str(layout.VERDICTS)]
    assert changed["C1.verdict"] == {"old": "contradicted", "new": "insufficient"}
    assert changed["C1.p"]["new"] == 0.5 and changed["C4.estimate"]["new"] is None
    assert changed.keys() == {"C1.verdict", "C1.p", "C4.estimate"}


DVC = (sys.executable, "-m", "dvc")
