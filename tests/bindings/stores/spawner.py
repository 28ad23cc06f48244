"""Forks servers over one store: ``python spawner.py sqlite:PATH``, or the URL of a server.

It has loaded what a server needs, so that a fork takes milliseconds. Each line on its input makes a
server, of which it writes the process id and the port. Whoever kills a server does it by that id.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

from copilot_bindings.asyncio import serve
from copilot_bindings.stores import PostgresStore, RedisStore, SQLiteStore
from sansio_copilot import CopilotRuntime, Limits, ThreadStore

PAUSE = 0.002
LEASE = 2.0
"""Seconds after which a dead host is noticed over a network; on one machine it is at once."""


async def count(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    """Count, so that each event can be told from all others."""
    ids = {"threadId": input.thread_id, "runId": input.run_id}
    length = input.forwarded_props["length"]
    yield {"type": "RUN_STARTED", **ids}
    yield {"type": "TEXT_MESSAGE_START", "messageId": input.run_id, "role": "assistant"}
    for number in itertools.count() if length is None else range(length):
        await asyncio.sleep(PAUSE)
        delta = f"{number} "
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": input.run_id, "delta": delta}
    yield {"type": "TEXT_MESSAGE_END", "messageId": input.run_id}
    yield {"type": "RUN_FINISHED", **ids}


async def play(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of ``forwardedProps.script``, and end then, or wait for ever."""
    for event in input.forwarded_props["script"]:
        yield event
    if input.forwarded_props["waits"]:
        await asyncio.Event().wait()


def store_at(where: str) -> ThreadStore:
    """The store of that file or server."""
    kind, _, path = where.partition(":")
    if kind == "sqlite":
        return SQLiteStore(path)
    if kind == "redis":
        return RedisStore(where, prefix="kills", lease=LEASE)
    return PostgresStore(where, schema="kills", lease=LEASE)


def runtime(where: str) -> CopilotRuntime:
    """A runtime that counts and plays, over the store."""
    return CopilotRuntime(
        {"default": count, "player": play},
        store=store_at(where),
        limits=Limits(heartbeat_seconds=1.0),
    )


def main(where: str) -> None:
    """Fork a server for each line on stdin."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

            def ready(server: Any) -> None:
                sys.stdout.write(f"{os.getpid()} {server.port}\n")
                sys.stdout.flush()

            asyncio.run(serve(runtime(where), port=0, ready=ready))
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
