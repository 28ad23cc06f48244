"""The CORS policy of an application holds for the runtime that is mounted in it, and once."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Router
from support.wire import BASE, body_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.asgi.cors_in_front import is_behind_cors
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, CorsPolicy, MemoryStore, text_agent

OURS, EVIL, PARTNER = "https://app.example.com", "https://evil.example", "https://partner.example"
POLICY: dict[str, Any] = {"allow_origins": [OURS], "allow_credentials": True}
Fields = list[tuple[str, str]]


@text_agent
async def hello(input: Any, context: Any) -> Any:
    yield "Hello"


def runtime(**options: Any) -> CopilotRuntime:
    return CopilotRuntime({"default": hello}, **options)


def ask(app: Any, method: str, path: str, origin: str, body: bytes = b"") -> Fields:
    """Ask an ASGI application; returns the CORS headers of its answer."""
    fields: Fields = []

    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        for name, value in message.get("headers", ()):
            fields.append((name.decode().lower(), value.decode()))

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"origin", origin.encode()), (b"host", b"test")],
        "http_version": "1.1",
        "server": None,
        "client": None,
        "scheme": "http",
    }
    if method == "OPTIONS":
        scope["headers"] += [(b"access-control-request-method", b"POST")]  # type: ignore[operator]
    asyncio.run(app(scope, receive, send))
    return cors_of(fields)


def cors_of(fields: Fields) -> Fields:
    return sorted(field for field in fields if field[0].startswith("access-control-"))


def in_fastapi(copilot: CopilotASGI) -> Any:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, **POLICY)
    app.mount(BASE, copilot)
    return app


def in_starlette(copilot: CopilotASGI) -> Any:
    return Starlette(
        routes=[Mount(BASE, copilot)], middleware=[Middleware(CORSMiddleware, **POLICY)]
    )


def wrapped(copilot: CopilotASGI) -> Any:
    return CORSMiddleware(copilot, **POLICY)


def around_an_application(copilot: CopilotASGI) -> Any:
    app = FastAPI()
    app.add_middleware(GZipMiddleware)
    app.mount(BASE, copilot)
    return CORSMiddleware(app, **POLICY)


def in_a_sub_application(copilot: CopilotASGI) -> Any:
    inner = FastAPI()
    inner.mount("/copilotkit", copilot)
    app = FastAPI()
    app.add_middleware(CORSMiddleware, **POLICY)
    app.mount("/api", inner)
    return app


def around_a_mount(copilot: CopilotASGI) -> Any:
    return Starlette(
        routes=[Mount(BASE, copilot, middleware=[Middleware(CORSMiddleware, **POLICY)])]
    )


def around_a_router(copilot: CopilotASGI) -> Any:
    router = Router(
        [Mount("/copilotkit", copilot)], middleware=[Middleware(CORSMiddleware, **POLICY)]
    )
    return Starlette(routes=[Mount("/api", router)])


class Policed(CORSMiddleware):
    """Middleware of an application's own, whose name does not say what it is."""


def of_another_name(copilot: CopilotASGI) -> Any:
    app = FastAPI()
    app.add_middleware(Policed, **POLICY)
    app.mount(BASE, copilot)
    return app


