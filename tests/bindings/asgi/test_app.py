"""Tests of ASGI's own part in the ASGI binding: scopes, paths, lifespan, ends of a request.

The application is called as a server would call it. Behaviour that it shares with the other
bindings is tested in tests/conformance, under real servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount
from support.turns import until

from copilot_bindings.asgi import BrokenOff, CopilotASGI
from copilot_bindings.serving import shutdown
from sansio_copilot import CopilotRuntime, Hooks, Limits, MemoryStore, Reject, Response, text_agent
from sansio_copilot.sse import Parser
from sansio_copilot.testing import run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
Test = Callable[[], Awaitable[None]]


def on_both(test: Test) -> Callable[[str], None]:
    """Run an async test under asyncio and under trio."""

    async def bounded() -> None:
        with anyio.fail_after(60):
            await test()

    @pytest.mark.parametrize("library", ["asyncio", "trio"])
    def run(library: str) -> None:
        anyio.run(bounded, backend=library)

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


def on_asyncio(test: Test) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 60))

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


class Request:
    """A call of an application, with this end of ``receive`` and ``send``."""

    def __init__(self, app: Any, path: str = RUN, body: bytes | None = None, **scope: Any) -> None:
        self.app = app
        self.messages: list[dict[str, Any]] = []
        self.inbox: list[dict[str, Any]] = []
        self.over = False
        self.raised: BaseException | None = None
        self.send_fails: Exception | None = None
        self.send_hangs = False
        self.receive_fails: Exception | None = None
        self.receiving = 0
        method = "GET" if body is None else "POST"
        headers = [(b"host", b"test"), (b"content-type", b"application/json")]
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": headers,
            **scope,
        }
        if body is not None:
            self.inbox.append({"type": "http.request", "body": body, "more_body": False})

    def disconnect(self) -> None:
        self.inbox.append({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        self.receiving += 1
        try:
            await until(lambda: self.inbox or self.receive_fails)
            if not self.inbox and self.receive_fails is not None:
                raise self.receive_fails
        finally:
            self.receiving -= 1
        return self.inbox.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        if self.send_fails is not None:
            raise self.send_fails
        self.messages.append(message)
        if self.send_hangs:
            await anyio.sleep_forever()

    async def __call__(self) -> None:
        """Serve it to its end; what the application raises is kept."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except anyio.get_cancelled_exc_class() as cancelled:
            self.raised = cancelled
            raise
        except Exception as error:
            self.raised = error
        finally:
            self.over = True

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        return bool(self.messages) and self.messages[-1].get("more_body") is False

    def types(self) -> list[str]:
        return [json.loads(event.data)["type"] for event in Parser().feed(self.body)]


def body_of(thread: str = "t", **fields: Any) -> bytes:
    return json.dumps(run_input(thread, **fields)).encode()


async def get(app: Any, path: str = f"{BASE}/info", **scope: Any) -> Request:
    request = Request(app, path, **scope)
    await request()
    if request.raised is not None:
        raise request.raised
    return request


@contextlib.asynccontextmanager
async def streaming(app: Any, thread: str = "t", path: str = RUN) -> AsyncIterator[Request]:
    """A run of which the first events have been sent."""
    request = Request(app, path, body_of(thread))
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await until(lambda: len(request.body) > 0)
        yield request
        group.cancel_scope.cancel()


