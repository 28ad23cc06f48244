"""The way that a request takes through the code: how many calls, and from module to module.

    python benchmarks/walk.py            the table
    python benchmarks/walk.py --calls    and each function with its calls, the most frequent first

Four walks over the real asyncio connection, event loop and runs, on a transport that keeps nothing:
a run of five events, one event for three readers, a stop, and a connect to a thread of one run. The
clock is virtual, so that each walk is the same on every machine: these figures are compared before
and after a change, where times would say little.

=========  ======================================================================================
calls      of functions of ours, each resumption of a generator or coroutine among them
modules    that are passed
changes    from one module to another, from one call to the next
returns    changes that come back at once to the module before (A, B, A)
depth      the most functions of ours that are in progress at a time
=========  ======================================================================================
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import re
import selectors
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType
from typing import Any

import attrs
import load
from transport import CountingTransport

import sansio_copilot
from copilot_bindings.asyncio.connection import AsyncioConnection
from copilot_bindings.serving.asyncio_backend import AsyncioBackend
from copilot_bindings.serving.service import Service
from sansio_copilot import AgentContext, CopilotRuntime

_OURS = re.compile(
    r"(?:.*[/\\]|<attrs generated methods )((?:sansio_copilot|copilot_bindings)\b.*)"
)
# Later versions of Python have these in line.
_IN_LINE = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})
_TICK = 1e-5
_ROUNDS = 3
_TURNS = 10_000


class Clock:
    """Moves on a little whenever somebody looks, and by what is waited for."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += _TICK
        return self.now


class Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for no timer: there, the clock moves on."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("what is waited for never comes")
        self._clock.now += max(0.0, timeout)
        return super().select(0)


@attrs.define
class Walk:
    """The calls of functions of ours, in order."""

    calls: list[tuple[str, str]] = attrs.field(factory=list)
    depth: int = 0

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Take a call that :func:`sys.setprofile` reports."""
        if event != "call" or (module := _module(frame)) is None:
            return
        self.calls.append((module, frame.f_code.co_qualname))
        depth, outer = 0, frame
        while outer is not None:
            depth += _module(outer) is not None
            outer = outer.f_back  # type: ignore[assignment]
        self.depth = max(self.depth, depth)

    def row(self) -> tuple[int, ...]:
        """The figures, in the order of the table."""
        path = [module for module, _ in itertools.groupby(module for module, _ in self.calls)]
        returns = sum(first == third for first, third in zip(path, path[2:], strict=False))
        return len(self.calls), len(set(path)), len(path) - 1, returns, self.depth


def _module(frame: FrameType) -> str | None:
    """The module of ours that a call is of; None if it is nobody's or somebody else's."""
    code = frame.f_code
    found = _OURS.match(code.co_filename)
    if found is None or code.co_name in _IN_LINE:
        return None
    name = found[1].rstrip(">").removesuffix(".py").replace("/", ".").replace("\\", ".")
    if code.co_filename.startswith("<attrs"):
        # A method that attrs makes is named after its class.
        name = name.rpartition(".")[0]
    return name.removesuffix(".__init__")


class Stepper:
    """An agent that yields what it is told, by thread; then it ends."""

    def __init__(self) -> None:
        self.told: dict[str, asyncio.Queue[Any]] = {}

    async def run(self, input: Any, context: AgentContext) -> AsyncIterator[Any]:
        queue = self.told[input.thread_id]
        while (event := await queue.get()) is not None:
            yield event


class Client(CountingTransport):
    """A connection, which knows whether its last response has ended."""

    def __init__(self, service: Service, backend: AsyncioBackend) -> None:
        super().__init__()
        self.ended = False
        self._connection = AsyncioConnection(service, backend)
        self._connection.connection_made(self)

    def send(self, request: bytes) -> None:
        self.size, self.ended = 0, False
        self._connection.data_received(request)

    def response_ended(self) -> None:
        self.ended = True


class Walks:
    """The four walks over one runtime."""

    def __init__(self) -> None:
        self._agent = Stepper()
        runtime = CopilotRuntime({"default": self._agent}, cors=False)
        self._backend = AsyncioBackend()
        self._service = Service(runtime, self._backend)

    def _client(self) -> Client:
        return Client(self._service, self._backend)

    def _post(self, thread_id: str, run_id: str, what: str) -> bytes:
        body = load.input_of(thread_id, run_id, {})
        return load.post(f"{load.BASE}/agent/default/{what}", body)

    def _events(self, thread_id: str, run_id: str) -> list[Any]:
        run = {"threadId": thread_id, "runId": run_id}
        message = {"messageId": f"{run_id}-m"}
        return [
            {"type": "RUN_STARTED", **run},
            {"type": "TEXT_MESSAGE_START", **message, "role": "assistant"},
            {"type": "TEXT_MESSAGE_CONTENT", **message, "delta": "It depends."},
            {"type": "TEXT_MESSAGE_END", **message},
            {"type": "RUN_FINISHED", **run},
        ]

    def _say(self, thread_id: str, *events: Any) -> None:
        queue = self._agent.told.setdefault(thread_id, asyncio.Queue())
        for event in events:
            queue.put_nowait(event)

    async def _begun(self, thread_id: str, run_id: str) -> Client:
        """A client whose run has said all but its last two events, some time ago."""
        client = self._client()
        self._say(thread_id, *self._events(thread_id, run_id)[:3])
        client.send(self._post(thread_id, run_id, "run"))
        await asyncio.sleep(1)
        return client

    async def run(self) -> Walk:
        """A run of five events: from its request to the end of its response."""
        thread_id, run_id = load.fresh_ids()
        client = self._client()
        self._say(thread_id, *self._events(thread_id, run_id), None)
        return await _walk(
            lambda: client.send(self._post(thread_id, run_id, "run")), lambda: client.ended
        )

    async def event(self) -> Walk:
        """An event for three readers: from its yield to the bytes for each of them."""
        thread_id, run_id = load.fresh_ids()
        clients = [await self._begun(thread_id, run_id), self._client(), self._client()]
        for client in clients[1:]:
            client.send(self._post(thread_id, run_id, "connect"))
        await asyncio.sleep(1)
        sizes = [client.size for client in clients]
        delta = self._events(thread_id, run_id)[2]
        return await _walk(
            lambda: self._say(thread_id, delta),
            lambda: all(now.size > size for now, size in zip(clients, sizes, strict=True)),
        )

    async def stop(self) -> Walk:
        """A stop: from its request to its answer and the end of the run's own response."""
        thread_id, run_id = load.fresh_ids()
        stopped, client = await self._begun(thread_id, run_id), self._client()
        request = load.post(f"{load.BASE}/agent/default/stop/{thread_id}", b"{}")
        return await _walk(lambda: client.send(request), lambda: client.ended and stopped.ended)

    async def connect(self) -> Walk:
        """A connect to a thread of one run: from its request to the end of its response."""
        thread_id, run_id = load.fresh_ids()
        client = await self._begun(thread_id, run_id)
        self._say(thread_id, *self._events(thread_id, run_id)[3:], None)
        await asyncio.sleep(1)
        request = self._post(thread_id, run_id, "connect")
        return await _walk(lambda: client.send(request), lambda: client.ended)


