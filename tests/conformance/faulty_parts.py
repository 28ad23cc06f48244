"""Hooks, a store, a transcription service and an agents function that go wrong when told to.

A request says in ``x-fault: on-response hang`` which part does what. Of the store, which sees no
request, the id of the thread says so: ``read hang: any name``. There are three ways to go wrong:
``fail`` raises, ``hang`` awaits for ever, and ``wrong`` returns what nobody can use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from sansio_copilot import AudioFile, CopilotRuntime, HookContext, Hooks, MemoryStore, Request
from sansio_copilot.threads import Batch, RunOpened

from . import agents
from .agents import OnPurposeError
from .control import answer_control
from .hooks import SECRET

FAULT_HEADER = "x-fault"
WAYS = ("fail", "hang", "wrong")


class OnPurpose:
    """Of a type that nothing here should be of."""


def _go_wrong(how: str) -> Any:
    if how == "fail":
        raise OnPurposeError(SECRET)
    return anyio.sleep_forever() if how == "hang" else OnPurpose()


def _told(request: Request, part: str) -> str | None:
    """How ``part`` is to go wrong for this request."""
    named, _, how = request.headers.get(FAULT_HEADER, "").partition(" ")
    return how if named == part else None


def _hook(part: str) -> Callable[[HookContext], Any]:
    def hook(context: HookContext) -> Any:
        if part == "on-request":
            answer_control(context)
        how = _told(context.request, part)
        return None if how is None else _go_wrong(how)

    return hook


def _agents(request: Request) -> Any:
    how = _told(request, "agents")
    return agents.AGENTS if how is None else _go_wrong(how)


def _transcribe(audio: AudioFile) -> Any:
    how = audio.filename.removesuffix(".webm")
    return _go_wrong(how) if how in WAYS else "what was said"


class FaultyStore:
    """A MemoryStore whose methods are async, and go wrong for threads of such an id."""

    blocking = False

    def __init__(self) -> None:
        self._memory = MemoryStore()

    def watch(self, cursor: Any, notify: Callable[[], None]) -> Any:
        thread_id, inner = cursor
        how = _told_by(thread_id, "watch")
        return self._memory.watch(inner, notify) if how is None else _go_wrong(how)

    def watch_run(self, key: Any, notify: Callable[[], None]) -> Any:
        how = _told_by(key.thread_id, "watch_run")
        return self._memory.watch_run(key, notify) if how is None else _go_wrong(how)

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            thread_id, args = _thread_of(*args)
            if (how := _told_by(thread_id, name)) is not None:
                outcome = _go_wrong(how)
                return await outcome if how == "hang" else outcome
            return _with_thread(thread_id, getattr(self._memory, name)(*args))

        return call


def _told_by(thread_id: str, method: str) -> str | None:
    named, _, how = thread_id.partition(":")[0].partition(" ")
    return how if named == method else None


def _thread_of(*args: Any) -> tuple[str, tuple[Any, ...]]:
    """The thread that a call of the store is about, and the arguments without what we added."""
    if not args:
        return "", args
    first, *others = args
    if isinstance(first, tuple):
        thread_id, first = first
        return thread_id, (first, *others)
    return getattr(first, "thread_id", first), args


def _with_thread(thread_id: str, outcome: Any) -> Any:
    """``outcome``, with cursors that know their thread."""
    if isinstance(outcome, (RunOpened, Batch)):
        return attrs.evolve(outcome, cursor=(thread_id, outcome.cursor))
    is_cursor = type(outcome).__name__ == "_Cursor"
    return (thread_id, outcome) if is_cursor else outcome


def make_faulty_runtime(**options: Any) -> CopilotRuntime:
    """A runtime of these parts."""
    return CopilotRuntime(
        _agents,
        hooks=Hooks(
            on_request=_hook("on-request"),
            on_before_handler=_hook("on-before-handler"),
            on_response=_hook("on-response"),
            on_error=_hook("on-error"),
        ),
        store=FaultyStore(),  # type: ignore[arg-type] # methods are made when they are looked up
        transcription=_transcribe,
        thread_mutations=True,
        **options,
    )
