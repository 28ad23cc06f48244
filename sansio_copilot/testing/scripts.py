"""Scripted agents: a test says what an agent does, run by run, and no model is asked.

    agent = ScriptedAgent(say("Let me see."), call_tool("weather", {"city": "Paris"}))

A script is a row of *steps*. A step makes events when its turn comes: what it makes depends on the
input of the run and on nothing else, so that the same test gives the same bytes each time. Ids are
made of the run's id, which the client has made unique.

Only :func:`wait` waits, by a function that the test gives it (``asyncio.sleep``, the ``wait`` of an
event of trio), because this package knows no event loop. A script without it plays everywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
from ag_ui.core import BaseEvent, RunAgentInput

from .. import json_codec
from ..agents.protocols import AgentEvent, event_dict
from ..events import types as t


@attrs.define
class _Playing:
    """A run that a script is played for.

    :param input: the run's input.
    """

    input: RunAgentInput
    _ids: int = 0

    def new_id(self) -> str:
        self._ids += 1
        return f"{self.input.run_id}-{self._ids}"


@attrs.frozen
class _Act:
    """A step that yields no event: the agent waits, or raises."""

    function: Callable[[], Awaitable[object]]


@attrs.frozen
class Step:
    """A step of an agent's script. Functions of this module make steps."""

    _play: Callable[[_Playing], Iterable[AgentEvent | _Act]]


Script: TypeAlias = (
    Step | str | AgentEvent | Iterable["Script"] | Callable[[RunAgentInput], "Script"]
)
"""A step; a text to say; an event; several of them in a row; or a function of the input, which
returns one of these when its turn comes."""


def say(*pieces: str, message_id: str | None = None) -> Step:
    """The agent says one message.

    :param pieces: the deltas in which the text arrives.
    :param message_id: the id of the message; one is made of the run's if None.
    """

    def play(playing: _Playing) -> Iterator[AgentEvent]:
        of = {"messageId": message_id or playing.new_id()}
        yield {"type": t.TEXT_MESSAGE_START, **of, "role": "assistant"}
        for piece in filter(None, pieces):
            yield {"type": t.TEXT_MESSAGE_CONTENT, **of, "delta": piece}
        yield {"type": t.TEXT_MESSAGE_END, **of}

    return Step(play)


def think(*pieces: str) -> Step:
    """The agent reasons where its user may read it.

    :param pieces: the deltas in which the text arrives.
    """

    def play(playing: _Playing) -> Iterator[AgentEvent]:
        of = {"messageId": playing.new_id()}
        yield {"type": t.REASONING_START, **of}
        yield {"type": t.REASONING_MESSAGE_START, **of, "role": "reasoning"}
        for piece in filter(None, pieces):
            yield {"type": t.REASONING_MESSAGE_CONTENT, **of, "delta": piece}
        yield {"type": t.REASONING_MESSAGE_END, **of}
        yield {"type": t.REASONING_END, **of}

    return Step(play)


_NO_RESULT: Any = object()


def call_tool(
    name: str, arguments: Any = None, *, result: Any = _NO_RESULT, call_id: str | None = None
) -> Step:
    """The agent calls a tool.

    :param arguments: the value of its arguments, an empty object if None.
    :param result: what a tool of the server answers: text, or a value that is sent as JSON. Without
        it the call is one of the front end's, which answers it in a run of its own.
    :param call_id: the id of the call; one is made of the run's if None.
    """

    text = _json({} if arguments is None else arguments)

    def play(playing: _Playing) -> Iterator[AgentEvent]:
        of = {"toolCallId": call_id or playing.new_id()}
        yield {"type": t.TOOL_CALL_START, **of, "toolCallName": name}
        yield {"type": t.TOOL_CALL_ARGS, **of, "delta": text}
        yield {"type": t.TOOL_CALL_END, **of}
        if result is not _NO_RESULT:
            content = result if isinstance(result, str) else _json(result)
            yield {
                "type": t.TOOL_CALL_RESULT,
                "messageId": playing.new_id(),
                **of,
                "content": content,
            }

    return Step(play)


def set_state(state: Any) -> Step:
    """The agent sets the shared state."""
    return Step(lambda _: [{"type": t.STATE_SNAPSHOT, "snapshot": state}])


def patch_state(*operations: Mapping[str, Any]) -> Step:
    """The agent changes the shared state by the operations of a JSON Patch (RFC 6902)."""
    return Step(lambda _: [{"type": t.STATE_DELTA, "delta": list(operations)}])


