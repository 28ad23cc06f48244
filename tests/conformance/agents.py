"""The agents that the suite runs: each does one thing that a binding has to cope with.

They work under every event loop and in threads. What each yields is fixed, so that a test knows all
of it; when it yields is up to the gate of its thread (see control.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
from ag_ui.core import RunAgentInput

from copilot_bindings.agents import HttpAgent
from sansio_copilot import AgentContext, agui_agent, text_agent
from sansio_copilot.agents import ResumeRefused, answers_to_act_on

from .control import Gate, gates

logger = logging.getLogger(__name__)

Event = dict[str, Any]


class OnPurposeError(Exception):
    """The error that agents raise here; in a server's log any other exception is a bug."""


ON_PURPOSE = ("OnPurpose", "ignored GeneratorExit", "BrokenOff", "did not return within")
"""The parts of a ``repr`` by which an error is known that the suite asks for."""


def _run(input: RunAgentInput) -> dict[str, str]:
    return {"threadId": input.thread_id, "runId": input.run_id}


def started(input: RunAgentInput) -> Event:
    return {"type": "RUN_STARTED", **_run(input)}


def finished(input: RunAgentInput) -> Event:
    return {"type": "RUN_FINISHED", **_run(input)}


START = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
END = {"type": "TEXT_MESSAGE_END", "messageId": "m"}


def content(delta: str) -> Event:
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": delta}


@contextlib.contextmanager
def _counted(gate: Gate) -> Iterator[None]:
    try:
        yield
    finally:
        gate.unwound += 1


# --- Agents that wait ------------------------------------------------------------------------

DELTAS = 5
TO_THE_END = DELTAS + 1
"""How many steps a gated agent takes: a delta each, and then its end."""


