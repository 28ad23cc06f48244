"""Each mutant can still be planted, and a mutant that survives is told."""

from __future__ import annotations

import ast
from pathlib import Path

import attrs
import pytest
from mutations.mutants import MUTANTS, Mutant
from mutations.planted import ROOT, Survived, check_caught, planted_text


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_planted(mutant: Mutant) -> None:
    """The text to be replaced stands there once, its replacement is Python, and the tests exist."""
    planted = planted_text(mutant, ROOT)
    assert planted != (ROOT / mutant.file).read_text()
    compile(planted, mutant.file, "exec")
    assert mutant.caught_by
    for id in mutant.caught_by:
        file, *names = id.partition("[")[0].split("::")
        scope = ast.parse((ROOT / file).read_text()).body
        for name in names:
            (found,) = (one for one in scope if getattr(one, "name", None) == name)
            scope = getattr(found, "body", [])


def test_each_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


# --- Who plants them ------------------------------------------------------------------------------

TESTS = """
import pytest
from added import add

def test_add():
    assert add(1, 2) == 3

@pytest.mark.parametrize("number", [0, 1])
def test_add_nothing(number):
    assert add(number, 0) == number

def test_of_something_else():
    pass
"""


UNUSED = ("langsmith_plugin", "anyio", "hypothesispytest", "xdist")
"""Plugins whose imports would take most of the time of the few tests above."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    options = " ".join(f"-p no:{plugin}" for plugin in UNUSED)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = {options}\n")
    (tmp_path / "added.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_added.py").write_text(TESTS)
    return tmp_path


NOTICE = ["test_added.py::test_add", "test_added.py::test_add_nothing"]
MINUS = Mutant("minus", "it subtracts", "added.py", "a + b", "a - b - 1", NOTICE)


def test_a_mutant_that_its_tests_notice_is_caught(project: Path) -> None:
    check_caught(MINUS, project)
    assert (project / "added.py").read_text() == "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"replacement": "b + a"}, "it subtracts.*passes test_added.py::test_add, "),
        (
            {"caught_by": [*NOTICE, "test_added.py::test_of_something_else"]},
            r"\) passes test_added.py::test_of_something_else\n",
        ),
        ({"caught_by": ["test_added.py::test_nothing"]}, "cannot run test_added.py::test_nothing"),
    ],
    ids=["harmless", "one of three", "no such test"],
)
def test_a_mutant_that_they_do_not_notice_survives(
    project: Path, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(Survived, match=told):
        check_caught(attrs.evolve(MINUS, **changes), project)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "count"), [("a * b", 0), ("a", 3)])
def test_a_text_that_is_not_there_once_is_an_error(project: Path, text: str, count: int) -> None:
    with pytest.raises(LookupError, match=f"minus: found {count} times in added.py"):
        check_caught(attrs.evolve(MINUS, text=text), project)
