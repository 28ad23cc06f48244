"""Gates by which a test steers the agents, over HTTP, in the process under test.

``POST {base}/control/let?thread=t&steps=3`` lets the agent of thread ``t`` take three steps, or the
agents of several threads; ``/control/gate?thread=t`` tells what has become of one;
``/control/objects`` how many objects of ours there are, of each type. ``/control/collector?runs=``
stops the collector of circles, and ``runs=1`` starts it again. An ``on_request`` hook answers,
so whatever serves the runtime serves this as well. Nothing here belongs to an event loop: async
agents look at their gate every few milliseconds, which works under any loop.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any
from urllib.parse import parse_qs

import anyio

from sansio_copilot import HookContext, Reject, Response

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05
_OURS = ("sansio_copilot", "copilot_bindings", "conformance")


class Gate:
    """The place where the agents of one thread wait, and what is known of them."""

    def __init__(self) -> None:
        self._let = threading.Condition()
        self._steps = 0
        self.waiting = 0
        """The times that an agent has come to the gate."""
        self.unwound = 0
        """The number of agents that have ended, in whatever way."""
        self.cancelled = 0
        """The times that an agent was told to end, and did not."""
        self.reports: list[dict[str, Any]] = []
        """The reports to on_run_end of the runs of the thread."""
        self.stops = 0
        """The times that the application was told that a run was stopped."""
        self.pages = 0
        """The pages of the thread's history that have been read, where that is counted."""
        self.stop_seen = False
        """True if an agent has seen ``stop_requested`` when it went on."""

    def let(self, steps: int) -> None:
        with self._let:
            self._steps += steps
            self._let.notify_all()

    def try_step(self) -> bool:
        with self._let:
            if self._steps == 0:
                return False
            self._steps -= 1
            return True

    async def step(self) -> None:
        """Wait until the test lets this agent take a step."""
        self.waiting += 1
        pause = _FIRST_PAUSE
        while not self.try_step():
            await anyio.sleep(pause)
            pause = min(pause * 1.1, _LONGEST_PAUSE)

    def step_blocking(self) -> None:
        """The same for an agent that blocks its thread."""
        self.waiting += 1
        with self._let:
            while not self.try_step():
                self._let.wait()

    def json(self) -> dict[str, Any]:
        return {
            "waiting": self.waiting,
            "unwound": self.unwound,
            "cancelled": self.cancelled,
            "pages": self.pages,
            "stops": self.stops,
            "stopSeen": self.stop_seen,
            "reports": self.reports,
        }


class _Gates(dict[str, Gate]):
    """The gate of each thread, made when somebody first asks for it."""

    def __missing__(self, thread: str) -> Gate:
        # Two threads may ask at once, and setdefault() gives both the same gate.
        return self.setdefault(thread, Gate())


gates = _Gates()


def _objects() -> dict[str, int]:
    """Return how many objects of ours are alive, by type; of generators and coroutines, by name."""
    if gc.isenabled():
        gc.collect()
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        if isinstance(each, (GeneratorType, CoroutineType, AsyncGeneratorType)):
            # Most of a coroutine's own names are those of its function.
            code = next(
                getattr(each, name)
                for name in ("gi_code", "cr_code", "ag_code")
                if hasattr(each, name)
            )
            if any(f"/{place}/" in code.co_filename for place in _OURS):
                found[code.co_qualname] += 1
        elif str(type(each).__module__).partition(".")[0] in _OURS:
            found[type(each).__qualname__] += 1
    return found


def answer_control(context: HookContext) -> None:
    """Answer a request of the test to its agents; to any other do nothing."""
    _, found, command = context.request.path.partition("/control/")
    if not found:
        return
    if command == "objects":
        raise Reject(Response.json(_objects()))
    names = parse_qs(context.request.query)
    query = {name: values[0] for name, values in names.items()}
    if command == "collector":
        if query.get("runs"):
            gc.enable()
        else:
            gc.collect()
            gc.disable()
        raise Reject(Response.json({}))
    gate = gates[query["thread"]]
    if command == "let":
        for thread in names["thread"]:
            gates[thread].let(int(query["steps"]))
    raise Reject(Response.json(gate.json()))
