"""The WSGI binding: what the conformance suite, with its servers, does not show."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import gc
import http.client
import io
import json
import logging
import math
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from conformance.process import free_port
from support import scripts
from support.driver import hello
from support.in_waitress import serving_by_waitress
from support.threads import no_thread_is_left
from support.wire import BASE, body_of

from copilot_bindings.serving.body_limits import Bodies, Body
from copilot_bindings.serving.service import SHUTDOWN
from copilot_bindings.stores import SQLiteStore
from copilot_bindings.wsgi import CopilotWSGI, StreamBroken
from copilot_bindings.wsgi.request import read_body, request_of
from sansio_copilot import BodyTooLarge, CopilotRuntime, Hooks, Limits, MemoryStore
from sansio_copilot.sse import Parser
from sansio_copilot.stores import Batch

RUN = f"{BASE}/agent/default/run"
SUGGEST = f"{BASE}/agent/default/suggest"
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


class Gate:
    """A plain agent that goes on when the test lets it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.stopped = threading.Event()

    def run(self, input: Any, context: Any) -> Iterator[dict[str, Any]]:
        self.begun.set()
        run = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **run}
        while not self.opened.wait(0.005):
            if context.stop_requested:
                self.stopped.set()
                return
        yield {"type": "RUN_FINISHED", **run}


class BreaksOff(MemoryStore):
    """A store that fails in the middle of a stream."""

    def read(self, cursor: Any, max_bytes: int) -> Any:
        batch = super().read(cursor, max_bytes)
        assert isinstance(batch, Batch)
        if b"RUN_FINISHED" in batch.data:
            raise OSError("the disk is gone")
        return batch


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left():
        yield


@contextlib.contextmanager
def open_app(runtime: CopilotRuntime) -> Iterator[CopilotWSGI]:
    app = CopilotWSGI(runtime, grace_seconds=0)
    try:
        yield app
    finally:
        app.close()


