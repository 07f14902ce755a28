"""The bugs that `make mutants` plants can be planted, and docs/mutants.md says what noticed each."""

from __future__ import annotations

import ast
from functools import cache

from support.mutants import MUTANTS
from support.mutants.page import PAGE, key, outcomes, page
from support.repository import CHECKOUT


@cache
def names(file: str) -> set[str]:
    """Tests of a file."""
    tree = ast.parse((CHECKOUT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_bug_has_one_place_and_changes_it() -> None:
    for mutant in MUTANTS:
        text = (CHECKOUT / "src" / "pessimism" / mutant.path).read_text()
        assert text.count(mutant.old) == 1 and mutant.new != mutant.old, key(mutant)
        ast.parse(text.replace(mutant.old, mutant.new))


def test_the_tests_that_shall_notice_it_exist() -> None:
    for mutant in MUTANTS:
        files = [test.partition("::") for test in mutant.tests]
        missing = [file for file, _, name in files if name and name not in names(file)]
        assert files and not missing and all((CHECKOUT / "tests" / file).is_file() for file, *_ in files), key(mutant)


def test_the_page_says_what_noticed_each() -> None:
    """All but those that change nothing were noticed, by one of their own tests."""
    found = outcomes()
    assert len(MUTANTS) >= 60 and len(found) == len(MUTANTS)
    for mutant in MUTANTS:
        if mutant.equivalent:
            assert found[key(mutant)] == f"equivalent: {mutant.equivalent}"
        else:
            noticed = found[key(mutant)].strip("`")
            assert any(noticed == test or noticed.startswith(f"{test}::") for test in mutant.tests), key(mutant)
    assert PAGE.read_text(encoding="utf-8") == page(MUTANTS, found), "docs/mutants.md is stale: make mutants"
