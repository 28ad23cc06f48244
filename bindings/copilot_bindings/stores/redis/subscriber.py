"""The subscriber of one process: to the channel of the process, and to those that it follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from redis.client import PubSub

from sansio_copilot.stores.protocol import Signal

from ..owned_runs import OwnedRuns
from ..remote_subscriber import RemoteSubscriber
from ..round_trips import Command, PipelineThread, RoundTrips
from ..tails import Tails
from . import scripts
from .names import Names

RunName = tuple[str, int]
_PIECE = 1 << 20


class Subscriber(RemoteSubscriber[RunName]):
    """Listens for one process.

    :param process: the name of this process, which no other process has.
    :param store: the store as log lines name it.
    """

    broken = redis.RedisError

    def __init__(
        self,
        client: redis.Redis,
        pipeline: PipelineThread,
        names: Names,
        process: str,
        owned: OwnedRuns[RunName],
        tails: Tails,
        tick: Callable[[], object],
        store: str,
    ) -> None:
        self._client: Any = client
        self._names = names
        self._process = process.encode()
        self._own = (names.processes + process).encode()
        self._subscribed: dict[bytes, RunName] = {}
        super().__init__(store, pipeline, owned, tails, tick)

    def _nudge(self) -> Command:
        return "PUBLISH", self._own, "look"

    def _live(self) -> None:
        super()._live()
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub() as pubsub:
            pubsub.subscribe(self._own)
            self._subscribed = {}
            next_look = 0.0
            while not self._ended:
                now = time.monotonic()
                if now >= next_look:
                    self._follow(pubsub)
                    next_look = self._look_at_all()
                message = pubsub.get_message(timeout=max(next_look - now, 0.0))
                if message is None:
                    continue
                if message["type"] in PubSub.PUBLISH_MESSAGE_TYPES:
                    self.hear(pubsub, message["channel"], message["data"])
                elif message["type"] == "subscribe" and message["channel"] == self._own:
                    self._connected()

    def hear(self, pubsub: Any, channel: bytes, data: bytes) -> None:
        """Take note of what a channel tells: of this process, or of a run that is followed."""
        if channel != self._own:
            # Messages of a run that is no longer followed may still come for a moment.
            if (run := self._subscribed.get(channel)) is not None:
                at, _, frames = data[1:].partition(b":")
                self._hear_of(run, int(at) if data[:1] == b"a" else None, lambda: frames)
        elif data == b"look":
            self._follow(pubsub)
        else:
            number, signal, thread = data.split(b" ", 2)
            self._hear_signal((thread.decode(), int(number)), Signal(signal.decode()))

    def _signal_of(self, run: RunName) -> RoundTrips[Signal]:
        thread, number = run
        ((state, process, stop),) = yield [
            ("HMGET", f"{thread}:r:{number}", "state", "proc", "stop")
        ]
        if state != b"0" or process != self._process:
            return Signal.SEALED
        return Signal.STOP if stop == b"1" else Signal.CONTINUE

    def _follow(self, pubsub: Any) -> None:
        """Subscribe to the runs that are followed here, and to no others."""
        followed = self._followed()
        wanted = {self._names.run_channel(*run).encode(): run for run in followed}
        if news := [channel for channel in wanted if channel not in self._subscribed]:
            pubsub.subscribe(*news)
        if gone := [channel for channel in self._subscribed if channel not in wanted]:
            pubsub.unsubscribe(*gone)
        self._subscribed = wanted
        for channel in news:
            run = wanted[channel]
            self._look(run, followed[run])

    def looking(self, run: RunName, size: int) -> RoundTrips[None]:
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
