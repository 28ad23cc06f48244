"""The history of a long thread: it is sent as its client takes it, whatever server sends it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conformance.process import Server, wait_until
from conformance.stores import LONG_EVENTS, LONG_MESSAGES, LONG_STATE

CONFIG = "long-histories"
HISTORY = {"events": LONG_EVENTS, "messages": LONG_MESSAGES, "state": LONG_STATE}


@pytest.mark.parametrize("what", HISTORY)
def test_a_long_history_arrives_whole(server: Server, thread: str, what: str) -> None:
    answer = server.request("GET", f"/threads/{thread}/{what}", config=CONFIG)
    assert answer.status == 200
    assert "content-length" not in answer.headers
    assert answer.json() == {what: HISTORY[what]}


def test_a_history_is_not_read_further_while_its_client_takes_nothing(
    server: Server, thread: str
) -> None:
    path = f"/threads/{thread}/events"
    assert server.request("GET", path, config=CONFIG).status == 200
    pages = _pages(server, thread)
    with server.client(CONFIG, receive_buffer=4096) as lazy:
        lazy.send("GET", path)
        lazy.receive_until(b" 200 ")
        wait_until(lambda: _is_at_rest(server, thread), "no more pages are read")
        read = _pages(server, thread) - pages
        # The system and a server may hold some megabytes, and the core begins twice.
        assert read < pages * 3 / 4
    assert server.request("GET", path, config=CONFIG).status == 200
    wait_until(lambda: _is_at_rest(server, thread), "the client has gone")


def test_a_connection_that_is_kept_holds_no_text_of_its_last_answer(
    server: Server, thread: str
) -> None:
    with server.client("sqlite-store") as client:
        assert client.request("GET", f"/threads/{thread}/messages").json() == {"messages": []}
        wait_until(lambda: server.objects()["Whole"] == 0, "the text of the store is let go")


def _pages(server: Server, thread: str) -> Any:
    return server.gate(thread)["pages"]


def _is_at_rest(server: Server, thread: str) -> bool:
    pages = _pages(server, thread)
    time.sleep(0.2)
    return bool(_pages(server, thread) == pages)
