"""The machine of a remote agent: bytes in, events or a fault out, however the bytes are cut."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from ag_ui.core import RunAgentInput

from sansio_copilot.agents.remote import (
    Fault,
    RemoteAgentError,
    RemoteRun,
    capabilities_in,
    capabilities_request,
    request,
)
from sansio_copilot.testing import run_input

IDS = {"threadId": "t1", "runId": "r1"}
WHOLE: list[dict[str, Any]] = [
    {"type": "RUN_STARTED", **IDS},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Grüße 🎉"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "RUN_FINISHED", **IDS},
]
SSE = {"content-type": "text/event-stream"}


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def remote(coding: str | None = None, max_event_bytes: float = 1000) -> RemoteRun:
    run = RemoteRun("t1", "r1", max_event_bytes)
    headers = SSE if coding is None else {**SSE, "content-encoding": coding}
    assert run.refusal(200, headers) is None
    return run


def fed(run: RemoteRun, stream: bytes, size: int) -> list[dict[str, Any]]:
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    return [event for piece in pieces for part in run.decoded(piece) for event in run.feed(part)]


def fault(run: RemoteRun, stream: bytes) -> RemoteAgentError:
    try:
        fed(run, stream, 7)
        run.end()
    except RemoteAgentError as error:
        return error
    pytest.fail("nothing was wrong")


def test_a_request_has_the_input_and_the_headers_of_the_context() -> None:
    asked = request(
        RunAgentInput.model_validate(run_input("t1", "r1", state={"a": None, "\ud800": 1})),
        {"authorization": "Bearer x", "accept": "text/html"},
    )
    assert asked.method == "POST"
    assert json.loads(asked.body) == run_input("t1", "r1", state={"a": None, "\ud800": 1})
    assert asked.headers == {
        "authorization": "Bearer x",
        "accept": "text/event-stream",
        "accept-encoding": "gzip, deflate",
        "content-type": "application/json",
    }


@pytest.mark.parametrize(
    ("coding", "stream"),
    [
        (None, sse(*WHOLE)),
        ("identity", b"\xef\xbb\xbf: hi\r\n\r\n" + sse(*WHOLE).replace(b"\n", b"\r\n")),
        ("GZip", gzip.compress(sse(*WHOLE[:2])) + gzip.compress(sse(*WHOLE[2:]))),
        ("x-gzip", gzip.compress(sse(*WHOLE))),
        ("deflate", zlib.compress(sse(*WHOLE) + b"data: [DONE]\n\n")),
    ],
)
def test_a_stream_is_the_same_however_it_is_cut(coding: Any, stream: bytes) -> None:
    for size in range(1, len(stream) + 1):
        run = remote(coding)
        assert fed(run, stream, size) == WHOLE
        assert run.has_ended
        run.end()


def test_a_stream_of_several_runs_has_ended_when_the_last_has() -> None:
    run = remote()
    again = [*WHOLE, WHOLE[0]]
    assert fed(run, sse(*again), 50) == again
    assert not run.has_ended


@pytest.mark.parametrize(
    ("status", "headers", "expected", "more"),
    [
        (204, {}, Fault.AGENT_NOT_A_STREAM, ""),
        (200, {}, Fault.AGENT_NOT_A_STREAM, ""),
        (200, {"content-type": "text/html"}, Fault.AGENT_NOT_A_STREAM, ""),
        (302, {"location": "http://internal/"}, Fault.AGENT_REDIRECTED, " (HTTP 302)"),
        (401, {}, Fault.AGENT_UNAUTHORIZED, " (HTTP 401)"),
        (403, {}, Fault.AGENT_UNAUTHORIZED, " (HTTP 403)"),
        (404, {}, Fault.AGENT_REFUSED, " (HTTP 404)"),
        (409, {}, Fault.AGENT_BUSY, " (HTTP 409)"),
        (429, {"retry-after": "7"}, Fault.AGENT_BUSY, " (HTTP 429); try again in 7 s"),
        (429, {"retry-after": "9" * 9}, Fault.AGENT_BUSY, " (HTTP 429)"),
        (500, {}, Fault.AGENT_FAILED, " (HTTP 500)"),
        (503, {"retry-after": "Fri, 27 Nov 2026 18:00:00 GMT"}, Fault.AGENT_BUSY, " (HTTP 503)"),
    ],
)
def test_a_head_that_no_stream_follows_is_a_fault(
    status: int, headers: dict[str, str], expected: Fault, more: str
) -> None:
    assert RemoteRun("t1", "r1", 1000).refusal(status, headers) == (expected, more)


def test_a_media_type_is_known_by_its_type_alone() -> None:
    headers = {"content-type": "Text/Event-Stream ; charset=utf-8"}
    assert RemoteRun("t1", "r1", 1000).refusal(200, headers) is None


def test_a_coding_that_was_not_asked_for_is_a_fault() -> None:
    with pytest.raises(RemoteAgentError) as caught:
        RemoteRun("t1", "r1", 1000).refusal(200, {**SSE, "content-encoding": "br\x1b[2J"})
    assert caught.value.fault is Fault.AGENT_BAD_ENCODING
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("stream", "expected", "seen"),
    [
        (b"", Fault.AGENT_INCOMPLETE, "RUN_FINISHED"),
        (sse(*WHOLE)[:-1], Fault.AGENT_INCOMPLETE, "RUN_FINISHED"),
        (b"data: [1]\n\n", Fault.AGENT_BAD_EVENT, "expected an object, got '[1]'"),
        (b"data: {\n\n", Fault.AGENT_BAD_EVENT, "'{'"),
        (b"data: {" + b" " * 1000, Fault.AGENT_EVENT_TOO_LARGE, "over 1,000 bytes"),
        (sse({**WHOLE[0], "runId": "x" * 300}), Fault.AGENT_WRONG_RUN, "'xxx"),
        (sse({**WHOLE[-1], "threadId": 7}), Fault.AGENT_WRONG_RUN, "asked for 't1'"),
    ],
)
def test_a_body_that_is_no_stream_of_the_run_is_a_fault(
    stream: bytes, expected: Fault, seen: str
) -> None:
    error = fault(remote(), stream)
    assert error.fault is expected
    assert seen in str(error)
    assert len(str(error)) < 400
    assert error.event == {
        "type": "RUN_ERROR",
        "message": expected.value,
        "code": expected.name,
    }


def test_a_body_that_is_compressed_wrong_is_a_fault() -> None:
    assert fault(remote("gzip"), b"no gzip").fault is Fault.AGENT_BAD_ENCODING
    cut_off = gzip.compress(sse(*WHOLE))[:-10]
    assert fault(remote("gzip"), cut_off).fault is Fault.AGENT_INCOMPLETE


def test_a_small_response_is_not_made_large_in_memory() -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    run = remote("gzip", 100_000)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteAgentError):
            fed(run, bomb, len(bomb))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("stream", "expected"), [(b"x" * 10_000_000, 153), (b"", 1)])
def test_a_compressed_body_comes_in_pieces_between_which_others_have_their_turn(
    stream: bytes, expected: int
) -> None:
    pieces = list(remote("gzip").decoded(gzip.compress(stream)))
    assert b"".join(pieces) == stream
    assert len(pieces) == expected
    assert max(map(len, pieces)) <= 65536


# --- What it can do -------------------------------------------------------------------------------


def test_capabilities_are_asked_for_below_the_path_of_the_agent() -> None:
    path, asked = capabilities_request({"x-key": "mine"})
    assert (path, asked.method, asked.body) == ("/capabilities", "GET", b"")
    assert asked.headers["x-key"] == "mine"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b'{"tools": {"supported": true}}', {"tools": {"supported": True}}),
        (200, b"{}", None),
        (200, b"[1]", None),
        (200, b"<html>", None),
        (200, b'{"a": "' + b"x" * 65536 + b'"}', None),
        (404, b'{"error": "no such route"}', None),
    ],
)
def test_capabilities_are_an_object_of_bounded_size(status: int, body: bytes, said: Any) -> None:
    assert capabilities_in(status, body) == said
