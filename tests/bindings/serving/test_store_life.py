"""A store is opened before anything is served and closed at the end, by every binding."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import pytest
from support.upstream import upstream

from copilot_bindings import asyncio as on_asyncio
from copilot_bindings import sockets as on_sockets
from copilot_bindings.agents import HttpAgent
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.serving.server_life import StartFailed
from copilot_bindings.serving.store_life import StoreNotOpened
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, Limits, MemoryStore
from sansio_copilot.errors import sole_cause
from sansio_copilot.testing import Client, run_input

INFO = "/api/copilotkit/threads"


class Noted(MemoryStore):
    """A store that notes its life."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.life: list[str] = []
        self.error = error
        self.at_close: Exception | None = None

    def open(self) -> None:
        self.life.append("open")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.life.append("close")
        if self.at_close is not None:
            raise self.at_close

    def list_threads(self, *args: Any) -> Any:
        self.life.append("list")
        return super().list_threads(*args)


class Late(Noted):
    """The same, with coroutines."""

    async def open(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().open()

    async def close(self) -> None:  # type: ignore[override]
        super().close()


class Deferred(Noted):
    """The same, with futures, as stores have them that make their calls in threads of their own."""

    def open(self) -> Future[None]:  # type: ignore[override]
        return self._later(super().open)

    def close(self) -> Future[None]:  # type: ignore[override]
        return self._later(super().close)

    def _later(self, function: Callable[[], None]) -> Future[None]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function)


