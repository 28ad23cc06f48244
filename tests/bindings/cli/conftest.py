"""The fixture that every test of the command has."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's file is among the data of a user who has none yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
