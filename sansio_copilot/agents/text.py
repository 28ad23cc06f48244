"""``text_agent``: makes an agent of a function that yields text."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import attrs
from ag_ui.core import RunAgentInput

from .attributes import (
    Capabilities,
    check_capabilities,
    check_description,
    check_headers,
    valid,
)
from .protocols import AgentContext, AgentEvent, Events


@attrs.define
class _TextAgent:
    """An agent made of a function that yields text. The attributes may be assigned, and are checked
    then."""

    function: Callable[[RunAgentInput, AgentContext], Any]
    __name__: str = attrs.field(default="text_agent", init=False)
    description: str = attrs.field(default="", validator=valid(check_description))
    capabilities: Capabilities | None = attrs.field(
        default=None, validator=valid(check_capabilities)
    )
    headers: Mapping[str, str] | None = attrs.field(default=None, validator=valid(check_headers))

    def __attrs_post_init__(self) -> None:
        self.__name__ = getattr(self.function, "__name__", "text_agent")
        self.description = inspect.getdoc(self.function) or ""

    def run(self, input: RunAgentInput, context: AgentContext) -> Events:
        pieces = self.function(input, context)
        if inspect.iscoroutine(pieces):
            pieces.close()
            raise TypeError(f"{self.__name__} returns its text; a text agent yields it")
        if hasattr(pieces, "__aiter__"):
            return self._events_async(input, pieces)
        return self._events(input, pieces)

    def _events(self, input: RunAgentInput, pieces: Iterator[str]) -> Iterator[AgentEvent]:
        message = _TextMessage(input)
        try:
            yield message.begin()
            for piece in pieces:
                yield from message.add(piece)
            yield from message.end()
        finally:
            # The function's own generator is closed here, because a stop closes only this one.
            if hasattr(pieces, "close"):
                pieces.close()

    async def _events_async(
        self, input: RunAgentInput, pieces: AsyncIterator[str]
    ) -> AsyncIterator[AgentEvent]:
        message = _TextMessage(input)
        try:
            yield message.begin()
            async for piece in pieces:
                for event in message.add(piece):
                    yield event
            for event in message.end():
                yield event
        finally:
            if hasattr(pieces, "aclose"):
                await pieces.aclose()


@attrs.define
class _TextMessage:
    """The events around one text message, for the plain and the async loop above."""

    input: RunAgentInput
    started: bool = False

    @property
    def _run(self) -> dict[str, str]:
        return {"threadId": self.input.thread_id, "runId": self.input.run_id}

    @property
    def _id(self) -> str:
        # The client made the run's id unique, so that this id is unique too.
        return f"{self.input.run_id}-text"

    def begin(self) -> AgentEvent:
        return {"type": "RUN_STARTED", **self._run}

    def add(self, piece: str) -> list[AgentEvent]:
        if not isinstance(piece, str):
            raise TypeError(f"a text agent yields str, got {type(piece).__name__}")
        if not piece:
            return []
        events: list[AgentEvent] = []
        if not self.started:
            self.started = True
            events.append(
                {"type": "TEXT_MESSAGE_START", "messageId": self._id, "role": "assistant"}
            )
        events.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": self._id, "delta": piece})
        return events

    def end(self) -> list[AgentEvent]:
        events: list[AgentEvent] = [{"type": "RUN_FINISHED", **self._run}]
        if self.started:
            events.insert(0, {"type": "TEXT_MESSAGE_END", "messageId": self._id})
        return events


def text_agent(
    function: Callable[[RunAgentInput, AgentContext], Iterator[str] | AsyncIterator[str]],
) -> _TextAgent:
    """Turn a generator of ``str``, plain or async, into an agent that answers with one message.

    The function is called as an agent is, with ``(input, context)``. Each non-empty string is one
    text delta. The docstring becomes the agent's ``description``, which may be assigned to, as
    may ``capabilities`` and ``headers``. Usable as a decorator.
    """
    return _TextAgent(function)