def get(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{INFO}") as answer:
        json.load(answer)
        status: int = answer.status
    return status


def serve_asyncio(runtime: CopilotRuntime, during: Callable[[int], object]) -> None:
    async def main() -> None:
        async with await on_asyncio.start_server(runtime, port=0) as server:
            await asyncio.to_thread(during, server.port)

    asyncio.run(main())


def serve_trio(runtime: CopilotRuntime, during: Callable[[int], object]) -> None:
    import trio

    from copilot_bindings.trio import serve

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(_start, serve, runtime)
            await trio.to_thread.run_sync(during, server.port)
            await server.close()

    async def _start(serve: Any, runtime: Any, *, task_status: Any) -> None:
        await serve(runtime, port=0, task_status=task_status)

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        # The nursery of this test has wrapped the error in a group.
        raise sole_cause(group) from None


def serve_sockets(runtime: CopilotRuntime, during: Callable[[int], object]) -> None:
    with on_sockets.start_server(runtime, port=0) as server:
        during(server.port)


SERVERS = [serve_asyncio, serve_trio, serve_sockets]
IDS = ["asyncio", "trio", "sockets"]


@pytest.mark.parametrize(
    ("serve", "kind"),
    # The coroutines are made for asyncio.
    [
        *((serve, kind) for serve in SERVERS for kind in (Noted, Deferred)),
        *((serve, Late) for serve in (serve_asyncio, serve_sockets)),
    ],
)
def test_a_server_opens_it_first_and_closes_it_last(serve: Any, kind: type[Noted]) -> None:
    store = kind()
    serve(CopilotRuntime({}, store=store), get)
    assert store.life == ["open", "list", "close"]


@pytest.mark.parametrize("kind", [Noted, Deferred])
@pytest.mark.parametrize("serve", SERVERS, ids=IDS)
def test_a_store_that_cannot_be_opened_is_named_and_nothing_is_served(
    serve: Any, kind: type[Noted]
) -> None:
    store = kind(OSError("no such disk"))

    def during(port: int) -> None:
        raise AssertionError("it serves")

    said = f"the store {kind.__name__} cannot be opened: no such disk"
    with pytest.raises(StoreNotOpened, match=said):
        serve(CopilotRuntime({}, store=store), during)
    assert store.life == ["open"]


@pytest.mark.parametrize("serve", SERVERS, ids=IDS)
def test_agents_are_closed_before_the_store_is(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = Noted()

    class Remote:
        def __init__(self, error: Exception | None = None) -> None:
            self.error = error

        def run(self, input: Any, context: Any) -> Iterator[Any]:
            yield {}

        async def aclose(self) -> None:
            # The store is closed in the loop that its runs were in.
            await anyio.lowlevel.checkpoint()
            store.life.append("aclose")
            if self.error is not None:
                raise self.error

    bad, good = Remote(OSError("gone")), Remote()
    agents: Any = {"bad": bad, "good": good, "plain": lambda input: iter(())}
    serve(CopilotRuntime(agents, store=store), get)
    assert store.life == ["open", "list", "aclose", "aclose", "close"]
    assert "agent 'bad' could not be closed" in caplog.text


@pytest.mark.parametrize("serve", SERVERS, ids=IDS)
def test_the_connections_of_a_remote_agent_are_closed_with_the_server(serve: Any) -> None:
    ids = {"threadId": "t", "runId": "r"}
    events = [{"type": "RUN_STARTED", **ids}, {"type": "RUN_FINISHED", **ids}]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    with upstream([head % len(body) + body, "end"]) as far:

        def run(port: int) -> None:
            url = f"http://127.0.0.1:{port}/api/copilotkit/agent/default/run"
            data = json.dumps(run_input("t", "r")).encode()
            asked = urllib.request.Request(url, data, {"content-type": "application/json"})
            with urllib.request.urlopen(asked) as answer:
                assert b"RUN_FINISHED" in answer.read()
            assert not far.asked[0].gone.is_set(), "it is kept for the next run"

        serve(CopilotRuntime({"default": HttpAgent(far.url)}), run)
        assert far.asked[0].gone.wait(20)


def test_a_store_that_cannot_be_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    store = Noted()
    store.at_close = OSError("the disk is gone")
    serve_asyncio(CopilotRuntime({}, store=store), get)
    assert "the store Noted could not be closed" in caplog.text


def test_servers_that_share_one_open_and_close_it_once() -> None:
    store = Noted()

    def during(port: int) -> None:
        serve_sockets(CopilotRuntime({}, store=store), get)
        assert store.life == ["open", "list"], "another one uses it"
        get(port)

    serve_asyncio(CopilotRuntime({}, store=store), during)
    assert store.life == ["open", "list", "list", "close"]
    serve_asyncio(CopilotRuntime({}, store=store), get)
    assert store.life[4:] == ["open", "list", "close"]


def test_a_request_that_comes_while_the_store_is_opened_waits() -> None:
    opening, goes_on = threading.Event(), threading.Event()

    class Slow(Noted):
        def open(self) -> None:
            super().open()
            opening.set()
            assert goes_on.wait(20)

    store = Slow()
    served: list[int] = []

    def serve() -> None:
        serve_sockets(CopilotRuntime({}, store=store), lambda port: served.append(get(port)))

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert opening.wait(20)
    assert served == []
    goes_on.set()
    for thread in threads:
        thread.join(20)
    assert served == [200, 200]
    assert store.life.count("open") == store.life.count("close") >= 1


def test_a_request_that_waits_for_a_store_that_fails_is_told_as_well() -> None:
    waiting, failed = threading.Event(), list[BaseException]()

    class Slow(Noted):
        def open(self) -> None:
            assert waiting.wait(20)
            super().open()

    store = Slow(OSError("no such disk"))

    def serve() -> None:
        try:
            serve_sockets(CopilotRuntime({}, store=store), get)
        except StoreNotOpened as error:
            failed.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.set()
    for thread in threads:
        thread.join(20)
    assert len(failed) == 2


class ASGI:
    """A server for one application and one loop, without HTTP."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def request(self) -> int:
        sent: list[Any] = []
        scope = {"type": "http", "method": "GET", "path": INFO, "query_string": b"", "headers": []}

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        status: int = sent[0]["status"]
        return status

    async def lifespan(self, during: Callable[[], Awaitable[object]]) -> list[str]:
        sent: list[str] = []
        ends = asyncio.Event()
        started = asyncio.Event()
        first = True

        async def receive() -> Any:
            nonlocal first
            if first:
                first = False
                return {"type": "lifespan.startup"}
            await ends.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Any) -> None:
            sent.append(message["type"])
            started.set()

        task = asyncio.ensure_future(self.app({"type": "lifespan"}, receive, send))
        await started.wait()
        await during()
        ends.set()
        await task
        return sent


def test_asgi_opens_it_at_startup() -> None:
    store = Noted()
    server = ASGI(CopilotASGI(CopilotRuntime({}, store=store)))

    async def during() -> None:
        assert store.life == ["open"]
        assert await server.request() == 200

    sent = asyncio.run(server.lifespan(during))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert store.life == ["open", "list", "close"]


def test_asgi_fails_its_startup_when_it_cannot(caplog: pytest.LogCaptureFixture) -> None:
    server = ASGI(CopilotASGI(CopilotRuntime({}, store=Noted(OSError("no such disk")))))
    assert asyncio.run(server.lifespan(lambda: asyncio.sleep(0))) == ["lifespan.startup.failed"]
    assert "the application does not start: the store Noted cannot be opened" in caplog.text


def test_asgi_without_a_lifespan_opens_it_at_its_first_request() -> None:
    store = Noted()
    app = CopilotASGI(CopilotRuntime({}, store=store))

    async def main() -> None:
        server = ASGI(app)
        assert {*await asyncio.gather(server.request(), server.request())} == {200}
        assert store.life == ["open", "list", "list"]
        await app.close()

    asyncio.run(main())
    assert store.life == ["open", "list", "list", "close"]


def test_asgi_answers_503_while_it_cannot(caplog: pytest.LogCaptureFixture) -> None:
    store = Noted(OSError("no such disk"))
    server = ASGI(CopilotASGI(CopilotRuntime({}, store=store)))

    async def main() -> None:
        assert await server.request() == 503
        store.error = None
        assert await server.request() == 200

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "a request is answered 503: the store Noted cannot be opened" in caplog.text


def wsgi_request(app: CopilotWSGI) -> str:
    told: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": INFO,
        "QUERY_STRING": "",
        "SERVER_NAME": "test",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        told.append(status)

    answer = app(environ, start_response)
    list(answer)
    if hasattr(answer, "close"):
        answer.close()
    return told[0]


@pytest.fixture
def noted() -> Iterator[tuple[Noted, CopilotWSGI]]:
    store = Noted(OSError("no such disk"))
    app = CopilotWSGI(CopilotRuntime({}, store=store))
    yield store, app
    app.close(grace_seconds=0)


def test_wsgi_opens_it_at_its_first_request(
    noted: tuple[Noted, CopilotWSGI], caplog: pytest.LogCaptureFixture
) -> None:
    store, app = noted
    with caplog.at_level(logging.ERROR):
        assert wsgi_request(app).startswith("503")
    assert "a request is answered 503: the store Noted cannot be opened" in caplog.text
    store.error = None
    assert wsgi_request(app).startswith("200")
    assert store.life == ["open", "open", "list"]
    app.close(grace_seconds=0)
    assert store.life[-1] == "close"


@pytest.mark.parametrize("serve", SERVERS, ids=IDS)
def test_the_application_starts_behind_the_store_and_closes_before_it(serve: Any) -> None:
    store = Noted()

    async def on_start() -> None:
        await anyio.lowlevel.checkpoint()
        store.life.append("start")

    def on_close() -> None:
        store.life.append("end")

    serve(CopilotRuntime({}, store=store, on_start=on_start, on_close=on_close), get)
    assert store.life == ["open", "start", "list", "end", "close"]


@pytest.mark.parametrize("serve", SERVERS, ids=IDS)
def test_a_start_that_fails_is_named_and_closed(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = Noted()

    def on_start() -> None:
        raise OSError("no such queue")

    async def on_close() -> None:
        await anyio.lowlevel.checkpoint()
        store.life.append("end")
        raise OSError("nothing to close")

    runtime = CopilotRuntime({}, store=store, on_start=on_start, on_close=on_close)
    with pytest.raises(StartFailed, match="on_start has failed: OSError: no such queue"):
        serve(runtime, lambda port: pytest.fail("it serves"))
    assert store.life == ["open", "end", "close"]
    assert "on_close has failed" in caplog.text


def test_a_start_that_takes_too_long_fails() -> None:
    closed: list[str] = []
    runtime = CopilotRuntime(
        {},
        limits=Limits(service_seconds=0.05),
        on_start=anyio.sleep_forever,
        on_close=lambda: closed.append("end"),
    )
    with pytest.raises(StartFailed, match=r"on_start did not return within 0\.05 s"):
        serve_asyncio(runtime, get)
    assert closed == ["end"]


def test_a_start_that_is_cancelled_is_closed_and_made_by_who_waits() -> None:
    done: list[str] = []

    async def main() -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def on_start() -> None:
            done.append("start")
            begun.set()
            await goes_on.wait()

        app = CopilotASGI(
            CopilotRuntime({}, on_start=on_start, on_close=lambda: done.append("end"))
        )
        server = ASGI(app)
        first = asyncio.ensure_future(server.request())
        await begun.wait()
        second = asyncio.ensure_future(server.request())
        await asyncio.sleep(0)
        begun.clear()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await begun.wait()
        assert done == ["start", "end", "start"]
        goes_on.set()
        assert await second == 200
        await app.close()

    asyncio.run(main())
    assert done == ["start", "end", "start", "end"]


def test_a_loop_that_is_dropped_has_a_plain_function_called_at_least(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = threading.Event()

    async def too_late() -> None:
        raise AssertionError("there is no loop to await it")

    for on_close in (ended.set, too_late):
        app = CopilotASGI(CopilotRuntime({}, on_close=on_close))
        for _ in range(2):
            # A loop that is closed without a word, as test clients do, is noticed by the next.
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(ASGI(app).request()) == 200
            for task in asyncio.all_tasks(loop):
                task.get_coro().close()
            loop.close()
    assert ended.wait(20)
    assert "on_close is not called, because its event loop was closed before" in caplog.text


@pytest.mark.filterwarnings("error")
def test_wsgi_answers_503_while_the_system_has_no_loop_for_it(
    noted: tuple[Noted, CopilotWSGI], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, app = noted
    store.error = None
    with monkeypatch.context() as patched:
        shortage = Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
        patched.setattr(asyncio.events, "new_event_loop", shortage)
        assert wsgi_request(app).startswith("503")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("no thread")))
        assert wsgi_request(app).startswith("503")
    assert not store.life
    assert wsgi_request(app).startswith("200")
    assert store.life == ["open", "list"]


def test_wsgi_answers_503_while_it_does_not_start() -> None:
    outcomes = iter([OSError("no such queue"), None])

    def on_start() -> None:
        if (error := next(outcomes)) is not None:
            raise error

    app = CopilotWSGI(CopilotRuntime({}, on_start=on_start))
    assert [wsgi_request(app)[:3] for _ in range(3)] == ["503", "200", "200"]
    app.close(grace_seconds=0)


def test_a_client_of_a_test_opens_and_closes_it() -> None:
    store = Noted()
    client = Client(CopilotRuntime({}, store=store))
    assert client.get(INFO).status == 200
    client.close()
    assert store.life == ["open", "list", "close"]


@pytest.mark.parametrize("kind", [Noted, Late])
def test_a_store_is_closed_by_a_loop_that_ends_in_the_middle_of_a_shutdown(
    kind: type[Noted], caplog: pytest.LogCaptureFixture
) -> None:
    """A server that mounts the app without its lifespan does not wait for its shutdown, and
    asyncio.run cancels all tasks at its end."""
    closing = asyncio.Event()

    async def on_close() -> None:
        closing.set()
        await asyncio.sleep(0.01)

    store = kind()
    runtime = CopilotRuntime({"default": lambda input: iter(())}, store=store, on_close=on_close)

    async def serve() -> None:
        app = CopilotASGI(runtime)
        scope = {"type": "http", "method": "GET", "path": INFO, "headers": [], "query_string": b""}
        inbox = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return inbox.pop() if inbox else await asyncio.sleep(1000)

        async def send(message: Any) -> None:
            pass

        await app(scope, receive, send)
        app.begin_close()
        await closing.wait()

    caplog.set_level(logging.INFO)
    asyncio.run(serve())
    assert store.life == ["open", "list", "close"]
    assert "shut down" in caplog.messages
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
