"""Recorded streams: what an agent once did is kept as text, and a replay of it is an agent.

    lines = Recording(client.run(run_input(text="hi"))).dumps()      # one event a line
    agent = Recording.loads(lines).agent()

A recording is a row of runs, each of which begins with RUN_STARTED. Its text is JSON Lines, an
event a line, so that it can be read, compared and edited. Nothing here opens a file: a test reads
and writes the text.

A front end knows messages, tool calls and runs by their ids, and takes two with the same id for
one. So a replay that is shown to a client has *fresh* ids: the ids that the agent had made are made
anew for each replay, and all places that refer to them agree. The ids of the client's own messages
stay.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal

import attrs
from ag_ui.core import RunAgentInput

from .. import json_codec, sse
from ..agents.agui import AguiAgent, adapted
from ..agents.protocols import (
    Agent,
    AgentContext,
    AgentEvent,
    call_agent,
    describe_class,
    event_dict,
    loop_of,
)
from ..calls import Call
from ..errors import text_of
from ..events import types as t
from .responses import ClientResponse

Ids = Literal["fresh", "original"]

_REFERENCES = frozenset(
    {
        *("messageId", "parentMessageId", "toolCallId", "parentToolCallId", "entityId"),
        *("subagentRunId", "parentSubagentRunId", "interruptId"),
    }
)
"""The members of events that hold an id which an agent makes."""
_REFERENCE_LISTS = frozenset({"interruptIds", "pendingToolCallIds"})
_OWNERS = frozenset({"messages", "toolCalls", "interrupts"})
"""The members of events whose elements have an ``id`` of their own."""
_OF_CLIENT = frozenset({"user", "system", "developer"})
_THREADS = 1000
"""The number of threads whose place a replaying agent remembers; the oldest begins anew."""


def _own(events: ClientResponse | Iterable[AgentEvent]) -> tuple[dict[str, Any], ...]:
    if isinstance(events, ClientResponse):
        return tuple(events.events())
    return tuple(fields for event in events if (fields := event_dict(event)) is not None)


@attrs.frozen
class Recording:
    """The events of one run or several, in the order in which they came.

    :param events: events (``ag_ui.core`` models, or dicts of the same JSON), or a response.
    """

    events: tuple[dict[str, Any], ...] = attrs.field(converter=_own)

    @classmethod
    def loads(cls, text: str | bytes) -> Recording:
        """The recording of a text in JSON Lines; lines with nothing but spaces are left out.

        :raises ValueError: if a line is not the JSON of an event; the text has its number.
        """
        if isinstance(text, str):
            text = text.encode()
        events = []
        for number, line in enumerate(text.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                event = json_codec.decode(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from None
            if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                raise ValueError(f"line {number} is not an event: it needs a 'type'")
            events.append(event)
        return cls(events)

    @classmethod
    def of_stream(cls, body: bytes) -> Recording:
        """The recording of a stream of server-sent events, as ``curl -N`` has saved it.

        :raises ValueError: if the data of an event is not JSON.
        """
        return cls([json_codec.decode(each.data.encode()) for each in sse.Parser().feed(body)])

    def dumps(self) -> str:
        """The text of the recording in JSON Lines."""
        return "".join(f"{json_codec.encode(event).decode()}\n" for event in self.events)

    @property
    def runs(self) -> list[list[dict[str, Any]]]:
        """The events of each run."""
        runs: list[list[dict[str, Any]]] = []
        for event in self.events:
            if not runs or event["type"] == t.RUN_STARTED:
                runs.append([])
            runs[-1].append(event)
        return runs

    def agent(self, *, ids: Ids = "fresh") -> ReplayAgent:
        """An agent that does what was recorded.

        :param ids: "fresh" ids of messages, tool calls and runs for each replay, or the "original"
            ones, byte for byte.
        :raises ValueError: if ``ids`` is neither, or there is no event.
        """
        return ReplayAgent(self, ids)


class ReplayAgent:
    """An agent that does what was recorded. Made by :meth:`Recording.agent`.

    In each thread the first run replays the first recorded one, the next run the next, and the run
    behind the last begins anew.
    """

    def __init__(self, recording: Recording, ids: Ids) -> None:
        if ids not in ("fresh", "original"):
            raise ValueError(f"ids is 'fresh' or 'original', not {ids!r}")
        self._runs = recording.runs
        if not self._runs:
            raise ValueError("the recording has no events")
        self._fresh = ids == "fresh"
        self._places: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self.description = "Replays what was recorded."

    async def run(self, input: RunAgentInput, context: object = None) -> AsyncIterator[AgentEvent]:
        """Replay the run whose turn it is in the thread."""
        place, prefix = self._places.pop(input.thread_id, (0, ""))
        if place == 0:
            # The client has made the id of the run unique, and so all that begins with it.
            prefix = input.run_id
        self._places[input.thread_id] = (place + 1) % len(self._runs), prefix
        if len(self._places) > _THREADS:
            self._places.popitem(last=False)
        events = self._runs[place]
        for event in _renamed(events, input, prefix) if self._fresh else events:
            yield event


def _renamed(
    events: list[dict[str, Any]], input: RunAgentInput, prefix: str
) -> Iterator[AgentEvent]:
    """The events with the ids of ``input``, and ``prefix`` before all ids that the agent made."""
    of_client = {
        message["id"]
        for event in events
        for message in event.get("messages") or ()
        if event["type"] == t.MESSAGES_SNAPSHOT and message.get("role") in _OF_CLIENT
    }

    def renamed(value: Any) -> Any:
        return f"{prefix}-{value}" if isinstance(value, str) and value not in of_client else value

    def walk(value: Any, *, owns_id: bool = False) -> Any:
        if isinstance(value, list):
            return [walk(item, owns_id=owns_id) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            name: (
                renamed(item)
                if name in _REFERENCES or (name == "id" and owns_id)
                else [renamed(each) for each in item]
                if name in _REFERENCE_LISTS and isinstance(item, list)
                else walk(item, owns_id=name in _OWNERS)
                if name in _OWNERS or name == "outcome"
                else item
            )
            for name, item in value.items()
        }

    for event in events:
        written = walk(event)
        if written["type"] in (t.RUN_STARTED, t.RUN_FINISHED):
            written = {**written, "threadId": input.thread_id, "runId": input.run_id}
            # The input is left out, because the runtime adds the input of this run.
            written.pop("input", None)
        yield written


def record(agent: Agent, write: Callable[[str], object]) -> RecordingAgent:
    """An agent that does what ``agent`` does, and writes each run down.

    :param agent: as a runtime takes it.
    :param write: a plain function that is called at the end of each run with its events in JSON
        Lines, the ``write`` of a text file for example. An exception that the agent has raised is
        written as a RUN_ERROR event. A run that was stopped is written as far as it came.
    :raises TypeError: if ``agent`` is not an agent.
    """
    recorded = adapted("record", agent)
    return RecordingAgent(
        recorded,
        None,
        None,
        getattr(recorded, "description", ""),
        getattr(recorded, "capabilities", None),
        getattr(recorded, "headers", None),
        loop_of(recorded),
        describe_class(recorded),
        write,
    )


@attrs.define(eq=False)
class RecordingAgent(AguiAgent):
    """An agent whose runs are written down. Made by :func:`record`."""

    _write: Callable[[str], object]

    def run(self, input: RunAgentInput, context: AgentContext) -> Any:
        """Run the agent, and pass its events on; plain or async, as they are."""
        events = call_agent(self._agent, input, context)
        if inspect.isawaitable(events) or hasattr(events, "__aiter__"):
            return self._run_async(events)
        return self._run(events)

    def _run(self, events: Iterable[AgentEvent]) -> Iterator[AgentEvent]:
        with self._written() as taken:
            yield from _passed(events, taken)

    async def _run_async(self, events: Any) -> AsyncIterator[AgentEvent]:
        with self._written() as taken:
            if inspect.isawaitable(events):
                events = await events
            if not hasattr(events, "__aiter__"):
                with closing(_passed(events, taken)) as passed:
                    for event in passed:
                        yield event
                return
            iterator = aiter(events)
            try:
                async for event in iterator:
                    taken.append(event)
                    yield event
            finally:
                # The agent's own iterator is closed here, because a stop closes only this
                # generator.
                if hasattr(iterator, "aclose"):
                    await iterator.aclose()

    def stop_call(self, agent_id: str, input: RunAgentInput) -> Call | None:
        """The call that is due when a run of the agent is stopped."""
        agent = self._agent
        return agent.stop_call(agent_id, input) if isinstance(agent, AguiAgent) else None

    @contextmanager
    def _written(self) -> Iterator[list[AgentEvent]]:
        taken: list[AgentEvent] = []
        try:
            yield taken
        except Exception as error:
            taken.append({"type": t.RUN_ERROR, "message": text_of(error)})
            raise
        finally:
            self._write(Recording(taken).dumps())


def _passed(events: Iterable[AgentEvent], taken: list[AgentEvent]) -> Generator[AgentEvent]:
    """Pass the events of a plain iterator on, and add them to ``taken``."""
    iterator = iter(events)
    try:
        for event in iterator:
            taken.append(event)
            yield event
    finally:
        # A stop closes this generator only, so that the agent's own iterator has to be closed.
        if hasattr(iterator, "close"):
            iterator.close()
