"""The response that a client has received as a whole, and the content of its events.

``assert_valid_stream`` and the methods of :class:`ClientResponse` look at the events as they were
received. They fold them with the state machines of the reference's front end, so that a test sees
what a user would see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import attrs

from .. import json_codec, sse
from ..agents.protocols import AgentEvent, event_dict
from ..errors import shorten
from ..events import (
    ChunkExpander,
    EventError,
    MessageFolder,
    StateFolder,
    ThinkingUpgrader,
    Verifier,
    normalize_event,
)
from ..events import types as t
from ..http.messages import Headers
from ..runs.compacted_result import messages_of

_TERMINAL = (t.RUN_FINISHED, t.RUN_ERROR)


@attrs.frozen
class ToolCall:
    """A tool call that an agent has made.

    :param id: its id, which the result refers to.
    :param name: the tool's name.
    :param arguments: the value of its arguments, or their text if that is no JSON.
    """

    id: str
    name: str
    arguments: Any


@attrs.frozen
class ClientResponse:
    """A response, whole, as a client receives it.

    :param request: the body of the request, which tells what the client knew before.
    """

    status: int
    headers: Headers
    body: bytes = attrs.field(repr=False)
    request: bytes = attrs.field(default=b"", repr=False)

    def json(self) -> Any:
        """The value of the body.

        :raises ValueError: if it is not JSON.
        """
        return json_codec.decode(self.body)

    def events(self) -> list[dict[str, Any]]:
        """The AG-UI events of a stream.

        :raises ValueError: if the data of an event is not JSON.
        """
        return [json_codec.decode(event.data.encode()) for event in sse.Parser().feed(self.body)]

    def text(self) -> str:
        """The text of the agent's messages, with a line break between two.

        :raises AssertionError: if the response is no stream of valid events.
        """
        said = [message.get("content") or "" for message in self.messages()]
        return "\n".join(text for text in said if text)

    def messages(self) -> list[dict[str, Any]]:
        """The assistant's messages, with their tool calls, that the stream has brought.

        A RUN_STARTED event repeats the messages of its input, and a snapshot may repeat all of the
        conversation. What the request had is not among them.

        :raises AssertionError: if the response is no stream of valid events.
        """
        folder, given = MessageFolder(), self._known()
        for event in self._stream():
            if event["type"] == t.RUN_STARTED:
                before = {message["id"] for message in folder.messages}
                folder.feed(event)
                given |= {message["id"] for message in folder.messages} - before
            else:
                folder.feed(event)
        return [
            message
            for message in folder.messages
            if message["role"] == "assistant" and message["id"] not in given
        ]

    def tool_calls(self) -> list[ToolCall]:
        """The tool calls of these messages.

        :raises AssertionError: if the response is no stream of valid events.
        """
        calls = [call for message in self.messages() for call in message.get("toolCalls") or ()]
        return [
            ToolCall(call["id"], call["function"]["name"], _value(call["function"]["arguments"]))
            for call in calls
        ]

    def state(self) -> Any:
        """The shared state after the stream, as far as the stream tells it.

        :raises AssertionError: if the response is no stream of valid events.
        """
        folder = StateFolder()
        for event in self._stream():
            folder.feed(event)
        return folder.state

    def run_error(self) -> str | None:
        """The message of the RUN_ERROR event that ended the run; None if there is none.

        :raises AssertionError: if the response is no stream of valid events.
        """
        errors = [event for event in self._stream() if event["type"] == t.RUN_ERROR]
        return cast("str", errors[-1]["message"]) if errors else None

    def _known(self) -> set[str]:
        """The ids of the messages that the request had."""
        try:
            run_input = json_codec.decode(self.request)
        except ValueError:
            return set()
        if isinstance(run_input, dict) and isinstance(run_input.get("body"), dict):
            run_input = run_input["body"]
        return {message["id"] for message in messages_of(run_input) if _has_id(message)}

    def _stream(self) -> Iterator[dict[str, Any]]:
        return (event for _, _, event in _read(self._sent()))

    def _sent(self) -> list[Any]:
        kind = self.headers.get("content-type", "")
        if kind.partition(";")[0] != "text/event-stream":
            shown = shorten(self.body.decode("utf-8", "replace"))
            raise AssertionError(f"the response is no stream, but {self.status} {kind}: {shown}")
        try:
            return self.events()
        except ValueError as error:
            raise AssertionError(f"an event of the stream is not JSON: {error}") from None


def assert_valid_stream(stream: ClientResponse | Iterable[AgentEvent]) -> None:
    """Assert that a client would read a whole stream: each event, their order, and their end.

    The events have the form of AG-UI's schemas, each may come where it comes, the first is
    RUN_STARTED, and the last ends the run. What an agent yields may be checked as well as what a
    client has received.

    :param stream: a response, or events: ``ag_ui.core`` models, or dicts of the same JSON.
    :raises AssertionError: which names the event and the rule.
    """
    verifier, last = Verifier(), ""
    events = stream._sent() if isinstance(stream, ClientResponse) else stream
    for number, event, read in _read(events):
        try:
            verifier.feed(read)
        except EventError as error:
            raise _invalid(number, event, error) from None
        last = read["type"]
    if not last:
        raise AssertionError("the stream has no events")
    if last not in _TERMINAL:
        raise AssertionError(f"the stream ends with {last}, before the end of its run")


def _read(events: Iterable[Any]) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """The events as a client reads them, chunks written out, each with its number and source."""
    expander, upgrader = ChunkExpander(), ThinkingUpgrader("")
    for number, event in enumerate(events):
        try:
            if (normal := normalize_event(event_dict(event))) is None:
                raise EventError("its type is not one of AG-UI's")
            for written in expander.feed(normal):
                yield number, event, upgrader.feed(written)
        except EventError as error:
            raise _invalid(number, event, error) from None


def _invalid(number: int, event: object, error: EventError) -> AssertionError:
    return AssertionError(f"event {number} is not valid: {error}: {shorten(repr(event))}")


def _has_id(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("id"), str)


def _value(text: str) -> Any:
    try:
        return json_codec.decode(text.encode())
    except ValueError:
        return text
