"""Hooks, a store, a transcription service and other functions that go wrong when they are told to.

A request says in ``x-fault: on-response hang async`` which part does what. Of the store, which sees
no request, the id of the thread says so: ``read hang:any name``; of its methods that are about no
thread it is ``x-fault: list_threads hang``. There are these ways to go wrong:

``fail``, ``exit``, ``quit`` raise an exception, SystemExit and GeneratorExit; ``wrong`` returns
what nobody can use; ``hang`` waits until the test opens the gate of the thread that ``x-gate``
names, and then does what it should; ``block`` does that in the thread that it is called in.
``stubborn`` never ends, whatever cancels it; ``burst`` waits, and raises in a task group when it is
cancelled.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.lowlevel
import attrs
from ag_ui.core import RunAgentInput
from msgspec import structs

from sansio_copilot import (
    AgentContext,
    AudioFile,
    CopilotRuntime,
    HookContext,
    Hooks,
    MemoryStore,
    Request,
    StoreUnavailable,
)
from sansio_copilot.stores.memory.streams import Cursor
from sansio_copilot.stores.protocol import Batch, RunOpened, Signal, ThreadQuery

from . import agents
from .agents import Event, OnPurposeError, hello
from .control import answer_control, gates
from .hooks import SECRET

FAULT_HEADER = "x-fault"
GATE_HEADER = "x-gate"
RAISED: dict[str, Callable[[], BaseException]] = {
    "fail": lambda: OnPurposeError(SECRET),
    "exit": lambda: SystemExit(f"OnPurpose: {SECRET}"),
    "quit": lambda: GeneratorExit(f"OnPurpose: {SECRET}"),
}


class OnPurpose:
    """A value of a type that nothing here should have."""


def _go_wrong(how: str, gate: str, otherwise: Any = None) -> Any:
    """Go wrong in that way, a word more of which may be "async"."""
    way, _, kind = how.partition(" ")
    if way == "block":
        gates[gate].step_blocking()
        return otherwise
    if way in ("hang", "stubborn", "greedy", "burst") or kind == "async":
        return _go_wrong_later(way, gate, otherwise)
    if way in RAISED:
        raise RAISED[way]()
    return OnPurpose()


async def _go_wrong_later(way: str, gate: str, otherwise: Any) -> Any:
    cancelled = anyio.get_cancelled_exc_class()
    if way == "stubborn":
        await _never_end(gate, cancelled)
    if way == "greedy":
        # A coroutine that does not let itself be closed cannot be ended under trio.
        can_be_dropped = cancelled is asyncio.CancelledError
        await _never_end(gate, BaseException if can_be_dropped else cancelled)
    if way == "burst":
        async with anyio.create_task_group() as group:
            group.start_soon(_burst, gate)
    if way != "hang":
        await anyio.lowlevel.checkpoint()
        return _go_wrong(way, gate)
    try:
        await gates[gate].step()
    finally:
        gates[gate].unwound += 1
    return otherwise


async def _never_end(gate: str, caught: type[BaseException]) -> None:
    gates[gate].waiting += 1
    while True:
        try:
            await anyio.sleep(0.01)
        except caught:
            gates[gate].cancelled += 1


async def _burst(gate: str) -> None:
    try:
        await gates[gate].step()
    finally:
        gates[gate].unwound += 1
        raise OnPurposeError(SECRET)


@attrs.frozen
class _Fault:
    """The fault that a request asks for."""

    part: str
    how: str
    gate: str

    @classmethod
    def of(cls, request: Request) -> _Fault:
        part, _, how = request.headers.get(FAULT_HEADER, "").partition(" ")
        return cls(part, how, request.headers.get(GATE_HEADER, ""))

    def at(self, part: str, otherwise: Any = None) -> Any:
        """Go wrong, if that is the part which is told to."""
        return _go_wrong(self.how, self.gate, otherwise) if part == self.part else otherwise


# --- Hooks, and other functions ---------------------------------------------------------------


def _hook(part: str) -> Callable[[HookContext], Any]:
    def hook(context: HookContext) -> Any:
        fault = _Fault.of(context.request)
        if part == "on-request" and fault.part == "on-error":
            # Something else has to fail first.
            raise OnPurposeError(SECRET)
        return fault.at(part)

    hook.__name__ = "faulty_hook"
    return hook


class _Capable:
    """An agent that tells what it is capable of."""

    def __init__(self, fault: _Fault) -> None:
        self._fault = fault

    def capabilities(self) -> Any:
        return self._fault.at("capabilities", {"tools": {"supported": True}})

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
        for event in hello(input):
            yield event


def _agents(request: Request) -> Any:
    fault = _Fault.of(request)
    return fault.at("agents", agents.AGENTS | {"capable": _Capable(fault)})


def _transcribe(audio: AudioFile) -> Any:
    how, _, gate = audio.filename.partition(":")
    return _go_wrong(how, gate, "what was said") if gate else "what was said"


# --- A store ------------------------------------------------------------------------------------


_LEASE = 0.6
"""Seconds; so short that a test of renewals need not wait for them."""


class FaultyStore:
    """A MemoryStore whose methods are async, and go wrong for threads of such an id.

    :param blocking: its methods are plain, and called in threads.
    :ivar next: for the methods that are about no thread: what goes wrong next.
    """

    def __init__(self, blocking: bool = False) -> None:
        self.blocking = blocking
        self._lock = threading.Lock()
        self._memory = MemoryStore()
        self.next = _Fault("", "", "")
        self._read: set[str] = set()
        self._lost: Counter[str] = Counter()

    def watch(self, cursor: Any, notify: Callable[[], None]) -> Any:
        thread_id, inner = cursor
        how = _told_by(thread_id, "watch")
        if how is not None:
            return _go_wrong(how, thread_id)
        with self._lock:
            return self._unwatch(self._memory.watch(inner, notify))

    def watch_run(self, key: Any, notify: Callable[[Signal], None]) -> Any:
        how = _told_by(key.thread_id, "watch_run")
        if how is not None:
            return _go_wrong(how, key.thread_id)
        with self._lock:
            return self._unwatch(self._memory.watch_run(key, notify))

    def _unwatch(self, cancel: Callable[[], None]) -> Callable[[], None]:
        def locked() -> None:
            with self._lock:
                cancel()

        return locked

    def _lose_answer(self, name: str, thread_id: str) -> None:
        """Three in a row, and then none any more."""
        lost = self._lost[thread_id] = self._lost[thread_id] + 1
        if lost <= 3:
            raise StoreUnavailable(f"the answer of {name} was lost")

    def _read_first(self, thread_id: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of a first read, which goes well, so that the client has its head.

        The read gets one byte, lest there be nothing left to be read by another that goes wrong.
        """
        self._read.add(thread_id)
        cursor, _ = args
        return cursor, 1

    def __getattr__(self, name: str) -> Any:
        # The attribute is looked up here, so that what MemoryStore lacks is missing.
        getattr(self._memory, name)

        async def call(*args: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            thread_id, args = _thread_of(*args)
            how = _told_by(thread_id, name)
            if how is not None and name == "read" and thread_id not in self._read:
                how, args = None, self._read_first(thread_id, args)
            if how == "lost":
                outcome = getattr(self._memory, name)(*args)
                self._lose_answer(name, thread_id)
                return outcome
            if how is None and not thread_id and self.next.part == name:
                how, thread_id = self.next.how, self.next.gate
                self.next = _Fault("", "", "")
            if how is not None:
                outcome = _go_wrong(how, thread_id)
                if how != "hang":
                    return outcome
                await outcome
            return _with_thread(thread_id, getattr(self._memory, name)(*args))

        def block(*args: Any) -> Any:
            thread_id, args = _thread_of(*args)
            if _told_by(thread_id, name) == "block":
                if name == "read" and thread_id not in self._read:
                    args = self._read_first(thread_id, args)
                else:
                    gates[thread_id].step_blocking()
            with self._lock:
                outcome = _with_thread(thread_id, getattr(self._memory, name)(*args))
                if _told_by(thread_id, name) == "lost":
                    self._lose_answer(name, thread_id)
                return outcome

        return block if self.blocking else call


def _told_by(thread_id: str, method: str) -> str | None:
    fault, said, _ = thread_id.partition(":")
    named, _, how = fault.partition(" ")
    return how if said and named == method else None


def _thread_of(*args: Any) -> tuple[str, tuple[Any, ...]]:
    """The thread that a call of the store is about, and the arguments without what we added."""
    first, *others = args
    if first is None or isinstance(first, ThreadQuery):
        # The one clears, and the other lists.
        return "", args
    if isinstance(first, tuple):
        thread_id, first = first
        return thread_id, (first, *others)
    return getattr(first, "thread_id", first), args


def _with_thread(thread_id: str, outcome: Any) -> Any:
    """``outcome``, with cursors that know their thread."""
    if isinstance(outcome, RunOpened) and _told_by(thread_id, "renew") is not None:
        outcome = structs.replace(outcome, lease=_LEASE)
    if isinstance(outcome, (RunOpened, Batch)):
        return structs.replace(outcome, cursor=(thread_id, outcome.cursor))
    return (thread_id, outcome) if isinstance(outcome, Cursor) else outcome


def make_faulty_runtime(*, blocking: bool = False, **options: Any) -> CopilotRuntime:
    """A runtime of these parts.

    :param blocking: whether the store is.
    """
    store = FaultyStore(blocking)

    def on_request(context: HookContext) -> Any:
        answer_control(context)
        fault = _Fault.of(context.request)
        if fault.part in ("list_threads", "clear"):
            store.next = fault
        return hook_on_request(context)

    hook_on_request = _hook("on-request")
    return CopilotRuntime(
        _agents,
        hooks=Hooks(
            on_request=on_request,
            on_before_handler=_hook("on-before-handler"),
            on_response=_hook("on-response"),
            on_error=_hook("on-error"),
        ),
        store=store,
        transcription=_transcribe,
        thread_mutations=True,
        **options,
    )
