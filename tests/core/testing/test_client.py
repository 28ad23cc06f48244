"""The test client: drives a runtime without a network, an event loop, a thread or a real clock."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from msgspec import structs

from sansio_copilot import (
    CopilotRuntime,
    HookContext,
    Hooks,
    Limits,
    MemoryStore,
    Response,
    StoreUnavailable,
)
from sansio_copilot.stores.protocol import RunKey, RunOpened, RunRequest, Signal
from sansio_copilot.testing import Client, ClientResponse, NeedsEventLoop, Stream, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


def started(input: Any) -> dict[str, Any]:
    return {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}


def finished(input: Any) -> dict[str, Any]:
    return {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def counting(input: Any, context: Any) -> Iterator[Any]:
    yield started(input)
    for number in range(3):
        yield {"type": "CUSTOM", "name": "n", "value": number}
    yield finished(input)


async def counting_later(input: Any, context: Any) -> AsyncIterator[Any]:
    for event in counting(input, context):
        # A sleep of 0 seconds needs no event loop, because it only yields once.
        await asyncio.sleep(0)
        yield event


WHOLE = ["RUN_STARTED", *["CUSTOM"] * 3, "RUN_FINISHED"]


def client(agent: Any = counting, **options: Any) -> Client:
    return Client(CopilotRuntime({"default": agent}, **options))


def begin(client: Client, run_id: str = "r1", what: str = "run", thread: str = "t1") -> Stream:
    path = f"{BASE}/agent/default/{what}"
    return client.stream("POST", path, json=run_input(thread, run_id))


def types(events: Any) -> list[str]:
    return [event["type"] for event in events]


class TestRequests:
    def test_a_client_has_get_post_and_the_other_methods(self) -> None:
        server = client()
        assert server.get(f"{BASE}/info").status == 200
        assert server.post(f"{BASE}/annotate", json={}).status == 422
        assert server.request("DELETE", f"{BASE}/threads/t1").status == 422

    def test_a_target_may_have_a_query(self) -> None:
        assert client().get(f"{BASE}/threads?agentId=a").json()["threads"] == []

    def test_a_body_is_bytes_or_text(self) -> None:
        for body in (b'{"a":1}', '{"a":1}'):
            answer = client().request("POST", RUN, body=body)
            assert "threadId" in answer.json()["details"]

    def test_json_is_announced_as_such(self) -> None:
        seen: list[Any] = []
        hooks = Hooks(on_before_handler=lambda context: seen.append(context.request))
        server = client(hooks=hooks)
        server.post(f"{BASE}/annotate", json=None)
        server.post(f"{BASE}/annotate", json={"a": 1})
        server.post(f"{BASE}/annotate", json={}, headers={"content-type": "text/plain"})
        assert [request.headers.get("content-type") for request in seen] == [
            None,
            "application/json",
            "text/plain",
        ]
        assert [request.body for request in seen] == [b"", b'{"a":1}', b"{}"]

    def test_an_answer_is_read_as_events_or_as_json(self) -> None:
        answer = ClientResponse(200, Response.json({}).headers, b'data: {"type":"X"}\n\n')
        assert answer.events() == [{"type": "X"}]
        with pytest.raises(ValueError):
            answer.json()

    def test_a_body_beyond_the_limit_is_refused(self) -> None:
        assert client(limits=Limits(body_bytes=4)).request("POST", RUN, body="12345").status == 413

    def test_the_input_of_a_run_has_its_defaults(self) -> None:
        assert run_input("t1", "r1", state={"n": 1}) == {
            "threadId": "t1",
            "runId": "r1",
            "state": {"n": 1},
            "messages": [],
            "tools": [],
            "context": [],
            "forwardedProps": {},
        }

    @pytest.mark.parametrize("agent", [counting, counting_later])
    def test_a_whole_run_is_answered(self, agent: Any) -> None:
        answer = client(agent).post(RUN, json=run_input("t1"))
        assert types(answer.events()) == WHOLE


class TestStream:
    @pytest.mark.parametrize("agent", [counting, counting_later])
    def test_a_stream_is_read_step_by_step(self, agent: Any) -> None:
        stream = begin(client(agent))
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.next()["type"] == "RUN_STARTED"
        assert [stream.next()["value"] for _ in range(3)] == [0, 1, 2]
        assert not stream.ended
        assert stream.next()["type"] == "RUN_FINISHED"
        with pytest.raises(EOFError, match="the stream has ended"):
            stream.next()
        assert stream.next_frame() is None
        assert stream.ended

    def test_the_agent_goes_no_further_than_asked(self) -> None:
        yielded: list[str] = []

        def agent(input: Any, context: Any) -> Iterator[Any]:
            for event in counting(input, context):
                yielded.append(event["type"])
                yield event

        stream = begin(client(agent))
        assert yielded == []
        stream.next()
        assert yielded == ["RUN_STARTED"]
        assert types(stream) == WHOLE[1:] == yielded[1:]

    def test_a_stream_has_frames_and_their_ids(self) -> None:
        stream = begin(client())
        assert stream.last_event_id == ""
        frame = stream.next_frame()
        assert frame is not None
        assert frame.id == stream.last_event_id != ""

    def test_frames_that_are_there_already_are_read_without_a_step(self) -> None:
        server = client()
        stream = begin(server)
        assert stream.ready() == []
        server.step()
        server.step()
        assert types(stream.ready()) == WHOLE[:2]
        assert stream.ready() == []

    def test_a_stream_is_read_to_the_end(self) -> None:
        stream = begin(client())
        stream.next()
        answer = stream.finish()
        assert types(answer.events()) == WHOLE, "an answer is whole"
        assert answer.body == bytes(stream.body)
        assert stream.finish() == answer

    def test_a_response_that_is_no_stream_has_ended_at_once(self) -> None:
        stream = client().stream("GET", f"{BASE}/info")
        assert stream.ended
        assert stream.finish().json()["mode"] == "sse"

    def test_a_connect_in_the_middle_follows(self) -> None:
        server = client()
        live = begin(server)
        live.next()
        live.next()
        second = begin(server, what="connect")
        assert types(second.ready()) == WHOLE[:2]
        assert types(second) == WHOLE[2:], "it drives the run as the other one does"
        assert types(live) == WHOLE[2:]

    @pytest.mark.parametrize("agent", [counting, counting_later])
    def test_a_stop_ends_a_stream(self, agent: Any) -> None:
        server = client(agent)
        live = begin(server)
        live.next()
        assert server.post(f"{BASE}/agent/default/stop/t1").json()["stopped"] is True
        assert types(live) == ["RUN_FINISHED"]
        assert not server.step()

    def test_a_client_that_hangs_up_leaves_the_run(self) -> None:
        server = client()
        stream = begin(server)
        stream.next()
        stream.close()
        assert stream.ended
        stream.close()
        assert server.step(), "the run goes on"
        assert types(begin(server, what="connect")) == WHOLE

    def test_frames_that_nobody_waits_for_wake_nobody(self) -> None:
        waiting = []

        class Counting(MemoryStore):
            def watch(self, cursor: Any, notify: Any) -> Any:
                cancel = super().watch(cursor, notify)
                waiting.append(1)
                return lambda: (waiting.pop(), cancel())

        server = client(store=Counting())
        streams = [begin(server), *(begin(server, what="connect") for _ in range(2))]
        assert len(waiting) == 3
        server.advance(15)
        assert len(waiting) == 3, "they wait again after their heartbeats"
        streams[2].close()
        assert len(waiting) == 2
        streams[0].finish()
        assert len(waiting) == 1
        streams[1].finish()
        assert waiting == []

    def test_hanging_up_on_a_response_that_has_ended_does_nothing(self) -> None:
        stream = begin(client())
        stream.finish()
        stream.close()
        assert types(stream) == WHOLE

    def test_a_run_of_another_client_is_not_driven(self) -> None:
        runtime = CopilotRuntime({"default": counting})
        begin(Client(runtime)).next()
        second = begin(Client(runtime), what="connect")
        assert second.next()["type"] == "RUN_STARTED"
        with pytest.raises(AssertionError, match="waits for a run that is not this client's"):
            second.next()

    def test_a_stream_ends_without_an_event_if_the_store_cannot_be_read(self) -> None:
        class Unreadable(MemoryStore):
            def read(self, cursor: Any, max_bytes: int) -> Any:
                raise OSError("disk")

        stream = begin(client(store=Unreadable()))
        assert (stream.status, stream.ended, bytes(stream.body)) == (200, True, b"")


class TestRuns:
    def test_each_step_is_one_event_of_each_run(self) -> None:
        server = client()
        streams = [begin(server, thread=thread) for thread in ("t1", "t2")]
        assert server.step()
        assert [types(stream.ready()) for stream in streams] == [["RUN_STARTED"]] * 2
        while server.step():
            pass
        assert [types(stream.ready()) for stream in streams] == [WHOLE[1:]] * 2
        assert not server.step()

    @pytest.mark.parametrize("agent", [counting, counting_later])
    def test_closing_ends_runs_well_formed(self, agent: Any) -> None:
        server = client(agent)
        run, suggest = begin(server), begin(server, what="suggest", thread="t2")
        run.next()
        suggest.next()
        server.close()
        for stream in (run, suggest):
            (last,) = stream
            assert last == {
                "type": "RUN_ERROR",
                "message": "The server is shutting down",
                "code": "INCOMPLETE_STREAM",
            }
        assert not server.step()
        assert types(begin(server, what="connect")) == ["RUN_STARTED", "RUN_ERROR"]

    def test_the_reason_of_a_close_may_be_given(self) -> None:
        server = client()
        stream = begin(server)
        stream.next()
        server.close("Maintenance")
        assert stream.next()["message"] == "Maintenance"

    def test_a_store_is_opened_by_the_client_and_closed_with_it(self) -> None:
        class Store(MemoryStore):
            async def open(self) -> None:
                calls.append("open")

            def close(self) -> None:
                calls.append("close")

        calls: list[str] = []
        client = Client(CopilotRuntime({}, store=Store()))
        assert calls == ["open"]
        client.close()
        assert calls == ["open", "close"]

    def test_all_is_closed_once_even_if_an_agent_cannot_clean_up(self) -> None:
        calls: list[str] = []

        async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
            try:
                yield started(input)
                while True:
                    yield {"type": "CUSTOM", "name": "tick", "value": 1}
            finally:
                await asyncio.sleep(1)

        runtime = CopilotRuntime({"default": agent}, on_close=lambda: calls.append("close"))
        server = Client(runtime)
        streams = [begin(server, run_id, thread=run_id) for run_id in ("r1", "r2")]
        for stream in streams:
            stream.next()
        with pytest.raises(NeedsEventLoop):
            server.close()
        assert [types(stream)[-1] for stream in streams] == ["RUN_ERROR"] * 2
        server.close()
        assert calls == ["close"]

    def test_closing_while_an_agent_cleans_up_ends_its_run(self) -> None:
        closed: list[str] = []

        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield started(input)
            yield finished(input)
            try:
                yield {"type": "CUSTOM", "name": "late", "value": 1}
                yield {"type": "CUSTOM", "name": "later", "value": 1}
            finally:
                closed.append(input.run_id)

        server = client(agent)
        first = begin(server)
        first.next()
        first.next()
        second = begin(server, "r2")
        # The step takes the first agent past the end of its run, which the second run has sealed,
        # so that close() has to end an agent that is suspended.
        server.step()
        server.close()
        assert closed == ["r1"]
        assert types(first) == []
        assert types(second)[-1] == "RUN_ERROR"

    def test_an_agent_that_fails_while_it_cleans_up_is_logged_behind_its_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def plain(input: Any, context: Any) -> Iterator[Any]:
            try:
                yield started(input)
            finally:
                raise RuntimeError("no clean-up")

        async def later(input: Any, context: Any) -> AsyncIterator[Any]:
            try:
                yield started(input)
            finally:
                raise RuntimeError("no clean-up")

        caplog.set_level(logging.ERROR, "sansio_copilot")
        for agent in (plain, later):
            server = client(agent)
            stream = begin(server)
            stream.next()
            assert server.post(f"{BASE}/agent/default/stop/t1").status == 200
            assert types(stream) == ["RUN_FINISHED"]
        assert caplog.messages == ["agent 'default' failed while it cleaned up"] * 2

    def test_a_failure_behind_the_end_of_a_sealed_run_reaches_nobody(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield started(input)
            yield finished(input)
            raise RuntimeError("too late")

        server = client(agent)
        first = begin(server)
        first.next()
        first.next()
        second = begin(server, "r2")
        while server.step():
            pass
        assert types(first.ready()) == []
        assert types(second.ready()) == ["RUN_STARTED", "RUN_FINISHED"]

    def test_a_run_that_was_stopped_before_it_found_its_home_ends_at_once(self) -> None:
        store = MemoryStore()

        def stop(context: HookContext) -> None:
            store.request_stop("t1", None)

        hooks = Hooks(on_response=stop)
        stream = begin(client(store=store, hooks=hooks))
        assert types(stream) == ["RUN_STARTED", "RUN_FINISHED"]

    def test_a_stop_that_comes_while_the_store_is_busy_is_not_lost(self) -> None:
        class Busy(MemoryStore):
            def append(self, key: RunKey, *args: Any) -> Signal:
                signal = super().append(key, *args)
                self.request_stop(key.thread_id, None)
                return signal

        assert types(begin(client(store=Busy()))) == ["RUN_STARTED", "RUN_FINISHED"]

    def test_a_store_that_fails_ends_the_run(self) -> None:
        class Full(MemoryStore):
            def append(self, *args: Any) -> Signal:
                raise OSError("disk full")

        events = client(store=Full()).post(RUN, json=run_input("t1")).events()
        assert types(events)[-1] == "RUN_ERROR"
        assert events[-1]["message"] == "The thread store failed"

    @pytest.mark.parametrize("method", ["append", "close_run"])
    def test_a_store_that_is_unavailable_for_some_time_ends_no_run(self, method: str) -> None:
        class Restarting(MemoryStore):
            def append(self, *args: Any) -> Signal:
                signal = super().append(*args)
                self.fail("append")
                return signal

            def close_run(self, *args: Any) -> None:
                super().close_run(*args)
                self.fail("close_run")

            def fail(self, name: str) -> None:
                if name == method and 1_700_000_001 < server.now < 1_700_000_010:
                    raise StoreUnavailable("restarting")

        server = client(store=Restarting())
        stream = begin(server)
        server.now += 2
        assert types(stream) == WHOLE
        assert server.post(RUN, json=run_input("t1", "next")).status == 200

    def test_frames_that_wait_for_a_store_are_appended_when_it_is_back(self) -> None:
        class Restarting(MemoryStore):
            down = False

            def append(self, *args: Any) -> Signal:
                if self.down:
                    raise StoreUnavailable("restarting")
                return super().append(*args)

        store = Restarting()
        server = client(store=store)
        stream = begin(server)
        assert stream.next()["type"] == "RUN_STARTED"
        store.down = True
        assert server.step()
        assert stream.ready() == []
        store.down = False
        server.advance(60)
        assert types(stream.ready()) == ["CUSTOM"]

    def test_a_store_that_is_unavailable_for_ever_keeps_no_run(self) -> None:
        class Gone(MemoryStore):
            def append(self, *args: Any) -> Signal:
                raise StoreUnavailable("gone")

        server = client(store=Gone(), limits=Limits(outage_bytes=1))
        start = server.now
        events = server.post(RUN, json=run_input("t1")).events()
        assert events[-1]["message"] == "The thread store failed"
        assert 29 < server.now - start < 32

    def test_a_store_of_coroutines_is_driven(self) -> None:
        class Later:
            blocking = False

            def __init__(self) -> None:
                self.store = MemoryStore()

            def __getattr__(self, name: str) -> Any:
                method = getattr(self.store, name)
                if name.startswith("watch"):
                    return method

                async def later(*args: Any) -> Any:
                    await asyncio.sleep(0)
                    return method(*args)

                return later

        server = client(store=Later())
        assert types(server.post(RUN, json=run_input("t1")).events()) == WHOLE
        assert len(server.get(f"{BASE}/threads").json()["threads"]) == 1


class TestAgentsThatUseTheClient:
    """An agent under test may itself be a client of the runtime."""

    def test_an_agent_may_stop_its_own_run(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield started(input)
            server.post(f"{BASE}/agent/default/stop/t1")
            yield {"type": "CUSTOM", "name": "unseen", "value": 1}

        server = client(agent)
        assert types(begin(server)) == ["RUN_STARTED", "RUN_FINISHED"]
        assert not server.step()

    def test_an_agent_may_stop_another_run(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield started(input)
            if input.thread_id == "t1":
                server.post(f"{BASE}/agent/default/stop/t2")
            yield finished(input)

        server = client(agent)
        first, second = begin(server), begin(server, thread="t2")
        assert types(second) == ["RUN_STARTED", "RUN_FINISHED"]
        assert types(first) == ["RUN_STARTED", "RUN_FINISHED"]

    def test_an_agent_may_run_another_agent(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield started(input)
            if input.thread_id == "t1":
                answer = server.post(RUN, json=run_input("t2"))
                yield {"type": "CUSTOM", "name": "other", "value": types(answer.events())}
            yield finished(input)

        server = client(agent)
        events = list(begin(server))
        assert events[1]["value"] == ["RUN_STARTED", "RUN_FINISHED"]

    def test_an_agent_cannot_wait_for_itself(self) -> None:
        def agent(input: Any, context: Any) -> Iterator[Any]:
            yield started(input)
            begin(server, what="connect").finish()

        server = client(agent)
        last = list(begin(server))[-1]
        assert last["type"] == "RUN_ERROR"
        assert "waits for a run that is not this client's" in last["message"]


class TestClock:
    def test_the_clock_stands_still(self) -> None:
        server = client()
        server.post(RUN, json=run_input("t1"))
        (thread,) = server.get(f"{BASE}/threads").json()["threads"]
        assert thread["createdAt"] == thread["updatedAt"] == "2023-11-14T22:13:20.000Z"

    def test_the_clock_can_be_set(self) -> None:
        server = Client(CopilotRuntime({"default": counting}), now=0.0)
        server.now = 86_400
        server.post(RUN, json=run_input("t1"))
        (thread,) = server.get(f"{BASE}/threads").json()["threads"]
        assert thread["createdAt"] == "1970-01-02T00:00:00.000Z"

    def test_heartbeats_are_sent_when_they_are_due(self) -> None:
        server = client()
        stream = begin(server)
        server.advance(14.9)
        assert bytes(stream.body) == b""
        server.advance(0.1)
        assert bytes(stream.body) == b": keep-alive\n\n"
        server.advance(15)
        assert bytes(stream.body) == b": keep-alive\n\n" * 2
        assert types(stream) == WHOLE

    def test_heartbeats_are_as_often_as_the_runtime_says(self) -> None:
        server = client(limits=Limits(heartbeat_seconds=2))
        stream = begin(server)
        server.advance(2)
        assert bytes(stream.body).startswith(b":")

    def test_a_stream_that_is_not_silent_has_no_heartbeats(self) -> None:
        server = client()
        stream = begin(server)
        server.step()
        server.advance(15)
        assert b"keep-alive" not in stream.body
        assert types(stream.ready()) == ["RUN_STARTED"]
        server.advance(15)
        assert b"keep-alive" in stream.body

    def test_a_stream_that_has_ended_has_no_heartbeats(self) -> None:
        server = client()
        stream = begin(server)
        stream.close()
        server.advance(100)
        assert bytes(stream.body) == b""

    def test_a_stream_ends_while_its_agent_takes_its_time_to_clean_up(self) -> None:
        server = client(limits=Limits(cleanup_seconds=2))
        stream = begin(server)
        while stream.next()["type"] != "RUN_FINISHED":
            pass
        server.advance(1.9)
        stream.ready()
        assert not stream.ended
        server.advance(0.1)
        assert stream.ready() == []
        assert stream.ended
        assert server.step(), "the agent ends in its own time"
        assert not server.step()

    def test_leases_are_renewed_when_they_are_due(self) -> None:
        renewed: list[float] = []

        class Leasing(MemoryStore):
            def open_run(self, request: RunRequest) -> Any:
                opened = super().open_run(request)
                return (
                    structs.replace(opened, lease=30.0) if isinstance(opened, RunOpened) else opened
                )

            def renew(self, key: RunKey) -> Signal:
                renewed.append(server.now)
                return super().renew(key)

        server = client(store=Leasing())
        stream = begin(server)
        start = server.now
        for _ in range(5):
            server.advance(5)
        assert [time - start for time in renewed] == [10, 20]
        stream.finish()
        server.advance(100)
        assert len(renewed) == 2, "a run that is over has no lease"


class Forever:
    """An awaitable that only an event loop could finish, as a future is."""

    def __await__(self) -> Generator[Any, Any, Any]:
        yield self

    def __repr__(self) -> str:
        return "<forever>"


class TestWhatNeedsAnEventLoop:
    @pytest.fixture(autouse=True)
    def _nothing_leaks(self) -> Iterator[None]:
        """A coroutine that was never awaited would be reported here, as an error."""
        yield
        gc.collect()

    def test_giving_way_needs_no_event_loop(self) -> None:
        async def hook(context: Any) -> Response:
            await asyncio.sleep(0)
            return Response(418)

        assert client(hooks=Hooks(on_response=hook)).get(f"{BASE}/info").status == 418

    @pytest.mark.parametrize(
        ("wait", "message"),
        [
            (lambda: Forever(), "waits for <forever>, which needs an event loop: use a binding"),
            (lambda: asyncio.sleep(1), "no running event loop: use a binding to test this"),
        ],
    )
    def test_a_hook_that_waits_needs_an_event_loop(self, wait: Any, message: str) -> None:
        async def hook(context: Any) -> None:
            await wait()

        server = client(hooks=Hooks(on_request=hook, on_error=lambda context: Response(200)))
        with pytest.raises(NeedsEventLoop, match=message):
            server.get(f"{BASE}/info")

    @pytest.mark.parametrize("wait", [lambda: Forever(), lambda: asyncio.sleep(1)])
    def test_an_agent_that_waits_needs_an_event_loop(self, wait: Any) -> None:
        cleaned_up: list[bool] = []

        async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
            yield started(input)
            try:
                await wait()
            finally:
                cleaned_up.append(True)

        server = client(agent)
        stream = begin(server)
        stream.next()
        with pytest.raises(NeedsEventLoop):
            stream.next()
        assert cleaned_up == [True]
        assert types(stream) == ["RUN_ERROR"], "its run has ended like that of any that fails"

    def test_an_agent_that_waits_before_its_first_event_needs_an_event_loop(self) -> None:
        async def agent(input: Any, context: Any) -> Any:
            await Forever()

        with pytest.raises(NeedsEventLoop):
            client(agent).post(RUN, json=run_input("t1"))

    def test_an_agent_that_catches_the_error_needs_an_event_loop_all_the_same(self) -> None:
        async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
            yield started(input)
            try:
                await Forever()
            except Exception:
                yield {"type": "CUSTOM", "name": "failed", "value": 1}

        with pytest.raises(NeedsEventLoop):
            client(agent).post(RUN, json=run_input("t1"))

    def test_a_hook_that_waits_again_when_it_cleans_up_needs_an_event_loop(self) -> None:
        async def hook(context: Any) -> None:
            try:
                await Forever()
            finally:
                await Forever()

        with pytest.raises(NeedsEventLoop):
            client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")

    def test_an_agent_that_waits_when_it_is_stopped_needs_an_event_loop(self) -> None:
        async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
            try:
                yield started(input)
            finally:
                await Forever()

        server = client(agent)
        begin(server).next()
        with pytest.raises(NeedsEventLoop):
            server.close()

    @pytest.mark.parametrize("method", ["open_run", "append"])
    def test_a_store_that_waits_needs_an_event_loop(self, method: str) -> None:
        async def wait(*args: Any) -> Any:
            await Forever()

        store = type("Waiting", (MemoryStore,), {method: wait})()
        server = client(store=store)
        with pytest.raises(NeedsEventLoop):
            server.post(RUN, json=run_input("t1"))
        assert not server.step()

    def test_the_error_of_trio_has_other_words(self) -> None:
        async def hook(context: Any) -> None:
            # The text is that of trio, because the test client knows the error by it.
            raise RuntimeError("must be called from async context")

        with pytest.raises(NeedsEventLoop, match="must be called from async context"):
            client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")

    def test_other_errors_of_the_same_kind_are_what_they_are(self) -> None:
        async def hook(context: Any) -> None:
            raise RuntimeError("out of order")

        assert client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info").status == 500
