"""The connection of the bindings that own their sockets, driven by hand: no socket, no loop.

What it has to make of odd and hostile requests stands in tests/support/hostile_requests.py; what
only ordinary requests go through, in test_fast_path.py.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.driver import (
    BASE,
    CONVERSATIONS,
    INFO,
    LIMITS,
    STOP,
    Clock,
    Driver,
    Output,
    bytes_of,
    cut,
    in_base,
    make_runtime,
    places_to_cut,
    run_bytes,
)
from support.hostile_requests import BODY, CASES, CHUNKS, GET, POST, Case, responses, with_chunks

from copilot_bindings.http1.wants import (
    GONE,
    TIMED_OUT,
    Close,
    CloseWriting,
    Receive,
    Rest,
    Send,
)
from copilot_bindings.serving.body_limits import LONG_BYTES
from sansio_copilot import (
    CopilotRuntime,
    Hooks,
    Limits,
    MemoryStore,
    Reject,
    Response,
    RunRefused,
)
from sansio_copilot.actions import Call, StoreCall, WaitForFrames

SMALL_CASES = [case for case in CASES if len(case.sent) < 1000]
LARGE_CASES = [case for case in CASES if len(case.sent) >= 1000]
HOOKS = Hooks(on_request=lambda context: None, on_response=lambda context: None)
WORDS = [
    *CONVERSATIONS.values(),
    INFO[:-2],
    in_base(POST),
    b"content-length: 7\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"expect: 100-continue\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b"7\r\n",
    b"0\r\n",
    b":",
    b" ",
    BODY,
    CHUNKS,
]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


@pytest.fixture(autouse=True)
def _no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A test that makes something fail on purpose clears what is logged of it."""
    yield
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not errors, caplog.text


def test_a_word_is_cut_at_its_ends_and_once_within_it() -> None:
    assert places_to_cut(b"ab: cde\r\n") == [1, 2, 3, 4, 5, 7, 8]


class TestLongContent:
    """Memory goes back to the system once long content was sent, or given up."""

    @pytest.fixture(autouse=True)
    def given_back(self, monkeypatch: pytest.MonkeyPatch) -> list[None]:
        calls: list[None] = []
        give = "copilot_bindings.http1.connection.give_back_to_the_system"
        monkeypatch.setattr(give, lambda: calls.append(None))
        return calls

    def driver(self, size: int, **options: Any) -> Driver:
        hooks = Hooks(on_response=lambda context: Response(200, {}, b"x" * size))
        return Driver(make_runtime(hooks=hooks), **options)

    def test_memory_is_given_back_behind_each_long_response(self, given_back: list[None]) -> None:
        driver = self.driver(LONG_BYTES).feed(INFO).run()
        assert len(given_back) == 1
        driver.feed(INFO).run()
        assert len(given_back) == 2
        assert driver.end().closed
        assert len(given_back) == 2

    def test_long_content_ends_when_its_client_has_gone(self, given_back: list[None]) -> None:
        spoil = lambda want: GONE if isinstance(want, Send) else None  # noqa: E731
        assert self.driver(LONG_BYTES, spoil=spoil).feed(INFO).end().closed
        assert len(given_back) == 1

    def test_memory_is_given_back_behind_no_other_response(self, given_back: list[None]) -> None:
        assert self.driver(LONG_BYTES - 1).feed(INFO).end().closed
        assert not given_back


class TestHostileRequests:
    """The table of tests/support/hostile_requests.py, with every way to cut what is sent."""

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_each_hostile_request_is_answered_and_closed_as_its_case_says(self, case: Case) -> None:
        driver = Driver().feed(bytes_of(case)).run()
        found = responses(bytes(driver.sent), case.sent)
        assert [response.status for response in found] == list(case.answers)
        assert found[-1].closes is case.closes
        if not case.closes:
            assert driver.want == Receive(LIMITS.idle_seconds, idle=True)
        assert driver.end().closed

    @pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
    def test_answers_are_the_same_however_a_request_is_cut(self, case: Case) -> None:
        data = bytes_of(case)
        whole = Driver().feed(data).end().sent
        for offset in places_to_cut(data):
            assert Driver().feed(data[:offset], data[offset:]).end().sent == whole, offset
        assert Driver().feed(*map(bytes, zip(data, strict=True))).end().sent == whole

    @pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
    def test_answers_are_the_same_however_a_large_request_is_cut(self, case: Case) -> None:
        data = bytes_of(case)
        whole = Driver().feed(data).end().sent
        for size in (65536, 4096, 1025, 1024, 7, 1):
            if len(data) // size < 100_000:
                pieces = (data[at : at + size] for at in range(0, len(data), size))
                assert Driver().feed(*pieces).end().sent == whole, size

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_whenever_its_end_is_noticed_the_answers_are_the_same(self, case: Case) -> None:
        data = bytes_of(case)
        driver = Driver()
        driver.http.feed(data)
        driver.http.feed(b"")
        assert driver.resume(None).closed
        assert driver.sent == Driver().feed(data).end().sent

    @pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
    def test_wherever_it_ends_the_connection_is_closed(self, case: Case) -> None:
        data = bytes_of(case)
        for end in (0, *places_to_cut(data)):
            assert Driver().feed(data[:end]).end().closed, end

    @pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
    def test_no_hostile_request_takes_long(self, case: Case) -> None:
        """h11 alone takes ten seconds for some of them, in C, where no steps can be counted."""
        # The time is that of the processor, because a busy machine does not add to it.
        begun = time.thread_time()
        Driver().feed(bytes_of(case)).end()
        assert time.thread_time() - begun < 2