async def _walk(begin: Callable[[], object], is_over: Callable[[], bool]) -> Walk:
    walk = Walk()
    sys.setprofile(walk.profile)
    try:
        begin()
        for _ in range(_TURNS):
            if is_over():
                break
            await asyncio.sleep(0)
        else:
            raise RuntimeError("a walk does not end")
        # The next turns belong to the walk, because tasks end in them.
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        sys.setprofile(None)
    return walk


async def _repeat(walk: Callable[[], Awaitable[Walk]]) -> Walk:
    """The last of several, for the first pay for what is made once."""
    for _ in range(_ROUNDS):
        last = await walk()
    return last


def measure() -> dict[str, Walk]:
    """The four walks, by name."""
    clock = Clock()
    time.time = time.monotonic = clock
    loop = asyncio.SelectorEventLoop(Selector(clock))
    loop.time = clock  # type: ignore[method-assign]
    gc.disable()

    async def main() -> dict[str, Walk]:
        walks = Walks()
        return {
            "a run of five events": await _repeat(walks.run),
            "an event for three readers": await _repeat(walks.event),
            "a stop": await _repeat(walks.stop),
            "a connect": await _repeat(walks.connect),
        }

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    table = measure()
    print(f"sansio-copilot {sansio_copilot.__version__}, Python {sys.version.split()[0]}")
    print(f"{'':28}{'calls':>8}{'modules':>9}{'changes':>9}{'returns':>9}{'depth':>7}")
    for name, walk in table.items():
        print("{:28}{:8}{:9}{:9}{:9}{:7}".format(name, *walk.row()))
    if "--calls" in sys.argv:
        for name, walk in table.items():
            print(f"\n{name}")
            for (module, function), count in Counter(walk.calls).most_common():
                print(f"{count:6}  {module}: {function}")


if __name__ == "__main__":
    main()
