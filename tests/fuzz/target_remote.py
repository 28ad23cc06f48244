"""Targets: what a remote agent may answer, and a recording that a client may send."""

from __future__ import annotations

import gzip
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

import httpx

from copilot_bindings.agents.http_client import CleartextResponse
from sansio_copilot import Request
from sansio_copilot.agents.remote import Fault, RemoteAgentError, RemoteRun
from sansio_copilot.endpoints.transcribe import AUDIO_TYPES, read_audio
from sansio_copilot.http.refusals import Refusal
from sansio_copilot.transcription import TranscriptionError

MAX_EVENT_BYTES = 300


def remote_stream(data: bytes) -> None:
    """However the stream of a remote agent is cut, compressed or not, it says the same."""
    whole = _said([data])
    assert _said(_bytes(data)) == whole
    assert _said(data.splitlines(keepends=True)) == whole
    assert _said([gzip.compress(data, 1)], "gzip") == whole
    events, fault = _said([data], "gzip")
    in_bytes, fault_in_bytes = _said(_bytes(data), "gzip")
    # Events in front of bytes that cannot be decompressed may have been read before the bytes
    # are, and an event there may be wrong itself.
    assert in_bytes[: len(events)] == events
    assert fault_in_bytes == fault or (fault is Fault.AGENT_BAD_ENCODING and fault_in_bytes)


def _bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _said(
    pieces: Iterable[bytes], coding: str = "identity"
) -> tuple[list[dict[str, Any]], Fault | None]:
    run, events = RemoteRun("t", "r", MAX_EVENT_BYTES), []
    head = {"content-type": "text/event-stream", "content-encoding": coding}
    assert run.refusal(200, head) is None
    try:
        for piece in pieces:
            for part in run.decoded(piece):
                for event in run.feed(part):
                    assert isinstance(event, dict)
                    events.append(event)
        run.end()
    except RemoteAgentError as error:
        return events, error.fault
    return events, None


def remote_response(data: bytes) -> None:
    """However a response is cut, it is the same one, or the same error."""
    head, body, error = _received([data])
    for pieces in (_bytes(data), data.splitlines(keepends=True)):
        same_head, in_pieces, same_error = _received(pieces)
        assert (same_head, same_error) == (head, error)
        # Bytes in front of a malformed chunk may have been read before the chunk is.
        assert in_pieces == body or (error and in_pieces.startswith(body))


def _received(pieces: Iterable[bytes]) -> tuple[Any, bytes, str | None]:
    """The head, the body, and the kind of error that ends it."""
    response = CleartextResponse(_Connection(iter(pieces)), None, [])  # type: ignore[arg-type]
    parts = []

    async def read() -> None:
        await response.begin(None)
        async for part in response.aiter_raw():
            assert part
            parts.append(part)

    error = None
    try:
        _finish(read())
    except httpx.RemoteProtocolError as problem:
        error = type(problem).__name__
    return (response.status_code, response.headers), b"".join(parts), error


class _Connection:
    """A connection on which the pieces arrive, and then its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.buffer = bytearray()
        self.until = 0.0

    async def read(self, silence: float | None) -> bytes:
        return next(self._pieces, b"")

    def close(self) -> None:
        pass


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def recording(data: bytes) -> None:
    """The first line is a Content-Type. A recording is refused with a reason, or can be read."""
    first, _, body = data.partition(b"\n")
    headers = {"content-type": first.decode("latin-1")}
    request = Request("POST", "/transcribe", headers=headers, body=body)
    try:
        audio = read_audio(request, 1000)
    except TranscriptionError as error:
        assert error.code in ("invalid_request", "invalid_audio_format")
        assert len(error.message) < 1000
    except Refusal as refusal:
        assert refusal.response.status == 413
    else:
        assert audio.size == len(audio.data) <= len(body)
        unknown = ("", "application/octet-stream")
        assert audio.mime_type.partition(";")[0].strip() in (*AUDIO_TYPES, *unknown)
        audio.filename.encode()
