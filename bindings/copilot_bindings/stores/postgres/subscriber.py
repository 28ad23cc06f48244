"""The subscriber of one process on a channel of the server (``LISTEN``).

A run that is followed here has this process among its ``followers``, which are notified.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable
from typing import Any

import psycopg

from sansio_copilot.stores.protocol import Signal

from ..owned_runs import OwnedRuns
from ..remote_subscriber import RemoteSubscriber
from ..round_trips import Command, PipelineThread, RoundTrips
from ..tails import Tails
from .link import connect

_PIECE_ROWS = 256


class Subscriber(RemoteSubscriber[int]):
    """Listens for one process.

    :param url: the URL of the server itself, and not of a proxy that pools transactions.
    :param process: the name of this process, which no other process has.
    """

    broken = psycopg.Error

    def __init__(
        self,
        url: str,
        store: str,
        pipeline: PipelineThread,
        schema: str,
        process: str,
        owned: OwnedRuns[int],
        tails: Tails,
        tick: Callable[[], object],
    ) -> None:
        self._url = url
        self._schema = schema
        self._process = process
        self._channel = f"{schema}_{process}"
        self._told: set[int] = set()
        super().__init__(store, pipeline, owned, tails, tick)

    def _nudge(self) -> Command:
        return "SELECT pg_notify(%s, 'look')", (self._channel,), 0

    def _listen(self) -> None:
        with contextlib.closing(connect(self._url)) as db:
            db.execute(f'LISTEN "{self._channel}"'.encode())
            self._connected()
            self._hear_all(db)

    def _hear_all(self, db: psycopg.Connection[Any]) -> None:
        next_look = 0.0
        while not self._ended:
            now = time.monotonic()
            if now >= next_look:
                # A server without news still has to answer something, because a server that hangs
                # is silent too.
                db.execute("SELECT")
                self._follow()
                next_look = self._look_at_all()
            for notification in db.notifies(timeout=max(next_look - now, 0.0), stop_after=1):
                self._hear(notification.payload)

    def _hear(self, payload: str) -> None:
        if payload == "look":
            self._follow()
            return
        kind, number, *rest = payload.split(" ", 3)
        if kind in ("stop", "sealed"):
            self._hear_signal(int(number), Signal(kind))
        elif kind == "a":
            self._hear_of(int(number), int(rest[0]), lambda: base64.b64decode(rest[1]))
        else:
            self._hear_of(int(number), None, bytes)

    def _signal_of(self, run: int) -> RoundTrips[Signal]:
        (rows,) = yield [
            (f"SELECT state, process, stop FROM {self._schema}.run WHERE id = %s", (run,), 0)
        ]
        if not rows or rows[0][:2] != (0, self._process):
            return Signal.SEALED
        return Signal.STOP if rows[0][2] else Signal.CONTINUE

    def _follow(self) -> None:
        """Become a follower of the runs that are followed here."""
        followed = self._followed()
        news = [run for run in followed if run not in self._told]
        self._told = set(followed)
        for run in news:
            self._pipeline.submit(self._following(run, followed[run]))

    def _following(self, run: int, size: int) -> RoundTrips[None]:
        statement = f"SELECT {self._schema}.follow(%s, %s)"
        yield [(statement, (run, self._process), 0)]
        yield from self.looking(run, size)

    def looking(self, run: int, size: int) -> RoundTrips[None]:
        while True:
            # The state is read first, so that a run that has ended has all of its frames.
            found, rows = yield [
                (
                    "SELECT state, lease < clock_timestamp() AND process <> ''"
                    f" FROM {self._schema}.run WHERE id = %s",
                    (run,),
                    0,
                ),
                (
                    f"SELECT at, data FROM {self._schema}.frame WHERE run = %s AND at >= %s"
                    " ORDER BY at LIMIT %s",
                    (run, size, _PIECE_ROWS),
                    0,
                ),
            ]
            if not found:
                self._tails.forget(run)
                return
            for at, data in rows:
                self._tails.grew(run, at, data)
                size = at + len(data)
            if len(rows) < _PIECE_ROWS:
                break
        state, is_lost = found[0]
        if state != 0:
            self._tails.end(run)
        elif is_lost:
            self._tails.lose(run)
