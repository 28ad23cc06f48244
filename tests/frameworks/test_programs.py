"""Two of the programs, whose frameworks come with the tests; ``make frameworks`` tries all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conformance.process import free_port
from frameworks.checks import CHECKS
from frameworks.server import model, program


@pytest.mark.parametrize("name", ["langgraph_agent", "pydantic_ai_agent"])
def test_a_program_passes_every_check(name: str, tmp_path: Path) -> None:
    """The checks share a process, because a framework takes seconds to import."""
    with (
        model() as asked,
        program(name, Path(sys.executable), asked, free_port(), tmp_path) as url,
    ):
        for check in CHECKS.values():
            check(url, asked)
