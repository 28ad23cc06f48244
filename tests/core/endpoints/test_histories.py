"""A long history is sent as its client takes it, and is the same JSON as a short one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.histories import fill

from sansio_copilot import (
    CopilotRuntime,
    Exchange,
    Hooks,
    Limits,
    MemoryStore,
    Request,
    Response,
    StoreUnavailable,
)
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    SendBytes,
    SendHead,
    StoreCall,
    WaitForFrames,
)
from sansio_copilot.endpoints import histories
from sansio_copilot.endpoints.histories import Messages, Window
from sansio_copilot.hooks import HookContext
from sansio_copilot.http.long_answers import LONG
from sansio_copilot.stores.protocol import Batch, LogGone
from sansio_copilot.testing import Client

BASE = "/api/copilotkit"
PAGE = 64 * 1024
COUNT = 40
EVENTS = [{"type": "CUSTOM", "name": f"é{n}", "value": "x" * PAGE} for n in range(COUNT)]
MESSAGES = [{"id": str(n), "role": "user", "content": "y" * PAGE} for n in range(COUNT)]
STATE = {"rows": ["z" * PAGE] * COUNT}
HISTORY = {"events": EVENTS, "messages": MESSAGES, "state": STATE}


class Counting(MemoryStore):
    """Counts the pages that are read, and fails or forgets when a test says so.

    :ivar faults: what becomes of the next reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pages = 0
        self.faults: Iterator[Any] = iter(())

    def read_history(self, *args: Any) -> Any:
        self.pages += 1
        fault = next(self.faults, None)
        if isinstance(fault, Exception):
            raise fault
        return fault or super().read_history(*args)


@pytest.fixture
def store() -> Counting:
    store = Counting()
    fill(store, "t", EVENTS, MESSAGES, STATE)
    return store


def runtime(store: MemoryStore, **options: Any) -> CopilotRuntime:
    options.setdefault("limits", Limits(read_bytes=PAGE))
    return CopilotRuntime({}, store=store, **options)


class Taker:
    """A binding by hand, whose client takes what is sent when the test says so."""

    def __init__(self, server: CopilotRuntime, what: str, method: str = "GET") -> None:
        request = Request(method, f"{BASE}/threads/t/{what}")
        self.exchange = Exchange(server, request, 0.0)
        self.action: Action = self.exchange.start()
        self.sent = b""
        self.waits = 0
        self.go_on()

    def go_on(self) -> None:
        """Perform actions until something is to be sent, or all is over."""
        while not isinstance(self.action, (SendHead, SendBytes, Finish, Abandon)):
            if isinstance(self.action, WaitForFrames):
                self.waits += 1
                self.action = self.exchange.done(False)
                continue
            assert isinstance(self.action, Call)
            try:
                outcome = self.action.function(*self.action.args)
            except Exception as error:
                self.action = self.exchange.failed(error)
            else:
                self.action = self.exchange.done(outcome)

    def take(self) -> None:
        """Take what is sent."""
        if isinstance(self.action, SendBytes):
            self.sent += self.action.data
        self.action = self.exchange.done()
        self.go_on()

    def finish(self) -> Action:
        while not isinstance(self.action, (Finish, Abandon)):
            self.take()
        return self.action


