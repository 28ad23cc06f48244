"""Agents that go wrong in every way that an application's may. See agents.py for the good ones."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any

import anyio
import anyio.lowlevel
from ag_ui.core import RunAgentInput, RunFinishedEvent

from sansio_copilot import AgentContext

from .agents import END, START, Event, OnPurposeError, content, finished, hello, started
from .control import gates

# --- What is no event, and what is an odd one -------------------------------------------------


class OnPurposeMapping(Mapping[str, Any]):
    """Cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise OnPurposeError("cannot be read")

    def __iter__(self) -> Iterator[str]:
        raise OnPurposeError("cannot be read")

    def __len__(self) -> int:
        raise OnPurposeError("cannot be read")


class OnPurposeExits(OnPurposeMapping):
    """Ends the program of whoever reads it."""

    def __iter__(self) -> Iterator[str]:
        raise SystemExit("OnPurpose: exits")


class OnPurposeSilentError(OnPurposeError):
    """Ends the program of whoever asks what it says."""

    def __str__(self) -> str:
        raise SystemExit("OnPurpose: exits")


def custom(value: object) -> Event:
    return {"type": "CUSTOM", "name": "odd", "value": value}


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _containing_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


GARBAGE: dict[str, tuple[Callable[[], object], str]] = {
    "none": (lambda: None, "yielded NoneType, expected an ag_ui.core event or a dict"),
    "number": (lambda: 42, "yielded int, expected"),
    "text": (lambda: "data: {}", "yielded str, expected"),
    "class": (lambda: RunFinishedEvent, "expected an ag_ui.core event or a dict"),
    "empty": (dict, "type"),
    "type-is-a-list": (lambda: {"type": []}, "type"),
    "no-message-id": (lambda: {"type": "TEXT_MESSAGE_CONTENT", "delta": "x"}, "messageId"),
    "unserialisable": (lambda: custom(object()), "object has no form in JSON"),
    "no-copy": (lambda: custom(threading.Lock()), "lock has no form in JSON"),
    "key-is-none": (lambda: custom({None: 1}), "Only dicts with str-like"),
    "nested-too-deep": (lambda: custom(_nested(50_000)), "nested too deep"),
    "contains-itself": (lambda: custom(_containing_itself()), "contains itself"),
    "unreadable": (OnPurposeMapping, "cannot be read"),
    "exits": (OnPurposeExits, "is not JSON: OnPurpose: exits"),
}
"""The values that end the run of an agent that yields them, and the texts of their RUN_ERROR."""

ODD: dict[str, tuple[Callable[[], Event], Any]] = {
    "unknown-type": (lambda: {"type": "FROM_THE_FUTURE"}, None),
    "nan": (lambda: custom([math.nan, -math.inf]), custom([None, None])),
    "huge-number": (lambda: custom(2**70), custom(2**70)),
    "lone-surrogate": (lambda: custom("\ud83d"), custom("\ud83d")),
    "bytes": (lambda: custom(b"x"), custom("eA==")),
    "a-delta-that-does-not-apply": (
        lambda: {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "/nothing/there"}]},
        {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "/nothing/there"}]},
    ),
}
"""The values that do a run no harm, and what its readers get of them."""


def _props(input: RunAgentInput) -> dict[str, Any]:
    props: dict[str, Any] = input.forwarded_props or {}
    return props


def _what(input: RunAgentInput) -> object:
    name = _props(input)["what"]
    make, _ = (GARBAGE | ODD)[name]
    return make()


async def yields_what(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
    """Yields what ``forwardedProps`` names, in the middle of a message."""
    yield started(input)
    yield START
    yield _what(input)
    await anyio.lowlevel.checkpoint()
    yield END
    yield finished(input)


def yields_what_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Any]:
    yield started(input)
    yield START
    yield _what(input)
    yield END
    yield finished(input)


