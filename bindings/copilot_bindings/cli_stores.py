"""The ``--store`` option: where the command keeps threads."""

from __future__ import annotations

import os
from pathlib import Path

from sansio_copilot import MemoryStore, ThreadStore

HELP = (
    "where threads are kept: memory, or sqlite:PATH for a file, which is made if there is none "
    "(default: {default})"
)


class UnknownStore(ValueError):
    """What was given is no store."""


def store_of(text: str) -> ThreadStore:
    """The store that ``--store`` names.

    :raises UnknownStore: if it names none.
    """
    kind, colon, where = text.partition(":")
    if kind == "memory" and not colon:
        return MemoryStore()
    if kind == "sqlite" and where:
        from .stores import SQLiteStore

        try:
            return SQLiteStore(Path(where).expanduser())
        except ValueError as error:
            raise UnknownStore(str(error)) from None
    raise UnknownStore(f"--store is memory or sqlite:PATH, not {text!r:.80}")


def demo_store() -> tuple[ThreadStore, str]:
    """The store of a demo that nobody has chosen one for, and a line that says where it is.

    It is a file among the user's data, so that conversations are there when the demo is started
    again; and memory, if there is no such place.
    """
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    path = Path(data) / "sansio-copilot" / "demo.db"
    try:
        from .stores import SQLiteStore

        path.parent.mkdir(parents=True, exist_ok=True)
        store = SQLiteStore(path)
        store.open()
    except Exception as error:
        return MemoryStore(), f"conversations are kept in memory, because {error}"
    return store, f"conversations are kept in {path} (--store memory keeps none)"
