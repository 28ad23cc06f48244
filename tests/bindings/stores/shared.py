"""Tests of stores that several processes share over a network, and of faults of that network.

Each store object here stands for a process: it has connections, an identity and tails of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest
from conformance.process import wait_until
from support.proxy import Proxy

from copilot_bindings.stores.retention import Retention
from sansio_copilot import StoreAnswerLost, StoreUnavailable
from sansio_copilot.stores.protocol import (
    Batch,
    LogGone,
    Orphan,
    PositionGap,
    RunOpened,
    RunRequest,
    Signal,
    ThreadBusy,
    ThreadQuery,
)
from sansio_copilot.testing.stores.driven import Driven, Told, frame, result_of

SECONDS = 30.0


class Reader:
    """Reads a run as a binding does: what there is, and then when it is told that there is more."""

    def __init__(self, store: Driven, cursor: Any) -> None:
        self._store = store
        self._cursor = cursor
        self.data = b""
        self.ended = False
        self.orphan: Orphan | None = None
        self.reads = 0
        self._more = threading.Event()
        self._more.set()

    def go_on(self) -> None:
        """Read what there is, if there is more."""
        while self._more.is_set() and not self.ended:
            try:
                batch = self._store.read(self._cursor, 1 << 16)
            except StoreUnavailable:
                time.sleep(0.02)
                return
            self.reads += 1
            assert isinstance(batch, Batch), batch
            self.data += batch.data
            self._cursor, self.ended = batch.cursor, batch.ended
            self.orphan = batch.orphan or self.orphan
            if not batch.data and not batch.ended:
                self._more.clear()
                self._store.watch(self._cursor, self._more.set)

    def until(self, reached: Callable[[], bool]) -> None:
        """Read until ``reached()``."""

        def step() -> bool:
            self.go_on()
            return reached()

        wait_until(step)


def insistently(call: Callable[[], Any], error: type[Exception] = StoreUnavailable) -> Any:
    """Return what ``call`` returns, made again while it raises ``error``, as a run makes it."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return call()
        except error:
            assert time.monotonic() < deadline
            time.sleep(0.02)


