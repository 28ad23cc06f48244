"""Server-sent events: every byte of a frame and of an event id, out and in.

The format is that of the HTML Standard, section 9.2 "Server-sent events"
(https://html.spec.whatwg.org/multipage/server-sent-events.html), which browsers and the AG-UI
client implement. Nothing outside of this module writes or looks for a byte of it.

A *frame* is one event as it is sent: lines, and a blank line that ends it. The frames of a run have
one data line each, with JSON, which has no line break. So a blank line is nowhere but at the end of
a frame, and an id line nowhere but at its beginning: a frame is found by searching for its id, and
no index is kept.

An event id is ``2.a1b2c3d4.17``: the run's place in its thread, a checksum of the run's own id
(both are the run's *token*, see :func:`run_token`), and the event's place in the run. Events of a
run that has been compacted are counted apart, as ``c0``, ``c1`` and so on, because they are other
events.
"""

from __future__ import annotations

import math
import re
import zlib

import attrs

#: A comment, which every client ignores, to keep an idle stream from being closed by a proxy.
HEARTBEAT = b": keep-alive\n\n"
#: The comment that opens the debug feed, as the reference's does.
CONNECTED = b": connected\n\n"

# The formats of frames are public, because a run writes thousands of frames a second and is spared
# a call for each.

#: The format of a frame without an id. Its parameter is the data.
FRAME = b"data: %s\n\n"
#: The format of an event's frame. Its parameters are the run's token, the number of the event in
#: the run, and the data.
NUMBERED_FRAME = b"id: %s.%d\ndata: %s\n\n"
#: The format of the frame of a compacted run's event. It has a format of its own, because the "c"
#: in an id tells it from the event with the same number in the run itself. The parameters are the
#: same.
COMPACTED_FRAME = b"id: %s.c%d\ndata: %s\n\n"

_END = b"\n\n"
#: A comment may follow if these are the last two bytes of a stream, because either no frame has
#: begun or the last one has ended. In the middle of a frame the comment's empty line would end it.
BETWEEN_FRAMES = (b"", _END)

_BOM = b"\xef\xbb\xbf"
# The number has at most 15 digits, because that is more milliseconds than any timer takes, and
# int() is quick with so few.
_RETRY = re.compile("[0-9]{1,15}")


def frame_data(frames: bytes) -> list[bytes]:
    """The JSON texts of whole frames with one data line each."""
    return [frame[frame.index(b"data: ") + 6 :] for frame in frames.split(_END) if frame]


class FrameData:
    """Takes the data out of frames that come in pages, cut anywhere; see :func:`frame_data`.

    A part of a frame's data is handed on at once, because one frame may be longer than many pages.

    :ivar begun: the number of frames whose data has begun.
    :ivar is_inside: whether the data of the last of these frames goes on.
    """

    __slots__ = ("_line", "begun", "is_inside")

    def __init__(self) -> None:
        # The last line of a page is kept while it is incomplete, because the next page completes
        # it.
        self._line = b""
        self.begun = 0
        self.is_inside = False

    def feed(self, frames: bytes) -> list[bytes]:
        """The JSON texts in the next page.

        If :attr:`is_inside` was true before, the first text is the rest of the one before it. If it
        is true afterwards, the last text lacks its rest.
        """
        lines = (self._line + frames).split(b"\n")
        texts = [line[6:] for line in lines if line.startswith(b"data: ")]
        self.begun += len(texts) - self.is_inside
        self.is_inside = lines[-1].startswith(b"data: ")
        self._line = b"data: " if self.is_inside else lines[-1]
        return texts


def end_of_frame(frames: bytes | bytearray, offset: int) -> int:
    """The offset behind the first frame that ends at or behind ``offset``.

    :param frames: whole frames.
    :returns: the length of ``frames`` if there is no such frame.
    """
    end = frames.find(_END, max(offset - len(_END), 0))
    return len(frames) if end < 0 else end + len(_END)