class Endless:
    """Goes on until it is cancelled, and counts that."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    async def run(self, input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        run = {"threadId": input.thread_id, "runId": input.run_id}
        self.started += 1
        try:
            yield {"type": "RUN_STARTED", **run}
            await anyio.sleep_forever()
        finally:
            self.ended += 1


@text_agent
async def hello(input: Any, context: Any) -> AsyncIterator[str]:
    for word in ("Hello", " from", " ASGI"):
        yield word


def make(agent: Any = hello, grace_seconds: float = 0, **runtime: Any) -> CopilotASGI:
    return CopilotASGI(CopilotRuntime({"default": agent}, **runtime), grace_seconds=grace_seconds)


# --- Requests ------------------------------------------------------------------------------------


@on_both
async def test_a_short_response_is_a_head_and_a_body() -> None:
    request = await get(make())
    head, body = request.messages
    assert (head["type"], head["status"]) == ("http.response.start", 200)
    assert dict(head["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert body["more_body"] is False
    assert "default" in json.loads(body["body"])["agents"]


@on_both
async def test_events_that_are_ready_together_are_sent_together() -> None:
    app = make()
    request = Request(app, RUN, body_of())
    await request()
    assert request.types()[-1] == "RUN_FINISHED"
    # There are at most four messages: the head, an empty body (because a server sends no head
    # before a body), the events together, and perhaps the end by itself.
    assert len(request.messages) <= 4
    await app.close()


@on_asyncio
async def test_the_head_waits_one_turn_for_the_first_events() -> None:
    app = make()
    request = Request(app, RUN, body_of())
    await request()
    # There are at most three messages, because the head has waited for the events of the first
    # turn: the head, these events, and perhaps the rest.
    assert len(request.messages) <= 3
    assert request.messages[1]["body"]
    await app.close()


@on_both
async def test_a_body_may_come_in_pieces() -> None:
    app = make()
    request = Request(app, RUN, b"")
    body = body_of()
    request.inbox = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": body[10:]},
    ]
    await request()
    assert request.types()[-1] == "RUN_FINISHED"
    await app.close()


@on_both
async def test_a_body_that_is_announced_too_long_is_not_read() -> None:
    request = Request(make(limits=Limits(body_bytes=10)), RUN, b"x")
    request.scope["headers"] += [(b"content-length", b"11")]
    await request()
    assert request.status == 413
    assert len(request.inbox) == 1


@on_both
async def test_a_body_that_grows_too_long_is_read_no_further() -> None:
    request = Request(make(limits=Limits(body_bytes=10)), RUN, b"")
    piece = {"type": "http.request", "body": b"12345678", "more_body": True}
    request.inbox = [piece, piece, piece]
    await request()
    assert request.status == 413
    assert len(request.inbox) == 1


@on_both
async def test_a_text_that_is_not_a_path_is_refused() -> None:
    request = await get(make(), "nonsense", raw_path=b"nonsense")
    assert request.status == 400
    assert "nonsense" in json.loads(request.body)["message"]
    of_head = await get(make(), "nonsense", raw_path=b"nonsense", method="HEAD")
    assert of_head.messages[0] == request.messages[0]
    assert of_head.complete
    assert of_head.body == b""


def test_a_refusal_without_an_exchange_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        anyio.run(partial(get, make(), "nonsense", raw_path=b"nonsense"))
    assert "a request is answered 400 without an exchange" in caplog.text


@on_both
async def test_a_websocket_is_refused_before_it_is_accepted() -> None:
    request = Request(make())
    request.scope = {"type": "websocket", "path": BASE}
    await request()
    assert request.messages == [{"type": "websocket.close"}]


@on_both
async def test_a_scope_that_nobody_knows_is_refused() -> None:
    request = Request(make())
    request.scope = {"type": "telepathy"}
    await request()
    assert isinstance(request.raised, ValueError)
    assert "telepathy" in str(request.raised)


# --- Paths ---------------------------------------------------------------------------------------

PREFIX = "/behind/a proxy"
QUOTED = b"/behind/a%20proxy"
INFO = f"{BASE}/info"
RAW = f"{BASE}/threads".encode()


@pytest.mark.parametrize(
    ("base_path", "scope"),
    [
        pytest.param(BASE, {}, id="no root_path"),
        pytest.param(BASE, {"root_path": BASE}, id="mounted: path is whole"),
        pytest.param(BASE, {"path": "/info", "root_path": BASE}, id="mounted: path is cut"),
        pytest.param(
            BASE,
            {"path": "/info", "root_path": BASE, "raw_path": INFO.encode()},
            id="mounted: path is cut, raw_path is not",
        ),
        pytest.param(BASE, {"root_path": PREFIX}, id="a proxy that takes its prefix off"),
        pytest.param(
            BASE,
            {"path": PREFIX + INFO, "raw_path": QUOTED + INFO.encode(), "root_path": PREFIX},
            id="a server that puts the prefix on again",
        ),
        pytest.param(
            BASE,
            {"path": PREFIX + INFO, "raw_path": INFO.encode(), "root_path": PREFIX},
            id="a server that puts it on the path only",
        ),
        pytest.param(
            PREFIX.replace(" ", "%20") + BASE,
            {"path": PREFIX + INFO, "raw_path": QUOTED + INFO.encode(), "root_path": PREFIX},
            id="base_path with the prefix",
        ),
        pytest.param(
            BASE,
            {"path": PREFIX + INFO, "root_path": PREFIX + BASE},
            id="mounted behind a proxy",
        ),
        pytest.param(
            "/copilot",
            {"path": "/v1/copilot/info", "root_path": "/v1"},
            id="mounted above its base path",
        ),
        pytest.param(
            "/v1/copilot",
            {"path": "/v1/copilot/info", "root_path": "/v1/copilot"},
            id="mounted elsewhere",
        ),
        pytest.param(
            BASE,
            {"path": "/info/", "raw_path": INFO.encode()},
            id="mounted by Litestar, which does not tell what it cuts off",
        ),
        pytest.param(
            BASE,
            {"path": "/info/", "raw_path": QUOTED + INFO.encode(), "root_path": PREFIX},
            id="mounted by Litestar behind a proxy",
        ),
        pytest.param(
            BASE + "/v 1".replace(" ", "%20"),
            {"path": "/v 1/info/", "raw_path": (BASE + "/v%201/info").encode()},
            id="mounted by Litestar above its base path",
        ),
        pytest.param(None, {"path": "/x/info", "root_path": "/x"}, id="no base_path"),
        pytest.param("/", {"path": "/x/info", "root_path": "/x"}, id="base_path is the root"),
    ],
)
def test_the_base_path_is_found(base_path: str | None, scope: dict[str, Any]) -> None:
    async def test() -> None:
        request = await get(make(base_path=base_path), **{"path": INFO, **scope})
        assert request.status == 200

    asyncio.run(test())


@pytest.mark.parametrize(
    "scope",
    [
        {"path": f"/other{INFO}"},
        {"path": f"/other{INFO}", "root_path": "/another"},
        {"path": "/info", "root_path": "/other"},
        # The path was rewritten on the way, so that the raw path does not count.
        {"path": "/info", "raw_path": f"{BASE}/agent/info".encode()},
        {"path": "/info", "raw_path": f"/other{INFO}".encode()},
        {"path": "/", "raw_path": INFO.encode()},
        {"path": f"{BASE}info", "root_path": BASE},
    ],
)
def test_another_path_is_not_found(scope: dict[str, Any]) -> None:
    async def test() -> None:
        assert (await get(make(), **scope)).status == 404

    asyncio.run(test())


@pytest.mark.parametrize(
    ("scope", "thread"),
    [
        ({"path": "/a/b/messages", "raw_path": b"/a%2Fb/messages"}, "a/b"),
        ({"path": "/a%2Fb/messages", "raw_path": b"/a%252Fb/messages"}, "a%2Fb"),
        ({"path": "/ä b?/messages", "raw_path": b"/%C3%A4%20b%3F/messages"}, "ä b?"),
        ({"path": "/ä b%?/messages"}, "ä b%?"),
        # The path was rewritten on the way, so that the raw path does not count.
        ({"path": "/new/messages", "raw_path": b"/old/messages"}, "new"),
    ],
)
def test_ids_in_the_path_are_decoded_once(scope: dict[str, Any], thread: str) -> None:
    seen: list[str | None] = []
    scope = {
        name: f"{BASE}/threads{value}" if name == "path" else RAW + value
        for name, value in scope.items()
    }

    def look(context: Any) -> None:
        seen.append(context.route.thread_id)

    async def test() -> None:
        await get(make(base_path=None, hooks=Hooks(on_before_handler=look)), **scope)

    asyncio.run(test())
    assert seen == [thread]


def test_a_query_and_header_fields_reach_the_hooks_as_they_are() -> None:
    seen: list[Any] = []

    def look(context: Any) -> None:
        seen.append((context.request.query, context.request.headers["x-name"]))

    async def test() -> None:
        app = make(hooks=Hooks(on_request=look))
        headers = [(b"x-name", b"caf\xe9")]
        await get(app, query_string=b"a=%20b&c", headers=headers)

    asyncio.run(test())
    assert seen == [("a=%20b&c", "café")]


# --- Clients that go -----------------------------------------------------------------------------


@on_both
async def test_a_client_that_goes_in_mid_body_is_not_answered() -> None:
    request = Request(make(), RUN, b"")
    request.inbox[0]["more_body"] = True
    request.disconnect()
    await request()
    assert_nobody_was_answered(request)


def assert_nobody_was_answered(request: Request) -> None:
    """A middleware between the application and a client that has gone gets the code for that."""
    assert request.raised is None
    assert (request.status, request.body, request.complete) == (499, b"", True)


@on_both
async def test_a_run_outlives_its_client() -> None:
    agent = Endless()
    app = make(agent)
    async with streaming(app) as request:
        request.disconnect()
        await until(lambda: request.over)
        assert not request.complete
        assert request.raised is None
        await anyio.sleep(0.01)
        assert (agent.started, agent.ended) == (1, 0)
    await app.close()
    assert agent.ended == 1


@on_both
async def test_a_suggestion_does_not() -> None:
    agent = Endless()
    app = make(agent)
    async with streaming(app, path=f"{BASE}/agent/default/suggest") as request:
        request.disconnect()
        await until(lambda: request.over)
        await until(lambda: agent.ended)
        assert request.raised is None
    await app.close()


@on_both
async def test_a_server_may_say_so_by_an_error_of_send() -> None:
    agent = Endless()
    app = make(agent, limits=Limits(heartbeat_seconds=0.01))
    async with streaming(app) as request:
        request.send_fails = ConnectionResetError("gone")
        await until(lambda: request.over)
        assert request.raised is None
        assert agent.ended == 0
    await app.close()


@on_both
async def test_any_other_error_of_send_is_raised_to_the_server() -> None:
    failure = RuntimeError("send does not work")
    app = make(Endless(), limits=Limits(heartbeat_seconds=0.01))
    async with streaming(app) as request:
        request.send_fails = failure
        await until(lambda: request.over)
        assert request.raised is failure
    await app.close()


@pytest.mark.parametrize("listening", [False, True])
def test_an_error_of_receive_is_raised_to_the_server(listening: bool) -> None:
    """Middleware that limits bodies ends a request by one."""
    failure = RuntimeError("receive does not work")

    async def main() -> None:
        app = make(Endless())
        request = Request(app, RUN, body_of() if listening else b"")
        request.receive_fails = failure
        if not listening:
            request.inbox.clear()
        await request()
        assert request.raised is failure
        assert not request.complete
        await app.close()

    anyio.run(main)


async def assert_given_up_with_its_client(hook: str) -> None:
    state = {"begun": 0, "cancelled": 0}

    async def slow(context: Any) -> None:
        state["begun"] += 1
        try:
            await anyio.sleep_forever()
        finally:
            state["cancelled"] += 1

    request = Request(make(hooks=Hooks(**{hook: slow})), RUN, body_of())
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await until(lambda: state["begun"])
        request.disconnect()
    assert_nobody_was_answered(request)
    await until(lambda: state["cancelled"])


@on_both
async def test_a_call_that_only_a_client_waits_for_is_given_up_with_it() -> None:
    await assert_given_up_with_its_client("on_before_handler")


@on_both
async def test_a_hook_that_waits_before_the_body_is_read_is_given_up_as_well() -> None:
    await assert_given_up_with_its_client("on_request")


@pytest.mark.parametrize("pieces", [1, 3, 30])
def test_the_part_of_a_body_that_came_while_a_hook_waited_is_not_lost(pieces: int) -> None:
    """Only a part is read, so that a long body is not sent for nothing while a hook waits."""

    async def test() -> None:
        body = body_of(forwardedProps={"text": "x" * 200_000})
        step = -(-len(body) // pieces)
        parts = [body[start : start + step] for start in range(0, len(body), step)]

        async def slow(context: Any) -> None:
            await until(lambda: request.receiving == 0 or len(request.inbox) == 0)

        app = make(hooks=Hooks(on_request=slow))
        request = Request(app, RUN, b"")
        request.inbox = [
            {"type": "http.request", "body": part, "more_body": number + 1 < len(parts)}
            for number, part in enumerate(parts)
        ]
        await request()
        assert request.types()[-1] == "RUN_FINISHED"
        await app.close()

    anyio.run(test)


@on_both
async def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked_by_listening() -> None:
    async def slow(context: Any) -> Any:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert request.receiving == 0
        raise Reject(Response(401))

    request = Request(make(hooks=Hooks(on_request=slow)), RUN, body_of())
    request.scope["headers"] += [(b"expect", b"100-continue")]
    await request()
    assert (request.status, len(request.inbox)) == (401, 1)


@on_asyncio
async def test_a_request_cancelled_before_its_hook_has_begun_leaves_no_coroutine() -> None:
    """The coroutine of the hook is closed, so that no warning says that it was never awaited."""

    async def hook(context: Any) -> None:
        raise AssertionError("never begun")

    def call(context: Any) -> Any:
        task.cancel()
        return hook(context)

    request = Request(make(hooks=Hooks(on_request=call)), INFO)
    task = asyncio.create_task(request())
    await asyncio.wait([task])
    gc.collect()
    assert isinstance(request.raised, asyncio.CancelledError)
    assert request.messages == []


@on_both
async def test_a_call_that_has_not_begun_when_the_client_goes_never_begins() -> None:
    """The coroutine of the call is closed, so that no warning says that it was never awaited."""
    called = []

    class Slow(MemoryStore):
        def __getattribute__(self, name: str) -> Any:
            if name != "open_run":
                return super().__getattribute__(name)

            async def open_run(*args: Any) -> Any:
                await until(lambda: request.receiving == 0)
                return MemoryStore.open_run(self, *args)

            return open_run

    async def before(context: Any) -> None:
        await anyio.sleep(0.001)
        request.disconnect()

    async def after(context: Any) -> None:
        called.append("response")

    hooks = Hooks(on_before_handler=before, on_response=after)
    app = make(hooks=hooks, store=Slow())
    request = Request(app, RUN, body_of())
    await request()
    gc.collect()
    assert_nobody_was_answered(request)
    assert called == []
    await app.close()


@on_both
async def test_a_response_that_breaks_is_broken_off() -> None:
    class Breaking(MemoryStore):
        reads = 0

        def read(self, *args: Any) -> Any:
            self.reads += 1
            if self.reads > 2:
                raise OSError("the store is gone")
            return super().read(*args)

    app = make(Endless(), store=Breaking(), limits=Limits(heartbeat_seconds=0.01))
    request = Request(app, RUN, body_of())
    await request()
    assert isinstance(request.raised, BrokenOff)
    assert not request.complete
    await app.close()


@pytest.mark.parametrize("failure", [SystemExit(3), asyncio.CancelledError()])
def test_an_exception_of_a_hook_does_not_end_the_server(failure: BaseException) -> None:
    async def fails(context: Any) -> Response:
        raise failure

    async def test() -> None:
        request = Request(make(hooks=Hooks(on_request=fails)), f"{BASE}/info")  # type: ignore[arg-type]
        await request()
        assert (request.raised, request.status) == (None, 500)

    asyncio.run(test())


# --- Cancellation --------------------------------------------------------------------------------


@on_both
async def test_a_cancelled_request_leaves_its_run_alone() -> None:
    """Middleware may cancel a request whose client has gone, and does not say so."""
    agent = Endless()
    app = make(agent)
    async with streaming(app) as request:
        pass
    assert isinstance(request.raised, anyio.get_cancelled_exc_class())
    assert not request.complete
    assert agent.ended == 0
    async with streaming(app, path=f"{BASE}/agent/default/connect") as reader:
        assert reader.types() == ["RUN_STARTED"]
    await app.close()
    assert agent.ended == 1


@on_both
async def test_a_cancelled_suggestion_ends() -> None:
    agent = Endless()
    app = make(agent)
    async with streaming(app, path=f"{BASE}/agent/default/suggest"):
        pass
    await until(lambda: agent.ended)
    await app.close()


@on_both
async def test_a_cancellation_at_the_servers_end_lets_the_stream_end() -> None:
    agent = Endless()
    app = make(agent, grace_seconds=100)
    async with streaming(app) as request:
        app.begin_close()
        await anyio.sleep(0.01)
        assert not request.over
    assert request.types()[-1] == "RUN_ERROR"
    assert (request.complete, request.raised) == (True, None)
    await app.close()


@on_both
async def test_a_body_that_has_not_arrived_by_the_servers_end_is_refused() -> None:
    app = make()
    request = Request(app, RUN, b"")
    request.inbox[0]["more_body"] = True
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await until(lambda: request.receiving and not request.inbox)
        await app.close(grace_seconds=0)
        await until(lambda: request.over)
    assert (request.status, request.complete, request.raised) == (408, True, None)


@on_both
async def test_a_cancellation_while_the_server_does_not_take_the_bytes() -> None:
    """Bytes that the server may have taken are not sent again, because nobody knows how many."""
    app = make(Endless(), grace_seconds=100)
    request = Request(app, RUN, body_of())
    request.send_hangs = True
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await until(lambda: request.messages)
        app.begin_close()
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert len(request.messages) == 1
    assert isinstance(request.raised, anyio.get_cancelled_exc_class())
    await app.close()


@on_both
async def test_a_store_call_is_seen_through_when_the_request_is_cancelled() -> None:
    opening = anyio.Event()

    class Slow(MemoryStore):
        def __getattribute__(self, name: str) -> Any:
            method = super().__getattribute__(name)
            if name != "open_run":
                return method

            async def later(*args: Any) -> Any:
                opening.set()
                await anyio.sleep(0.02)
                return method(*args)

            return later

    agent = Endless()
    store = Slow()
    app = make(agent, store=store)
    request = Request(app, RUN, body_of())
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await opening.wait()
        group.cancel_scope.cancel()
    assert isinstance(request.raised, anyio.get_cancelled_exc_class())
    # The run that has been opened takes place.
    await until(lambda: agent.started)
    await app.close()
    assert agent.ended == 1
    assert not store.open_runs


@on_asyncio
async def test_a_stream_that_uvicorn_cancels_before_it_tells_of_its_end_is_ended_whole() -> None:
    """uvicorn cancels requests, and says before their turn comes that it does because it ends."""
    app = make(Endless(), grace_seconds=100)
    lifespan = Lifespan(app)
    life = asyncio.create_task(lifespan())
    await until(lambda: lifespan.messages)
    request = Request(app, RUN, body_of())
    task = asyncio.create_task(request())
    await until(lambda: request.body)
    task.cancel()
    lifespan.shut_down()
    await asyncio.wait([task, life])
    assert request.types()[-1] == "RUN_ERROR"
    assert (request.complete, request.raised) == (True, None)
    assert lifespan.messages[-1] == {"type": "lifespan.shutdown.complete"}


# --- The end -------------------------------------------------------------------------------------


class Lifespan(Request):
    def __init__(self, app: CopilotASGI) -> None:
        super().__init__(app)
        self.scope = {"type": "lifespan"}
        self.inbox = [{"type": "lifespan.startup"}]
        self._shut_down = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self.inbox:
            # The application is told in the next turn of the loop, as by a server with a queue.
            await self._shut_down.wait()
        return self.inbox.pop(0)

    def shut_down(self) -> None:
        self.inbox.append({"type": "lifespan.shutdown"})
        self._shut_down.set()


@on_both
async def test_lifespan_ends_every_run_well_formed_and_may_begin_again() -> None:
    agent = Endless()
    store = MemoryStore()
    app = make(agent, store=store)
    for number in range(2):
        lifespan = Lifespan(app)
        async with anyio.create_task_group() as group:
            group.start_soon(lifespan)
            await until(lambda: lifespan.messages)  # noqa: B023 - not kept
            assert lifespan.messages == [{"type": "lifespan.startup.complete"}]
            abandoned = Request(app, RUN, body_of(f"a{number}"))
            abandoned.disconnect()
            await abandoned()
            async with streaming(app, f"b{number}") as request:
                lifespan.shut_down()
                await until(lambda: lifespan.over)  # noqa: B023
                await until(lambda: request.over)
        assert lifespan.messages[1:] == [{"type": "lifespan.shutdown.complete"}]
        assert request.types() == ["RUN_STARTED", "RUN_ERROR"]
        assert request.complete
        assert agent.ended == 2 * (number + 1)
    assert not store.open_runs


@on_both
async def test_runs_without_lifespan_end_when_the_application_is_closed() -> None:
    app = make(Endless(), grace_seconds=100)
    async with streaming(app) as request:
        threading.Thread(target=app.begin_close).start()
        await anyio.sleep(0.02)
        assert not request.over
        app.begin_close()
        await until(lambda: request.over)
    assert request.types()[-1] == "RUN_ERROR"
    assert request.complete
    late = Request(app, RUN, body_of("late"))
    await late()
    assert late.status == 503


@on_both
async def test_the_grace_period_lets_a_run_finish() -> None:
    proceed = anyio.Event()

    @text_agent
    async def patient(input: Any, context: Any) -> AsyncIterator[str]:
        yield "a"
        await proceed.wait()
        yield "b"

    app = make(patient, grace_seconds=100)
    async with streaming(app) as request:
        app.begin_close()
        await anyio.sleep(0.01)
        proceed.set()
        await until(lambda: request.over)
        assert request.types()[-1] == "RUN_FINISHED"
    await app.close()


@on_both
async def test_a_client_that_takes_nothing_does_not_hold_up_the_end() -> None:
    app = make(Endless())
    request = Request(app, RUN, body_of())
    request.send_hangs = True
    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await until(lambda: request.messages)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutdown, "FLUSH_SECONDS", 0.05)
            await app.close()
        assert not request.over
        group.cancel_scope.cancel()


def test_the_end_of_a_trio_run_ends_what_was_not_told_to() -> None:
    agent = Endless()
    store = MemoryStore()
    app = make(agent, store=store)

    async def main() -> None:
        abandoned = Request(app, RUN, body_of())
        abandoned.disconnect()
        await abandoned()
        await until(lambda: agent.started)

    trio.run(main)
    assert agent.ended == 1
    assert not store.open_runs


def test_the_end_of_an_asyncio_loop_does_as_well() -> None:
    agent = Endless()
    store = MemoryStore()
    app = make(agent, store=store)

    async def main() -> None:
        abandoned = Request(app, RUN, body_of())
        abandoned.disconnect()
        await abandoned()
        await until(lambda: agent.started)

    asyncio.run(main())
    assert agent.ended == 1
    assert not store.open_runs


def test_one_application_may_be_served_by_several_loops() -> None:
    agent = Endless()
    app = make(agent, grace_seconds=100)
    ready = threading.Barrier(3, timeout=60)
    streams: list[Request] = []

    async def main() -> None:
        async with streaming(app, threading.current_thread().name) as request:
            streams.append(request)
            await anyio.to_thread.run_sync(ready.wait)
            await until(lambda: request.over)

    libraries = ("asyncio", "trio")
    threads = [
        threading.Thread(target=anyio.run, args=(main,), kwargs={"backend": library}, name=library)
        for library in libraries
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    app.begin_close(grace_seconds=0)
    for thread in threads:
        thread.join(60)
    assert [request.types()[-1] for request in streams] == ["RUN_ERROR"] * 2
    for library in libraries:
        anyio.run(get, app, backend=library)


@on_asyncio
async def test_no_task_is_left() -> None:
    before = asyncio.all_tasks()
    app = make()
    await get(app)
    assert asyncio.all_tasks() == before
    for number in range(10):
        await Request(app, RUN, body_of(f"t{number}"))()
    await app.close()
    assert asyncio.all_tasks() == before


# --- Signals -------------------------------------------------------------------------------------


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """A server's own handler of SIGTERM: the signals that it got."""
    got: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    interrupt = signal.getsignal(signal.SIGINT)
    yield got
    signal.signal(signal.SIGTERM, previous)
    signal.signal(signal.SIGINT, interrupt)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_signal_that_ends_the_server_ends_the_runs(library: str, handled: list[int]) -> None:
    apps = [make(Endless()), make(Endless())]

    async def main() -> None:
        async with streaming(apps[0]) as one, streaming(apps[1]) as other:
            signal.raise_signal(signal.SIGTERM)
            assert handled == [signal.SIGTERM]
            await until(lambda: one.over and other.over)
            assert (one.complete, other.complete) == (True, True)
        for app in apps:
            await app.close()

    anyio.run(main, backend=library)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_signal_ends_a_hook_that_hangs_though_there_never_was_a_run(
    library: str, handled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers do not end a response before its time is over: uvicorn waits for it."""
    monkeypatch.setattr(shutdown, "FLUSH_SECONDS", 0.01)
    begun = anyio.Event()

    async def hang(context: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    async def main() -> None:
        app = make(hooks=Hooks(on_request=hang))
        request = Request(app, INFO)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(request)
                await begun.wait()
                signal.raise_signal(signal.SIGTERM)
        assert handled == [signal.SIGTERM]
        assert isinstance(request.raised, BrokenOff)
        await app.close()

    anyio.run(main, backend=library)


def test_a_handler_that_comes_later_is_watched_too(handled: list[int]) -> None:
    async def main() -> None:
        app = make(Endless())
        async with streaming(app, "t") as one, streaming(app, "u") as other:
            signal.signal(signal.SIGTERM, lambda number, frame: handled.append(0))
            async with streaming(app, "v") as another:
                signal.raise_signal(signal.SIGTERM)
                assert handled == [0]
                streams = (one, other, another)
                await until(lambda: all(stream.over for stream in streams))
        await app.close()

    anyio.run(main)


def test_signals_are_left_alone_if_nobody_handles_them_or_wants_that() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def main(app: CopilotASGI) -> None:
        await Request(app, RUN, body_of())()
        await app.close()

    trio.run(main, make())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_signals_need_not_be_watched(handled: list[int]) -> None:
    ours = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        app = CopilotASGI(CopilotRuntime({"default": hello}), close_on_signals=False)
        await Request(app, RUN, body_of())()
        await app.close()

    anyio.run(main)
    assert signal.getsignal(signal.SIGTERM) is ours


def test_a_watched_signal_does_not_keep_an_application(handled: list[int]) -> None:
    apps = [make()]

    async def main() -> None:
        await Request(apps[0], RUN, body_of())()
        await apps[0].close()

    anyio.run(main)
    reference = weakref.ref(apps.pop())
    gc.collect()
    assert reference() is None
    signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGTERM]


# --- Frameworks ----------------------------------------------------------------------------------


async def pass_through(request: Any, call_next: Any) -> Any:
    return await call_next(request)


@on_both
async def test_behind_middleware_a_client_that_goes_takes_no_run_with_it() -> None:
    agent = Endless()
    copilot = make(agent, limits=Limits(heartbeat_seconds=0.01))
    app = Starlette(
        routes=[Mount(BASE, copilot)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_through)],
    )
    async with streaming(app) as request:
        request.disconnect()
        await until(lambda: request.over)
    async with streaming(app, "u") as request:
        # Servers raise this error since version 2.4 of the specification.
        request.send_fails = OSError("gone")
        await until(lambda: request.over)
    assert (agent.started, agent.ended) == (2, 0)
    await copilot.close()
    assert agent.ended == 2


@pytest.mark.parametrize("where", ["in mid body", "in a hook", "in a store", "behind a head"])
def test_behind_middleware_a_client_may_go_before_its_response(where: str) -> None:
    """Starlette's takes an application that says nothing for one that has failed."""

    class Slow(MemoryStore):
        """Lets the client go first."""

        def __getattribute__(self, name: str) -> Any:
            if name != {"in a store": "open_run", "behind a head": "read"}.get(where):
                return super().__getattribute__(name)

            async def call(*args: Any) -> Any:
                request.disconnect()
                await until(lambda: request.receiving == 0)
                return MemoryStore.__getattribute__(self, name)(*args)

            return call

    async def hook(context: Any) -> None:
        # The client is listened to from here on.
        await anyio.sleep(0.001)
        if where == "in a hook":
            request.disconnect()
            await anyio.sleep_forever()

    async def test() -> None:
        copilot = make(hooks=Hooks(on_before_handler=hook), store=Slow())
        request.app = Starlette(
            routes=[Mount(BASE, copilot)],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_through)],
        )
        if where == "in mid body":
            request.inbox[0]["more_body"] = True
            request.disconnect()
        await request()
        assert request.raised is None
        assert request.messages[-1]["more_body"] is False
        await copilot.close()

    request = Request(None, RUN, body_of())
    anyio.run(test)


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("send does not work")])
def test_a_server_that_cannot_be_told_that_a_scope_is_not_http_is_left(error: Exception) -> None:
    """The server learns of its own failure, and not that its client has left."""

    async def test() -> None:
        request = Request(make(), "*")
        request.send_fails = error
        await request()
        assert request.raised is (None if isinstance(error, OSError) else error)

    asyncio.run(test())


def test_the_cors_policy_of_an_application_is_the_only_one() -> None:
    from starlette.middleware.cors import CORSMiddleware

    async def ask(origin: bytes) -> dict[bytes, bytes]:
        sent: list[Any] = []
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": "/api/copilotkit/info",
            "query_string": b"",
            "headers": [(b"origin", origin)],
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        runtime = CopilotRuntime({}, cors=False)
        app: Any = CORSMiddleware(CopilotASGI(runtime), allow_origins=["https://a.example"])
        await app(scope, receive, send)
        assert sent[0]["status"] == 200
        return dict(sent[0]["headers"])

    name = b"access-control-allow-origin"
    assert asyncio.run(ask(b"https://a.example"))[name] == b"https://a.example"
    assert name not in asyncio.run(ask(b"https://b.example"))