class SharedStoreTests:
    """Tests that a subclass completes for one kind of store."""

    server: Any

    def make(self, **options: Any) -> Any:
        """A store, of the same threads as the others of this test."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill the server."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin it again, with what it had."""
        raise NotImplementedError

    def cut_connections(self) -> None:
        """Break off every connection that the server has."""
        raise NotImplementedError

    def paused(self) -> AbstractContextManager[None]:
        """Meanwhile the server does nothing."""
        raise NotImplementedError

    @pytest.fixture
    def proxy(self) -> Iterator[Proxy]:
        proxy = Proxy(self.server.port)
        yield proxy
        proxy.close()

    def parts(self) -> tuple[Any, Any]:
        """The store's module that reads, and its class that listens."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _closed(self) -> Iterator[None]:
        self.stores: list[Any] = []
        yield
        for store in self.stores:
            store.close()

    def process(self, **options: Any) -> Driven:
        store = self.make(**options)
        self.stores.append(store)
        driven = Driven(store, lambda awaitable: awaitable)
        driven.open()
        return driven

    # Several processes

    def test_a_run_is_followed_from_another_process(self) -> None:
        here, there = self.process(), self.process()
        run = here.opened()
        reader = Reader(there, there.open_cursor("t", None, None))
        whole = b""
        for position in range(20):
            # A frame in seven is longer than a notification.
            one = frame(run.key, position, '"x"' if position % 7 else f'"{"x" * 100_000}"')
            here.append(run.key, len(whole), one)
            whole += one
            if position % 3 == 0:
                reader.until(lambda: reader.data == whole)  # noqa: B023
        end = frame(run.key, 20)
        here.close_run(run.key, len(whole), end, result_of(run.key, "1"))
        reader.until(lambda: reader.ended)
        assert reader.data == whole + end

    def test_a_stop_reaches_the_owner_in_another_process(self) -> None:
        here, there, told = self.process(), self.process(), Told()
        run = here.opened()
        here.watch_run(run.key, told)
        assert there.request_stop("t", None, None) is True
        wait_until(lambda: told.signals == [Signal.STOP])

    def test_a_busy_thread_is_busy_everywhere(self) -> None:
        here, there = self.process(), self.process()
        here.opened("t", "first")
        assert there.open_run(RunRequest("t", "second", "agent")) == ThreadBusy("first")

    def test_a_run_is_superseded_from_another_process(self) -> None:
        here = self.process(on_concurrent_run="supersede")
        there = self.process(on_concurrent_run="supersede")
        told = Told()
        run = here.opened("t", "first")
        here.watch_run(run.key, told)
        there.opened("t", "second")
        wait_until(lambda: told.signals == [Signal.STOP])

    def test_a_run_that_is_sealed_elsewhere_takes_nothing_more(self) -> None:
        here, there, told = self.process(), self.process(), Told()
        run = here.opened("t", "first")
        here.watch_run(run.key, told)
        end = frame(run.key, 0)
        here.append(run.key, 0, end, result_of(run.key, "1"))
        there.opened("t", "second")
        wait_until(lambda: told.signals == [Signal.SEALED])
        assert here.append(run.key, len(end), frame(run.key, 1)) is Signal.SEALED
        assert here.rest(run.cursor) == (end, True)

    def test_many_readers_cost_the_server_the_reads_of_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served = 0
        reads, subscriber = self.parts()

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                nonlocal served
                served += 1
                return function(*args)

            return call

        monkeypatch.setattr(reads, "read", counted(reads.read))
        monkeypatch.setattr(subscriber, "looking", counted(subscriber.looking))
        here, there = self.process(), self.process()
        run = here.opened()
        here.append(run.key, 0, frame(run.key, 0))
        cursor = there.open_cursor("t", None, None)
        readers = [Reader(there, cursor) for _ in range(200)]
        for reader in readers:
            reader.go_on()
        before = served
        whole = frame(run.key, 0)
        for position in range(1, 30):
            one = frame(run.key, position)
            here.append(run.key, len(whole), one)
            whole += one
            readers[0].until(lambda: readers[0].data == whole)  # noqa: B023
        for reader in readers:
            reader.until(lambda: reader.data == whole)  # noqa: B023
        # A look that comes once a second is all that may be beside.
        assert served - before < 40

    # Servers and connections that fail

    def test_a_run_outlives_a_server_that_is_killed(self) -> None:
        here, there = self.process(), self.process()
        run = here.opened()
        reader = Reader(there, there.open_cursor("t", None, None))
        whole = b""
        for position in range(30):
            one = frame(run.key, position)
            if position == 10:
                self.kill()
                with pytest.raises(StoreUnavailable, match="Store"):
                    here.append(run.key, len(whole), one)
                with pytest.raises(StoreUnavailable):
                    there.list_threads(ThreadQuery())
                self.start()
            signal = insistently(lambda: here.append(run.key, len(whole), one))  # noqa: B023
            assert signal is Signal.CONTINUE
            whole += one
            reader.go_on()
        insistently(lambda: here.close_run(run.key, len(whole), b"", result_of(run.key, "1")))
        reader.until(lambda: reader.ended)
        assert reader.data == whole

    def test_news_that_a_broken_connection_has_lost_are_asked_for_again(self) -> None:
        here, there, told = self.process(), self.process(), Told()
        run = here.opened()
        here.watch_run(run.key, told)
        reader = Reader(there, there.open_cursor("t", None, None))
        whole = b""
        for position in range(40):
            one = frame(run.key, position)
            if position % 10 == 5:
                self.cut_connections()
            insistently(lambda: here.append(run.key, len(whole), one))  # noqa: B023
            whole += one
            reader.go_on()
        reader.until(lambda: reader.data == whole)
        self.cut_connections()
        insistently(lambda: there.request_stop("t", None, None))
        wait_until(
            lambda: (
                told.signals == [Signal.STOP]
                or insistently(lambda: here.renew(run.key)) is Signal.STOP
            )
        )

    def test_calls_of_many_threads_at_once_are_all_answered(self) -> None:
        here = self.process()
        with ThreadPoolExecutor(8) as pool:

            def whole_run(number: int) -> bytes:
                run = here.opened(f"t{number}")
                whole = b""
                for position in range(10):
                    one = frame(run.key, position)
                    here.append(run.key, len(whole), one)
                    whole += one
                here.close_run(run.key, len(whole), b"", result_of(run.key, str(number)))
                return here.replay(f"t{number}")

            replays = list(pool.map(whole_run, range(40)))
        assert all(replay.endswith(b"\ndata: %d\n\n" % n) for n, replay in enumerate(replays))
        assert len(here.listed(ThreadQuery())) == 40

    def test_a_call_that_is_given_up_before_it_is_made_is_not_made(self) -> None:
        here = self.process()
        futures: list[Future[Any]] = [here.store.list_threads(ThreadQuery()) for _ in range(100)]
        given_up = [future for future in futures if future.cancel()]
        assert all(future.cancelled() or future.result() for future in futures)
        del given_up

    def behind(self, proxy: Proxy, **options: Any) -> Driven:
        """A process that reaches the server by another address."""
        server = self.server
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        return self.process(url=url, **options)

    def test_an_append_whose_answer_is_lost_is_there_once(self, proxy: Proxy) -> None:
        here = self.behind(proxy)
        run = here.opened()
        whole = b""
        for position in range(6):
            one = frame(run.key, position)
            if position % 2:
                with proxy.losing_answers(), pytest.raises(StoreAnswerLost):
                    here.append(run.key, len(whole), one)
            insistently(lambda: here.append(run.key, len(whole), one))  # noqa: B023
            whole += one
        end = (run.key, len(whole), b"", result_of(run.key, "1"))
        with proxy.losing_answers(), pytest.raises(StoreAnswerLost):
            here.close_run(*end)
        insistently(lambda: here.close_run(*end))
        assert here.rest(run.cursor) == (whole, True)
        assert here.history("t", "frames") == frame(run.key, "c0", "1")
        assert [record.thread_id for record in here.listed(ThreadQuery())] == ["t"]

    def test_a_call_that_was_never_sent_has_no_answer_to_lose(self, proxy: Proxy) -> None:
        here = self.behind(proxy)
        run = here.opened()
        proxy.close()
        with pytest.raises(StoreUnavailable) as caught:
            insistently(lambda: here.append(run.key, 0, frame(run.key, 0)), StoreAnswerLost)
        assert not isinstance(caught.value, StoreAnswerLost)

    def test_a_run_is_opened_once_though_the_answer_is_lost(self, proxy: Proxy) -> None:
        here = self.behind(proxy)
        request = RunRequest("t", "r", "agent", opened_at=1.0)
        here.check()
        with proxy.losing_answers(), pytest.raises(StoreAnswerLost):
            here.open_run(request)
        opened = insistently(lambda: here.open_run(request))
        assert isinstance(opened, RunOpened)
        assert here.renew(opened.key) is Signal.CONTINUE

    def test_a_call_that_was_done_before_its_answer_was_lost_is_known_to_be(
        self, proxy: Proxy
    ) -> None:
        """The exchange, which makes these calls again, says what the first would have been told."""
        here = self.behind(proxy)
        # A server that is sent a script by its name alone may not know it yet.
        assert here.delete_thread("t") is here.request_stop("t", None, None) is False
        here.ended("t", "1")
        with proxy.losing_answers(), pytest.raises(StoreAnswerLost):
            here.delete_thread("t")
        assert insistently(lambda: here.delete_thread("t")) is False
        here.opened("t")
        with proxy.losing_answers(), pytest.raises(StoreAnswerLost):
            here.request_stop("t", None, None)
        assert insistently(lambda: here.request_stop("t", None, None)) is False

    def goes_on(self, here: Driven, there: Driven, between: Callable[[], object]) -> None:
        """A run of one process that another follows outlives what happens in its middle."""
        run = here.opened()
        reader = Reader(there, there.open_cursor("t", None, None))
        whole = b""
        for position in range(20):
            if position == 10:
                between()
            one = frame(run.key, position)
            signal = insistently(lambda: here.append(run.key, len(whole), one))  # noqa: B023
            assert signal is Signal.CONTINUE
            whole += one
            reader.go_on()
        insistently(lambda: here.close_run(run.key, len(whole), b"", result_of(run.key, "1")))
        reader.until(lambda: reader.ended)
        assert reader.data == whole
        assert insistently(lambda: here.replay("t")) == frame(run.key, "c0", "1")

    def test_a_server_that_hangs_is_waited_for(self) -> None:
        """A call that it has taken is answered when it goes on, and is not made twice."""
        here = self.process()
        run = here.opened()
        whole = frame(run.key, 0)
        with self.paused():
            appending: Future[Any] = here.store.append(run.key, 0, whole)
            with pytest.raises(TimeoutError):
                appending.result(0.5)
        assert appending.result(SECONDS) is Signal.CONTINUE
        assert here.rest(run.cursor) == (whole, False)

    # Owners that die

    def test_an_owner_that_is_silent_for_its_lease_is_fenced_out(self) -> None:
        here, there = self.process(lease=1), self.process(lease=1)
        run = here.opened("t", "lost")
        one = frame(run.key, 0)
        here.append(run.key, 0, one)
        own = Reader(here, run.cursor)
        own.go_on()
        reader = Reader(there, there.open_cursor("t", None, None))
        reader.until(lambda: reader.orphan is not None)
        assert reader.orphan == Orphan(run.key, "agent", one)
        assert here.append(run.key, len(one), frame(run.key, 1)) is Signal.SEALED
        end = frame(run.key, 1, '"ended"')
        there.close_run(run.key, len(one), end, result_of(run.key, "1"))
        for each in (reader, own):
            each.until(lambda: each.ended)  # noqa: B023
            assert each.data == one + end

    def test_a_run_whose_owner_cannot_close_it_is_lost_to_its_readers_there_as_well(self) -> None:
        here = self.process(lease=1)
        run = here.opened()
        one = frame(run.key, 0)
        here.append(run.key, 0, one)
        reader = Reader(here, run.cursor)
        reader.go_on()
        with pytest.raises(PositionGap):
            here.close_run(run.key, len(one) + 1, b"", None)
        reader.until(lambda: reader.orphan is not None)
        assert reader.orphan == Orphan(run.key, "agent", one)
        here.close_run(run.key, len(one), b"", None)
        reader.until(lambda: reader.ended)
        assert reader.data == one

    def test_a_run_that_is_renewed_outlives_its_lease(self) -> None:
        here, there = self.process(lease=1), self.process(lease=1)
        run = here.opened()
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert here.renew(run.key) is Signal.CONTINUE
            time.sleep(0.2)
        assert there.orphans(10) == []

    # Retention

    def test_a_thread_has_no_more_runs_than_are_to_be_kept(self) -> None:
        store = self.process(retention=Retention(max_runs_per_thread=3))
        keys = [
            store.ended("t", str(number), message_ids=frozenset({f"m{number}"}))
            for number in range(5)
        ]
        kept = b"".join(
            frame(key, "c0", str(number)) for number, key in enumerate(keys) if number > 1
        )
        assert store.history("t", "frames") == kept
        given = store.opened("t", "next", message_ids=("m0", "m1", "m2", "m4"))
        assert given.known_message_ids == {"m2", "m4"}

    def test_the_threads_go_that_were_not_updated_for_the_longest_time(self) -> None:
        store = self.process(retention=Retention(max_threads=2))
        for number in range(4):
            store.ended(f"t{number}", "1", ended_at=float(number))
        store.opened("t0", "goes on")
        while store.tidy():
            pass
        assert store.store.evictions == 4 - len(store.listed(ThreadQuery()))
        # A thread with a live run stays.
        left = [record.thread_id for record in store.listed(ThreadQuery())]
        assert left == ["t3", "t2", "t0"] or left == ["t3", "t0"]

    def test_threads_go_that_are_too_old(self) -> None:
        store = self.process(retention=Retention(max_age=3600))
        store.ended("old", "1", ended_at=time.time() - 4000)
        store.ended("new", "1", ended_at=time.time())
        while store.tidy():
            pass
        assert [record.thread_id for record in store.listed(ThreadQuery())] == ["new"]

    def test_frames_that_need_not_be_resumable_go(self) -> None:
        store = self.process(retention=Retention(resumable_runs=1, resume_seconds=1))
        first, second = store.ended("t", "1", "2"), store.ended("t", "3", "4")
        behind = frame(first, 1, "2") + frame(second, "c0", "3") + frame(second, "c1", "4")
        assert store.replay("t", f"{first.token}.0") == behind

        def is_gone() -> bool:
            if hasattr(store.store, "tidy"):
                store.tidy()
            return bool(store.replay("t", f"{first.token}.0") == store.replay("t"))

        wait_until(is_gone)
        assert store.replay("t", f"{second.token}.0") == frame(second, 1, "4")

    def test_a_reader_of_a_thread_that_goes_is_told(self) -> None:
        store = self.process(retention=Retention(resume_seconds=1))
        store.ended("t", "1", "2")
        batch = store.read(store.open_cursor("t", None, None), 5)
        store.clear(None)
        assert store.read(batch.cursor, 1 << 16) == LogGone()
