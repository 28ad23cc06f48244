"""Our runtime with a scripted agent, by any binding; reference.mjs is its counterpart.

Prints its port as a line of JSON, and serves until SIGTERM. The bindings that need another server
around them are loaded by it from here, as ``serve:asgi()`` and ``serve:wsgi()``.

What the agent does stands in the ``forwardedProps`` of the request:

============  =====================================================================================
``deltas``    how many text deltas it yields
``turns``     each in a turn of the event loop of its own, as if a model had been waited for; else
              as fast as it can
``pause``     milliseconds before each
``stamp``     a delta says when it was yielded: nanoseconds of the machine's monotonic clock
``gate``      waits after RUN_STARTED, until another run has the same name as its ``release``
``wait``      never ends
``collect``   collects garbage first, for who is going to look at the process's memory
============  =====================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ag_ui.core import RunAgentInput

from sansio_copilot import AgentContext, CopilotRuntime, Limits, MemoryStore, ThreadStore

MODULE: Any = asyncio
"""Whose Event and sleep the agent uses."""


class Scripted:
    """Yields one text message, as the request says."""

    description = "scripted"

    def __init__(self) -> None:
        self._gates: dict[str, Any] = {}

    def _gate(self, name: str) -> Any:
        if name not in self._gates:
            self._gates[name] = MODULE.Event()
        return self._gates[name]

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
        props = input.forwarded_props or {}
        run = {"threadId": input.thread_id, "runId": input.run_id}
        message_id = f"{input.run_id}-m"
        pause, turns, stamp = props.get("pause"), props.get("turns"), props.get("stamp")
        if props.get("collect"):
            gc.collect()
        yield {"type": "RUN_STARTED", **run}
        if "release" in props:
            self._gate(props["release"]).set()
            del self._gates[props["release"]]
        if "gate" in props:
            await self._gate(props["gate"]).wait()
        yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
        for number in range(props.get("deltas", 0)):
            if pause:
                await MODULE.sleep(pause / 1000)
            elif turns:
                await MODULE.sleep(0)
            delta = f"{number} {time.monotonic_ns()} " if stamp else f"token {number} "
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": delta}
        if props.get("wait"):
            # The cheapest wait there is: the reference's agent just does nothing more.
            await (asyncio.Future() if MODULE is asyncio else MODULE.sleep_forever())
        yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}
        yield {"type": "RUN_FINISHED", **run}


def make_runtime(
    *, unbounded: bool = False, where: str = "memory", url: str | None = None
) -> CopilotRuntime:
    """The runtime as an application would make it, CORS off as it is by default in the reference.

    :param unbounded: without limits on what the store keeps, instead of the default ones.
    :param where: what keeps the threads, as the command's ``--store`` takes it.
    :param url: a remote agent in the place of the scripted one.
    """
    bounds: dict[str, Any] = {}
    if unbounded:
        bounds = {"max_threads": math.inf, "max_runs_per_thread": 0, "max_bytes": math.inf}
    limits = Limits(connections=20_000, runs=20_000)
    store: ThreadStore = MemoryStore(**bounds)
    if where != "memory":
        from copilot_bindings.cli.stores import store_of

        store = store_of(where)
    agent: Any = Scripted()
    if url is not None:
        from copilot_bindings.agents import HttpAgent

        agent = HttpAgent(url)
    return CopilotRuntime({"default": agent}, store=store, limits=limits, cors=False)


def asgi() -> Any:
    """Return the application for an ASGI server."""
    from copilot_bindings.asgi import CopilotASGI

    return CopilotASGI(make_runtime(unbounded="UNBOUNDED" in os.environ))


def wsgi() -> Any:
    """Return the application for a WSGI server."""
    from copilot_bindings.wsgi import CopilotWSGI

    return CopilotWSGI(make_runtime(unbounded="UNBOUNDED" in os.environ))


def _announce(server: Any) -> None:
    print(json.dumps({"port": server.port}), flush=True)


def _asyncio(runtime: CopilotRuntime) -> None:
    from copilot_bindings.asyncio import serve

    asyncio.run(serve(runtime, port=0, grace_seconds=0, ready=_announce))


def _uvloop(runtime: CopilotRuntime) -> None:
    import uvloop

    from copilot_bindings.asyncio import serve

    uvloop.run(serve(runtime, port=0, grace_seconds=0, ready=_announce))


def _trio(runtime: CopilotRuntime) -> None:
    import trio

    from copilot_bindings.trio import serve

    global MODULE
    MODULE = trio

    async def main() -> None:
        await serve(runtime, port=0, grace_seconds=0, ready=_announce)

    trio.run(main)


def _sockets(runtime: CopilotRuntime) -> None:
    from copilot_bindings.sockets import serve

    serve(runtime, port=0, grace_seconds=0, ready=_announce)


BINDINGS: dict[str, Callable[[CopilotRuntime], None]] = {
    "asyncio": _asyncio,
    "uvloop": _uvloop,
    "trio": _trio,
    "sockets": _sockets,
}


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binding", choices=BINDINGS)
    parser.add_argument("--unbounded", action="store_true", help="a store without limits")
    parser.add_argument("--store", default="memory", help="as `sansio-copilot serve` takes it")
    parser.add_argument("--remote", metavar="URL", help="a remote agent instead of the scripted")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    BINDINGS[options.binding](
        make_runtime(unbounded=options.unbounded, where=options.store, url=options.remote)
    )


if __name__ == "__main__":
    main()
