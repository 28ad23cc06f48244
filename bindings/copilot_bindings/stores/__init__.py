"""Stores whose threads outlive the process: SQLite serves the processes of one machine.

PostgreSQL and Redis serve the processes of many machines.

The modules ``remote``, ``remote_runs``, ``remote_subscriber``, ``round_trips`` and ``reader_pages``
are for stores whose data are in a server, and the other modules for all stores that outlive the
process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..missing_packages import missing_extra
from .errors import StoreError
from .retention import Retention
from .sqlite import SQLiteStore

if TYPE_CHECKING:
    from .postgres import PostgresStore
    from .redis import RedisStore

__all__ = ["PostgresStore", "RedisStore", "Retention", "SQLiteStore", "StoreError"]


def __getattr__(name: str) -> Any:
    # A store that needs a package is imported when it is asked for, because the other stores do not
    # need the package.
    try:
        if name == "PostgresStore":
            from .postgres import PostgresStore

            return PostgresStore
        if name == "RedisStore":
            from .redis import RedisStore

            return RedisStore
    except ModuleNotFoundError as error:
        extra = name.removesuffix("Store").lower()
        raise missing_extra(extra, error, f"copilot_bindings.stores.{name}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
