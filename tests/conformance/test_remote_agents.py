"""An agent that is somewhere else, in every binding and event loop."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from support.upstream import SSE, upstream

from .process import Server

pytestmark = pytest.mark.one_a_loop


def sse(thread: str, *between: dict[str, Any]) -> bytes:
    ids = {"threadId": thread, "runId": "run-1"}
    events = [{"type": "RUN_STARTED", **ids}, *between, {"type": "RUN_FINISHED", **ids}]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def said(text: str) -> list[dict[str, Any]]:
    start = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    content = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": text}
    return [start, content, {"type": "TEXT_MESSAGE_END", "messageId": "m"}]


def test_events_of_a_remote_agent_are_read_live_and_kept(server: Server, thread: str) -> None:
    with upstream([SSE + sse(thread, *said("from afar"))]) as far:
        answer = server.run("run", thread, agent="remote", forwardedProps={"url": far.url})
    assert answer.types()[1:-1] == [event["type"] for event in said("")]
    kept = server.request("GET", f"/threads/{thread}/messages").json()["messages"]
    assert [message["content"] for message in kept] == ["from afar"]


def test_a_remote_agent_is_left_when_its_run_is_stopped(server: Server, thread: str) -> None:
    begun = sse(thread, *said("one")[:2]).partition(b'data: {"type": "RUN_FINISHED"')[0]
    with upstream([SSE + begun, threading.Event()]) as far, server.client() as client:
        client.stream("run", thread, agent="remote", forwardedProps={"url": far.url})
        client.events(3)
        assert server.stop(thread, agent="remote")
        assert [event["type"] for event in client.events(2)] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert far.asked[0].gone.wait(30)


def test_the_failure_of_a_remote_agent_ends_the_run_with_a_code(
    server: Server, thread: str
) -> None:
    with upstream([b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\r\n"]) as far:
        answer = server.run("run", thread, agent="remote", forwardedProps={"url": far.url})
        port = far.url.rpartition(":")[2].partition("/")[0]
    last = answer.events()[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "AGENT_FAILED")
    assert port not in last["message"]
