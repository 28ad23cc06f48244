"""A database is asked the same about another's thread as about a thread that is not there.

The commands are compared, and how often there are some to be sent, so that the time of an answer
tells no more than its bytes. A long thread is asked for once.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.postgres_server import PostgresServer

from copilot_bindings.stores import PostgresStore, RedisStore
from copilot_bindings.stores.compacted_frames import VOLUME_RUNS
from copilot_bindings.stores.redis.lua_functions import LuaScript
from copilot_bindings.stores.round_trips import PipelineThread, RoundTrips
from sansio_copilot.testing.stores import Driven

HERS, NOBODYS = "hers", "none"
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def store(server: Any) -> Iterator[Driven]:
    """A store of its own, in which Ann has a thread with history and a live run."""
    opened: Any
    name = f"test{next(_numbers)}"
    if isinstance(server, PostgresServer):
        opened = PostgresStore(server.url, schema=name)
    else:
        opened = RedisStore(server.url, prefix=name)
    driven = Driven(opened, lambda awaitable: awaitable)
    driven.open()
    driven.ended(HERS, "1", owner="ann", messages=b"[1]", state=b"{}")
    driven.opened(HERS, "live", owner="ann")
    yield driven
    opened.close()


CALLS: dict[str, Callable[[Driven, str], object]] = {
    "connect": lambda store, thread: store.rest(store.open_cursor(thread, None, "bob")),
    "resume": lambda store, thread: store.rest(store.open_cursor(thread, "1.00000000.0", "bob")),
    "frames": lambda store, thread: store.history(thread, "frames", "bob"),
    "messages": lambda store, thread: store.history(thread, "messages", "bob"),
    "state": lambda store, thread: store.history(thread, "state", "bob"),
    "stop": lambda store, thread: store.request_stop(thread, None, "bob"),
    "stop a run": lambda store, thread: store.request_stop(thread, "live", "bob"),
    "update": lambda store, thread: store.update_thread(thread, {"name": "his"}, "bob"),
    "archive": lambda store, thread: store.update_thread(thread, {"archived": True}, "bob"),
    "delete": lambda store, thread: store.delete_thread(thread, "bob"),
    "claim": lambda store, thread: store.claim_thread(thread, "bob"),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[list[str]]]:
    """Return the commands of each round trip of each call, in the order of the calls."""
    calls: list[list[list[str]]] = []
    submit = PipelineThread.submit

    def noted(trips: RoundTrips[Any], call: list[list[str]]) -> RoundTrips[Any]:
        replies: Any = None
        try:
            while True:
                commands = trips.send(replies)
                call.append([_name_of(command[0]) for command in commands])
                replies = yield commands
        except StopIteration as done:
            return done.value

    def submit_noted(self: PipelineThread, trips: RoundTrips[Any]) -> Any:
        # Other threads ask from time to time, for example the one that lets old threads go.
        if threading.current_thread() is not threading.main_thread():
            return submit(self, trips)
        calls.append([])
        return submit(self, noted(trips, calls[-1]))

    monkeypatch.setattr(PipelineThread, "submit", submit_noted)
    return calls


@pytest.mark.parametrize("name", CALLS)
def test_the_same_is_asked(store: Driven, name: str, asked: list[list[list[str]]]) -> None:
    told, everything = [], []
    for thread in (HERS, NOBODYS):
        told.append(CALLS[name](store, thread))
        everything.append(list(asked))
        asked.clear()
    assert told[0] == told[1]
    assert everything[0] == everything[1]
    assert everything[0], "something was asked"
    assert store.history(HERS, "messages", "ann") == b"[1]"


def test_the_first_page_of_a_long_thread_comes_with_its_place(
    store: Driven, asked: list[list[list[str]]]
) -> None:
    for number in range(VOLUME_RUNS + 3):
        store.ended("long", str(number))
    # The size of a page is that of the last one that was asked for.
    expected = store.replay("long")
    asked.clear()
    cursor = store.open_cursor("long", None, None)
    assert len(cursor.parts) == 4
    assert store.rest(cursor) == (expected, True)
    (call,) = asked
    assert isinstance(store.store, RedisStore) or len(call) == 1


def _name_of(command: Any) -> str:
    return command.name if isinstance(command, LuaScript) else str(command)
