"""The stores of the command, and the copying of threads from one store to another."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sansio_copilot import MemoryStore, ThreadStore
from sansio_copilot.calls import is_deferred
from sansio_copilot.stores import ThreadRecord
from sansio_copilot.stores.calls import StoreCall
from sansio_copilot.stores.copy_threads import (
    ThreadNotCopied,
    copy_thread,
    list_all,
    list_everyones,
)

from ..net.shown_url import without_secrets

T = TypeVar("T")

_WIDTH = 40
HELP = (
    "where threads are kept: memory; sqlite:PATH for a file, which is made if there is none; or "
    "the URL of a PostgreSQL or Redis server (default: {default})"
)


class UnknownStore(ValueError):
    """The text that a user has given names no store."""


def store_of(text: str, *, existing: bool = False) -> ThreadStore:
    """The store that ``--store`` names.

    :param existing: whether a file must be there already, because a mistyped name would otherwise
        make an empty store.
    :raises UnknownStore: if ``text`` names no store.
    """
    kind, colon, where = text.partition(":")
    if kind == "memory" and not colon:
        return MemoryStore()
    try:
        if kind == "sqlite" and where.startswith("//"):
            # Elsewhere sqlite:///threads.db is a file of the current directory, and as a path it
            # would be one of the root directory.
            raise UnknownStore(
                "--store is a path behind sqlite:, as sqlite:threads.db or sqlite:/data/app.db,"
                f" and no URL, as {without_secrets(text)!r}"
            )
        if kind == "sqlite" and where:
            from ..stores import SQLiteStore

            path = Path(where).expanduser()
            if existing and not path.exists():
                raise UnknownStore(f"there is no file {str(path)!r}")
            return SQLiteStore(path)
        if kind in ("postgres", "postgresql") and where:
            from ..stores import PostgresStore

            return PostgresStore(text)
        if kind in ("redis", "rediss", "unix") and where:
            from ..stores import RedisStore

            return RedisStore(text)
    except (ValueError, ModuleNotFoundError) as error:
        raise UnknownStore(str(error)) from None
    raise UnknownStore(
        "--store is memory, sqlite:PATH, postgresql://... or redis://..., "
        f"not {without_secrets(text)!r}"
    )


def demo_store() -> tuple[ThreadStore, str]:
    """Return the default store of the demo, and a line that says where it is.

    The store is a file among the user's data, so that conversations are there when the demo is
    started again. If there is no place for the file, the store is in memory.
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        # A relative path is to be ignored (XDG Base Directory Specification).
        data = os.path.expanduser("~/.local/share")
    path = Path(data) / "sansio-copilot" / "demo.db"
    try:
        from ..stores import SQLiteStore

        path.parent.mkdir(parents=True, exist_ok=True)
        store = SQLiteStore(path)
        store.open()
    except Exception as error:
        return MemoryStore(), f"conversations are kept in memory, because {error}"
    return store, f"conversations are kept in {path} (--store memory keeps none)"


def copy_threads(source: Any, target: Any, owner: str | None) -> int:
    """Copy all threads, and tell the progress; returns the exit status.

    :param owner: the owner of the threads; None for all threads.
    :raises StoreUnavailable: if one of the stores is unavailable. The copying may be done again.
    """
    with _opened(source, target):
        return _copy_all(source, target, owner)


def _copy_all(source: ThreadStore, target: ThreadStore, owner: str | None) -> int:
    if owner is None:
        records = _driven(list_everyones(source))
    else:
        records = [(owner, record) for record in _driven(list_all(source, owner))]
    copied = failed = 0
    # The last updated thread comes last, so that a thread's place in the list stays.
    for done, (theirs, record) in enumerate(reversed(records), 1):
        try:
            copied += _driven(copy_thread(source, target, record, theirs))
        except ThreadNotCopied as error:
            failed += 1
            print(f"\rsansio-copilot: {error}", file=sys.stderr)
        filled = done * _WIDTH // len(records)
        bar = "#" * filled + "-" * (_WIDTH - filled)
        print(f"\r[{bar}] {done:,} of {len(records):,} threads", end="", file=sys.stderr)
    if records:
        print(file=sys.stderr)
    present = len(records) - copied - failed
    print(f"copied {copied:,} threads; {present:,} were there already, {failed:,} failed")
    return 1 if failed else 0


def claim_threads(store: Any, owner_of: Callable[[ThreadRecord], str | None]) -> int:
    """Give each thread without an owner to the user whom ``owner_of`` names; returns the exit
    status.

    :param owner_of: a function of a thread's record that returns the id of a user, or None to leave
        the thread as it is.
    :raises StoreUnavailable: if the store is unavailable. The call may be made again.
    """
    with _opened(store):
        records = _driven(list_all(store, None))
        claimed = 0
        for record in records:
            owner = owner_of(record)
            if owner is not None:
                claimed += _outcome(store.claim_thread(record.thread_id, owner))
    print(f"claimed {claimed:,} threads; {len(records) - claimed:,} are still nobody's")
    return 0


@contextlib.contextmanager
def _opened(*stores: Any) -> Iterator[None]:
    for store in stores:
        if hasattr(store, "open"):
            _outcome(store.open())
    try:
        yield
    finally:
        for store in stores:
            if hasattr(store, "close"):
                _outcome(store.close())


def _driven(steps: Generator[StoreCall[Any], Any, T]) -> T:
    """Make the calls of the steps one after the other, and return what the steps return."""
    try:
        call = next(steps)
        while True:
            call = steps.send(_outcome(call.function(*call.args)))
    except StopIteration as done:
        result: T = done.value
        return result


def _outcome(answer: Any) -> Any:
    return answer.result() if is_deferred(answer) else answer
