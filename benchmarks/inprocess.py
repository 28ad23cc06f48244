"""The asyncio binding's costs in processor time, without sockets; for work on the hot path.

    python benchmarks/inprocess.py             everything
    python benchmarks/inprocess.py info short  some cases

The real connection, the real event loop and the real runs, on a transport that keeps nothing, so
that no system call, no load generator and no other process is in the figure. Each is the best of
many short rounds, which finds moments at which the machine did nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

import load
import serve
from transport import CountingTransport

from copilot_bindings.asyncio.connection import AsyncioConnection
from copilot_bindings.serving.asyncio_backend import AsyncioBackend
from copilot_bindings.serving.service import Service

ROUNDS = 25


class Transport(CountingTransport):
    """Tells when a response has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: asyncio.Future[None] | None = None

    def response_ended(self) -> None:
        if self.ended is not None:
            self.ended.set_result(None)
            self.ended = None


INFO = f"GET {load.BASE}/info HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n".encode()


class Clients:
    """The clients are so many connections, each of which asks again when it has its answer."""

    def __init__(self, service: Service, backend: AsyncioBackend, count: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.pairs = []
        for _ in range(count):
            transport, connection = Transport(), AsyncioConnection(service, backend)
            connection.connection_made(transport)
            self.pairs.append((transport, connection))

    async def go(self, requests: Iterator[bytes]) -> None:
        await asyncio.gather(*(self._one(*pair, requests) for pair in self.pairs))

    async def _one(
        self, transport: Transport, connection: AsyncioConnection, requests: Iterator[bytes]
    ) -> None:
        for request in requests:
            ended = transport.ended = self.loop.create_future()
            connection.data_received(request)
            await ended


async def measure_one(
    clients: int, count: int, props: dict[str, Any] | None
) -> tuple[float, float]:
    runtime = serve.make_runtime()
    backend = AsyncioBackend()
    crowd = Clients(Service(runtime, backend), backend, clients)
    best = float("inf")
    for _ in range(ROUNDS):
        if props is None:
            requests = iter([INFO] * count)
        else:
            requests = iter([load.run_request(*load.fresh_ids(), props) for _ in range(count)])
        gc.collect()
        writes = sum(transport.writes for transport, _ in crowd.pairs)
        begun = time.process_time()
        await crowd.go(requests)
        best = min(best, time.process_time() - begun)
        writes = sum(transport.writes for transport, _ in crowd.pairs) - writes
    return best / count * 1e6, writes / count


CASES = {
    "info": (16, 400, None, 1),
    "short, all at once": (16, 160, {"deltas": 10}, 1),
    "short, in turns": (16, 160, {"deltas": 10, "turns": True}, 1),
    "long, all at once": (4, 8, {"deltas": 1000}, 1004),
    "long, in turns": (4, 8, {"deltas": 1000, "turns": True}, 1004),
}


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or list(CASES)
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for name, (clients, count, props, events) in CASES.items():
        if any(name.startswith(wanted) for wanted in names):
            microseconds, writes = asyncio.run(measure_one(clients, count, props))
            print(
                f"{name:25} {microseconds:10.1f} us {microseconds / events:8.2f} us/event"
                f" {writes:8.1f} writes"
            )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
