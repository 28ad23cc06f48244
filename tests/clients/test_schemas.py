"""The schemas of the core are those that the npm packages of the clients check with."""

from __future__ import annotations

import difflib
import re
import subprocess
from pathlib import Path

import pytest

from sansio_copilot.events.client_schema_texts import V0_0_59, V1_0_0

HERE = Path(__file__).parent


def definitions(text: str) -> list[str]:
    """Return one definition a line, however it was wrapped, in the order of their names."""
    return sorted(" ".join(lines.split()) for lines in re.split(r"\n(?=\w+ = )", text.strip()))


@pytest.mark.parametrize(("generation", "text"), [("0", V0_0_59), ("1", V1_0_0)])
def test_the_schemas_are_those_of_the_client(generation: str, text: str) -> None:
    printed = subprocess.run(
        ["node", "schemas.mjs", generation],
        cwd=HERE,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    ).stdout
    changes = list(difflib.unified_diff(definitions(text), definitions(printed), lineterm="", n=0))
    assert not changes, "\n".join(changes)
