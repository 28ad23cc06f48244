"""The programs of the frameworks, as far as that can be looked at without the frameworks.

``make frameworks`` runs them, and tests/frameworks two of them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from frameworks.__main__ import NOT_THERE, names, requirements
from frameworks.checks import CHECKS

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "docs" / "examples" / "agents"
PAGE = (ROOT / "docs" / "agents.md").read_text("utf-8")
GLUE = "# The rest of this file serves the agent above.\n"
LONGEST = {"llamaindex_agent": 13, "openai_agents": 50}
"""The programs whose framework has no integration, or none that is a function of an input."""


def lines_of_glue(text: str) -> int:
    """The lines of code that the library adds, apart from imports and empty lines."""
    glue = text.partition(GLUE)[2]
    return sum(
        1 for line in glue.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )


@pytest.mark.parametrize("name", names())
def test_a_program_is_short_and_says_what_it_needs(name: str) -> None:
    text = (PROGRAMS / f"{name}.py").read_text("utf-8")
    ast.parse(text)
    assert 0 < lines_of_glue(text) <= LONGEST.get(name, 12)
    assert text.count("port=4000") == 1
    assert "--editable" in requirements(name)


@pytest.mark.parametrize("name", names())
def test_a_program_is_in_the_table_with_its_lines(name: str) -> None:
    lines = lines_of_glue((PROGRAMS / f"{name}.py").read_text("utf-8"))
    row = re.search(rf"^\| \[[^]]+\]\(examples/agents/{name}\.py\) \|.*$", PAGE, re.MULTILINE)
    assert row is not None
    cells = [cell.strip() for cell in row[0].strip("|").split("|")]
    assert cells[1] == str(lines)
    missing = {
        check for check, cell in zip(CHECKS, row_of_checks(cells), strict=False) if cell == "no"
    }
    assert missing == NOT_THERE.get(name, set())


def row_of_checks(cells: list[str]) -> list[str]:
    """The cells of the checks: they stand in the order of ``CHECKS``."""
    return cells[2 : 2 + len(CHECKS) - 1]


def test_every_name_is_that_of_a_program() -> None:
    assert set(NOT_THERE) <= set(names())
    assert all(checks <= set(CHECKS) for checks in NOT_THERE.values())
