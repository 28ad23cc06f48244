"""Writers of server-sent events for tests; the core's own writes frames of one kind only."""

from __future__ import annotations

import re

from sansio_copilot.stores import RunKey

_LINE_BREAK = re.compile(rb"\r\n|\r|\n")


def format_frame(data: bytes, event_id: str | None = None, event: str | None = None) -> bytes:
    """Return one event, ready to be sent; each line of its data has a ``data:`` line."""
    lines = [] if event_id is None else [b"id: " + event_id.encode()]
    if event is not None:
        lines.append(b"event: " + event.encode())
    lines += [b"data: " + line for line in _LINE_BREAK.split(data)]
    return b"\n".join([*lines, b"\n"])


def frame(key: RunKey, position: int | str, data: str = "{}") -> bytes:
    """Return a frame of the log of a run.

    :param position: the number of its event, or "c" and that of a compacted one.
    """
    return format_frame(data.encode(), f"{key.token}.{position}")