@pytest.mark.parametrize("what", HISTORY)
def test_a_history_in_pieces_is_the_json_that_it_would_be_whole(
    store: Counting, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Client(runtime(store)).get(f"{BASE}/threads/t/{what}")
    assert "content-length" not in long.headers
    assert long.json() == {what: HISTORY[what]}
    monkeypatch.setattr(histories, "LONG", 10 * LONG)
    whole = Client(runtime(store)).get(f"{BASE}/threads/t/{what}")
    assert whole.headers["content-length"] == str(len(whole.body))
    assert whole.body == long.body
    assert whole.headers["content-type"] == long.headers["content-type"] == "application/json"


def test_a_page_of_events_is_read_when_the_client_has_taken_the_last_one(store: Counting) -> None:
    taker = Taker(runtime(store), "events")
    assert isinstance(taker.action, SendHead)
    assert "content-length" not in dict(taker.action.headers)
    probed = store.pages
    assert probed <= LONG // PAGE + 2, "it is read until it is known to be long, and no further"
    taker.take()
    pieces = 0
    while isinstance(taker.action, SendBytes):
        pieces += 1
        assert store.pages == probed + pieces
        assert len(taker.action.data) <= PAGE + 100
        taker.take()
    assert isinstance(taker.action, Finish)
    assert json.loads(taker.sent) == {"events": EVENTS}
    assert pieces == -(-sum(len(json.dumps(event)) for event in EVENTS) // PAGE)


@pytest.mark.parametrize("what", ["messages", "state"])
def test_a_text_is_read_at_once_and_sent_in_pieces(store: Counting, what: str) -> None:
    taker = Taker(runtime(store), what)
    taker.take()
    while isinstance(taker.action, SendBytes):
        assert len(taker.action.data) <= PAGE + 100
        taker.take()
    assert json.loads(taker.sent) == {what: HISTORY[what]}
    assert store.pages == 1


def as_get(context: HookContext) -> Request:
    """The request as a GET, because the runtime has no other method for a history."""
    return Request("GET", context.request.path)


@pytest.mark.parametrize("what", HISTORY)
def test_a_head_request_is_sent_nothing_but_the_head(store: Counting, what: str) -> None:
    taker = Taker(runtime(store, hooks=Hooks(on_request=as_get)), what, "HEAD")
    assert getattr(taker.action, "status", 0) == 200
    assert isinstance(taker.finish(), Finish)
    assert taker.sent == b""


class TestWindows:
    @pytest.mark.parametrize("what", ["events", "messages"])
    @pytest.mark.parametrize("size", [1, 7, 30, 1000])
    def test_a_window_is_the_same_in_pages_of_any_size(self, what: str, size: int) -> None:
        store = MemoryStore()
        items: dict[str, list[Any]] = {
            "events": [{"n": n, "text": "é\\n" * n} for n in range(6)],
            "messages": [{"id": "é\\" * n, "role": "user"} for n in range(6)],
        }
        fill(store, "t", items["events"], items["messages"])
        client = Client(runtime(store, limits=Limits(read_bytes=size)))
        for start, limit in itertools.product([None, *range(8)], [None, *range(8)]):
            query = [f"cursor={start}"] if start is not None else []
            query += [f"limit={limit}"] if limit is not None else []
            answer = client.get(f"{BASE}/threads/t/{what}?{'&'.join(query)}").json()
            begin = start or 0
            stop = None if limit is None else begin + max(limit, 1)
            expected: dict[str, Any] = {what: items[what][begin:stop]}
            if query:
                expected["nextCursor"] = str(stop) if stop and stop < 6 else None
            assert answer == expected, (start, limit)

    def test_a_short_window_of_a_long_history_is_whole_and_reads_no_further(
        self, store: Counting
    ) -> None:
        answer = Client(runtime(store)).get(f"{BASE}/threads/t/events?cursor=3&limit=2")
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.json() == {"events": EVENTS[3:5], "nextCursor": "5"}
        assert store.pages < 8

    @pytest.mark.parametrize("what", ["events", "messages"])
    def test_a_long_window_is_sent_in_pieces(self, store: Counting, what: str) -> None:
        answer = Client(runtime(store)).get(f"{BASE}/threads/t/{what}?cursor=3&limit=30")
        assert "content-length" not in answer.headers
        items = {"events": EVENTS, "messages": MESSAGES}[what]
        assert answer.json() == {what: items[3:33], "nextCursor": "33"}


class TestTheRestIsGone:
    def test_a_history_that_is_deleted_meanwhile_is_broken_off(
        self, store: Counting, caplog: pytest.LogCaptureFixture
    ) -> None:
        taker = Taker(runtime(store), "events")
        taker.take()
        taker.take()
        store.delete_thread("t")
        assert isinstance(taker.finish(), Abandon)
        assert f"GET {BASE}/threads/t/events was broken off" in caplog.text

    def test_a_history_whose_store_fails_is_broken_off(
        self, store: Counting, caplog: pytest.LogCaptureFixture
    ) -> None:
        taker = Taker(runtime(store), "events")
        taker.take()
        store.faults = iter([OSError("disk full")])
        assert isinstance(taker.finish(), Abandon)
        assert "the response broke off in store method read_history" in caplog.text

    def test_a_history_that_changes_before_it_is_known_to_be_long_is_read_anew(
        self, store: Counting
    ) -> None:
        store.faults = iter([None, None, LogGone(), None, LogGone()])
        answer = Client(runtime(store)).get(f"{BASE}/threads/t/events")
        assert answer.json() == {"events": EVENTS}
        store.faults = iter([None, LogGone()] * 3)
        assert Client(runtime(store)).get(f"{BASE}/threads/t/events").status == 500

    def test_a_text_in_pages_that_changes_is_read_anew(self) -> None:
        class Paging(Counting):
            def read_history(self, *args: Any) -> Any:
                thread_id, kind, cursor, _, owner = args
                return super().read_history(thread_id, kind, cursor, PAGE, owner)

        store = Paging()
        fill(store, "t", EVENTS, MESSAGES, STATE)
        store.faults = iter([None, None, LogGone(), None, LogGone()])
        answer = Client(runtime(store)).get(f"{BASE}/threads/t/messages")
        assert answer.json() == {"messages": MESSAGES}
        store.faults = iter([None, LogGone()] * 3)
        assert Client(runtime(store)).get(f"{BASE}/threads/t/messages").status == 500


class TestUnavailable:
    def test_a_history_goes_on_when_the_store_is_back(self, store: Counting) -> None:
        taker = Taker(runtime(store), "events")
        taker.take()
        store.faults = iter([StoreUnavailable("away")] * 3)
        assert isinstance(taker.finish(), Finish)
        assert json.loads(taker.sent) == {"events": EVENTS}
        assert taker.waits == 3

    def test_a_history_is_broken_off_if_the_store_stays_away(self, store: Counting) -> None:
        taker = Taker(runtime(store), "events")
        taker.take()
        store.faults = itertools.repeat(StoreUnavailable("away"))
        assert isinstance(taker.finish(), Abandon)


class TestHooks:
    def test_hooks_see_and_replace_the_head_of_a_long_history(self, store: Counting) -> None:
        seen: list[Response | None] = []

        def tag(context: HookContext) -> Response:
            seen.append(context.response)
            assert context.response is not None
            return context.response.with_headers(context.response.headers.set("x-tag", "a"))

        answer = Client(runtime(store, hooks=Hooks(on_response=tag))).get(
            f"{BASE}/threads/t/events"
        )
        [response] = seen
        assert response is not None
        assert (response.stream, response.body) == (True, b"")
        assert answer.headers["x-tag"] == "a"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json() == {"events": EVENTS}

    @pytest.mark.parametrize("what", HISTORY)
    def test_a_response_in_the_place_of_a_history_is_sent_whole(
        self, store: Counting, what: str
    ) -> None:
        hooks = Hooks(on_response=lambda context: Response(200, {}, b"other"))
        answer = Client(runtime(store, hooks=hooks)).get(f"{BASE}/threads/t/{what}")
        assert (answer.body, answer.headers["content-length"]) == (b"other", "5")


class TestRoom:
    """Texts that readers hold have a bound; see http/long_answers.py."""

    def test_readers_of_one_text_count_once(self, store: Counting) -> None:
        fill(store, "other", [], MESSAGES)
        server = runtime(store, limits=Limits(read_bytes=PAGE, answers_bytes=1))
        readers = [Taker(server, "messages") for _ in range(16)]
        assert {getattr(reader.action, "status", 0) for reader in readers} == {200}
        refused = Client(server).get(f"{BASE}/threads/other/messages")
        assert refused.status == 503
        del readers
        assert Client(server).get(f"{BASE}/threads/other/messages").status == 200

    def test_events_do_not_count_for_the_room_of_texts(self, store: Counting) -> None:
        server = runtime(store, limits=Limits(read_bytes=PAGE, answers_bytes=1))
        reader = Taker(server, "messages")
        assert Client(server).get(f"{BASE}/threads/t/events").json() == {"events": EVENTS}
        assert isinstance(reader.finish(), Finish)

    def test_the_copy_of_a_message_that_is_long_itself_counts_for_each(self) -> None:
        store = MemoryStore()
        long = {"id": "1", "role": "user", "content": "x" * 3 * LONG}
        fill(store, "t", [], [MESSAGES[0], long])
        server = runtime(store, limits=Limits(read_bytes=PAGE, answers_bytes=10 * LONG))
        readers = [Taker(server, "messages") for _ in range(3)]
        statuses = [getattr(reader.action, "status", 0) for reader in readers]
        assert statuses == [200, 200, 503]
        assert isinstance(readers[0].finish(), Finish)
        assert json.loads(readers[0].sent) == {"messages": [MESSAGES[0], long]}


def test_a_text_with_blanks_is_parsed_as_well() -> None:
    values = [{"id": "a"}, {"id": "b, c"}]
    text = json.dumps(values, indent=1).encode()
    pieces = Messages(text, Window(), lambda message: message, 5).pieces()
    made = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    assert made == b'{"messages":[{"id":"a"},{"id":"b, c"}]}'


def test_a_page_that_a_store_returns_wrongly_is_no_part_of_the_response(
    store: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    taker = Taker(runtime(store), "events")
    taker.take()
    store.faults = iter(["a page"])
    assert isinstance(taker.finish(), Abandon)
    assert "store method read_history returned str, expected Batch or LogGone" in caplog.text


@pytest.mark.parametrize("what", HISTORY)
def test_a_client_that_goes_is_sent_nothing_more(store: Counting, what: str) -> None:
    taker = Taker(runtime(store), what)
    taker.take()
    taker.take()
    assert isinstance(taker.exchange.client_gone(), Abandon)


def test_a_client_that_goes_while_a_page_is_read_is_sent_nothing(store: Counting) -> None:
    taker = Taker(runtime(store), "events")
    taker.action = taker.exchange.done()
    assert isinstance(taker.action, StoreCall)
    assert taker.exchange.client_gone() is None
    assert isinstance(taker.exchange.done(Batch(b"", None, False)), Abandon)