class Answer:
    """A response of an application that is called as a server calls it, strictly."""

    def __init__(self, app: Any, method: str, path: str, body: bytes = b"", **fields: str) -> None:
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "wsgi.input": io.BytesIO(body),
            **fields,
        }
        if body:
            environ["CONTENT_LENGTH"] = str(len(body))
        setup_testing_defaults(environ)
        self.status = 0
        self.headers: dict[str, str] = {}
        self._body = validator(app)(environ, self._start_response)
        self._parts = iter(self._body)

    def _start_response(self, status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        self.status = int(status.split()[0])
        self.headers = dict(headers)
        return lambda data: None

    def next(self) -> bytes:
        part: bytes = next(self._parts)
        return part

    def read(self) -> bytes:
        try:
            return b"".join(self._parts)
        finally:
            self.close()

    def json(self) -> Any:
        return json.loads(self.read())

    def types(self) -> list[str]:
        return [json.loads(event.data)["type"] for event in Parser().feed(self.read())]

    def close(self) -> None:
        close: Callable[[], object] = self._body.close  # type: ignore[attr-defined] # PEP 3333
        close()


def test_a_response_that_is_never_closed_is_forgotten() -> None:
    """PEP 3333 asks servers and middleware to close it, and some middleware does not."""
    app = CopilotWSGI(CopilotRuntime({"default": hello}))
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": f"{BASE}/info"}
    setup_testing_defaults(environ)
    responses = [app(dict(environ), Mock()) for _ in range(3)]
    assert app.connections == 3
    assert all(b"".join(response) for response in responses)
    del responses
    gc.collect()
    assert app.connections == 0


def suggest_environ() -> dict[str, Any]:
    """The environ of a request whose run dies with its client."""
    body = body_of(SUGGEST)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": SUGGEST,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    setup_testing_defaults(environ)
    return environ


@pytest.mark.parametrize("is_read", [True, False])
def test_a_stream_that_middleware_does_not_close_is_forgotten_by_the_loop(*, is_read: bool) -> None:
    """Middleware that is a generator closes its own stream, and not the one that it reads."""
    agent = Gate()
    limits = Limits(heartbeat_seconds=0.01)
    with open_app(CopilotRuntime({"default": agent}, limits=limits)) as app:

        def middleware(environ: dict[str, Any]) -> Generator[bytes]:
            yield from app(environ, Mock())

        stream = middleware(suggest_environ())
        while not next(stream).startswith(b":"):
            pass
        connections = app.background().service.connections
        assert len(connections) == 1
        if is_read:
            agent.opened.set()
            assert b"RUN_FINISHED" in b"".join(stream)
        else:
            stream.close()
            assert agent.stopped.wait(30)
        assert app.connections == len(connections) == 0


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_stream_that_middleware_leaves_unread_is_over(
    *, is_closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Middleware may answer in place of the application, and not close its response."""

    async def hook(context: Any) -> None:
        await asyncio.sleep(0)

    agent = Gate()
    runtime = CopilotRuntime({"default": agent}, hooks=Hooks(on_request=hook))
    with open_app(runtime) as app:
        response: Any = app(suggest_environ(), Mock())
        assert agent.begun.wait(30)
        if is_closed:
            response.close()
        del response
        gc.collect()
        assert agent.stopped.wait(30)
        assert app.connections == len(app.background().service.connections) == 0
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_stream_that_is_aborted_is_no_failure_of_the_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Gate()
    limits = Limits(heartbeat_seconds=0.01)
    with open_app(CopilotRuntime({"default": agent}, limits=limits)) as app:
        response: Any = app(suggest_environ(), Mock())
        parts = iter(response)
        while not next(parts).startswith(b":"):
            pass
        response.abort()
        with pytest.raises(StreamBroken):
            next(parts)
        assert agent.stopped.wait(30)
        assert app.connections == len(app.background().service.connections) == 0
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


class TestEnviron:
    """PEP 3333 in, the core's request out."""

    @pytest.mark.parametrize(
        ("environ", "path"),
        [
            ({"PATH_INFO": "/a/b"}, "/a/b"),
            ({"SCRIPT_NAME": "/a", "PATH_INFO": "/b"}, "/a/b"),
            ({"SCRIPT_NAME": "/a", "PATH_INFO": ""}, "/a"),
            ({"PATH_INFO": ""}, "/"),
            # A path that has lost its escapes gets them back, as far as they can be known.
            ({"PATH_INFO": "/Gr\xc3\xb6\xc3\x9fe %/+&=@:;,~!$'()*"}, None),
            ({"PATH_INFO": "/a/b", "REQUEST_URI": "/a%2Fb?c"}, "/a%2Fb"),
            ({"PATH_INFO": "/a/b", "RAW_URI": "/a%2fb"}, "/a%2fb"),
            ({"PATH_INFO": "/\xc3\xb6", "RAW_URI": "/%C3%B6"}, "/%C3%B6"),
            ({"PATH_INFO": "/\xc3\xb6", "RAW_URI": "/\xc3\xb6"}, "/\xc3\xb6"),
            ({"SCRIPT_NAME": "/a", "PATH_INFO": "/b", "RAW_URI": "/a%2Fb"}, "/a%2Fb"),
            ({"PATH_INFO": "/a", "RAW_URI": "http://host/%61?b"}, "/%61"),
            # The path that was sent is not the one that the server, or a middleware, has made of
            # it.
            ({"PATH_INFO": "/open", "REQUEST_URI": "/closed"}, "/open"),
            ({"SCRIPT_NAME": "/prefix", "PATH_INFO": "/a", "REQUEST_URI": "/a"}, "/prefix/a"),
            ({"PATH_INFO": "/a", "REQUEST_URI": "*", "RAW_URI": "/%61"}, "/%61"),
        ],
    )
    def test_the_path_is_decoded(self, environ: dict[str, str], path: str | None) -> None:
        if path is None:
            path = "/Gr%C3%B6%C3%9Fe%20%25/+&=@:;,~!$'()*"
        assert request_of({"REQUEST_METHOD": "GET", **environ}, None).path == path

    @pytest.mark.parametrize(
        ("script_name", "path_info"),
        [
            ("", "/api/copilotkit/info"),
            ("/api/copilotkit", "/info"),
            ("/proxy", "/api/copilotkit/info"),
            ("/proxy/api/copilotkit", "/info"),
            ("/a/b/api", "/copilotkit/info"),
            # WSGI gives each byte of UTF-8 as a character.
            ("/gr\xc3\xb6\xc3\x9fe", "/api/copilotkit/info"),
        ],
    )
    def test_a_prefix_that_only_the_deployment_knows_is_taken_from_the_path(
        self, script_name: str, path_info: str
    ) -> None:
        environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": script_name, "PATH_INFO": path_info}
        target = quote((script_name + path_info).encode("latin-1"))
        for extra in ({}, {"RAW_URI": target}):
            assert request_of({**environ, **extra}, BASE).path == f"{BASE}/info"
        with open_app(CopilotRuntime({"default": hello})) as app:
            answer = Answer(app, "GET", path_info, SCRIPT_NAME=script_name)
            assert "default" in answer.json()["agents"]

    def test_the_rest_of_the_environ_becomes_the_request(self) -> None:
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/",
            "QUERY_STRING": "a=%20&b",
            "CONTENT_TYPE": "text/plain",
            "CONTENT_LENGTH": "3",
            "HTTP_X_TENANT": "\xe4",
            "HTTP_CONTENT_LENGTH": "100",
            "HTTP_CONTENT_TYPE": "another",
            "SERVER_NAME": "host",
            "wsgi.input": None,
        }
        request = request_of(environ, None)
        assert (request.method, request.query, request.body) == ("POST", "a=%20&b", None)
        assert request.headers.raw == (
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("x-tenant", "\xe4"),
        )
        empty = {**environ, "CONTENT_TYPE": "", "CONTENT_LENGTH": ""}
        assert request_of(empty, None).headers.raw == (("x-tenant", "\xe4"),)

    def test_a_body_is_read(self) -> None:
        class Trickle(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(min(3, size or 0))

        def environ(body: bytes, **fields: Any) -> dict[str, Any]:
            return {"wsgi.input": Trickle(body), **fields}

        def read(environ: dict[str, Any], limit: int) -> bytes:
            return read_body(environ, Body(Bodies(Limits()), limit))

        assert read(environ(b"1234567", CONTENT_LENGTH="5"), 5) == b"12345"
        assert read(environ(b"1234567", **{"wsgi.input_terminated": True}), 7) == b"1234567"
        # Reading on might wait for ever.
        assert read(environ(b"1234567"), 5) == b""
        for length in ("6", "1" * 20, "0" * 5000 + "6", "9" * 5000):
            with pytest.raises(BodyTooLarge):
                read({"CONTENT_LENGTH": length, "wsgi.input": None}, 5)
        with pytest.raises(BodyTooLarge):
            read(environ(b"123456", **{"wsgi.input_terminated": True}), 5)

    def test_a_body_of_unknown_length_needs_no_more_room_than_its_limit(self) -> None:
        limits = Limits(body_bytes=100, bodies_bytes=100)
        environ = {"wsgi.input": io.BytesIO(b"1234567"), "wsgi.input_terminated": True}
        assert read_body(environ, Body(Bodies(limits), 100)) == b"1234567"
        environ["wsgi.input"] = io.BytesIO(b"1" * 101)
        with pytest.raises(BodyTooLarge):
            read_body(environ, Body(Bodies(limits), 100))


class TestAnswers:
    """Answers keep the rules of PEP 3333, as the standard library's validator knows them."""

    def test_a_whole_response_needs_no_loop(self) -> None:
        threads = set(threading.enumerate())
        with open_app(CopilotRuntime({"default": hello})) as app:
            answer = Answer(app, "GET", f"{BASE}/info")
            body = answer.read()
            assert answer.status == 200
            assert answer.headers["content-length"] == str(len(body))
            assert set(threading.enumerate()) <= threads

    def test_a_stream_is_iterated(self) -> None:
        with open_app(CopilotRuntime({"default": hello})) as app:
            answer = Answer(app, "POST", RUN, body_of("t"))
            assert answer.status == 200
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.types()[-1] == "RUN_FINISHED"

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("HEAD", "/info", 405), ("OPTIONS", "/info", 204), ("GET", "/nope", 404)],
    )
    def test_only_responses_with_a_body_have_one(self, method: str, path: str, status: int) -> None:
        with open_app(CopilotRuntime({"default": hello})) as app:
            answer = Answer(app, method, BASE + path, HTTP_ORIGIN="https://a.example")
            assert answer.status == status
            assert bool(answer.read()) == (method == "GET")

    def test_a_field_that_is_the_servers_alone_is_not_passed_on(self) -> None:
        def on_response(context: Any) -> Any:
            headers = context.response.headers.set("connection", "close").set("x-other", "1")
            return context.response.with_headers(headers)

        hooks = Hooks(on_response=on_response)
        with open_app(CopilotRuntime({"default": hello}, hooks=hooks)) as app:
            answer = Answer(app, "GET", f"{BASE}/info")
            answer.read()
            assert answer.headers["x-other"] == "1"
            assert "connection" not in answer.headers

    def test_a_body_that_ends_early_or_has_no_length(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with open_app(CopilotRuntime({"default": hello})) as app:
            for fields, message in (
                ({"CONTENT_LENGTH": "10"}, "the request's body ends early"),
                ({"CONTENT_LENGTH": "1" * 5000 + "x"}, "The Content-Length is no number"),
            ):
                body: list[bytes] = []
                environ = {"REQUEST_METHOD": "POST", "PATH_INFO": RUN, **fields}
                environ["wsgi.input"] = io.BytesIO(b"123")  # type: ignore[assignment]
                heads: list[Any] = []
                body += app(environ, lambda *head: heads.append(head))  # noqa: B023
                assert heads[0][0] == "400 Bad Request"
                assert json.loads(body[0])["message"] == message
                assert f"400 without an exchange: {body[0].decode()}" in caplog.text

    def test_an_error_between_server_and_client_is_left_to_the_server(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise TimeoutError("too slow")

        with open_app(CopilotRuntime({"default": hello})) as app:
            environ = {"REQUEST_METHOD": "POST", "PATH_INFO": RUN, "CONTENT_LENGTH": "3"}
            environ["wsgi.input"] = Broken()  # type: ignore[assignment]
            with pytest.raises(TimeoutError):
                app(environ, lambda *head: None)

            def start_response(*head: Any) -> None:
                raise RuntimeError("the server does not want it")

            with pytest.raises(RuntimeError, match="does not want it"):
                app({"REQUEST_METHOD": "GET", "PATH_INFO": f"{BASE}/info"}, start_response)

    def test_an_application_is_found_below_the_prefix_that_it_is_mounted_at(self) -> None:
        for base_path in (None, "/ai/copilot"):
            runtime = CopilotRuntime({"default": hello}, base_path=base_path)
            with open_app(runtime) as app:
                answer = Answer(app, "GET", "/info", SCRIPT_NAME="/ai/copilot")
                assert "default" in answer.json()["agents"]

    def test_a_client_that_goes_leaves_its_run_and_takes_its_suggestions(self) -> None:
        agent = Gate()
        limits = Limits(heartbeat_seconds=0.01)
        with open_app(CopilotRuntime({"default": agent}, limits=limits)) as app:
            for path in (RUN, SUGGEST):
                answer = Answer(app, "POST", path, body_of(path))
                while b"RUN_STARTED" not in answer.next():
                    pass
                assert answer.next().startswith(b":")
                answer.close()
                assert agent.stopped.wait(30 if path == SUGGEST else 0.05) == (path == SUGGEST)
            reader = Answer(app, "POST", f"{BASE}/agent/default/connect", body_of(RUN))
            agent.opened.set()
            assert reader.types() == ["RUN_STARTED", "RUN_FINISHED"]

    def test_a_stream_that_breaks_off_is_not_ended(self, caplog: pytest.LogCaptureFixture) -> None:
        agent = Gate()
        with open_app(CopilotRuntime({"default": agent}, store=BreaksOff())) as app:
            answer = Answer(app, "POST", RUN, body_of("t"))
            assert b"RUN_STARTED" in answer.next()
            agent.opened.set()
            with pytest.raises(StreamBroken):
                answer.read()
        assert caplog.messages == ["the response broke off in store method read"]

    def test_a_stream_that_is_never_asked_for_is_let_go(self) -> None:
        with open_app(CopilotRuntime({"default": hello})) as app:
            Answer(app, "POST", RUN, body_of("t")).close()


def test_the_binding_needs_no_http_extra() -> None:
    """The binding imports nothing that its extra does not install."""
    program = "import sys, copilot_bindings.wsgi; sys.exit('h11' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


class TestThreads:
    def test_plain_hooks_that_may_take_for_ever_are_called_in_the_threads_of_the_server(
        self,
    ) -> None:
        local = threading.local()
        variable = contextvars.ContextVar("variable", default="nothing")
        seen: list[Any] = []

        def on_request(context: Any) -> None:
            assert local.user == "ada"
            variable.set("set")

        async def on_before_handler(context: Any) -> None:
            seen.append((threading.current_thread().name, variable.get()))

        def on_response(context: Any) -> None:
            seen.append((threading.current_thread(), variable.get(), local.user))

        hooks = Hooks(
            on_request=on_request, on_before_handler=on_before_handler, on_response=on_response
        )
        limits = Limits(hook_seconds=math.inf)
        with open_app(CopilotRuntime({"default": hello}, hooks=hooks, limits=limits)) as app:
            local.user = "ada"
            assert Answer(app, "GET", f"{BASE}/info").json()
        assert seen == [("copilot-loop", "set"), (threading.current_thread(), "set", "ada")]

    def test_fifty_requests_for_a_run_of_one_thread_and_one_gets_it(self) -> None:
        agent, begin = Gate(), threading.Barrier(50)

        def on_before_handler(context: Any) -> None:
            begin.wait(30)

        def ask(number: int) -> Answer:
            return Answer(app, "POST", RUN, body_of("t", f"run-{number}"))

        hooks = Hooks(on_before_handler=on_before_handler)
        with open_app(CopilotRuntime({"default": agent}, hooks=hooks)) as app:
            with ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(ask, range(50)))
            assert sorted(answer.status for answer in answers) == [200] + [409] * 49
            agent.opened.set()
            for answer in answers:
                assert answer.read()


class TestShortage:
    """The system has no descriptor for the loop, which begins when it is first needed."""

    @pytest.mark.parametrize("hook", ["on_request", "on_before_handler", "on_response", None])
    def test_what_needs_the_loop_is_answered_503_until_there_is_one(
        self, hook: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def passes(context: Any) -> None:
            pass

        hooks = Hooks(**{hook: passes}) if hook is not None else Hooks()
        with open_app(CopilotRuntime({"default": hello}, hooks=hooks)) as app:
            with monkeypatch.context() as patched:
                shortage = Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
                patched.setattr(asyncio.events, "new_event_loop", shortage)
                refused = Answer(app, "POST", RUN, body_of("t"))
                assert refused.status == 503
                assert refused.headers["retry-after"] == "1"
                assert refused.json()["message"] == "The server has no room for the request"
            assert "Too many open files" in caplog.text
            assert Answer(app, "POST", RUN, body_of("t")).types()[-1] == "RUN_FINISHED"


class TestClosing:
    def test_no_run_is_begun_and_those_that_live_are_ended_well_formed(self) -> None:
        with open_app(CopilotRuntime({"default": Gate()})) as app:
            live = Answer(app, "POST", RUN, body_of("t"))
            assert b"RUN_STARTED" in live.next()
            app.begin_close(grace_seconds=0.05)
            refused = Answer(app, "POST", RUN, body_of("u"))
            assert (refused.status, bool(refused.read())) == (503, True)
            assert live.types() == ["RUN_ERROR"]
            app.close()
            refused = Answer(app, "POST", RUN, body_of("u"))
            assert (refused.status, bool(refused.read())) == (503, True)
            assert Answer(app, "GET", f"{BASE}/info").json()

    @pytest.mark.parametrize("began", [True, False])
    def test_a_store_that_is_closed_stays_closed(self, began: bool, tmp_path: Path) -> None:
        runtime = CopilotRuntime({}, store=SQLiteStore(tmp_path / "threads.db"))
        with open_app(runtime) as app:
            path = f"{BASE}/threads/t/messages"
            if began:
                assert Answer(app, "GET", path).json() == {"messages": []}
            app.close()
            refused = Answer(app, "GET", path)
            assert (refused.status, refused.json()["message"]) == (503, SHUTDOWN)
            assert Answer(app, "GET", "/healthz").json() == {"status": "ok"}

    @pytest.mark.parametrize("began", [True, False])
    def test_an_async_hook_has_no_loop_any_more(self, began: bool) -> None:
        async def on_request(context: Any) -> None:
            pass

        hooks = Hooks(on_request=on_request)
        with open_app(CopilotRuntime({"default": hello}, hooks=hooks)) as app:
            if began:
                assert Answer(app, "GET", f"{BASE}/info").json()
            app.close()
            refused = Answer(app, "GET", f"{BASE}/info")
            assert (refused.status, bool(refused.read())) == (503, True)

    def test_a_stream_that_never_ends_is_broken_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("copilot_bindings.serving.shutdown.FLUSH_SECONDS", 0.05)
        with open_app(CopilotRuntime({"default": hello}, debug=True)) as app:
            feed = Answer(app, "GET", f"{BASE}/cpk-debug-events")
            assert feed.next() == b": connected\n\n"
            with ThreadPoolExecutor(1) as pool:
                rest = pool.submit(feed.read)
                while not app.background().service.connections:
                    time.sleep(0.005)
                app.close()
                with pytest.raises(StreamBroken):
                    rest.result(30)

    def test_signals_reach_the_handlers_that_are_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handled: list[int] = []
        former = signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
        try:
            app = CopilotWSGI(CopilotRuntime({"default": hello}))
            app.close_on_signals(signal.SIGTERM)
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            assert handled == [signal.SIGTERM] * 2
            assert app.closing
        finally:
            signal.signal(signal.SIGTERM, former)

    def test_a_signal_ends_the_process_when_all_is_closed(self) -> None:
        def interrupted() -> None:
            signal.raise_signal(signal.SIGINT)
            time.sleep(60)

        former = signal.getsignal(signal.SIGINT)
        with open_app(CopilotRuntime({"default": hello})) as app:
            assert Answer(app, "POST", RUN, body_of("t")).read()
            app.close_on_signals(signal.SIGINT)
            try:
                with pytest.raises(SystemExit):
                    interrupted()
                app.background().wait_closed()
            finally:
                signal.signal(signal.SIGINT, former)

    def test_an_application_that_began_nothing_closes_at_once(self) -> None:
        app = CopilotWSGI(CopilotRuntime({"default": hello}))
        app.close()
        app.close()

    def test_a_process_that_forgets_to_close_ends_all_the_same(self) -> None:
        run_script(
            """
            begin_run(CopilotWSGI(CopilotRuntime({"default": Endless()})), "t")
            """
        )

    def test_an_application_whose_agents_have_used_the_executor_closes(self) -> None:
        run_script(
            """
            import asyncio

            class Threaded(Endless):
                async def run(self, input, context):
                    await asyncio.to_thread(int)
                    async for event in super().run(input, context):
                        yield event

            begin_run(CopilotWSGI(CopilotRuntime({"default": Threaded()})), "t")
            """
        )

    def test_a_blocking_store_is_told_of_the_end_though_its_threads_have_ended(self) -> None:
        """A process that ends cannot begin other threads from Python 3.12 on."""
        # The time is a long one for a machine, because SimpleQueue.get() of CPython waits without
        # limit if its time runs out while it takes its lock for the first time.
        run_script(
            """
            import atexit, threading, time
            from copilot_bindings.serving import pool
            from sansio_copilot import MemoryStore

            class Store(MemoryStore):
                blocking = True

                def close_run(self, *args, **options):
                    closed.append(args)
                    return super().close_run(*args, **options)

            def check():
                if not closed:
                    print("the run was not closed", file=sys.stderr)

            closed, pool.IDLE_SECONDS = [], 0.5
            atexit.register(check)
            begin_run(CopilotWSGI(CopilotRuntime({"default": Endless()}, store=Store())), "t")
            while any(thread.name == "copilot-store" for thread in threading.enumerate()):
                time.sleep(0.001)
            """
        )

    def test_a_forked_process_has_runs_of_its_own(self) -> None:
        run_script(
            """
            import gc

            app = CopilotWSGI(CopilotRuntime({"default": Endless()}))
            other = CopilotWSGI(CopilotRuntime({"default": Endless()}))
            begin_run(app, "t")
            begin_run(other, "t")
            if (child := os.fork()) == 0:
                begin_run(app, "u")
                del other
                gc.collect()
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            begin_run(app, "u")
            """
        )


def run_script(code: str) -> None:
    """Run it in a process of its own, which has to end by itself and without complaint."""
    prelude = f"""
    import io, os, sys
    from support.wire import body_of
    from copilot_bindings.wsgi import CopilotWSGI
    from sansio_copilot import CopilotRuntime

    class Endless:
        async def run(self, input, context):
            import asyncio
            yield {{"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}}
            await asyncio.sleep(1000)

    def begin_run(app, thread):
        body = body_of(thread)
        environ = {{
            "REQUEST_METHOD": "POST", "PATH_INFO": "{RUN}", "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }}
        answer = app(environ, lambda *head: None)
        assert b"RUN_STARTED" in next(iter(answer))
        answer.close()
    """
    ended = scripts.run_script(
        textwrap.dedent(prelude) + textwrap.dedent(code),
        options=["-W", "error"],
        imports=["copilot_bindings.wsgi", "support.wire"],
    )
    assert ended == (0, "")


class TestServers:
    """A response that breaks off does not pass for complete where the server can tell."""

    def test_waitress_cuts_a_stream_that_breaks_off(self) -> None:
        agent = Gate()
        with (
            open_app(CopilotRuntime({"default": agent}, store=BreaksOff())) as app,
            serving_by_waitress(app) as port,
        ):
            response = _post(port, RUN)
            assert b"RUN_STARTED" in response.readline() + response.readline()
            agent.opened.set()
            with pytest.raises(http.client.IncompleteRead):
                response.read()

    def test_wsgiref_says_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        class Server(ThreadingMixIn, WSGIServer):
            pass

        class Handler(WSGIRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

        agent = Gate()
        with (
            open_app(CopilotRuntime({"default": agent}, store=BreaksOff())) as app,
            make_server("127.0.0.1", 0, app, Server, Handler) as server,
        ):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            response = _post(server.server_port, RUN)
            assert b"RUN_STARTED" in response.readline() + response.readline()
            agent.opened.set()
            assert b"RUN_FINISHED" not in response.read()
            server.shutdown()
            thread.join(30)
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_gunicorn_with_the_settings_of_the_example_cuts_a_broken_stream_and_ends_the_others(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        """A stream that breaks off, and one that a signal ends."""
        port = free_port()
        settings = (EXAMPLES / "gunicorn.conf.py").read_text("utf-8")
        (tmp_path / "gunicorn.conf.py").write_text(settings.replace("4000", str(port)), "utf-8")
        shutil.copy(Path(__file__).parent / "gunicorn_app.py", tmp_path / "wsgi_app.py")
        log = tmp_path / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "wsgi_app:app"],
                cwd=tmp_path,
                stdout=stream,
                stderr=stream,
            )
        try:
            broken = _post(port, f"{BASE}/agent/broken/run", lambda: process.poll() is None)
            with pytest.raises(http.client.IncompleteRead):
                broken.read()
            live = _post(port, f"{BASE}/agent/endless/run", lambda: process.poll() is None)
            assert b"RUN_STARTED" in live.readline() + live.readline()
            process.send_signal(number)
            assert b"RUN_ERROR" in live.read()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
        # The one traceback is of the call that was made to fail.
        assert log.read_text().count("Traceback") == 1


def _post(
    port: int, path: str, alive: Callable[[], bool] = lambda: True
) -> http.client.HTTPResponse:
    """Post a run as soon as the server is there."""
    deadline = time.monotonic() + 60
    while True:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            client.request("POST", path, body_of(path), {"connection": "close"})
            return client.getresponse()
        except ConnectionRefusedError:
            assert alive()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
