"""Targets: server-sent events and JSON."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from support.sse_frames import format_frame

from sansio_copilot import json_codec as codec
from sansio_copilot.sse import Parser, ServerSentEvent


def sse(data: bytes) -> None:
    """However a stream is cut its events are the same, and each survives being framed again."""
    events, parser = _parse([data])
    for pieces in ([data[at : at + 1] for at in range(len(data))], data.splitlines(True)):
        again, other = _parse(pieces)
        assert again == events
        assert other.last_event_id == parser.last_event_id
    framed = b"".join(format_frame(event.data.encode(), event.id, event.event) for event in events)
    expected = [ServerSentEvent(event.data, event.event, event.id) for event in events]
    assert _parse([framed])[0] == expected
    # Line breaks of any kind are LF to the reader if they are data of an event.
    (event,), _ = _parse([format_frame(data)])
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("utf-8", "replace")
    assert event.data == text


def _parse(pieces: list[bytes]) -> tuple[list[ServerSentEvent], Parser]:
    parser = Parser()
    return [event for piece in pieces for event in parser.feed(piece)], parser


def json_codec(data: bytes) -> None:
    """Any bytes are a value or a ValueError; a value is written on one line and read again."""
    try:
        value = codec.decode(data)
    except ValueError:
        assert _is_refused(data), "the standard library reads it"
        return
    with suppress(RecursionError):
        assert _same(json.loads(data.decode("utf-8-sig", "replace")), value)
    try:
        text = codec.encode(value)
    except ValueError as error:
        assert "nested" in str(error)
        return
    assert b"\n" not in text
    assert b"\r" not in text
    again = codec.decode(text)
    assert codec.encode(again) == text


def _is_refused(data: bytes) -> bool:
    try:
        json.loads(data.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return True
    return False


def _refuse(name: str) -> None:
    raise ValueError(name)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
