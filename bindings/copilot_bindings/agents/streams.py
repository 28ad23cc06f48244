"""From the bytes of a response to AG-UI events: decompressed, cut into events, and checked.

Each step is bounded. Compressed bytes become at most a piece of plain ones at a time, so that a
small response does not become a large one in memory, and an event that has grown past the bound
ends the stream before it is whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from sansio_copilot import json_codec
from sansio_copilot.sse import Parser

from .failures import UpstreamError

_PIECE = 64 * 1024
"""Bytes that are decompressed at a time."""
_GZIP_OR_ZLIB = 47
"""The window size of zlib by which it finds out by itself which of the two formats it reads."""
_SHOWN = 200
_DONE = "[DONE]"
_TERMINAL = ("RUN_FINISHED", "RUN_ERROR")


class EventReader:
    """Makes events of the bytes of a response.

    :ivar terminal: whether the run has ended.
    :param encoding: the response's ``content-encoding``.
    :param max_event_bytes: the longest event, in bytes of its frame.
    :raises UpstreamError: for an encoding that was not asked for.
    """

    def __init__(self, thread_id: str, run_id: str, encoding: str, max_event_bytes: float) -> None:
        self._ids = {"threadId": thread_id, "runId": run_id}
        self._most = max_event_bytes
        self._parser = Parser(max_event_bytes)
        self._is_compressed = encoding in ("gzip", "x-gzip", "deflate")
        if not self._is_compressed and encoding not in ("", "identity"):
            raise UpstreamError("AGENT_BAD_ENCODING", f"content-encoding {encoding[:_SHOWN]!r}")
        self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
        self.terminal = False

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The events that the next bytes complete.

        :raises UpstreamError: for anything that is none.
        """
        for piece in self._pieces(data):
            for frame in self._parser.feed(piece):
                if frame.data.strip() != _DONE:
                    yield self._event(frame.data)
            if self._parser.overflowed:
                raise UpstreamError("AGENT_EVENT_TOO_LARGE", f"it has over {self._most:,.0f} bytes")

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if not self._is_compressed:
            yield data
            return
        while data:
            if self._decompressor.eof:
                # Another member of the same file begins (RFC 1952, section 2.2).
                self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                piece = self._decompressor.decompress(data, _PIECE)
            except zlib.error as error:
                raise UpstreamError("AGENT_BAD_ENCODING", str(error)) from None
            data = self._decompressor.unconsumed_tail or self._decompressor.unused_data
            yield piece

    def _event(self, text: str) -> dict[str, Any]:
        try:
            event = json_codec.decode(text.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise UpstreamError("AGENT_BAD_EVENT", f"{error}: {text[:_SHOWN]!r}") from None
        if not isinstance(event, dict):
            raise UpstreamError("AGENT_BAD_EVENT", f"expected an object, got {text[:_SHOWN]!r}")
        if event.get("type") in _TERMINAL:
            self.terminal = True
        self._check_run(event)
        return event

    def _check_run(self, event: Mapping[str, Any]) -> None:
        if event.get("type") not in ("RUN_STARTED", *_TERMINAL):
            return
        for name, own in self._ids.items():
            theirs = event.get(name, own)
            if theirs != own:
                seen = f"{event['type']} has {name} {str(theirs)[:_SHOWN]!r}, asked for {own!r}"
                raise UpstreamError("AGENT_WRONG_RUN", seen)
