"""What the server tells this process: what others append, and signals to owners here.

One thread has one connection for it, and subscribes to what is followed here. A notification may be
lost, by a connection that broke or a reader that came between two: so whatever begins to be
followed is looked at once, and all that is followed from time to time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.client import PubSub

from sansio_copilot.stores.protocol import Signal

from ..owned_runs import OwnedRuns
from ..round_trips import Pipeline, Steps
from ..tails import Tails
from ..threads import begin_thread
from . import scripts
from .names import Names

logger = logging.getLogger(__name__)

Run = tuple[str, int]
LOOK_SECONDS = 1.0
"""Seconds between two looks at all that is followed."""
_PAUSE_SECONDS = 0.5
_PIECE = 1 << 20


class Listener:
    """Listens for one process.

    :param process: what tells it from others.
    :param tick: is called about once a second.
    :raises StoreUnavailable: if the system begins no further thread now.
    """

    def __init__(
        self,
        client: redis.Redis,
        pipeline: Pipeline,
        names: Names,
        process: str,
        owned: OwnedRuns[Run],
        tails: Tails,
        tick: Callable[[], object],
    ) -> None:
        self._client = client
        self._pipeline = pipeline
        self._names = names
        self._process = process.encode()
        self._own = (names.processes + process).encode()
        self._owned = owned
        self._tails = tails
        self._tick = tick
        self._subscribed: dict[bytes, Run] = {}
        self._ended = False
        self._broken = False
        self._thread = begin_thread("copilot-redis-news", self._live)

    def wake(self) -> None:
        """Look now what is followed."""

        def steps() -> Steps[None]:
            yield [("PUBLISH", self._own, "look")]

        self._pipeline.submit(steps())

    def close(self, seconds: float) -> bool:
        """End; returns whether it has in time."""
        self._ended = True
        self.wake()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        client: Any = self._client
        while not self._ended:
            try:
                with client.pubsub() as pubsub:
                    pubsub.subscribe(self._own)
                    self._subscribed = {}
                    self._listen(pubsub)
            except redis.RedisError as error:
                if not self._broken:
                    logger.warning("%s: notifications are late for now: %s", self._names, error)
                self._broken = True
            except Exception:
                logger.exception("%s: the listener failed", self._names)
            if not self._ended:
                time.sleep(_PAUSE_SECONDS)
                self._tick()
        self._client.close()

    def _listen(self, pubsub: Any) -> None:
        next_look = 0.0
        while not self._ended:
            now = time.monotonic()
            if now >= next_look:
                self._follow(pubsub)
                for run, size in self._tails.followed():
                    self._look(run, size)  # type: ignore[arg-type]
                self._tick()
                next_look = now + LOOK_SECONDS
            message = pubsub.get_message(timeout=max(next_look - now, 0.0))
            if message is None:
                continue
            if self._broken:
                self._broken = False
                logger.info("%s: notifications come again", self._names)
            if message["type"] in PubSub.PUBLISH_MESSAGE_TYPES:
                self._hear(pubsub, message["channel"], message["data"])
            elif message["type"] == "subscribe" and message["channel"] == self._own:
                # The owners here ask for their signals, because nobody has heard what was announced
                # before.
                for run in self._owned:
                    self._pipeline.submit(self._asking(run))

    def _hear(self, pubsub: Any, channel: bytes, data: bytes) -> None:
        if channel != self._own:
            # Messages of a run that is no longer followed may still come for a moment.
            if (run := self._subscribed.get(channel)) is not None:
                self._hear_of(run, data)
        elif data == b"look":
            self._follow(pubsub)
        else:
            number, signal, thread = data.split(b" ", 2)
            name = (thread.decode(), int(number))
            self._owned.signal(name, Signal(signal.decode()))
            if signal == b"sealed":
                self._tails.end(name)

    def _asking(self, run: Run) -> Steps[None]:
        """Ask for the signal of a run that is owned here."""
        thread, number = run
        ((state, process, stop),) = yield [
            ("HMGET", f"{thread}:r:{number}", "state", "proc", "stop")
        ]
        if state != b"0" or process != self._process:
            self._owned.signal(run, Signal.SEALED)
            self._tails.forget(run)
        elif stop == b"1":
            self._owned.signal(run, Signal.STOP)

    def _hear_of(self, run: Run, data: bytes) -> None:
        known = self._tails.known(run)
        if known is None:
            return
        kind, rest = data[:1], data[1:]
        at, _, frames = rest.partition(b":")
        if kind == b"a" and int(at) <= known:
            self._tails.grew(run, int(at), frames)
        else:
            # The run has ended, or its news is too long to be told, or a message was lost.
            self._look(run, known)

    def _follow(self, pubsub: Any) -> None:
        """Subscribe to what is followed here, and to nothing else."""
        followed: dict[Run, int] = dict(self._tails.followed())  # type: ignore[arg-type]
        wanted = {self._names.run_channel(*run).encode(): run for run in followed}
        if news := [channel for channel in wanted if channel not in self._subscribed]:
            pubsub.subscribe(*news)
        if gone := [channel for channel in self._subscribed if channel not in wanted]:
            pubsub.unsubscribe(*gone)
        self._subscribed = wanted
        for channel in news:
            run = wanted[channel]
            self._look(run, followed[run])

    def _look(self, run: Run, size: int) -> None:
        """Read what a run has behind ``size``."""
        self._tails.forget_if_it_fails(run, self._pipeline.submit(self._looking(run, size)))

    def _looking(self, run: Run, size: int) -> Steps[None]:
        thread, number = run
        while True:
            ((state, *found),) = yield [
                (scripts.READ_RUN, thread, self._names.processes, number, size, _PIECE)
            ]
            if state == b"gone":
                self._tails.forget(run)
                return
            whole, data = found
            if data:
                self._tails.grew(run, size, data)
                size += len(data)
            if size >= whole:
                break
        if state == b"lost":
            self._tails.lose(run)
        elif state != b"0":
            self._tails.end(run)
