"""Server-sent events: frames out, and an incremental parser in.

The format is that of the HTML Standard, section 9.2 "Server-sent events"
(https://html.spec.whatwg.org/multipage/server-sent-events.html), which browsers and the AG-UI
client implement.
"""

from __future__ import annotations

import re

import attrs

#: A comment, which every client ignores, to keep an idle stream from being closed by a proxy.
HEARTBEAT = b": keep-alive\n\n"

_LINE_BREAK = re.compile(rb"\r\n|\r|\n")
_NOT_IN_ID = re.compile("[\0\r\n]")
_NOT_IN_EVENT = re.compile("[\r\n]")
_BOM = b"\xef\xbb\xbf"
# Fifteen digits are more milliseconds than any timer takes, and few enough for int() to be quick.
_RETRY = re.compile("[0-9]{1,15}")


def format_frame(data: bytes, event_id: str | None = None, event: str | None = None) -> bytes:
    """One event, ready to be sent.

    :param data: the content in UTF-8; JSON, so one line as a rule. A line break in it begins
        another ``data:`` line, and is LF for the reader, whatever it was.
    :param event_id: what the client sends back as ``Last-Event-ID`` when it reconnects; ``""``
        makes it forget the last one.
    :param event: the event type, ``message`` if None.
    :raises ValueError: if ``event_id`` has a NUL or a line break, ``event`` a line break, or
        either a lone surrogate: none of it could be read back, and a line break would let
        whoever chose the id write events of their own.
    """
    lines = []
    if event_id is not None:
        if _NOT_IN_ID.search(event_id):
            raise ValueError("an event id cannot have a NUL, CR or LF")
        lines.append(b"id: " + event_id.encode())
    if event is not None:
        if _NOT_IN_EVENT.search(event):
            raise ValueError("an event type cannot have a CR or LF")
        lines.append(b"event: " + event.encode())
    if b"\n" in data or b"\r" in data:
        lines += [b"data: " + line for line in _LINE_BREAK.split(data)]
    else:
        lines.append(b"data: " + data)
    lines.append(b"\n")
    return b"\n".join(lines)


def frame_data(frames: bytes) -> list[bytes]:
    """The JSON texts of whole frames that :func:`format_frame` has made of one line each."""
    return [frame[frame.index(b"data: ") + 6 :] for frame in frames.split(b"\n\n") if frame]


@attrs.frozen
class ServerSentEvent:
    """An event as a client's listener sees it.

    :param data: the data lines, joined with LF.
    :param event: its type.
    :param id: the last event id of the stream up to here; an event that has none inherits it.
    :param retry: the reconnection time in milliseconds that came with this event, if one did.
    """

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class Parser:
    """Turns a byte stream, cut anywhere, into events.

    It needs no end: an event counts when its blank line has come, and what is left after the
    last one is to be dropped, so a caller whose stream ends just stops. Work is proportional to
    the number of bytes, however they are cut.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_event",
        "_id",
        "_last_event_id",
        "_line",
        "_retry",
    )

    def __init__(self) -> None:
        self._line = bytearray()  # an unfinished line
        self._at_start = True  # a byte order mark may still come
        self._after_cr = False  # an LF now belongs to the CR before it
        self._data: list[str] = []
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._last_event_id = ""

    @property
    def last_event_id(self) -> str:
        """What to send as ``Last-Event-ID`` when reconnecting.

        The id of an event whose end has not come does not count: it was not received.
        """
        return self._last_event_id

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the stream; return the events that they complete."""
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        # bytes.splitlines() knows CR, LF and CRLF and, unlike that of str, nothing else. None
        # of them is part of a longer UTF-8 sequence, so decoding can wait for whole lines.
        lines = data.splitlines()
        rest = b"" if data.endswith((b"\r", b"\n")) or not lines else lines.pop()
        events = []
        for line in lines:
            if self._line:
                self._line += line
                line, self._line = bytes(self._line), bytearray()
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        self._line += rest
        return events

    def _take_line(self, line: bytes) -> ServerSentEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value
            case b"id" if "\0" not in value:
                self._id = value
            case b"retry" if _RETRY.fullmatch(value):
                self._retry = int(value)
            case _:
                pass  # a comment (its name is empty) or a field from the future
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self._last_event_id = self._id
        data, event, retry = self._data, self._event or "message", self._retry
        self._data, self._event, self._retry = [], "", None
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event, self._last_event_id, retry)