async def gated(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Begins a message, and yields a delta each time it is let."""
    gate = gates[input.thread_id]
    with _counted(gate):
        yield started(input)
        yield START
        for number in range(DELTAS):
            await gate.step()
            yield content(str(number))
        await gate.step()
        yield END
        yield finished(input)


def gated_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    """The same in a thread, which it blocks whether it is stopped or not."""
    gate = gates[input.thread_id]
    with _counted(gate):
        yield started(input)
        yield START
        for number in range(DELTAS):
            gate.step_blocking()
            gate.stop_seen = context.stop_requested
            yield content(str(number))
        gate.step_blocking()
        yield END
        yield finished(input)


async def stubborn(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Ignores its cancellation, and yields once more when it is let."""
    gate = gates[input.thread_id]
    with _counted(gate):
        yield started(input)
        while not gate.try_step():
            try:
                await anyio.sleep(0.002)
            except anyio.get_cancelled_exc_class():
                gate.cancelled += 1
        yield {"type": "CUSTOM", "name": "too late", "value": None}


async def cleans_up(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Waits until it is let, and awaits while it cleans up."""
    gate = gates[input.thread_id]
    try:
        yield started(input)
        await gate.step()
        yield finished(input)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        gate.unwound += 1


async def lingers(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Has finished its run, and cleans up until it is let."""
    gate = gates[input.thread_id]
    with _counted(gate):
        yield started(input)
        yield finished(input)
        await gate.step()


# --- Agents of every shape, which all yield the same --------------------------------------------


def hello(input: RunAgentInput) -> list[Event]:
    """The events that each agent of :data:`SHAPES` yields."""
    return [
        started(input),
        START,
        content("Hello"),
        content(" from"),
        content(" Python"),
        END,
        finished(input),
    ]


async def async_generator(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    for event in hello(input):
        await anyio.lowlevel.checkpoint()
        yield event


async def never_waits(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    for event in hello(input):
        yield event


def generator(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    yield from hello(input)


def returns_list(input: RunAgentInput, context: AgentContext) -> list[Event]:
    return hello(input)


async def awaitable_of_list(input: RunAgentInput, context: AgentContext) -> list[Event]:
    await anyio.lowlevel.checkpoint()
    return hello(input)


async def awaitable_of_iterator(
    input: RunAgentInput, context: AgentContext
) -> AsyncIterator[Event]:
    await anyio.lowlevel.checkpoint()
    return async_generator(input, context)


class AsyncIterable:
    """An async iterator that is no generator: it has no ``aclose``."""

    def __init__(self, events: list[Event]) -> None:
        self._events = iter(events)

    def __aiter__(self) -> AsyncIterable:
        return self

    async def __anext__(self) -> Event:
        await anyio.lowlevel.checkpoint()
        for event in self._events:
            return event
        raise StopAsyncIteration


def async_iterator(input: RunAgentInput, context: AgentContext) -> AsyncIterable:
    return AsyncIterable(hello(input))


class AgentObject:
    """An object with a method ``run``."""

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
        for event in hello(input):
            yield event


def asks(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    """Asks for an approval, and acts on it."""
    try:
        answers = answers_to_act_on(input.resume or (), context.interrupts)
    except ResumeRefused as refused:
        yield {"type": "RUN_ERROR", "message": str(refused)}
        return
    yield started(input)
    for answer in answers:
        yield {"type": "CUSTOM", "name": "acted", "value": answer.interrupt_id}
    if answers:
        yield finished(input)
    else:
        asked = [{"id": "i", "reason": "approval"}]
        yield {**finished(input), "outcome": {"type": "interrupt", "interrupts": asked}}


SHAPES: dict[str, Any] = {
    "async-generator": async_generator,
    "never-waits": never_waits,
    "generator": generator,
    "list": returns_list,
    "awaitable-of-list": awaitable_of_list,
    "awaitable-of-iterator": awaitable_of_iterator,
    "async-iterator": async_iterator,
    "object": AgentObject(),
}


@text_agent
async def text(input: RunAgentInput, context: AgentContext) -> AsyncIterator[str]:
    for word in ("Hello", " from", " Python"):
        yield word


@text_agent
def numbers(input: RunAgentInput, context: AgentContext) -> Iterator[str]:
    """A plain agent that is faster than whoever reads."""
    for number in range(2000):
        yield f"{number},"


CHATTY = 800


async def chatty(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Says more than the buffers of a socket hold."""
    yield started(input)
    for number in range(CHATTY):
        yield {"type": "CUSTOM", "name": str(number), "value": "x" * 10_000}
    yield finished(input)


async def endless(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    yield started(input)
    while True:
        yield {"type": "CUSTOM", "name": "more", "value": "x" * 100_000}
        await anyio.lowlevel.checkpoint()


# --- Agents that fail --------------------------------------------------------------------------


def fails_when_called(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    raise OnPurposeError("failed when called")


async def fails_at_once(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    raise OnPurposeError("failed at once")
    yield


async def fails_midway(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    yield started(input)
    yield START
    await anyio.lowlevel.checkpoint()
    raise OnPurposeError("failed midway")


def fails_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    yield started(input)
    yield START
    raise OnPurposeError("failed in its thread")


async def exits(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    yield started(input)
    raise SystemExit("OnPurpose: exits")


def exits_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    yield started(input)
    raise SystemExit("OnPurpose: exits in its thread")


async def cancels_itself(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """The agent awaits a task which has been cancelled. trio has no such thing."""
    yield started(input)
    try:
        cancelled = anyio.get_cancelled_exc_class()("OnPurpose: was cancelled")
    except TypeError:
        raise OnPurposeError("was cancelled") from None
    raise cancelled


async def breaks_the_order(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    with _counted(gates[input.thread_id]):
        yield started(input)
        yield END
        yield finished(input)


async def ends_early(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    yield started(input)
    yield START


FAILING: dict[str, tuple[Any, str]] = {
    "fails-when-called": (fails_when_called, "failed when called"),
    "fails-at-once": (fails_at_once, "failed at once"),
    "fails-midway": (fails_midway, "failed midway"),
    "fails-plain": (fails_plain, "failed in its thread"),
    "exits": (exits, "exits"),
    "exits-plain": (exits_plain, "exits in its thread"),
    "cancels-itself": (cancels_itself, "was cancelled"),
    "breaks-the-order": (breaks_the_order, "No active text message found"),
    "ends-early": (ends_early, ""),
}
"""Agents whose run ends with RUN_ERROR, and what its message has in it."""


# --- And one that looks around -----------------------------------------------------------------


async def mirror(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Shows what reached it."""
    snapshot = {
        "agentId": context.agent_id,
        "path": context.request.path,
        "query": context.request.query,
        "headers": dict(context.request.headers),
        "forwarded": dict(context.headers),
        "forwardedProps": input.forwarded_props,
    }
    yield started(input)
    yield {"type": "STATE_SNAPSHOT", "snapshot": snapshot}
    yield finished(input)


def measured(text: str) -> str:
    """Return a short text that tells a long text from every other."""
    return f"{len(text)} {zlib.crc32(text.encode())}"


@text_agent
def measures(input: RunAgentInput, context: AgentContext) -> Iterator[str]:
    """Says what it was told, measured."""
    told = input.messages[-1].content
    assert isinstance(told, str)
    yield measured(told)


async def speaks(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Says so many texts of so many characters as it is told to."""
    wanted: Any = input.forwarded_props
    yield started(input)
    yield START
    for number in range(wanted["count"]):
        yield content(chr(ord("a") + number % 26) * wanted["size"])
    yield END
    yield finished(input)


async def remote(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
    """Asks the agent whose address the client has sent, which nobody else should allow."""
    wanted: Any = input.forwarded_props
    agent = HttpAgent(wanted["url"])
    try:
        async for event in agent.run(input, context):
            yield event
    finally:
        with anyio.CancelScope(shield=True):
            await agent.aclose()


# --- Whose work goes on, and who need asyncio ---------------------------------------------------


async def _told_late(input: RunAgentInput) -> None:
    await anyio.lowlevel.checkpoint()
    _told(input)


def _told(input: RunAgentInput) -> None:
    gates[input.thread_id].stops += 1
    logger.info("the work of thread %r is stopped", input.thread_id)
    if input.forwarded_props:
        raise OnPurposeError("cannot be stopped")


async def _told_on_asyncio(input: RunAgentInput) -> None:
    await asyncio.sleep(0)
    _told(input)


async def in_asyncio(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Works under asyncio only."""
    for event in hello(input):
        await asyncio.sleep(0)
        yield event


STOPPABLE: dict[str, Any] = {
    "stoppable": agui_agent(gated, on_stop=_told_late),
    "stoppable-plain": agui_agent(gated_plain, on_stop=_told),
    "stoppable-asyncio": agui_agent(gated, on_stop=_told_on_asyncio, loop="asyncio"),
}
"""The agents wait as the gated ones do, and count how often they are told of a stop."""

ON_ASYNCIO: dict[str, Any] = {
    f"asyncio-{name}": agui_agent(agent, loop="asyncio")
    for name, agent in {
        "only": in_asyncio,
        "numbers": numbers,
        "chatty": chatty,
        "cleans-up": cleans_up,
        "stubborn": stubborn,
        **SHAPES,
        **{name: agent for name, (agent, _) in FAILING.items()},
    }.items()
}

AGENTS: dict[str, Callable[..., Any] | Any] = {
    **STOPPABLE,
    **ON_ASYNCIO,
    "default": gated,
    "measures": measures,
    "speaks": speaks,
    "plain": gated_plain,
    "stubborn": stubborn,
    "cleans-up": cleans_up,
    "lingers": lingers,
    "text": text,
    "numbers": numbers,
    "chatty": chatty,
    "endless": endless,
    "mirror": mirror,
    "asks": asks,
    "remote": remote,
    **SHAPES,
    **{name: agent for name, (agent, _) in FAILING.items()},
}
