"""A remote agent behind ``HttpAgent``: what it says, what it may do wrong, and how it is left."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import math
import socket
import ssl
import threading
import zlib
from base64 import b64decode
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import httpx
import pytest
import trustme
from ag_ui.core import RunAgentInput
from support.turns import counted_turns
from support.upstream import SSE, Step, Upstream, upstream

from copilot_bindings.agents import HttpAgent
from copilot_bindings.testing import AsyncClient
from sansio_copilot import AgentContext, CopilotRuntime, Request
from sansio_copilot.events import verify_events
from sansio_copilot.testing import run_input

IDS = {"threadId": "t1", "runId": "r1"}
WHOLE: list[dict[str, Any]] = [
    {"type": "RUN_STARTED", **IDS},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Grüße 🎉"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "RUN_FINISHED", **IDS},
]
BEGUN = [WHOLE[0]]

pytestmark = pytest.mark.parametrize("library", ["asyncio", "trio"])


def sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def response(status: str, headers: str = "", body: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n"
    return head.encode() + body


def encoded(encoding: str, body: bytes) -> bytes:
    kind = f"content-type: text/event-stream\r\ncontent-encoding: {encoding}\r\n"
    return response("200 OK", kind, body)


def context(headers: dict[str, str] | None = None) -> AgentContext:
    return AgentContext("helper", Request("POST", "/"), headers or {})


async def events_of(agent: HttpAgent, **fields: Any) -> list[Any]:
    given = RunAgentInput.model_validate(run_input("t1", "r1", **fields))
    headers = {"authorization": "Bearer of the client", **agent.headers}
    try:
        return [event async for event in agent.run(given, context(headers))]
    finally:
        await agent.aclose()


def asked(library: str, server: Upstream, way: str = "plain", **options: Any) -> list[Any]:
    """The events of a run.

    :param way: "plain" for what is chosen without TLS, "httpx" for a client of the application's.
    """

    async def by_httpx() -> list[Any]:
        async with httpx.AsyncClient() as client:
            return await events_of(HttpAgent(server.url, client=client, **options))

    if way == "httpx":
        return anyio.run(by_httpx, backend=library)
    return anyio.run(events_of, HttpAgent(server.url, **options), backend=library)


WAYS = pytest.mark.parametrize("way", ["plain", "httpx"])


# --- What it says ---------------------------------------------------------------------------------

DEFLATED = zlib.compress(sse(WHOLE))
ONE_LINE = b'data: {"type":"RUN_STARTED",\r\ndata: "threadId":"t1",\rdata: "runId":"r1"}\n\n'
STREAMS = {
    "as it is": SSE + sse(WHOLE),
    "with a byte order mark": SSE + b"\xef\xbb\xbf" + sse(WHOLE),
    "with lines that end with CRLF": SSE + sse(WHOLE).replace(b"\n", b"\r\n"),
    "with data of several lines": SSE + ONE_LINE + sse(WHOLE[1:]),
    "with comments, ids and types": SSE + b": hi\n\nretry: 5\nid: 7\nevent: message\n" + sse(WHOLE),
    "with an OpenAI end": SSE + sse(WHOLE) + b"data: [DONE]\n\n",
    "in gzip": encoded("gzip", gzip.compress(sse(WHOLE))),
    "in gzip of two members": encoded(
        "GZIP", gzip.compress(sse(WHOLE[:2])) + gzip.compress(sse(WHOLE[2:]))
    ),
    "in deflate": encoded("deflate", DEFLATED),
    "in an identity coding": encoded("identity", sse(WHOLE)),
    "in chunks": response(
        "200 OK",
        "Content-Type: Text/Event-Stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n",
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(sse(WHOLE)), sse(WHOLE)),
    ),
}


@WAYS
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_passed_on_event_by_event(library: str, stream: bytes, way: str) -> None:
    with upstream([stream]) as server:
        assert asked(library, server, way) == WHOLE


def test_the_agent_is_sent_the_input_and_the_headers(library: str) -> None:
    with upstream([SSE + sse(WHOLE)]) as server:
        agent = HttpAgent(server.url, headers={"x-key": "mine"})
        anyio.run(lambda: events_of(agent, state={"a": None, "\ud800": 1}), backend=library)
        (request,) = server.asked
    assert request.head.startswith(b"POST /agent?key=secret HTTP/1.1\r\n")
    assert request.header("authorization") == "Bearer of the client"
    assert request.header("x-key") == "mine"
    assert request.header("accept") == "text/event-stream"
    assert request.header("content-type") == "application/json"
    sent = json.loads(request.body)
    assert sent == run_input("t1", "r1", state={"a": None, "\ud800": 1})


@pytest.mark.parametrize("user", ["", "me:secret@"], ids=["our client", "httpx"])
def test_a_cookie_that_the_agent_sets_in_a_run_is_not_sent_with_the_next(
    library: str, user: str
) -> None:
    first = response("200 OK", "content-type: text/event-stream\r\nset-cookie: session=ada\r\n")

    async def main() -> None:
        async with contextlib.aclosing(HttpAgent(server.url.replace("//", f"//{user}"))) as agent:
            for _ in range(2):
                given = RunAgentInput.model_validate(run_input("t1", "r1"))
                assert [event async for event in agent.run(given, context())] == WHOLE

    with upstream([first + sse(WHOLE)]) as server:
        anyio.run(main, backend=library)
        assert [request.header("cookie") for request in server.asked] == ["", ""]


def test_a_refusal_in_the_log_has_no_control_characters_and_is_short(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = f"content-type: \x1b[31mtext{'y' * 60_000}\r\n"
    with upstream([response("200 OK", kind)]) as server:
        asked(library, server)
    (message,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert message.isprintable()
    assert len(message) < 4096


def test_a_connection_is_kept_for_the_next_run_and_closed_with_the_agent(library: str) -> None:
    body = sse(WHOLE)
    head = f"content-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    kept = f"HTTP/1.1 200 OK\r\n{head}".encode() + body

    async def two_runs(agent: HttpAgent) -> None:
        given = RunAgentInput.model_validate(run_input("t1", "r1"))
        for _ in range(2):
            assert [event async for event in agent.run(given, context())] == WHOLE
        await agent.aclose()
        await agent.aclose()

    with upstream([kept, "request", kept, "end"], ["reset"]) as server:
        anyio.run(two_runs, HttpAgent(server.url), backend=library)
        assert len(server.asked) == 2
        assert server.asked[1].gone.wait(30)


# --- What it may do wrong -------------------------------------------------------------------------


@attrs.frozen
class Wrong:
    """A fault of a remote agent, and how it is told.

    :param logged: what the log line has, beside the agent's id, address and run.
    :param events: what the agent had said before.
    """

    reply: tuple[Step, ...]
    code: str
    logged: str
    events: list[dict[str, Any]] = attrs.field(factory=list)
    message: str = ""


HTML = response("200 OK", "content-type: text/html\r\n", b"<h1>Sign in</h1>")
BAD = "AGENT_BAD_EVENT"
OTHER = {"type": "RUN_STARTED", "threadId": "t1", "runId": "r2"}
LARGE = b'data: {"type":"CUSTOM","name":"x","value":"' + b"x" * 3_000_000 + b'"}\n\n'
BOMB = gzip.compress(b": " + b"x" * 30_000_000 + b"\n\n")
WRONG = {
    "redirects": Wrong(
        (response("307 Temporary Redirect", "location: http://internal:1/\r\n"),),
        *("AGENT_REDIRECTED", "HTTP 307"),
        message="The agent has moved (HTTP 307)",
    ),
    "is not modified": Wrong((response("304 Not Modified"),), "AGENT_REDIRECTED", "HTTP 304"),
    "refuses who asks": Wrong(
        (response("401 Unauthorized", "content-type: text/plain\r\n", b"bad token abc"),),
        *("AGENT_UNAUTHORIZED", "bad token abc"),
    ),
    "forbids": Wrong((response("403 Forbidden"),), "AGENT_UNAUTHORIZED", "HTTP 403"),
    "is nowhere": Wrong((response("404 Not Found"),), "AGENT_REFUSED", "HTTP 404"),
    "refuses the body": Wrong(
        (response("422 Unprocessable", "", b'{"detail":"no model"}'),), "AGENT_REFUSED", "no model"
    ),
    "has a limit": Wrong(
        (response("429 Too Many Requests", "retry-after: 30\r\n"),),
        *("AGENT_BUSY", "HTTP 429"),
        message="The agent is busy (HTTP 429); try again in 30 s",
    ),
    "has a limit until a date": Wrong(
        (response("503 Busy", "retry-after: Fri, 27 Nov 2026 18:00:00 GMT\r\n"),),
        *("AGENT_BUSY", "HTTP 503"),
        message="The agent is busy (HTTP 503)",
    ),
    "is busy": Wrong((response("409 Conflict"),), "AGENT_BUSY", "HTTP 409"),
    "fails": Wrong(
        (response("500 Internal Server Error", "", b"x" * 5000),), "AGENT_FAILED", "xxx"
    ),
    "answers HTML": Wrong((HTML,), "AGENT_NOT_A_STREAM", "Sign in"),
    "answers JSON": Wrong(
        (response("200 OK", "content-type: application/json\r\n", b"[]"),),
        *("AGENT_NOT_A_STREAM", "application/json"),
    ),
    "answers nothing": Wrong(
        (response("204 No Content"),), "AGENT_NOT_A_STREAM", "no content-type"
    ),
    "speaks no HTTP": Wrong((b"SSH-2.0-OpenSSH_9.6\r\n",), "AGENT_UNREACHABLE", "Protocol"),
    "closes without an answer": Wrong((b"",), "AGENT_UNREACHABLE", "disconnected"),
    "breaks off before it answers": Wrong(("reset",), "AGENT_UNREACHABLE", "Error"),
    "breaks off": Wrong((SSE + sse(BEGUN), "reset"), "AGENT_DISCONNECTED", "Error", BEGUN),
    "breaks a chunk off": Wrong(
        (
            response(
                "200 OK",
                "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n",
                b"%x\r\n%s\r\n99\r\n" % (len(sse(BEGUN)), sse(BEGUN)),
            ),
        ),
        *("AGENT_DISCONNECTED", "Protocol", BEGUN),
    ),
    "ends before its run": Wrong((SSE + sse(BEGUN),), "AGENT_INCOMPLETE", "RUN_FINISHED", BEGUN),
    "ends before it begins": Wrong((SSE,), "AGENT_INCOMPLETE", "RUN_FINISHED"),
    "cuts its last event off": Wrong(
        (SSE + sse(WHOLE)[:-2],), "AGENT_INCOMPLETE", "RUN_FINISHED", WHOLE[:-1]
    ),
    "is silent": Wrong((threading.Event(),), "AGENT_TIMEOUT", "ReadTimeout"),
    "falls silent": Wrong(
        (SSE + sse(BEGUN), threading.Event()), "AGENT_TIMEOUT", "ReadTimeout", BEGUN
    ),
    "sends an array": Wrong((SSE + b"data: [1,2]\n\n",), BAD, "[1,2]"),
    "sends a text": Wrong((SSE + b"data: hello\n\n",), BAD, "hello"),
    "sends no UTF-8": Wrong((SSE + b"data: \xff\xfe\n\n",), BAD, "\N{REPLACEMENT CHARACTER}"),
    "sends 3 MB at once": Wrong(
        (SSE + sse(BEGUN) + LARGE,), "AGENT_EVENT_TOO_LARGE", "2,097,152", BEGUN
    ),
    "never ends a line": Wrong(
        (SSE + sse(BEGUN) + b"x" * 3_000_000,), "AGENT_EVENT_TOO_LARGE", "2,097,152", BEGUN
    ),
    "sends much in little": Wrong((encoded("gzip", BOMB),), "AGENT_EVENT_TOO_LARGE", "2,097,152"),
    "compresses as nobody asked": Wrong((encoded("br", b"x"),), "AGENT_BAD_ENCODING", "br"),
    "compresses nothing": Wrong((encoded("gzip", b"x" * 100),), "AGENT_BAD_ENCODING", "header"),
    "cuts its compression off": Wrong(
        (encoded("gzip", gzip.compress(sse(WHOLE))[:20]),), "AGENT_INCOMPLETE", "RUN_FINISHED"
    ),
    "tells of another run": Wrong((SSE + sse([OTHER]),), "AGENT_WRONG_RUN", "'r2'"),
    "tells of another thread": Wrong(
        (SSE + sse([*BEGUN, {"type": "RUN_FINISHED", "threadId": "t2", "runId": "r1"}]),),
        *("AGENT_WRONG_RUN", "'t2'", BEGUN),
    ),
}


@WAYS
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_body_that_is_no_stream_of_the_run_ends_it_with_an_error_that_says_why(
    library: str, wrong: Wrong, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with upstream(wrong.reply) as server:
        timeout = 0.2 if wrong.code == "AGENT_TIMEOUT" else 30
        *said, error = asked(library, server, way, timeout=timeout)
    assert said == wrong.events
    assert (error["type"], error["code"]) == ("RUN_ERROR", wrong.code)
    assert wrong.message in error["message"]
    for secret in ("localhost", "internal", "secret", "token", str(httpx.URL(server.url).port)):
        assert secret not in error["message"]
    verify_events([*said, error])
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    for part in ("'helper'", "localhost", "'r1'", wrong.logged):
        assert part in line
    assert "secret" not in line
    assert len(line) < 3000


def test_an_agent_that_is_not_there_is_unreachable(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    agent = HttpAgent(f"http://127.0.0.1:{port}/")
    (error,) = anyio.run(events_of, agent, backend=library)
    assert error["code"] == "AGENT_UNREACHABLE"
    (error,) = anyio.run(events_of, HttpAgent("http://no.such.host.invalid/"), backend=library)
    assert error["code"] == "AGENT_UNREACHABLE"
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("https_proxy", "http://me:sec/secret@host/"),
        ("https_proxy", "secret://host/"),
        ("SSL_CERT_FILE", "/no/such/secret.pem"),
    ],
)
def test_an_environment_that_cannot_be_used_is_not_told(
    name: str,
    value: str,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, value)
    agent = HttpAgent("https://127.0.0.1:1/")
    (error,) = anyio.run(events_of, agent, backend=library)
    assert error == {
        "type": "RUN_ERROR",
        "message": "The agent cannot be reached",
        "code": "AGENT_UNREACHABLE",
    }
    [line] = caplog.messages
    assert "the environment names cannot be used" in line
    assert "sec" not in line


def test_an_agent_with_a_certificate_of_its_own_is_not_trusted(library: str) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    with upstream([SSE + sse(WHOLE)], tls=tls) as server:
        (error,) = asked(library, server)
        assert error["code"] == "AGENT_NOT_TRUSTED"

        async def trusting() -> list[Any]:
            trust = ssl.create_default_context()
            authority.configure_trust(trust)
            async with httpx.AsyncClient(verify=trust) as client:
                return await events_of(HttpAgent(server.url, client=client))

        assert anyio.run(trusting, backend=library) == WHOLE


# --- When it is asked again -----------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"", "reset"], ids=["closed", "reset"])
def test_a_request_that_nobody_answered_is_made_again(library: str, first: Step) -> None:
    with upstream([first], [SSE + sse(WHOLE)]) as server:
        assert asked(library, server) == WHOLE
        assert len(server.asked) == 2


@WAYS
def test_the_way_of_a_request_is_logged_without_secrets(
    library: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "copilot_bindings.agents.http")
    with upstream(["reset"], [SSE + sse(WHOLE)]) as server:
        address = server.url.partition("?")[0]
        url = address.replace("http://", "http://me:hunter2@") + "?key=hunter2"

        async def main() -> list[Any]:
            async with httpx.AsyncClient() as client:
                own = client if way == "httpx" else None
                return await events_of(HttpAgent(url, client=own, headers={"x-key": "hunter2"}))

        assert anyio.run(main, backend=library) == WHOLE
    asked, again, asked_again, answered = caplog.messages
    agent = f"<HttpAgent at {address}>"
    assert asked == asked_again
    assert asked.startswith(f"{agent} is asked: POST, with ")
    assert again.startswith(f"{agent} is asked again in ")
    assert answered == f"{agent} answers 200"
    assert "hunter2" not in caplog.text


def test_the_password_of_an_address_is_sent_and_in_no_line_of_the_log(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with upstream([SSE + sse(WHOLE)]) as server:
        url = server.url.replace("http://", "http://me:hunter2@")
        clients = (None, httpx.AsyncClient(), httpx.AsyncClient(auth=("you", "hunter3")))

        async def main() -> None:
            for client in clients:
                async with contextlib.AsyncExitStack() as stack:
                    if client is not None:
                        await stack.enter_async_context(client)
                    assert await events_of(HttpAgent(url, client=client)) == WHOLE

        anyio.run(main, backend=library)
        sent = [b64decode(one.header("authorization").split()[1]) for one in server.asked]
    assert sent == [b"me:hunter2", b"me:hunter2", b"you:hunter3"]
    assert "HTTP Request: POST http://localhost" in caplog.text
    assert "hunter" not in caplog.text


def test_a_request_whose_answer_began_is_not_made_again(library: str) -> None:
    with upstream([SSE + sse(BEGUN), "reset"], [SSE + sse(WHOLE)]) as server:
        assert asked(library, server)[-1]["code"] == "AGENT_DISCONNECTED"
        assert len(server.asked) == 1


# --- How it is left -------------------------------------------------------------------------------


def test_a_run_that_is_stopped_closes_its_connection(library: str) -> None:
    async def stopped(agent: HttpAgent) -> None:
        given = RunAgentInput.model_validate(run_input("t1", "r1"))
        with anyio.CancelScope() as scope:
            async for event in agent.run(given, context()):
                assert event == WHOLE[0]
                scope.cancel()
        assert scope.cancelled_caught

    with upstream([SSE + sse(BEGUN), threading.Event()]) as server:
        anyio.run(stopped, HttpAgent(server.url), backend=library)
        assert server.asked[0].gone.wait(30)


def test_an_agent_that_answers_by_interim_responses_only_is_as_good_as_silent(library: str) -> None:
    with upstream([b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000] * 100_000) as server:
        [error] = asked(library, server, "httpx", timeout=0.2)
        assert error["code"] == "AGENT_TIMEOUT"
        assert server.asked[0].gone.wait(30)
    assert len(server.asked) == 1


def test_a_response_that_goes_on_behind_its_run_is_left(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copilot_bindings.agents.http.LINGER_SECONDS", 0.05)
    with upstream([SSE + sse(WHOLE), threading.Event()]) as server:
        assert asked(library, server, timeout=math.inf) == WHOLE
        assert server.asked[0].gone.wait(30)


def test_a_response_that_never_ends_behind_its_run_is_left_though_it_is_not_silent(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copilot_bindings.agents.http.LINGER_SECONDS", 0.05)
    steps = [SSE + sse(WHOLE), *[b":\n\n" * 10_000] * 2_000]
    with upstream(steps) as server:
        assert asked(library, server) == WHOLE
        assert server.asked[0].gone.wait(30)
        assert server.sent < 30_000_000


def test_a_small_response_that_is_much_when_decompressed_leaves_turns_to_others(
    library: str,
) -> None:
    comments = b":%s\n\n" % (b"x" * 65_000) * 300
    bomb = encoded("gzip", gzip.compress(sse(BEGUN) + comments + sse(WHOLE[1:])))
    assert len(bomb) < 65_536

    async def read(agent: HttpAgent) -> int:
        async with counted_turns() as turns:
            given = RunAgentInput.model_validate(run_input("t1", "r1"))
            before: list[int] = []
            async for _ in agent.run(given, context()):
                before.append(turns.count)
        await agent.aclose()
        return before[1] - before[0]

    with upstream([bomb]) as server:
        assert anyio.run(read, HttpAgent(server.url), backend=library) > 250


def test_an_agent_is_held_back_by_who_does_not_take_its_events(library: str) -> None:
    many = sse([{"type": "CUSTOM", "name": "x", "value": "x" * 1000}] * 40_000)

    async def read(agent: HttpAgent, server: Upstream) -> None:
        given = RunAgentInput.model_validate(run_input("t1", "r1"))
        events = agent.run(given, context())
        await anext(events)
        before = -1
        with anyio.fail_after(30):
            while before != server.sent:
                before = server.sent
                await anyio.sleep(0.3)
        assert before < len(many) / 2, "the sender stands still, with most of it unsent"
        await events.aclose()  # type: ignore[attr-defined]
        await agent.aclose()

    with upstream([SSE + many]) as server:
        anyio.run(read, HttpAgent(server.url), server, backend=library)


@pytest.mark.parametrize(
    "url",
    [
        *("agent", "ftp://host/", "http://", "/path", 7),
        *("http://xn--/", "http://xn--a/", "http://host:99999/", "http://host:0/", "http://h:-1/"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(library: str, url: Any) -> None:
    with pytest.raises(ValueError, match="url"):
        HttpAgent(url)


def test_the_address_of_an_agent_is_shown_without_secrets(library: str) -> None:
    shown = repr(HttpAgent("https://me:secret@host/agent?key=secret"))
    assert shown == "<HttpAgent at https://host/agent>"


def test_the_description_for_the_info_route_is_given(library: str) -> None:
    agent = HttpAgent("http://host/", description="Helps", capabilities={"streaming": True})
    assert (agent.description, agent.capabilities) == ("Helps", {"streaming": True})


# --- What it can do -------------------------------------------------------------------------------


def capable(body: bytes) -> bytes:
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return response("200 OK", head, body)


def told(library: str, agent: HttpAgent) -> Any:
    async def main() -> Any:
        async with AsyncClient(CopilotRuntime({"far": agent})) as client:
            for _ in range(2):
                answer = await client.get("/api/copilotkit/info")
                assert answer.status == 200
        return answer.json()["agents"]["far"].get("capabilities")

    return anyio.run(main, backend=library)


def test_capabilities_reach_the_info_route_and_are_asked_for_once(library: str) -> None:
    with upstream([capable(b'{"tools": {"supported": true}}')]) as server:
        agent = HttpAgent(server.url, headers={"x-key": "mine"})
        assert told(library, agent) == {"tools": {"supported": True}}
        (request,) = server.asked
    assert request.head.startswith(b"GET /agent/capabilities?key=secret HTTP/1.1\r\n")
    assert request.header("x-key") == "mine"


@pytest.mark.parametrize(
    "answer",
    [
        response("404 Not Found", "content-length: 0\r\n"),
        response("302 Found", "location: http://127.0.0.1:1/\r\ncontent-length: 0\r\n"),
        capable(b"[]"),
        b"no HTTP",
        b"",
        response("200 OK", "", b"{" + b" " * 200_000),
    ],
    ids=["404", "302", "an array", "no HTTP", "nothing", "more than anybody can"],
)
def test_an_agent_that_does_not_tell_its_capabilities_has_none(library: str, answer: bytes) -> None:
    with upstream([answer]) as server:
        assert told(library, HttpAgent(server.url)) is None


def test_an_agent_that_is_silent_holds_nobody_up(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copilot_bindings.agents.http.CAPABILITIES_SECONDS", 0.5)
    with upstream([threading.Event()]) as server:
        assert told(library, HttpAgent(server.url)) is None
        # Whom a busy machine has not let connect in that time was not asked at all.
        assert len(server.asked) <= 1


def test_capabilities_that_are_given_are_not_asked_for(library: str) -> None:
    with upstream([capable(b'{"a": 1}')]) as server:
        assert told(library, HttpAgent(server.url, capabilities={"b": 2})) == {"b": 2}
        assert told(library, HttpAgent(server.url, capabilities={})) is None
        assert server.asked == []
