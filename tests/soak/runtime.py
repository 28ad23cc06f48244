"""The runtime that is soaked, and what it tells of itself.

``GET {base}/soak/held`` tells what the process holds, once its garbage was collected: how many
objects and blocks of memory there are, how many objects of each type that is ours, how many tasks
of an event loop, and what is in the stores. Where threads are kept is what stands in the place of
the server's limits (:mod:`.databases`).
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import attrs
from ag_ui.core import RunAgentInput
from conformance.agents import Event, OnPurposeError
from conformance.runtimes import LIMITS, ConfiguredRuntime
from support.owner import threads_of

from copilot_bindings.stores import Retention
from copilot_bindings.stores.tails import Tails
from sansio_copilot import (
    AgentContext,
    AudioFile,
    CopilotRuntime,
    HookContext,
    Hooks,
    MemoryStore,
    Reject,
    Response,
    ThreadStore,
)
from sansio_copilot.agents import Agent

from .databases import store_at
from .script import Plan, script

SMALL = {"max_threads": 6, "max_runs_per_thread": 3, "max_bytes": 400_000, "resumable_runs": 1}
"""The limits of the store from which threads are evicted all the time."""
LINGERS = 0.03
"""Seconds that an agent which has called a front end's tool goes on after RUN_FINISHED."""
TAILS = "bytes of tails"
"""The name of what is kept of the ends of runs, up to a bound that takes minutes to be reached."""
_OURS = ("sansio_copilot", "copilot_bindings")
_LOOPS = ("asyncio", "_asyncio", "trio")


def _begin(input: RunAgentInput) -> tuple[Plan, list[Event]]:
    plan = Plan(**(input.forwarded_props or {}))
    return plan, script(plan, input.thread_id, input.run_id)


def _end(plan: Plan) -> None:
    if plan.ending == "raises":
        raise OnPurposeError("as planned")


async def scripted(input: RunAgentInput, context: AgentContext) -> AsyncIterator[Event]:
    """Says what is planned, in a task."""
    plan, events = _begin(input)
    for number, event in enumerate(events):
        if plan.pause and number % plan.every == 0:
            await anyio.sleep(plan.pause)
        yield event
    _end(plan)
    if plan.ending == "asks":
        await anyio.sleep(LINGERS)


def scripted_plain(input: RunAgentInput, context: AgentContext) -> Iterator[Event]:
    """The same in a thread, which it blocks."""
    plan, events = _begin(input)
    for number, event in enumerate(events):
        if plan.pause and number % plan.every == 0:
            time.sleep(plan.pause)
        if context.stop_requested:
            return
        yield event
    _end(plan)
    if plan.ending == "asks":
        time.sleep(LINGERS)


async def transcribe(audio: AudioFile) -> str:
    return f"{audio.size} bytes"


def make_stores(where: str) -> dict[str, ThreadStore]:
    """Return stores: one keeps what the load has not deleted, one supersedes, one keeps little.

    :param where: as a :class:`~.databases.Database` says it.
    """
    if where == "memory":
        return {
            "main": MemoryStore(),
            "supersede": MemoryStore(on_concurrent_run="supersede"),
            "small": MemoryStore(**SMALL),  # type: ignore[arg-type]
        }
    bounds = Retention(max_threads=6, max_runs_per_thread=3, resumable_runs=1, resume_seconds=2)
    return {
        "main": store_at(where, "main"),
        "supersede": store_at(where, "supersede", on_concurrent_run="supersede"),
        "small": store_at(where, "small", retention=bounds),
    }


def make_runtime(base_path: str, limits: str) -> CopilotRuntime:
    """The ``main`` one, and two of ``others``."""
    stores = make_stores(limits)

    def tell(context: HookContext) -> None:
        if context.request.path == f"{base_path}/soak/held":
            raise Reject(Response.json(held(stores)))

    agents: dict[str, Agent] = {"default": scripted, "plain": scripted_plain}
    options: dict[str, Any] = {
        "base_path": base_path,
        "limits": attrs.evolve(LIMITS, heartbeat_seconds=0.25),
        "thread_mutations": True,
        "transcription": transcribe,
        "debug": True,
    }
    main = stores["main"]
    others = {
        name: CopilotRuntime(agents, store=store, **options)
        for name, store in stores.items()
        if store is not main
    }
    return ConfiguredRuntime(agents, others, store=main, hooks=Hooks(on_request=tell), **options)


def held(stores: dict[str, ThreadStore]) -> dict[str, Any]:
    """Return how much this process holds now, by name."""
    for _ in range(2):
        # Two passes are needed, because an object freed in the first may have held others.
        gc.collect()
    # Memory that is free but was not given back to the system would differ from time to time.
    ctypes.CDLL(None).malloc_trim(0)
    objects = gc.get_objects()
    types = Counter(map(type, objects))
    ours: Counter[str] = Counter()
    for kind, count in types.items():
        name = kind.__qualname__
        # The attribute is a property in a few classes, and then is no text.
        module = kind.__module__ if isinstance(kind.__module__, str) else ""
        package = module.partition(".")[0]
        if package in _LOOPS and name == "Task":
            # Tasks that have ended are left out, because that of the question's own connection may
            # just have. Those that are kept for ever count among the objects.
            tasks = (one for one in objects if type(one) is kind)
            ours["tasks"] += sum(not getattr(one, "done", bool)() for one in tasks)
        elif package in _OURS:
            ours[f"{module}.{name}"] += count
    return {
        "objects": len(objects),
        "blocks of memory": sys.getallocatedblocks(),
        TAILS: sum(one.held_bytes for one in objects if type(one) is Tails),
        **{
            f"bytes in store {name}": store.total_bytes
            for name, store in stores.items()
            if isinstance(store, MemoryStore)
        },
        **{f"threads in store {name}": len(threads_of(store)) for name, store in stores.items()},
        **ours,
    }
