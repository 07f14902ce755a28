"""Nothing imports from above: the floors stand in CONTRIBUTING.md, and every module has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.floors import DEPTH, FLOORS, SCRIPTS, circle, climbing, room_of
from support.import_closure import SOURCE, imports, libraries
from support.repository import CHECKOUT, python_files

FILES = [file for folder in ("src", *SCRIPTS) for file in python_files(folder)]
FORMS = [
    "import {}",
    "from {} import anything",
    "def late():\n    import {}",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import anything",
]


def dotted(room: str) -> str:
    return room if room in SCRIPTS else f"pessimism.{room}"


def plant(root: Path, room: str, text: str, name: str = "planted") -> Path:
    """A module in ``room`` below ``root``: a file in its folder, or the room's only file."""
    home = root / room if room in SCRIPTS else root / "src/pessimism" / room
    file = home.with_suffix(".py") if (SOURCE / f"pessimism/{room}.py").exists() else home / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_every_folder_and_file_has_a_floor_and_every_floor_exists() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} == set(DEPTH)
    assert sum(map(len, FLOORS)) == len(DEPTH), "a room stands on two floors"


def test_data_flows_down() -> None:
    assert climbing(FILES) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle(python_files("src"), SOURCE) == []


def test_the_package_imports_nothing_of_its_own_before_any_room_does() -> None:
    assert not [name for name in imports(SOURCE / "pessimism/__init__.py") if name.startswith("pessimism")]


@pytest.mark.parametrize("room", DEPTH)
def test_a_room_may_import_what_is_below_and_nothing_beside_or_above(room: str, tmp_path: Path) -> None:
    below = [other for other in DEPTH if DEPTH[other] > DEPTH[room]]
    others = [other for other in DEPTH if other not in (*below, room)]
    file = plant(tmp_path, room, "".join(f"import {dotted(other)}\n" for other in DEPTH))
    assert sorted(climbing([file], tmp_path)) == sorted(
        f"{file.relative_to(tmp_path)} imports {dotted(other)}" for other in others
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_import_is_seen(form: str, tmp_path: Path) -> None:
    assert climbing([plant(tmp_path, "measures", form.format("pessimism.planning.plan"))], tmp_path)
    files = [plant(tmp_path, "data", form.format(f"pessimism.data.{other}"), name) for name, other in ("ab", "ba")]
    assert circle(files, tmp_path / "src") and not circle(files[:1], tmp_path / "src")


@pytest.mark.parametrize("stage", sorted(path.stem for path in python_files("stages")))
def test_a_stage_starts_no_other_program(stage: str) -> None:
    """What runs next to it is behind DVC's back, such as a command of the console script."""
    assert libraries(CHECKOUT / "stages" / f"{stage}.py").isdisjoint({"subprocess", "runpy"})


def test_modules_are_found_by_name_in_few_places() -> None:
    """No import statement shows them to DVC: those of the stages are told by hand (tests/support/stage_code.py).

    The package itself and its measures are attributes for a notebook (``__init__.py``), which no stage asks for.
    """
    texts = [(file.name, file.read_text(encoding="utf-8")) for file in python_files("src")]
    finders = {name for name, text in texts if "importlib" in text.replace("importlib.metadata", "")}
    assert finders == {"__init__.py", "cli.py", "extensions.py", "problems.py", "resident.py"}
