"""Conversions of ids, names and owners to the values that databases take, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sansio_copilot.stores.protocol import ThreadOwner, ThreadRecord, UnknownCursor


def to_text(text: str) -> str | bytes:
    """Return ``text`` as a database takes it: as bytes if it has lone surrogates, which UTF-8 has
    no form for."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_text(value: str | bytes) -> str:
    """Return the string that :func:`to_text` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def to_bytes(text: str) -> bytes:
    """Return ``text`` as bytes, for a server whose texts may have neither NUL nor lone
    surrogates."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """Return the string that :func:`to_bytes` was given."""
    return data.decode("utf-8", "surrogatepass")


def owner_to_bytes(owner: str | None) -> bytes:
    """Return an owner as bytes, in which no owner differs from an owner with an empty id."""
    return b"-" if owner is None else b"o" + to_bytes(owner)


def number_of(cursor: str | None) -> int:
    """Return the number that a cursor stands for; 0 for no cursor.

    :raises UnknownCursor: for a cursor that is no number.
    """
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise UnknownCursor("the cursor is none that this store has given out")
    return int(cursor)


def owner_from_bytes(data: bytes) -> ThreadOwner:
    """Return the owner that :func:`owner_to_bytes` was given."""
    return ThreadOwner(None if data == b"-" else from_bytes(data[1:]))


def record_of_row(row: tuple[Any, ...], text_of: Callable[[Any], str]) -> ThreadRecord:
    """Return the line of a list that a row of a thread stands for.

    :param row: the thread's id and agent, seconds of its creation and its last update, its name,
        whether it is archived, and what it waits for.
    :param text_of: the inverse of the function by which the database was given texts.
    """
    thread_id, agent_id, created_at, updated_at, name, archived, waits_for = row
    return ThreadRecord(
        text_of(thread_id),
        text_of(agent_id),
        created_at,
        updated_at,
        None if name is None else text_of(name),
        bool(archived),
        waits_for,
    )
