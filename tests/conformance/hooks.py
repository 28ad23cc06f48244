"""The hooks that the suite looks at. A request says in its headers what they are to do.

``x-on-request: reject``, say, makes ``on_request`` reject the request. With ``x-hooks: async`` each
hook answers with an awaitable, and otherwise at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio.lowlevel
import attrs

from sansio_copilot import HookContext, Hooks, Reject, Request, Response, RunReport, RunStart

from .agents import OnPurposeError
from .control import answer_control, gates

T = TypeVar("T")
S = TypeVar("S", bound=HookContext | RunStart)

SECRET = "nobody may read this"


def make_hooks() -> Hooks:
    return Hooks(
        on_request=_plain_or_async(_on_request),
        on_before_handler=_plain_or_async(_on_before_handler),
        on_response=_plain_or_async(_on_response),
        on_error=_plain_or_async(_on_error),
        on_run_start=_plain_or_async(_on_run_start),
        on_run_end=_plain_or_async(_on_run_end),
    )


def _plain_or_async(hook: Callable[[S], T]) -> Callable[[S], T | Awaitable[T]]:
    async def later(context: S) -> T:
        await anyio.lowlevel.checkpoint()
        return hook(context)

    def call(context: S) -> T | Awaitable[T]:
        if _request(context).headers.get("x-hooks") == "async":
            return later(context)
        return hook(context)

    return call


def _request(context: HookContext | RunStart) -> Request:
    return context.context.request if isinstance(context, RunStart) else context.request


def _refuse(context: HookContext | RunStart, name: str) -> None:
    told = _request(context).headers.get(f"x-{name}")
    if told == "reject":
        raise Reject(Response.json({"rejected": name}, 403))
    if told == "fail":
        raise OnPurposeError(SECRET)


def _on_request(context: HookContext) -> Request | None:
    answer_control(context)
    _refuse(context, "on-request")
    if (path := context.request.headers.get("x-rewrite")) is not None:
        return attrs.evolve(context.request, path=path)
    return None


def _on_before_handler(context: HookContext) -> Request:
    _refuse(context, "on-before-handler")
    body = context.request.body
    size = "none" if body is None else str(len(body))
    return context.request.with_headers(context.request.headers.set("x-body-size", size))


def _on_response(context: HookContext) -> Response:
    _refuse(context, "on-response")
    assert context.response is not None
    headers = context.response.headers
    if (route := context.route) is not None:
        headers = headers.set("x-route", route.name)
        headers = headers.set("x-route-agent", route.agent_id or "none")
        headers = headers.set("x-route-thread", route.thread_id or "none")
    if "x-cookies" in context.request.headers:
        headers = headers.add("set-cookie", "a=1").add("set-cookie", "b=2")
    return context.response.with_headers(headers)


def _on_error(context: HookContext) -> Response | None:
    _refuse(context, "on-error")
    if context.request.headers.get("x-on-error") == "answer":
        return Response.json({"handled": type(context.error).__name__}, 502)
    return None


def _on_run_start(start: RunStart) -> None:
    _refuse(start, "on-run-start")


def _on_run_end(report: RunReport) -> None:
    gates[report.thread_id].reports.append(
        {
            "agent": report.agent_id,
            "run": report.run_id,
            "outcome": report.outcome,
            "error": report.error,
            "events": report.events,
        }
    )
