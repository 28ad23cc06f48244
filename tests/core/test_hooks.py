"""Hooks: when they are called, what they are told, and what they may do about it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import attrs
import pytest

from sansio_copilot import (
    CopilotRuntime,
    CorsPolicy,
    HookContext,
    Hooks,
    Reject,
    Request,
    Response,
    Route,
)
from sansio_copilot.json_codec import encode
from sansio_copilot.testing import Client, ClientResponse, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"

Wrap = Callable[[Callable[[HookContext], Any]], Callable[[HookContext], Any]]


def plain(hook: Callable[[HookContext], Any]) -> Callable[[HookContext], Any]:
    return hook


def coroutine(hook: Callable[[HookContext], Any]) -> Callable[[HookContext], Any]:
    async def hooked(context: HookContext) -> Any:
        return hook(context)

    hooked.__name__ = hook.__name__
    return hooked


@pytest.fixture(params=[plain, coroutine], ids=["plain", "async"])
def wrap(request: pytest.FixtureRequest) -> Wrap:
    kind: Wrap = request.param
    return kind


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "sansio_copilot")


async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "CUSTOM", "name": "headers", "value": dict(context.headers)}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


def client(agents: Any = None, **options: Any) -> Client:
    return Client(CopilotRuntime({"default": agent} if agents is None else agents, **options))


def hooked(wrap: Wrap = plain, **hooks: Callable[[HookContext], Any]) -> Client:
    named: dict[str, Any] = {name: wrap(hook) for name, hook in hooks.items()}
    return client(hooks=Hooks(**named))


def explode(context: HookContext) -> Any:
    raise RuntimeError("password=hunter2")


def recorded(wrap: Wrap = plain) -> tuple[list[tuple[str, HookContext]], Hooks]:
    calls: list[tuple[str, HookContext]] = []

    def record(name: str) -> Any:
        return wrap(lambda context: calls.append((name, context)))

    names = ("on_request", "on_before_handler", "on_response", "on_error")
    return calls, Hooks(**{name: record(name) for name in names})


def run(client: Client, **headers: str) -> ClientResponse:
    return client.post(RUN, json=run_input("t1"), headers=headers)


# --- Order -------------------------------------------------------------------------------------


def test_hooks_are_called_in_their_order_if_a_request_succeeds(wrap: Wrap) -> None:
    calls, hooks = recorded(wrap)
    assert client(hooks=hooks).get(f"{BASE}/info").status == 200
    assert [name for name, _ in calls] == ["on_request", "on_before_handler", "on_response"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", f"{BASE}/nope", 404), ("GET", "/elsewhere", 404), ("POST", f"{BASE}/info", 405)],
)
def test_a_request_for_nothing_is_not_handled(
    wrap: Wrap, method: str, path: str, status: int
) -> None:
    calls, hooks = recorded(wrap)
    assert client(hooks=hooks).request(method, path).status == status
    assert [name for name, _ in calls] == ["on_request", "on_response"]


def test_a_refusal_of_the_endpoint_passes_on_response(wrap: Wrap) -> None:
    calls, hooks = recorded(wrap)
    answer = client(hooks=hooks).request("POST", RUN, body="{")
    assert answer.status == 400
    assert [name for name, _ in calls] == ["on_request", "on_before_handler", "on_response"]


@pytest.mark.parametrize("path", [f"{BASE}/info", RUN, "/elsewhere"])
def test_a_preflight_is_answered_before_any_hook(wrap: Wrap, path: str) -> None:
    calls, hooks = recorded(wrap)
    answer = client(hooks=hooks).request("OPTIONS", path, headers={"origin": "https://a.example"})
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert calls == []


def test_without_cors_options_is_a_request_like_any_other() -> None:
    calls, hooks = recorded()
    assert client(hooks=hooks, cors=False).request("OPTIONS", f"{BASE}/info").status == 405
    assert [name for name, _ in calls] == ["on_request", "on_response"]


def test_on_error_comes_instead_of_on_response(wrap: Wrap) -> None:
    calls, hooks = recorded(wrap)
    hooks = attrs.evolve(hooks, on_before_handler=wrap(explode))
    assert client(hooks=hooks).get(f"{BASE}/info").status == 500
    assert [name for name, _ in calls] == ["on_request", "on_error"]


def test_hooks_are_called_in_the_same_order_in_single_route_mode(wrap: Wrap) -> None:
    calls, hooks = recorded(wrap)
    single = client(hooks=hooks, mode="single-route")
    assert single.post(BASE, json={"method": "info"}).status == 200
    assert [name for name, _ in calls] == ["on_request", "on_before_handler", "on_response"]
    assert calls[1][1].route == Route("info")


# --- What a hook is told -----------------------------------------------------------------------


def test_each_hook_knows_its_part_of_the_context() -> None:
    calls, hooks = recorded()
    server = client(hooks=hooks)
    run(server, **{"x-tenant": "acme"})
    (_, first), (_, second), (_, third) = calls
    for context in (first, second, third):
        assert context.request.method == "POST"
        assert context.request.headers["x-tenant"] == "acme"
        assert context.path == RUN
        assert context.runtime is server.runtime
        assert context.error is None
    assert (first.route, first.request.body, first.response) == (None, None, None)
    assert second.route == third.route == Route("agent/run", agent_id="default", thread_id="t1")
    assert second.request.body == third.request.body != b""
    assert second.response is None
    assert third.response is not None
    assert (third.response.status, third.response.stream) == (200, True)
    assert third.response.body == b"", "its bytes are not known yet"


def test_a_route_is_decoded() -> None:
    calls, hooks = recorded()
    client(hooks=hooks).post(f"{BASE}/agent/my%20agent/stop/a%2Fb")
    assert calls[1][1].route == Route("agent/stop", agent_id="my agent", thread_id="a/b")


def test_on_error_is_told_the_error_and_the_route(wrap: Wrap) -> None:
    calls, hooks = recorded()
    client(hooks=attrs.evolve(hooks, on_response=wrap(explode))).get(f"{BASE}/threads")
    name, context = calls[-1]
    assert name == "on_error"
    assert isinstance(context.error, RuntimeError)
    assert context.route == Route("threads/list")
    assert context.response is None


def test_a_request_that_matched_nothing_has_no_route() -> None:
    calls, hooks = recorded()
    client(hooks=hooks).get(f"{BASE}/nope")
    assert calls[-1][1].route is None


def test_in_single_route_mode_a_resource_is_shown_as_the_request_that_it_stands_for() -> None:
    calls, hooks = recorded()
    single = client(hooks=hooks, mode="single-route")
    params = {"path": "/threads/t1/messages?x=1", "httpMethod": "get"}
    single.post(BASE, json={"method": "resource/request", "params": params})
    outer, inner = calls[0][1], calls[1][1]
    assert (outer.path, outer.request.method) == (BASE, "POST")
    assert (inner.path, inner.request.method) == (f"{BASE}/threads/t1/messages", "GET")
    assert inner.request.query == "x=1"
    assert inner.route == Route("threads/messages", thread_id="t1")


def test_a_response_in_a_requests_place_is_told_what_to_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    for name in ("on_request", "on_before_handler"):
        assert hooked(**{name: lambda context: Response(401)}).get(f"{BASE}/info").status == 500  # type: ignore[arg-type]
        message = str(caplog.records[-1].exc_info)
        assert "returned Response, expected Request or None; to answer at once, raise" in message
        assert "Reject(response)" in message


# --- The same in both modes ---------------------------------------------------------------------

MODES = ["multi-route", "single-route"]
WITH_THREAD_IN_BODY = ["run", "connect", "suggest"]


def send(server: Client, what: str, body: Any, **headers: str) -> ClientResponse:
    """Run, connect or suggest, in whatever way ``server`` wants it."""
    if server.runtime.mode == "multi-route":
        return server.post(f"{BASE}/agent/default/{what}", json=body, headers=headers)
    envelope = {"method": f"agent/{what}", "params": {"agentId": "default"}, "body": body}
    return server.post(BASE, json=envelope, headers=headers)


@pytest.mark.parametrize("what", WITH_THREAD_IN_BODY)
def test_hooks_see_the_same_request_in_both_modes(wrap: Wrap, what: str) -> None:
    seen = []
    for mode in MODES:
        calls, hooks = recorded(wrap)
        body = run_input("t1", state={"n": [1, "é"]})
        assert send(client(hooks=hooks, mode=mode), what, body, **{"x-user": "ada"}).status == 200
        seen.append([(context.request, context.path, context.route) for _, context in calls[1:]])
    assert seen[0] == seen[1]
    request, path, route = seen[0][0]
    assert (request.method, request.path, path) == ("POST", path, f"{BASE}/agent/default/{what}")
    assert json.loads(request.body or b"") == run_input("t1", state={"n": [1, "é"]})
    assert route == Route(f"agent/{what}", "default", "t1")


@pytest.mark.parametrize(
    ("method", "path", "envelope"),
    [
        ("GET", "/info", {"method": "info"}),
        ("GET", "/inspector-metadata", {"method": "inspector/metadata"}),
        ("GET", "/threads/t/messages", {"httpMethod": "GET"}),
        ("DELETE", "/threads/t", {"httpMethod": "DELETE"}),
        ("POST", "/threads/clear", {"httpMethod": "POST"}),
    ],
)
@pytest.mark.parametrize("body", [None, {"a": 1}], ids=["", "with a body"])
def test_hooks_see_the_same_request_without_a_body_in_both_modes(
    wrap: Wrap, method: str, path: str, envelope: dict[str, str], body: Any
) -> None:
    seen = []
    for mode in MODES:
        calls, hooks = recorded(wrap)
        server = client(hooks=hooks, mode=mode)
        if mode == "multi-route":
            server.request(method, BASE + path, body=b"" if body is None else encode(body))
        elif "method" in envelope:
            server.post(BASE, json={**envelope, "body": body})
        else:
            params = {"path": path, **envelope}
            asked = {"method": "resource/request", "params": params, "body": body}
            server.post(BASE, json=asked)
        seen.append((calls[1][1].request, calls[1][1].path, calls[1][1].route))
    (first, *here), (second, *there) = seen
    assert here == there
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert (first.body is None) == (method != "POST")


def test_a_stop_names_its_thread_in_the_path(wrap: Wrap) -> None:
    calls, hooks = recorded(wrap)
    single = client(hooks=hooks, mode="single-route")
    params = {"agentId": "default", "threadId": "a/b"}
    single.post(BASE, json={"method": "agent/stop", "params": params})
    assert calls[1][1].path == f"{BASE}/agent/default/stop/a%2Fb"
    assert calls[1][1].route == Route("agent/stop", "default", "a/b")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", WITH_THREAD_IN_BODY)
@pytest.mark.parametrize("by", ["route", "body"])
def test_a_hook_can_keep_a_user_out_of_anothers_thread(
    wrap: Wrap, mode: str, what: str, by: str
) -> None:
    """Whether a hook goes by the route or by the body, which both name what will be used."""

    def authorize(context: HookContext) -> None:
        assert context.route is not None
        thread: Any = context.route.thread_id
        if by == "body":
            thread = json.loads(context.request.body or b"{}")["threadId"]
        if not thread.startswith(context.request.headers["x-user"]):
            raise Reject(Response.json({"error": "forbidden"}, 403))

    server = client(hooks=Hooks(on_before_handler=wrap(authorize)), mode=mode)
    ada = {"x-user": "ada"}
    assert send(server, "run", run_input("ada-1"), **ada).status == 200
    assert send(server, what, run_input("ada-1", "r2"), **ada).status == 200
    answer = send(server, what, run_input("ada-1", "r3"), **{"x-user": "bob"})
    assert (answer.status, answer.json()) == (403, {"error": "forbidden"})
    smuggled = b'{"threadId":"bob-1",%b' % json.dumps(run_input("ada-1")).encode()[1:]
    if mode == "multi-route":
        path = f"{BASE}/agent/default/{what}"
    else:
        path = BASE
        start = b'{"method":"agent/%b","params":{"agentId":"default"},' % what.encode()
        mine = json.dumps(run_input("bob-1")).encode()
        smuggled = start + b'"body":' + mine + b',"body":' + smuggled + b"}"
    headers = {"content-type": "application/json", "x-user": "bob"}
    assert server.request("POST", path, body=smuggled, headers=headers).status == 403


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("body", [{"threadId": 5}, {"threadId": None}, {}, [], None, "text", 1])
def test_a_body_that_names_no_thread_is_shown_as_it_is(wrap: Wrap, mode: str, body: Any) -> None:
    calls, hooks = recorded(wrap)
    server = client(hooks=hooks, mode=mode)
    answer = send(server, "run", json.dumps(body) if body == "text" else body)
    assert answer.status == 400
    assert calls[1][1].route == Route("agent/run", "default", None)


@pytest.mark.parametrize("mode", MODES)
def test_a_body_that_a_hook_rewrites_is_what_counts(wrap: Wrap, mode: str) -> None:
    """The route stays what the client asked for."""
    calls: list[HookContext] = []

    def move(context: HookContext) -> Request:
        body = json.loads(context.request.body or b"{}")
        return context.request.with_body(json.dumps({**body, "threadId": "ada/t1"}).encode())

    hooks = Hooks(on_before_handler=wrap(move), on_response=calls.append)
    server = client(hooks=hooks, mode=mode)
    answer = send(server, "run", run_input("t1"))
    assert answer.events()[0]["threadId"] == "ada/t1"
    assert calls[0].route == Route("agent/run", "default", "t1")
    assert json.loads(calls[0].request.body or b"")["threadId"] == "ada/t1"


@pytest.mark.parametrize("mode", MODES)
def test_a_body_that_a_hook_gives_before_it_is_read_is_the_one_that_counts(
    wrap: Wrap, mode: str
) -> None:
    body = run_input("t2")
    if mode == "single-route":
        body = {"method": "agent/run", "params": {"agentId": "default"}, "body": body}

    def give(context: HookContext) -> Request:
        return context.request.with_body(json.dumps(body).encode())

    server = client(hooks=Hooks(on_request=wrap(give)), mode=mode)
    answer = send(server, "run", run_input("t1"))
    assert answer.events()[0]["threadId"] == "t2"


def test_a_hook_may_give_a_body_where_the_envelope_has_none(wrap: Wrap) -> None:
    def give(context: HookContext) -> Request:
        assert context.request.body is None
        return context.request.with_body(json.dumps(run_input("t1")).encode())

    server = client(hooks=Hooks(on_before_handler=wrap(give)), mode="single-route")
    envelope = {"method": "agent/run", "params": {"agentId": "default"}}
    assert server.post(BASE, json=envelope).status == 200
    answer = client(mode="single-route").post(BASE, json=envelope)
    assert (answer.status, answer.json()["message"]) == (
        400,
        "Missing request body for JSON handler",
    )


def test_a_hook_comes_before_the_body_that_is_missing(wrap: Wrap) -> None:
    def reject(context: HookContext) -> None:
        raise Reject(Response(401))

    server = client(hooks=Hooks(on_before_handler=wrap(reject)), mode="single-route")
    assert server.post(BASE, json={"method": "transcribe"}).status == 401


# --- Replacing the request ---------------------------------------------------------------------


def test_on_request_may_replace_headers(wrap: Wrap) -> None:
    def add(context: HookContext) -> Request:
        headers = context.request.headers.set("x-user", "ada").remove("x-secret")
        return attrs.evolve(context.request, headers=headers)

    answer = run(hooked(wrap, on_request=add), **{"x-secret": "1"})
    assert answer.events()[1]["value"] == {"x-user": "ada"}


def test_on_request_may_replace_the_path(wrap: Wrap) -> None:
    def move(context: HookContext) -> Request:
        return attrs.evolve(context.request, path=context.path.replace("/v1/", "/"))

    assert hooked(wrap, on_request=move).get("/v1/api/copilotkit/info").status == 200


def test_on_request_may_bring_a_body_of_its_own(wrap: Wrap) -> None:
    def put(context: HookContext) -> Request:
        return attrs.evolve(context.request, body=b"{")

    answer = run(hooked(wrap, on_request=put))
    assert answer.json()["error"] == "Invalid request body"


def test_on_before_handler_may_replace_headers_and_body(wrap: Wrap) -> None:
    def replace(context: HookContext) -> Request:
        assert context.request.body is not None
        return attrs.evolve(
            context.request,
            headers=context.request.headers.set("x-user", "ada"),
            body=context.request.body.replace(b'"run-1"', b'"run-2"'),
        )

    events = run(hooked(wrap, on_before_handler=replace)).events()
    assert events[0]["runId"] == "run-2"
    assert events[1]["value"] == {"x-user": "ada"}


def test_on_before_handler_does_not_route_again(wrap: Wrap) -> None:
    def move(context: HookContext) -> Request:
        return attrs.evolve(context.request, path=f"{BASE}/nope")

    assert hooked(wrap, on_before_handler=move).get(f"{BASE}/info").status == 200


def test_later_hooks_see_the_replacement(wrap: Wrap) -> None:
    calls, hooks = recorded()

    def add(context: HookContext) -> Request:
        return attrs.evolve(context.request, headers={"x-mark": "1"})

    client(hooks=attrs.evolve(hooks, on_request=wrap(add))).get(f"{BASE}/info")
    assert [context.request.headers.get("x-mark") for _, context in calls] == ["1", "1"]


# --- Replacing the response --------------------------------------------------------------------


def test_on_response_may_add_a_header(wrap: Wrap) -> None:
    def add(context: HookContext) -> Response:
        assert context.response is not None
        return context.response.with_headers(context.response.headers.add("x-served-by", "me"))

    answer = hooked(wrap, on_response=add).get(f"{BASE}/info")
    assert answer.headers["x-served-by"] == "me"
    assert answer.json()["mode"] == "sse"


def test_on_response_may_replace_a_whole_response(wrap: Wrap) -> None:
    def replace(context: HookContext) -> Response:
        return Response(418, {"content-type": "text/plain"}, "tea")

    answer = hooked(wrap, on_response=replace).get(f"{BASE}/info")
    assert (answer.status, answer.body) == (418, b"tea")
    assert answer.headers["content-length"] == "3"


def test_the_head_of_a_stream_may_be_replaced_before_its_first_byte(wrap: Wrap) -> None:
    def add(context: HookContext) -> Response:
        assert context.response is not None
        headers = context.response.headers.add("x-run", "yes")
        return attrs.evolve(context.response, status=203, headers=headers)

    stream = hooked(wrap, on_response=add).stream("POST", RUN, json=run_input("t1"))
    assert (stream.status, stream.headers["x-run"]) == (203, "yes")
    assert stream.headers["content-type"] == "text/event-stream"
    assert bytes(stream.body) == b""
    assert [event["type"] for event in stream] == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]


def test_a_whole_response_in_a_streams_place_discards_the_run(wrap: Wrap) -> None:
    started: list[str] = []

    def remember(input: Any, context: Any) -> Iterator[Any]:
        started.append(input.run_id)
        return iter(())

    def replace(context: HookContext) -> Response | None:
        return Response(402) if context.route == Route("agent/run", "default", "t1") else None

    server = client({"default": remember}, hooks=Hooks(on_response=wrap(replace)))
    assert run(server).status == 402
    assert run(server).status == 402, "the thread is not busy with the run that never was"
    assert started == []
    assert server.get(f"{BASE}/threads").json()["threads"] == []


# --- Reject ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["on_request", "on_before_handler"])
def test_a_rejection_short_circuits_and_passes_on_response(wrap: Wrap, name: str) -> None:
    def reject(context: HookContext) -> None:
        raise Reject(Response(401, {"www-authenticate": "Bearer"}, "who are you?"))

    def mark(context: HookContext) -> Response:
        assert context.response is not None
        return context.response.with_headers(context.response.headers.add("x-mark", "1"))

    answer = run(hooked(wrap, on_response=mark, on_error=explode, **{name: reject}))
    assert (answer.status, answer.body) == (401, b"who are you?")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-mark"] == "1"
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", ["on_response", "on_error"])
def test_a_rejection_at_the_end_is_the_answer(wrap: Wrap, name: str) -> None:
    def reject(context: HookContext) -> None:
        raise Reject(Response(503))

    hooks = {"on_before_handler": explode} if name == "on_error" else {}
    answer = run(hooked(wrap, **{**hooks, name: reject}))
    assert answer.status == 503
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", ["on_request", "on_before_handler", "on_response"])
def test_a_rejection_that_a_task_group_raised_is_a_rejection(wrap: Wrap, name: str) -> None:
    def reject(context: HookContext) -> None:
        inner = ExceptionGroup("second", [Reject(Response(401)), Reject(Response(403))])
        raise ExceptionGroup("first", [inner, Reject(Response(404))])

    assert run(hooked(wrap, on_error=explode, **{name: reject})).status == 401


def test_a_rejection_beside_a_failure_in_a_task_group_is_a_failure(wrap: Wrap) -> None:
    def fail(context: HookContext) -> None:
        raise ExceptionGroup("both", [Reject(Response(401)), ValueError("the database is away")])

    assert run(hooked(wrap, on_request=fail)).status == 500


def test_a_run_whose_response_is_rejected_is_discarded(wrap: Wrap) -> None:
    def reject(context: HookContext) -> None:
        raise Reject(Response(403))

    server = hooked(wrap, on_response=reject)
    assert run(server).status == 403
    # A stop would find the run if it kept the thread busy.
    assert not server.runtime.store.request_stop("t1", None)


def test_a_rejection_says_in_a_traceback_what_it_answered() -> None:
    assert str(Reject(Response(401))) == "rejected with 401"
    with pytest.raises(TypeError, match="Reject takes a Response, not str"):
        Reject("no")  # type: ignore[arg-type]


def test_agents_may_be_refused_by_the_function_that_picks_them(wrap: Wrap) -> None:
    def pick(request: Any) -> Any:
        raise Reject(Response(404, {}, "no such tenant"))

    answer = client(wrap(pick)).get(f"{BASE}/info")
    assert (answer.status, answer.body) == (404, b"no such tenant")

    def pick_in_a_group(request: Any) -> Any:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [Reject(Response(404))])

    assert client(wrap(pick_in_a_group)).get(f"{BASE}/info").status == 404


# --- Errors ------------------------------------------------------------------------------------

FAILING = ["on_request", "on_before_handler", "on_response"]


@pytest.mark.parametrize("name", FAILING)
def test_an_exception_is_a_bare_500(wrap: Wrap, name: str) -> None:
    answer = run(hooked(wrap, **{name: explode}))
    assert (answer.status, answer.body) == (500, b'{"error":"internal_error"}')
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", FAILING)
def test_on_error_may_answer(wrap: Wrap, name: str) -> None:
    def answer_error(context: HookContext) -> Response:
        return Response.json({"oops": type(context.error).__name__}, 502)

    answer = run(hooked(wrap, on_error=answer_error, **{name: explode}))
    assert (answer.status, answer.json()) == (502, {"oops": "RuntimeError"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_on_error_may_return_nothing(wrap: Wrap) -> None:
    answer = run(hooked(wrap, on_request=explode, on_error=lambda context: None))
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})


def test_an_on_error_that_fails_is_logged_beside_the_first_error(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    answer = hooked(wrap, on_request=explode, on_error=explode).get(f"{BASE}/info")
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})
    assert [record.message for record in caplog.records] == [
        "the on_error hook failed",
        f"GET {BASE}/info failed in hook on_request",
    ]


def test_a_run_is_not_left_open_by_a_hook_that_fails(wrap: Wrap) -> None:
    server = hooked(wrap, on_response=explode)
    assert [run(server).status, run(server).status] == [500, 500], "never 409"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("on_request", Response(200), "returned Response, expected Request or None"),
        ("on_before_handler", {"a": 1}, "returned dict, expected Request or None"),
        ("on_response", Request("GET", "/"), "returned Request, expected Response or None"),
        ("on_response", False, "returned bool, expected Response or None"),
    ],
)
def test_a_hook_that_returns_the_wrong_thing_is_a_500_and_named_in_the_log(
    wrap: Wrap, caplog: pytest.LogCaptureFixture, name: str, given: Any, message: str
) -> None:
    def my_hook(context: HookContext) -> Any:
        return given

    caplog.set_level(logging.ERROR, "sansio_copilot")
    answer = hooked(wrap, **{name: my_hook}).get(f"{BASE}/info")
    assert answer.status == 500
    assert f"hook {name} (my_hook) {message}" in caplog.text


def test_an_on_error_that_returns_the_wrong_thing_is_named_in_the_log(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "sansio_copilot")
    answer = hooked(wrap, on_request=explode, on_error=lambda context: "sorry").get(f"{BASE}/info")
    assert answer.json() == {"error": "internal_error"}
    assert "returned str, expected Response or None" in caplog.text


def test_a_hook_without_a_name_is_named_by_its_repr(caplog: pytest.LogCaptureFixture) -> None:
    class Hook:
        def __call__(self, context: HookContext) -> Any:
            return "?"

        def __repr__(self) -> str:
            return "<my hook>"

    caplog.set_level(logging.ERROR, "sansio_copilot")
    client(hooks=Hooks(on_request=Hook())).get(f"{BASE}/info")
    assert "hook on_request (<my hook>) returned str" in caplog.text


# --- CORS on whatever comes out ----------------------------------------------------------------


@pytest.mark.parametrize("name", FAILING)
def test_the_cors_policy_goes_by_the_origin_that_the_browser_sent(name: str) -> None:
    """The origin that a hook puts into the request does not count."""

    def forget(context: HookContext) -> Request:
        return attrs.evolve(context.request, headers={})

    policy = CorsPolicy(origin=["https://a.example"])
    failing: dict[str, Any] = {name: explode} if name != "on_request" else {}
    hooks = attrs.evolve(Hooks(on_request=forget), **failing)
    answer = client(hooks=hooks, cors=policy).get(
        f"{BASE}/info", headers={"origin": "https://a.example"}
    )
    assert answer.headers["access-control-allow-origin"] == "https://a.example"


# --- Recipes -----------------------------------------------------------------------------------


def test_a_hook_can_ask_for_a_bearer_token(wrap: Wrap) -> None:
    tokens = {"s3cret": "ada"}

    def authenticate(context: HookContext) -> Request:
        scheme, _, token = context.request.headers.get("authorization", "").partition(" ")
        user = tokens.get(token) if scheme.lower() == "bearer" else None
        if user is None:
            raise Reject(Response(401, {"www-authenticate": "Bearer"}))
        # Agents see x- headers; nobody outside can set this one.
        return attrs.evolve(context.request, headers=context.request.headers.set("x-user", user))

    server = hooked(wrap, on_request=authenticate)
    assert run(server).status == 401
    assert run(server, authorization="Bearer wrong").headers["www-authenticate"] == "Bearer"
    answer = run(server, authorization="Bearer s3cret", **{"x-user": "root"})
    assert answer.events()[1]["value"]["x-user"] == "ada"


def test_a_hook_can_allow_each_agent_to_its_users(wrap: Wrap) -> None:
    allowed = {"ada": {"default"}, "bob": set[str]()}

    def authorize(context: HookContext) -> None:
        agent_id = context.route.agent_id if context.route else None
        user = context.request.headers.get("x-user", "")
        if agent_id is not None and agent_id not in allowed.get(user, ()):
            raise Reject(Response.json({"error": "Forbidden"}, 403))

    server = hooked(wrap, on_before_handler=authorize)
    assert run(server, **{"x-user": "ada"}).status == 200
    assert run(server, **{"x-user": "bob"}).json() == {"error": "Forbidden"}
    assert server.post(f"{BASE}/agent/default/stop/t1").status == 403
    assert server.get(f"{BASE}/info").status == 200


def test_hooks_can_give_each_request_a_correlation_id(wrap: Wrap) -> None:
    ids = iter(["id-1", "id-2"])

    def tag(context: HookContext) -> Request:
        headers = context.request.headers
        return attrs.evolve(
            context.request,
            headers=headers.set("x-correlation-id", headers.get("x-correlation-id") or next(ids)),
        )

    def echo(context: HookContext) -> Response:
        assert context.response is not None
        tagged = context.request.headers["x-correlation-id"]
        return context.response.with_headers(
            context.response.headers.set("x-correlation-id", tagged)
        )

    server = hooked(wrap, on_request=tag, on_response=echo)
    assert run(server).headers["x-correlation-id"] == "id-1"
    assert run(server, **{"x-correlation-id": "mine"}).headers["x-correlation-id"] == "mine"
    assert server.get("/elsewhere").headers["x-correlation-id"] == "id-2"


def test_a_hook_can_set_several_cookies(wrap: Wrap) -> None:
    def session(context: HookContext) -> Response:
        assert context.response is not None
        cookies = SimpleCookie(context.request.headers.get("cookie", ""))
        if "session" in cookies:
            return context.response
        headers = context.response.headers
        return context.response.with_headers(
            headers.add("set-cookie", "session=1; HttpOnly").add("set-cookie", "theme=dark")
        )

    server = hooked(wrap, on_response=session)
    first = run(server)
    assert first.headers.get_all("set-cookie") == ["session=1; HttpOnly", "theme=dark"]
    assert "set-cookie" not in run(server, cookie="session=1").headers


def test_a_hook_can_limit_the_runs_of_an_address(wrap: Wrap) -> None:
    left = {"10.0.0.1": 2}

    def limit(context: HookContext) -> None:
        if context.route is None or context.route.name != "agent/run":
            return
        who = context.request.headers.get("x-real-ip", "")
        if not left.get(who, 0):
            raise Reject(Response.json({"error": "Too many requests"}, 429, {"retry-after": "60"}))
        left[who] -= 1

    server = hooked(wrap, on_before_handler=limit)
    answers = [run(server, **{"x-real-ip": "10.0.0.1"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[-1].headers["retry-after"] == "60"
    assert server.get(f"{BASE}/info").status == 200


def test_hooks_can_give_errors_another_body(wrap: Wrap) -> None:
    def problem(context: HookContext) -> Response | None:
        assert context.response is not None
        if context.response.status < 400:
            return None
        return Response.json(
            {"title": "That did not work", "status": context.response.status},
            context.response.status,
            {"content-type": "application/problem+json"},
        )

    def internal(context: HookContext) -> Response:
        return Response.json({"title": "Our fault", "status": 500}, 500)

    def fail_on_threads(context: HookContext) -> None:
        if context.path.endswith("/threads"):
            explode(context)

    server = hooked(wrap, on_request=fail_on_threads, on_response=problem, on_error=internal)
    assert server.get(f"{BASE}/info").status == 200
    answer = server.get(f"{BASE}/nope")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"title": "That did not work", "status": 404}
    assert server.get(f"{BASE}/threads").json() == {"title": "Our fault", "status": 500}


def test_a_hook_can_log_each_response(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test.access")
    caplog.set_level(logging.INFO, "test.access")

    def access(context: HookContext) -> None:
        assert context.response is not None
        route = context.route.name if context.route else "-"
        log.info("%s %s %s", context.request.method, route, context.response.status)

    server = hooked(wrap, on_response=access)
    run(server)
    server.get(f"{BASE}/nope")
    assert [r.message for r in caplog.records] == ["POST agent/run 200", "GET - 404"]


def test_a_hook_can_ask_for_a_password_for_everything_but_info(wrap: Wrap) -> None:
    expected = "Basic " + base64.b64encode(b"ada:pw").decode()

    def authenticate(context: HookContext) -> None:
        is_info = context.route is not None and context.route.name == "info"
        if not is_info and context.request.headers.get("authorization") != expected:
            raise Reject(Response(401))

    server = hooked(wrap, on_before_handler=authenticate)
    assert server.get(f"{BASE}/info").status == 200
    assert server.get(f"{BASE}/threads").status == 401
    assert server.get(f"{BASE}/threads", headers={"authorization": expected}).status == 200