class TestCuts:
    """The answers to a client do not depend on how its bytes are cut."""

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_answers_are_the_same_for_a_cut_at_every_offset(self, name: str) -> None:
        data = CONVERSATIONS[name]
        whole = Driver().feed(data).end()
        assert whole.closed
        assert set(whole.statuses) <= {200, 404}
        for offset in places_to_cut(data):
            assert Driver().feed(data[:offset]).run().feed(data[offset:]).end().sent == whole.sent

    @given(data=st.data())
    def test_a_request_may_be_cut_anywhere(self, data: st.DataObject) -> None:
        sent = b"".join(data.draw(st.lists(st.sampled_from([*CONVERSATIONS.values()]), max_size=3)))
        whole = Driver().feed(sent).end().sent
        cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=8).map(sorted))
        bounds = [0, *cuts, len(sent)]
        pieces = [sent[a:b] for a, b in itertools.pairwise(bounds) if a < b]
        assert Driver().feed(*pieces).end().sent == whole

    @given(data=st.data())
    def test_garbage_is_answered_and_closed(self, data: st.DataObject) -> None:
        words = st.sampled_from(WORDS) | st.binary(max_size=5)
        pieces = data.draw(st.lists(words, max_size=30))
        whole = Driver().feed(b"".join(pieces)).end()
        assert whole.closed
        assert Driver().feed(*filter(None, pieces)).end().sent == whole.sent