def of_functions(copilot: CopilotASGI) -> Any:
    """CORS middleware as a function makes it, which keeps the server's ``send`` in a closure."""

    async def cors(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_cors(message: Any) -> None:
            if (
                message["type"] == "http.response.start"
                and (b"origin", OURS.encode()) in scope["headers"]
            ):
                message["headers"] = [
                    *message["headers"],
                    (b"access-control-allow-origin", OURS.encode()),
                    (b"access-control-allow-credentials", b"true"),
                ]
            await send(message)

        await copilot(scope, receive, send_with_cors)

    return cors


REQUESTS = [
    ("GET", f"{BASE}/info", b""),
    ("POST", f"{BASE}/agent/default/run", body_of("t")),
    ("POST", f"{BASE}/agent/nobody/run", body_of("t")),
    ("GET", f"{BASE}/nothing/here", b""),
    ("OPTIONS", f"{BASE}/agent/default/run", b""),
]


@pytest.mark.parametrize(
    ("mount", "options"),
    [
        (in_fastapi, {}),
        (in_starlette, {}),
        (in_fastapi, {"cors": False}),
        (wrapped, {}),
        (wrapped, {"cors": False}),
        (around_an_application, {}),
        (in_a_sub_application, {}),
        (around_a_mount, {}),
        (around_a_router, {}),
        (of_another_name, {}),
        (of_functions, {}),
    ],
)
@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_the_policy_of_the_application_holds(
    mount: Callable[[CopilotASGI], Any],
    options: dict[str, Any],
    method: str,
    path: str,
    body: bytes,
) -> None:
    app = mount(CopilotASGI(runtime(**options)))
    allowed = dict(ask(app, method, path, OURS, body))
    assert allowed["access-control-allow-origin"] == OURS
    assert allowed["access-control-allow-credentials"] == "true"
    assert len(ask(app, method, path, OURS, body)) == len(allowed)
    refused = dict(ask(app, method, path, EVIL, body))
    assert "access-control-allow-origin" not in refused


def test_a_middleware_that_hands_messages_on_in_a_circle_is_looked_at_once() -> None:
    class Circle:
        def __init__(self) -> None:
            self.send = self.pass_on

        async def pass_on(self, message: Any) -> None:
            raise AssertionError("nothing is sent here")

    assert not is_behind_cors({}, Circle().pass_on)


def test_a_variable_that_is_not_set_yet_hides_what_is_behind_it() -> None:
    async def hand_on(message: Any) -> None:
        await send(message)

    assert not is_behind_cors({}, hand_on)
    send = hand_on


def test_a_policy_of_the_runtime_that_says_more_than_the_default_stays() -> None:
    app = in_fastapi(CopilotASGI(runtime(cors=CorsPolicy(origin=[PARTNER]))))
    fields = dict(ask(app, "GET", f"{BASE}/info", PARTNER))
    assert fields["access-control-allow-origin"] == PARTNER


def test_the_policy_of_the_runtime_holds_without_middleware() -> None:
    app = FastAPI()
    app.mount(BASE, CopilotASGI(runtime()))
    assert ("access-control-allow-origin", "*") in ask(app, "GET", f"{BASE}/info", EVIL)


class Away(MemoryStore):
    """A store that cannot be opened."""

    def open(self) -> None:
        raise OSError("no such disk")


def test_a_page_can_read_that_the_server_has_not_started() -> None:
    app = CopilotASGI(runtime(store=Away()))
    assert ("access-control-allow-origin", "*") in ask(app, "GET", f"{BASE}/info", EVIL)
    preflight = dict(ask(app, "OPTIONS", f"{BASE}/info", EVIL))
    assert preflight["access-control-allow-headers"] == "*"
    behind = in_fastapi(CopilotASGI(runtime(store=Away())))
    assert dict(ask(behind, "GET", f"{BASE}/info", OURS))["access-control-allow-origin"] == OURS
    assert "access-control-allow-origin" not in dict(ask(behind, "GET", f"{BASE}/info", EVIL))


def test_a_page_can_read_that_a_wsgi_server_has_not_started() -> None:
    app = CopilotWSGI(runtime(store=Away()))
    fields, body = ask_wsgi(app, f"{BASE}/info", EVIL)
    assert json.loads(body)["error"] == "Service unavailable"
    assert cors_of(fields) == [("access-control-allow-origin", "*")]


def in_flask(copilot: CopilotWSGI) -> Any:
    app = Flask("flask_app")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {BASE: copilot})  # type: ignore[method-assign]
    return app


def with_cors(app: Any) -> Any:
    """WSGI middleware as it is common: it adds to the headers that there are."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, fields: Fields, *rest: Any) -> Any:
            if environ.get("HTTP_ORIGIN") == OURS:
                fields = [*fields, ("Access-Control-Allow-Origin", OURS)]
            return start_response(status, fields, *rest)

        return app(environ, start)  # type: ignore[no-any-return]

    return answer


def ask_wsgi(app: Any, path: str, origin: str) -> tuple[Fields, bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_ORIGIN": origin, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    fields: Fields = []

    def start_response(status: str, sent: Fields, *rest: Any) -> Any:
        fields.extend((name.lower(), value) for name, value in sent)

    return fields, b"".join(app(environ, start_response))


def test_wsgi_middleware_answers_for_a_runtime_without_a_policy() -> None:
    app = with_cors(in_flask(CopilotWSGI(runtime(cors=False))))
    fields, body = ask_wsgi(app, f"{BASE}/info", OURS)
    assert "default" in json.loads(body)["agents"]
    assert cors_of(fields) == [("access-control-allow-origin", OURS)]
    assert cors_of(ask_wsgi(app, f"{BASE}/info", EVIL)[0]) == []
