"""What the server tells this process: what others append, and signals to owners here.

One thread has one connection for it, which listens on a channel of this process. A run that is
followed here has that channel among those who are told (``followers``). A notification may be lost,
by a connection that broke: so whatever begins to be followed is looked at once, and all that is
followed from time to time.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import psycopg

from sansio_copilot.stores.protocol import Signal

from ..owned_runs import OwnedRuns
from ..round_trips import Pipeline, Steps
from ..tails import Tails
from ..threads import begin_thread
from .link import connect

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Seconds between two looks at all that is followed."""
_PAUSE_SECONDS = 0.5
_PIECE_ROWS = 256


class Listener:
    """Listens for one process.

    :param url: of the server itself, and not of a proxy that pools transactions.
    :param name: what log lines call the store.
    :param process: what tells this process from others.
    :param tick: is called about once a second.
    :raises StoreUnavailable: if the system begins no further thread now.
    """

    def __init__(
        self,
        url: str,
        name: str,
        pipeline: Pipeline,
        schema: str,
        process: str,
        owned: OwnedRuns[int],
        tails: Tails,
        tick: Callable[[], object],
    ) -> None:
        self._url = url
        self._name = name
        self._pipeline = pipeline
        self._schema = schema
        self._process = process
        self._channel = f"{schema}_{process}"
        self._owned = owned
        self._tails = tails
        self._tick = tick
        self._told: set[int] = set()
        self._ended = False
        self._broken = False
        self._thread = begin_thread("copilot-pg-news", self._live)

    def wake(self) -> None:
        """Look now what is followed."""

        def steps() -> Steps[None]:
            yield [("SELECT pg_notify(%s, 'look')", (self._channel,), 0)]

        self._pipeline.submit(steps())

    def close(self, seconds: float) -> bool:
        """End; returns whether it has in time."""
        self._ended = True
        self.wake()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        while not self._ended:
            try:
                with contextlib.closing(connect(self._url)) as db:
                    db.execute(f'LISTEN "{self._channel}"'.encode())
                    self._listen(db)
            except psycopg.Error as error:
                if not self._broken:
                    logger.warning("%s: notifications are late for now: %s", self._name, error)
                self._broken = True
            except Exception:
                logger.exception("%s: the listener failed", self._name)
            if not self._ended:
                time.sleep(_PAUSE_SECONDS)
                self._tick()

    def _listen(self, db: psycopg.Connection[Any]) -> None:
        if self._broken:
            self._broken = False
            logger.info("%s: notifications come again", self._name)
        # The owners here ask for their signals, because nobody has heard what was announced before.
        for run in self._owned:
            self._pipeline.submit(self._asking(run))
        next_look = 0.0
        while not self._ended:
            now = time.monotonic()
            if now >= next_look:
                # A server without news still has to answer something, because a server that hangs
                # is silent too.
                db.execute("SELECT")
                self._follow()
                for followed, size in self._tails.followed():
                    self._look(cast("int", followed), size)
                self._tick()
                next_look = now + LOOK_SECONDS
            for notification in db.notifies(timeout=max(next_look - now, 0.0), stop_after=1):
                self._hear(notification.payload)

    def _hear(self, payload: str) -> None:
        if payload == "look":
            self._follow()
            return
        kind, number, *rest = payload.split(" ", 3)
        run = int(number)
        if kind in ("stop", "sealed"):
            self._owned.signal(run, Signal(kind))
            if kind == "sealed":
                self._tails.end(run)
            return
        known = self._tails.known(run)
        if known is None:
            return
        if kind == "a" and int(rest[0]) <= known:
            self._tails.grew(run, int(rest[0]), base64.b64decode(rest[1]))
        else:
            # The run has ended, or its news is too long to be told, or a message was lost.
            self._look(run, known)

    def _asking(self, run: int) -> Steps[None]:
        """Ask for the signal of a run that is owned here."""
        (rows,) = yield [
            (f"SELECT state, process, stop FROM {self._schema}.run WHERE id = %s", (run,), 0)
        ]
        if not rows or rows[0][:2] != (0, self._process):
            self._owned.signal(run, Signal.SEALED)
            self._tails.forget(run)
        elif rows[0][2]:
            self._owned.signal(run, Signal.STOP)

    def _follow(self) -> None:
        """Be told of what is followed here."""
        followed = cast("dict[int, int]", dict(self._tails.followed()))
        news = [run for run in followed if run not in self._told]
        self._told = set(followed)
        for run in news:
            self._pipeline.submit(self._following(run, followed[run]))

    def _following(self, run: int, size: int) -> Steps[None]:
        statement = f"SELECT {self._schema}.follow(%s, %s)"
        yield [(statement, (run, self._process), 0)]
        yield from self._looking(run, size)

    def _look(self, run: int, size: int) -> None:
        """Read what a run has behind ``size``."""
        self._tails.forget_if_it_fails(run, self._pipeline.submit(self._looking(run, size)))

    def _looking(self, run: int, size: int) -> Steps[None]:
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