class TestConnections:
    """RFC 9112 section 9."""

    def test_many_requests_of_one_connection_are_answered(self) -> None:
        driver = Driver()
        for _ in range(3):
            driver.feed(INFO, STOP, run_bytes()).run()
        assert driver.statuses == [200] * 9
        assert driver.want == Receive(LIMITS.idle_seconds, idle=True)
        assert driver.feed(b"").want == Close()

    def test_requests_behind_a_stream_wait_for_it(self) -> None:
        driver = Driver().feed(run_bytes() + INFO)
        assert isinstance(driver.want, WaitForFrames)
        assert b"version" not in driver.sent
        driver.feed(STOP).run()
        assert driver.statuses == [200, 200, 200]
        assert driver.sent.index(b"RUN_FINISHED") < driver.sent.index(b"version")

    def test_other_connections_have_their_turn(self) -> None:
        driver = Driver().feed(INFO * 100)
        assert driver.statuses == [200] * 100
        assert driver.performed.count(Rest) == 100 // 16
        assert driver.performed.count(Output) == 100 // 16 + 1

    def test_other_connections_have_their_turn_during_a_body_of_small_chunks(self) -> None:
        driver = Driver().feed(in_base(with_chunks(b"1\r\n \r\n" * 10_000)))
        assert driver.performed.count(Rest) == 10_000 // 1024

    @pytest.mark.parametrize(
        ("expectation", "interim"),
        [
            ("content-length: 7", 1),
            ("transfer-encoding: chunked", 1),
            ("content-length: 0", 0),
            ("content-length: 1000000", 0),
        ],
    )
    def test_100_continue_is_sent_when_the_body_is_wanted(
        self, expectation: str, interim: int
    ) -> None:
        head = in_base(POST) + b"expect: 100-continue\r\n" + expectation.encode() + b"\r\n\r\n"
        driver = Driver().feed(head)
        assert driver.sent.count(b"HTTP/1.1 100 Continue\r\n\r\n") == interim
        assert driver.sent.count(b"HTTP/1.1 200 ") == (expectation == "content-length: 0")

    def test_a_connection_that_there_is_no_room_for_is_answered_503_and_closed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            driver = Driver(admitted=False)
        assert "a request is answered 503 without an exchange" in caplog.text
        assert driver.statuses == [503]
        assert b"\r\nretry-after: 1\r\n" in driver.sent
        assert driver.performed == [Output, CloseWriting]
        assert driver.feed(INFO, b"").want == Close()
        assert driver.statuses == [503]

    def test_the_last_response_of_a_server_that_closes_says_so(self) -> None:
        driver = Driver()
        driver.service.closing = True
        assert responses(bytes(driver.feed(INFO).sent))[0].closes
        assert driver.closed

    @pytest.mark.parametrize(
        ("sent", "lingers"),
        [
            (INFO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), False),
            (INFO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + INFO, True),
            (INFO.replace(b"1.1", b"1.0"), False),
            (STOP.replace(b"1.1", b"1.0"), False),
            (
                in_base(with_chunks(CHUNKS)).replace(b"host: x", b"host: x\r\nconnection: close"),
                False,
            ),
            (in_base(with_chunks(b"x\r\n")), True),
            (b"garbage\r\n\r\n", True),
        ],
    )
    def test_a_connection_is_closed_at_once_unless_more_may_be_on_its_way(
        self, sent: bytes, lingers: bool
    ) -> None:
        driver = Driver().feed(sent)
        assert responses(bytes(driver.sent))[-1].closes
        assert driver.closed is not lingers
        assert driver.performed[-1] is (CloseWriting if lingers else Output)
        assert driver.feed(b"").want == Close()

    def test_a_client_that_sends_on_is_not_listened_to_for_ever(self, clock: Clock) -> None:
        driver = Driver().feed(b"garbage\r\n\r\n")
        begun = clock.now
        while not driver.closed:
            assert isinstance(driver.want, Receive)
            clock.now += 0.1
            driver.feed(b"x" * 1000)
        assert clock.now - begun < 3
        assert not driver.http.parser.is_full

    def test_bytes_that_are_ready_are_sent_to_a_client_that_has_closed_its_side(self) -> None:
        def close(context: Any) -> None:
            driver.http.feed(b"")

        driver = Driver(make_runtime(hooks=Hooks(on_request=close)))
        driver.feed(INFO)
        assert driver.statuses == [200]
        assert driver.want == Close()

    def test_bytes_that_arrive_while_a_response_is_sent_are_not_waited_for(self) -> None:
        def feed(want: object) -> None:
            if isinstance(want, Output) and next(sends) == 0:
                driver.http.feed(STOP)

        sends = itertools.count()
        driver = Driver(spoil=feed)
        driver.feed(INFO)
        assert driver.statuses == [200, 200]

    def test_a_silent_stream_ends_when_its_client_closes_its_side(self) -> None:
        driver = Driver().feed(run_bytes())
        assert driver.feed(b"").want == Close(abort=True)
        early = Driver()
        early.http.feed(run_bytes())
        early.http.feed(b"")
        assert early.resume(None).want == Close(abort=True)

    def test_the_head_waits_one_turn_for_the_first_events(self) -> None:
        driver = Driver().feed(run_bytes())
        assert driver.performed.index(Rest) < driver.performed.index(Output)
        assert driver.performed.count(Output) == 1

    def test_a_connection_stays_closed_after_its_end(self) -> None:
        driver = Driver().feed(b"")
        assert driver.want == driver.http.done() == Close()
        assert isinstance(driver.http.done(GONE), Close)

    def test_a_refused_run_is_answered_503_and_the_next_one_is_served(self) -> None:
        def refuse(run: Any) -> None:
            raise RunRefused("too many")

        driver = Driver()
        driver.service.start_run = refuse
        driver.feed(run_bytes())
        assert driver.statuses == [503]
        assert b"\r\naccess-control-allow-origin: *\r\n" in driver.sent
        driver.service.start_run = driver.client.start_run
        assert driver.feed(run_bytes()).run().statuses == [503, 200]

    def test_connect_makes_no_tunnel(self) -> None:
        def answer(context: Any) -> None:
            raise Reject(Response(200, body="yes"))

        driver = Driver(make_runtime(hooks=Hooks(on_request=answer)))
        driver.feed(b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n")
        assert driver.statuses == [501]


class TestLimits:
    """Limits on the cost of a client; time stands still where a test does not move it."""

    def test_a_connection_on_which_nothing_is_ever_sent_is_closed_without_a_word(
        self, clock: Clock
    ) -> None:
        driver = Driver()
        assert driver.want == Receive(LIMITS.idle_seconds, idle=True, first=True)
        assert driver.resume(TIMED_OUT).want == Close()
        assert not driver.sent

    def test_a_connection_with_nothing_but_empty_lines_is_closed_as_an_idle_one(
        self, clock: Clock
    ) -> None:
        begun, driver = clock.now, Driver()
        while not driver.closed:
            clock.now += 1
            driver.feed(b"\r\n")
        assert clock.now - begun == LIMITS.idle_seconds
        assert not driver.sent

    def test_a_connection_is_closed_after_a_long_silence_between_requests(self) -> None:
        driver = Driver().feed(INFO)
        assert driver.want == Receive(LIMITS.idle_seconds, idle=True)
        assert driver.resume(TIMED_OUT).want == Close()

    def test_a_head_that_arrives_now_and_then_is_late(self, clock: Clock) -> None:
        driver = Driver()
        clock.now += 10
        begun = clock.now
        for byte in itertools.cycle(b"a"):
            driver.feed(bytes([byte]))
            if driver.sent:
                break
            clock.now += 1
        assert clock.now - begun == LIMITS.header_seconds
        assert driver.statuses == [408]
        assert driver.feed(b"").closed

    def test_a_head_that_begins_behind_a_stream_has_its_time_from_the_end_of_the_stream(
        self, clock: Clock
    ) -> None:
        driver = Driver().feed(run_bytes(), b"GET")
        clock.now += LIMITS.header_seconds + 1
        assert driver.run().statuses == [200]
        assert driver.want == Receive(LIMITS.header_seconds)

    @pytest.mark.parametrize("length", ["content-length: 1000", "transfer-encoding: chunked"])
    def test_a_body_that_arrives_now_and_then_is_late(self, clock: Clock, length: str) -> None:
        driver = Driver().feed(in_base(POST) + length.encode() + b"\r\n\r\n")
        begun = clock.now
        for piece in itertools.cycle([b" "] if "content" in length else [b"1\r\n \r\n"]):
            driver.feed(piece)
            if driver.sent:
                break
            clock.now += 1
        assert clock.now - begun == LIMITS.body_seconds
        [answer] = responses(bytes(driver.sent))
        assert (answer.status, answer.closes) == (408, True)
        assert b"\r\naccess-control-allow-origin: *\r\n" in driver.sent
        assert driver.feed(b"").want == Close()

    def test_a_body_that_nobody_wants_is_given_its_time_although_it_comes_now_and_then(
        self, clock: Clock
    ) -> None:
        driver = Driver().feed(STOP.replace(b"/agent", b"/nope").replace(b" 7", b" 1000"))
        begun = clock.now
        while not driver.closed:
            clock.now += 1
            driver.feed(b" ")
            assert clock.now - begun <= LIMITS.body_seconds
        assert driver.statuses == [404]

    def test_a_head_may_be_as_long_as_the_limit(self) -> None:
        for extra, statuses in ((0, [200]), (1, [431])):
            head = in_base(GET) + b"a: \r\n\r\n"
            head = head.replace(b"a: ", b"a: " + b"x" * (1000 - len(head) + extra))
            runtime = make_runtime(limits=Limits(header_bytes=1000))
            assert Driver(runtime).feed(head).statuses == statuses
            assert Driver(runtime).feed(*map(bytes, zip(head, strict=True))).statuses == statuses

    @pytest.mark.parametrize("size", [100, 1000])
    def test_a_large_body_keeps_the_connection_if_it_is_worth_it(self, size: int) -> None:
        runtime = make_runtime(limits=Limits(body_bytes=10))
        driver = Driver(runtime).feed(in_base(POST) + b"content-length: %d\r\n\r\n" % size)
        assert driver.statuses == [413]
        assert driver.feed(b" " * size, INFO).statuses == [413, 200]

    def test_bytes_that_arrive_during_a_stream_are_kept_within_bounds(self) -> None:
        driver = Driver().feed(run_bytes())
        for _ in range(16):
            assert not driver.http.parser.is_full
            driver.feed(b"x" * 4096)
        assert driver.feed(b"x").http.parser.is_full
        assert driver.run().statuses == [200, 414]
        assert not driver.http.parser.is_full

    def test_a_partial_head_does_not_stop_the_reading(self) -> None:
        driver = Driver(make_runtime(limits=Limits(header_bytes=200_000)))
        driver.feed(in_base(GET) + b"a: " + b"x" * 150_000)
        assert isinstance(driver.want, Receive)
        assert not driver.http.parser.is_full


class TestTrouble:
    """A Close is the end, however a want goes wrong."""

    def test_a_call_that_was_put_off_is_not_made_for_a_client_that_has_gone(self) -> None:
        asked = []

        def spoil(want: object) -> Any:
            if isinstance(want, Output):
                return GONE
            return True if isinstance(want, StoreCall) and "close_run" in want.name else None

        hooks = Hooks(on_response=lambda context: asked.append(context.path))
        # The response to the first request has not been sent when the second asks for its hook.
        driver = Driver(make_runtime(hooks=hooks), spoil=spoil).feed(INFO + run_bytes())
        assert driver.closed
        assert asked == [f"{BASE}/info"]

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_the_client_is_gone_at_every_want(self, name: str) -> None:
        def spoil(want: object) -> Any:
            if isinstance(want, StoreCall):
                return None
            return GONE if next(counter) >= number else None

        for number in itertools.count():
            counter = itertools.count()
            driver = Driver(make_runtime(hooks=HOOKS), spoil=spoil)
            driver.feed(*cut(CONVERSATIONS[name], 50)).end()
            assert driver.closed
            assert driver.bodies.room == LIMITS.bodies_bytes
            if next(counter) < number:
                break
        assert number > 5

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_only_the_store_is_called_late_or_not_for_a_client_that_has_gone(
        self, name: str
    ) -> None:
        def spoil(want: object) -> Any:
            if isinstance(want, StoreCall):
                # The store answers late, so that more wants come before the end.
                outcome = want.function(*want.args)
                return True if outcome is None else outcome
            if isinstance(want, Call):
                assert not gone
                return None
            if gone or next(counter) >= number:
                gone.append(want)
            return GONE if gone else None

        hooks = Hooks(*[lambda context: None] * 3)
        for number in itertools.count():  # noqa: B007
            gone, counter = list[object](), itertools.count()
            store = MemoryStore()
            driver = Driver(make_runtime(hooks=hooks, store=store), spoil=spoil)
            driver.feed(CONVERSATIONS[name]).end()
            assert driver.closed
            while driver.client.step():
                pass
            assert store.open_runs == 0
            if not gone:
                break
        assert number > 2

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_no_bytes_are_sent_behind_bytes_that_were_not(self, name: str) -> None:
        def spoil(want: object) -> Any:
            return GONE if isinstance(want, Output) and next(counter) == number else None

        for number in itertools.count():
            counter = itertools.count()
            driver = Driver(make_runtime(hooks=HOOKS), spoil=spoil)
            driver.feed(*cut(CONVERSATIONS[name], 50)).end()
            if next(counter) == number:
                break
            assert driver.want == Close(abort=True)
            assert driver.performed.count(Output) == number
        assert number > 0

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_a_timeout_may_come_at_every_receive(self, name: str) -> None:
        def spoil(want: object) -> Any:
            return TIMED_OUT if isinstance(want, Receive) and next(counter) >= number else None

        for number in itertools.count():
            counter = itertools.count()
            driver = Driver(spoil=spoil).feed(*cut(CONVERSATIONS[name], 50)).end()
            assert driver.closed
            assert driver.bodies.room == LIMITS.bodies_bytes
            assert set(driver.statuses) <= {200, 404, 408}
            if next(counter) < number:
                break
        assert number > 2

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_every_want_fails(self, name: str, caplog: pytest.LogCaptureFixture) -> None:
        def spoil(want: object) -> Any:
            return OSError("broken") if next(counter) == number else None

        for number in itertools.count():
            counter = itertools.count()
            driver = Driver(make_runtime(hooks=HOOKS), spoil=spoil)
            driver.feed(*cut(CONVERSATIONS[name], 50)).end()
            assert driver.closed
            assert driver.bodies.room == LIMITS.bodies_bytes
            if next(counter) < number:
                break
        caplog.clear()
        assert number > 5

    def test_a_runtime_that_fails_is_logged_and_its_connection_aborted(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = Driver(make_runtime())
        monkeypatch.setattr(CopilotRuntime, "exchange", lambda *args, **options: 1 / 0)
        assert driver.feed(INFO).want == Close(abort=True)
        assert "division by zero" in caplog.text
        caplog.clear()

    def test_a_hook_whose_header_breaks_the_framing_has_its_response_aborted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def spoil(context: Any) -> Response:
            return Response(200, {"transfer-encoding": "gzip"})

        driver = Driver(make_runtime(hooks=Hooks(on_response=spoil))).feed(INFO)
        assert driver.want == Close(abort=True)
        assert not driver.sent
        caplog.clear()