def interrupt(reason: str, **members: Any) -> Step:
    """The run ends, and asks its user something; the answer is in ``input.resume`` of the next run.

    :param members: other members of AG-UI's interrupt: ``id``, ``message``, ``toolCallId``.
    """

    def play(playing: _Playing) -> Iterator[AgentEvent]:
        asked = {"id": playing.new_id(), "reason": reason, **members}
        yield {"type": t.RUN_FINISHED, "outcome": {"type": "interrupt", "interrupts": [asked]}}

    return Step(play)


def fail(error: str | BaseException, code: str | None = None) -> Step:
    """The run fails.

    :param error: the message of a RUN_ERROR event, or an exception that the agent raises.
    :param code: the code of the event.
    """

    async def raise_it() -> None:
        assert isinstance(error, BaseException)
        raise error

    if isinstance(error, BaseException):
        return Step(lambda _: [_Act(raise_it)])
    coded = {} if code is None else {"code": code}
    return Step(lambda _: [{"type": t.RUN_ERROR, "message": error, **coded}])


def wait(function: Callable[..., Awaitable[object]], *args: Any) -> Step:
    """The agent waits, like an agent that asks a model.

    A run that is stopped meanwhile is cancelled there. The test needs a client that has an event
    loop: ``copilot_bindings.testing.AsyncClient``, or a server.

    :param function: an async function of the library that runs the test: ``asyncio.sleep``,
        ``trio.Event().wait``.
    :param args: the arguments that it is called with.
    """

    async def wait_for_it() -> None:
        if not inspect.isawaitable(waiting := function(*args)):
            raise TypeError("wait takes an async function, and was given a plain one")
        await waiting

    return Step(lambda _: [_Act(wait_for_it)])


class ScriptedAgent:
    """An agent that does what its script says, in each run the same.

    It begins a run with RUN_STARTED and ends it with RUN_FINISHED, unless the script has such an
    event, or ends the run with :func:`fail` or :func:`interrupt`.

    :param script: steps, texts, events, functions of the input that return one of these, and lists
        of them.
    :param whole: whether to begin and end the run; False for a script that breaks the rules.
    :ivar inputs: the inputs of its runs so far, the newest last.
    """

    def __init__(self, *script: Script, whole: bool = True) -> None:
        self._script: Script = script
        self._whole = whole
        self.inputs: list[RunAgentInput] = []
        self.description = "Does what a script says."

    @classmethod
    def in_turns(cls, *scripts: Script) -> ScriptedAgent:
        """An agent whose first run plays the first script, the second run the second, and so on.

        One run more than there are scripts fails.
        """
        agent = cls()

        def play(input: RunAgentInput) -> Script:
            turn = len(agent.inputs)
            if turn > len(scripts):
                raise AssertionError(f"run {turn} of an agent with {len(scripts)} scripts")
            return scripts[turn - 1]

        agent._script = play
        return agent

    async def run(self, input: RunAgentInput, context: object = None) -> AsyncIterator[AgentEvent]:
        """Play the script."""
        self.inputs.append(input)
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        has_begun, last = not self._whole, None
        for event in _played(self._script, _Playing(input)):
            fields = {} if isinstance(event, _Act) else event_dict(event) or {}
            type_ = fields.get("type")
            if not has_begun and type_ != t.RUN_STARTED:
                yield {"type": t.RUN_STARTED, **ids}
            has_begun = True
            if isinstance(event, _Act):
                await event.function()
            else:
                last = type_
                yield {**ids, **fields} if self._whole and type_ in _WITH_IDS else fields
        if not has_begun:
            yield {"type": t.RUN_STARTED, **ids}
        if self._whole and last not in _TERMINAL:
            yield {"type": t.RUN_FINISHED, **ids}


_WITH_IDS = (t.RUN_STARTED, t.RUN_FINISHED)
_TERMINAL = (t.RUN_FINISHED, t.RUN_ERROR)


def _played(script: Script, playing: _Playing) -> Iterator[AgentEvent | _Act]:
    if isinstance(script, str):
        script = say(script)
    if isinstance(script, Step):
        yield from script._play(playing)
    elif isinstance(script, BaseEvent | Mapping):
        yield script
    elif callable(script):
        yield from _played(script(playing.input), playing)
    elif isinstance(script, Iterable):
        for part in script:
            yield from _played(part, playing)
    else:
        raise TypeError(
            f"a script has steps, texts, events and functions, not {type(script).__name__}"
        )


def _json(value: Any) -> str:
    return json_codec.encode(value).decode()
