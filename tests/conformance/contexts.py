"""Parts that tell which context variables they see, and set one of their own.

Each part of a request looks at the variables of all parts before it sets its own to the request's
id, so what it has seen says whose context it ran in. The agent yields that, as a STATE_SNAPSHOT.
With ``x-parts: async`` hooks and the agents function are async, and otherwise plain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import anyio.lowlevel
from ag_ui.core import RunAgentInput

from sansio_copilot import (
    AgentContext,
    AudioFile,
    CopilotRuntime,
    HookContext,
    Hooks,
    MemoryStore,
    Request,
    Response,
    RunStart,
    agui_agent,
)

ID_HEADER = "x-id"
PARTS = (
    *("on_request", "on_before_handler", "agents", "open_run", "on_run_start", "on_response"),
    *("agent", "other"),
)
"""The parts of a run, in their order; "other" is for the other endpoints' functions."""

variables: dict[str, ContextVar[str | None]] = {
    part: ContextVar(part, default=None) for part in PARTS
}
_seen: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
"""The variables that were set, by the request's id and the part."""


def _look(part: str, request_id: str) -> None:
    values = {name: variable.get() for name, variable in variables.items()}
    _seen[request_id][part] = {name: value for name, value in values.items() if value is not None}
    variables[part].set(request_id)


def _plain_or_async(part: str, answer: Callable[[Request, Any], Any]) -> Callable[[Any], Any]:
    """A function of a request, or of what has one."""

    async def later(request: Request, subject: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        _look(part, request.headers[ID_HEADER])
        await anyio.lowlevel.checkpoint()
        return answer(request, subject)

    def call(subject: Any) -> Any:
        if isinstance(subject, RunStart):
            subject = subject.context
        request = subject if isinstance(subject, Request) else subject.request
        if request.headers.get("x-parts") == "async":
            return later(request, subject)
        _look(part, request.headers[ID_HEADER])
        return answer(request, subject)

    return call


def _on_response(request: Request, context: HookContext) -> Response:
    assert context.response is not None
    headers = context.response.headers
    for part, seen in _seen[request.headers[ID_HEADER]].items():
        headers = headers.add("x-seen", f"{part}={'+'.join(seen)}")
    return context.response.with_headers(headers)


def _told(input: RunAgentInput, context: AgentContext) -> dict[str, Any]:
    request_id = context.request.headers[ID_HEADER]
    _look("agent", request_id)
    return {"type": "STATE_SNAPSHOT", "snapshot": _seen.pop(request_id)}


def _ends(input: RunAgentInput) -> tuple[dict[str, Any], dict[str, Any]]:
    run = {"threadId": input.thread_id, "runId": input.run_id}
    return {"type": "RUN_STARTED", **run}, {"type": "RUN_FINISHED", **run}


async def _async_agent(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
    begin, end = _ends(input)
    yield begin
    await anyio.lowlevel.checkpoint()
    yield _told(input, context)
    yield end


def _plain_agent(input: RunAgentInput, context: AgentContext) -> Iterator[Any]:
    begin, end = _ends(input)
    yield begin
    yield _told(input, context)
    yield end


class _CapableAgent:
    """An agent whose capabilities are told by a function, which looks at the variables as well."""

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
        begin, end = _ends(input)
        yield begin
        yield end

    def capabilities(self) -> dict[str, Any]:
        _look("other", variables["on_request"].get() or "nobody")
        return {}


class _LookingStore(MemoryStore):
    """A MemoryStore that looks, as one would that asks for a tenant."""

    def open_run(self, *args: Any, **kwargs: Any) -> Any:
        _look("open_run", variables["on_request"].get() or "nobody")
        return super().open_run(*args, **kwargs)


def _transcribe(audio: AudioFile) -> str:
    _look("other", audio.filename)
    return "+".join(_seen.pop(audio.filename)["other"])


def make_looking_runtime(**options: Any) -> CopilotRuntime:
    """A runtime of these parts."""
    agents = {
        "async": _async_agent,
        "plain": _plain_agent,
        "asyncio": agui_agent(_async_agent, loop="asyncio"),
        "capable": _CapableAgent(),
    }
    return CopilotRuntime(
        _plain_or_async("agents", lambda request, _: agents),
        hooks=Hooks(
            on_request=_plain_or_async("on_request", lambda request, _: None),
            on_before_handler=_plain_or_async("on_before_handler", lambda request, _: None),
            on_response=_plain_or_async("on_response", _on_response),
            on_run_start=_plain_or_async("on_run_start", lambda request, _: None),
        ),
        store=_LookingStore(),
        transcription=_transcribe,
        **options,
    )