async def of_another_thread(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Yields the events of a run that is not its own."""
    other = input.model_copy(update={"thread_id": "another", "run_id": "another"})
    for event in hello(other):
        yield event


# --- Too little, too much, too late -----------------------------------------------------------


async def yields_nothing(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    return
    yield


async def silent(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Waits, and yields nothing."""
    gate = gates[input.thread_id]
    try:
        await gate.step()
    finally:
        gate.unwound += 1
    return
    yield


def silent_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    """The same in a thread, which it blocks."""
    gate = gates[input.thread_id]
    gate.step_blocking()
    gate.unwound += 1
    return
    yield


async def never_returns(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Has an iterator for nobody: it waits for one itself."""
    gate = gates[input.thread_id]
    try:
        await gate.step()
    finally:
        gate.unwound += 1
    return silent(input, context)


async def goes_on_after_its_end(
    input: RunAgentInput, context: AgentContext
) -> AsyncIterator[Event]:
    for event in hello(input):
        yield event
    yield content("too late")


async def goes_on_much_later(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    gate = gates[input.thread_id]
    for event in hello(input):
        yield event
    await gate.step()
    yield content("too late")
    gate.unwound += 1


async def ends_twice(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    for event in hello(input):
        yield event
    yield finished(input)


def _said(input: RunAgentInput) -> Iterator[Event]:
    props = _props(input)
    size = props.get("size", 0)
    for number in range(props["events"]):
        yield content(f"{number},".ljust(size))


async def says(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Yields as many deltas of as many characters as ``forwardedProps`` say, and never waits.

    Unless for a gate, which may be "at the beginning" or "at the end".
    """
    gate = _props(input).get("gate")
    yield started(input)
    yield START
    if gate == "at the beginning":
        await gates[input.thread_id].step()
    for event in _said(input):
        yield event
    if gate == "at the end":
        await gates[input.thread_id].step()
    yield END
    yield finished(input)


async def paced(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """The same, a delta for each step that it is let."""
    gate = gates[input.thread_id]
    yield started(input)
    yield START
    for event in _said(input):
        await gate.step()
        yield event
    yield END
    yield finished(input)


def says_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    """The same in a thread."""
    gate = _props(input).get("gate")
    yield started(input)
    yield START
    if gate == "at the beginning":
        gates[input.thread_id].step_blocking()
    yield from _said(input)
    if gate == "at the end":
        gates[input.thread_id].step_blocking()
    yield END
    yield finished(input)


# --- What they raise ---------------------------------------------------------------------------


async def quits(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Raises what a generator is told to end by."""
    yield started(input)
    raise GeneratorExit("OnPurpose: quits")


async def says_nothing_of_why(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    yield started(input)
    raise OnPurposeSilentError


def quits_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    yield started(input)
    raise GeneratorExit("OnPurpose: quits")


async def exits_in_a_task(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """A task that it has made raises what ends a program."""

    async def exit() -> None:
        raise SystemExit("OnPurpose: exits in a task")

    yield started(input)
    async with anyio.create_task_group() as group:
        group.start_soon(exit)


# --- While they are stopped -------------------------------------------------------------------


async def fails_when_stopped(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    gate = gates[input.thread_id]
    try:
        yield started(input)
        await gate.step()
    finally:
        gate.unwound += 1
        raise OnPurposeError("failed when stopped")


def fails_when_stopped_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    gate = gates[input.thread_id]
    try:
        yield started(input)
        gate.step_blocking()
        yield START
    finally:
        gate.unwound += 1
        raise OnPurposeError("failed when stopped")


async def will_not_be_stopped(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Answers its cancellation, and then its end, with another event."""
    gate = gates[input.thread_id]
    yield started(input)
    try:
        await gate.step()
    except anyio.get_cancelled_exc_class():
        gate.cancelled += 1
    try:
        yield START
    finally:
        gate.unwound += 1
        yield END


def will_not_be_stopped_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    gate = gates[input.thread_id]
    try:
        yield started(input)
        gate.step_blocking()
        # Its readers know that it is stopped a moment before nobody takes what it yields.
        while True:
            yield START
    finally:
        gate.unwound += 1
        yield END


# --- What they leave behind -------------------------------------------------------------------

_leaked: list[AsyncGenerator[int] | Generator[int]] = []


async def _numbers() -> AsyncGenerator[int]:
    try:
        yield 1
    finally:
        await anyio.lowlevel.checkpoint()


def _numbers_plain() -> Generator[int]:
    try:
        yield 1
    finally:
        pass


async def leaks_generators(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Opens one of either kind, and closes neither."""
    opened, plain = _numbers(), _numbers_plain()
    await anext(opened)
    next(plain)
    _leaked.extend((opened, plain))
    for event in hello(input):
        yield event


FAULTY: dict[str, Callable[..., Any]] = {
    "yields-what": yields_what,
    "yields-what-plain": yields_what_plain,
    "of-another-thread": of_another_thread,
    "yields-nothing": yields_nothing,
    "silent": silent,
    "silent-plain": silent_plain,
    "never-returns": never_returns,
    "goes-on-after-its-end": goes_on_after_its_end,
    "goes-on-much-later": goes_on_much_later,
    "ends-twice": ends_twice,
    "says": says,
    "says-plain": says_plain,
    "paced": paced,
    "quits": quits,
    "says-nothing-of-why": says_nothing_of_why,
    "quits-plain": quits_plain,
    "exits-in-a-task": exits_in_a_task,
    "fails-when-stopped": fails_when_stopped,
    "fails-when-stopped-plain": fails_when_stopped_plain,
    "will-not-be-stopped": will_not_be_stopped,
    "will-not-be-stopped-plain": will_not_be_stopped_plain,
    "leaks-generators": leaks_generators,
}
