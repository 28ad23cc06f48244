"""Targets: what is read of a request before an agent has anything to do with it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fuzz.support import BASE, no_error_is_logged, text_lines

from sansio_copilot import CopilotRuntime, RemoteProtocolError, Request, json_codec, text_agent
from sansio_copilot.endpoints.body import JsonBody
from sansio_copilot.endpoints.run_input import parse_input
from sansio_copilot.events import Verifier, normalize_event
from sansio_copilot.http.envelope import (
    METHOD_NAMES,
    EnvelopeRefusal,
    detect_envelope,
    parse_envelope,
    require_body,
    resolve_envelope,
)
from sansio_copilot.http.paths import normalize_base_path, normalize_path, under_base_path
from sansio_copilot.http.refusals import Refusal
from sansio_copilot.http.routing import METHODS, match_path
from sansio_copilot.testing import Client, ClientResponse


@text_agent
def hello(input: Any, context: Any) -> Any:
    yield "Hello"


def runtime(**options: Any) -> CopilotRuntime:
    return CopilotRuntime({"default": hello, "ü/": hello}, thread_mutations=True, **options)


def routing(data: bytes) -> None:
    """Three lines: a method, a base path and a target. Every request has an answer."""
    method, base_path, target = text_lines(data, 3)
    base: str | None = None
    with suppress(ValueError):
        base = normalize_base_path(base_path)
        assert normalize_base_path(base) == base
    path = normalize_path(target)
    assert path.startswith("/")
    assert path.isascii()
    assert normalize_path(path) == path
    segments = [segment.lower().replace("%2e", ".") for segment in path.split("/")]
    assert not {".", ".."} & set(segments)
    for anywhere in (path, target):
        for below in (base, None):
            route = match_path(anywhere, below)
            if route is not None:
                assert under_base_path(anywhere, below)
                assert METHODS[route.name]
    try:
        request = Request.from_target(method, target)
    except RemoteProtocolError:
        return
    assert "#" not in request.path + request.query
    assert "?" not in request.path
    for answer in _answers(Request(method, target.partition("?")[0]), base):
        assert answer.status in (200, 204, 400, 404, 405, 415, 422, 501, 503), answer
        assert (answer.status == 405) == ("allow" in answer.headers)


def _answers(request: Request, base: str | None) -> list[ClientResponse]:
    answers = []
    with no_error_is_logged():
        for mode in ("multi-route", "single-route"):
            client = Client(runtime(base_path=base, mode=mode))
            with suppress(RemoteProtocolError):
                target, body = request.path, request.body or b""
                answer = client.request(request.method, target, headers=request.headers, body=body)
                answers.append(answer)
            client.close()
    return answers


def envelope(data: bytes) -> None:
    """The body of a single-route request. It is refused with a reason, or becomes a request."""
    request = Request("POST", BASE, headers={"content-type": "application/json"}, body=data)
    detected = detect_envelope(request)
    assert detected is None or detected in METHOD_NAMES
    try:
        parsed = parse_envelope(request)
        assert parsed.method == detected
        resolved = resolve_envelope(parsed, request)
        if resolved is not None:
            route, inner = resolved
            assert inner.path.startswith(BASE)
            assert normalize_path(inner.path) == inner.path
            require_body(parsed, inner)
            if parsed.method != "resource/request":
                assert inner.method in METHODS[route.name]
    except EnvelopeRefusal as error:
        assert error.response.status in (400, 415)
        assert str(error)
    for answer in _answers(request, BASE):
        assert answer.status < 500 or answer.status in (501, 503), answer
        if answer.headers.get("content-type") == "application/json":
            answer.json()


def run_input(data: bytes) -> None:
    """The body of a run. It is refused with a reason, or fits to tell other readers of."""
    body = JsonBody.parse(data, 10_000)
    if body.problem is not None:
        return
    try:
        parsed = parse_input(body.content)
    except Refusal as refusal:
        assert refusal.response.status in (400, 413)
        assert len(refusal.response.body) < 4096
        return
    text = json_codec.encode(parsed.json)
    again = parse_input(json_codec.decode(text))
    assert json_codec.encode(again.json) == text
    assert again.input == parsed.input
    started = {"type": "RUN_STARTED", "threadId": "t", "runId": "r", "input": parsed.json}
    assert normalize_event(started)
    Verifier().feed(started)
    parsed.input.model_dump(by_alias=True)