def behind_frame(frames: bytes | bytearray, event_id: str) -> int | None:
    """The offset behind the frame with ``event_id``; None if there is no such frame.

    :param frames: whole frames with one data line each.
    """
    line = b"id: %s\n" % event_id.encode("ascii", "replace")
    if frames.startswith(line):
        start = 0
    else:
        start = frames.find(b"\n" + line)
        if start < 0:
            return None
    return frames.index(_END, start + len(line)) + len(_END)


def run_token(seq: int, run_id: str) -> str:
    """The run's part of an event id: short, and free of the bytes that an id may not have.

    The checksum tells a run from another one that got its place after the store was emptied, so
    that a stale ``Last-Event-ID`` is noticed rather than resumed in the wrong run.

    :param seq: the run's place in its thread.
    :param run_id: the client's own id for the run, any text.
    """
    return f"{seq}.{zlib.crc32(run_id.encode('utf-8', 'surrogatepass')):08x}"


@attrs.frozen
class EventId:
    """The parts of an event id that a client has sent back.

    :param token: the token of its run; see :func:`run_token`.
    :param compacted: whether the event is one of a compacted run.
    """

    token: str
    compacted: bool

    @property
    def seq(self) -> int | None:
        """The run's place in its thread; None if no database can have it."""
        seq = self.token.partition(".")[0]
        return int(seq) if seq.isascii() and seq.isdecimal() and len(seq) <= 18 else None

    @classmethod
    def parse(cls, event_id: str) -> EventId | None:
        """Take an event id apart.

        :returns: None if no run can have given it to an event.
        """
        token, _, place = event_id.rpartition(".")
        if not place.removeprefix("c").isdecimal():
            return None
        return cls(token, place.startswith("c"))


@attrs.frozen
class ServerSentEvent:
    """An event as the listener of a client gets it.

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

    It need not be told of the end of the stream: an event counts when its blank line has come, and
    bytes behind the last blank line are dropped. The work is proportional to the number of bytes,
    however they are cut.

    :param max_event_bytes: the most bytes of an event, all of its lines together.
    :ivar overflowed: whether an event was longer. From there on the parser takes nothing.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_event",
        "_id",
        "_last_event_id",
        "_line",
        "_max_event_bytes",
        "_retry",
        "_size",
        "overflowed",
    )

    def __init__(self, max_event_bytes: float = math.inf) -> None:
        self._max_event_bytes = max_event_bytes
        # The size counts the bytes of those lines of the event that have ended.
        self._size = 0
        self.overflowed = False
        # The last line of the data is kept while it is incomplete, because the next call of feed()
        # completes it.
        self._line = bytearray()
        # The flag is set until the first bytes, because only these may be a byte order mark.
        self._at_start = True
        # The flag is set if the last byte was CR, because an LF behind it is part of the same line
        # end.
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id = ""
        self._retry: int | None = None
        self._last_event_id = ""

    @property
    def last_event_id(self) -> str:
        """The id to send as ``Last-Event-ID`` when reconnecting.

        The id of an event whose end has not come does not count, because it was not received.
        """
        return self._last_event_id

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the stream; return the events that they complete."""
        if not data or self.overflowed:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        # bytes.splitlines() breaks lines at CR, LF and CRLF and, unlike that of str, nowhere else.
        # Neither byte is part of a longer UTF-8 sequence, so that decoding can wait for whole
        # lines.
        lines = data.splitlines()
        rest = b"" if data.endswith((b"\r", b"\n")) or not lines else lines.pop()
        events = []
        for line in lines:
            if self._line:
                self._line += line
                line, self._line = bytes(self._line), bytearray()
            self._size += len(line)
            if self._size > self._max_event_bytes:
                break
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        self._line += rest
        self._overflow_if_large()
        return events

    def _overflow_if_large(self) -> None:
        if self._size + len(self._line) > self._max_event_bytes:
            self.overflowed = True
            # The beginning of an event is dropped, because it is of no use without the rest.
            self._line, self._data = bytearray(), []

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
                # The line is a comment, whose name is empty, or a field from the future.
                pass
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self._last_event_id = self._id
        data, event, retry = self._data, self._event or "message", self._retry
        self._data, self._event, self._retry, self._size = [], "", None, 0
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event, self._last_event_id, retry)
