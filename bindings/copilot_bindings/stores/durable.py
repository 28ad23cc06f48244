"""The part that all durable stores share: stores whose threads outlive the process.

A store passes each call on to the engine that this process has of a file or a server. This module
answers what needs neither of them: reads from the tails of the runs that are followed in this
process, and from the pages that were read ahead.
"""

from __future__ import annotations

from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any, Generic, Literal, TypeVar

import attrs

from sansio_copilot.stores.protocol import (
    Batch,
    Cancel,
    LogGone,
    Notify,
    NotifyOwner,
    RunKey,
    nothing_to_cancel,
    reject_or_supersede,
)

from .cursors import Cursor
from .owned_runs import OwnedRuns
from .process_engines import Engines
from .read_ahead import Ahead
from .retention import Evictions, Retention
from .tails import Tails, followed
from .tidying import Tidying


class Engine:
    """A process's part of a store: its connections, its operating system threads, and its tails.

    :param evictions: counts the threads that are let go.
    """

    def __init__(self, evictions: Evictions) -> None:
        self.owned = OwnedRuns[Any]()
        self.tails = Tails(on_follow=self._followed)
        self.ahead = Ahead()
        self._evictions = evictions
        self._tidying = Tidying(self.tidy)

    def write(self, work: Any) -> Future[Any]:
        """Do ``work``, which changes the store."""
        raise NotImplementedError

    def tidy(self) -> Future[bool]:
        """Do a step of the tidying, which is done from time to time."""
        raise NotImplementedError

    def _followed(self) -> None:
        """Watch the runs of other processes, because a reader has begun to follow one."""
        raise NotImplementedError

    def name_of(self, cursor: Cursor, run: int) -> Hashable:
        """Return the name under which the tails have a run of ``cursor``."""
        return run

    def own_name(self, key: RunKey) -> Any:
        """Return the name under which the process has a run that it owns."""
        return key.seq


E = TypeVar("E", bound=Engine)


@attrs.define(eq=False, on_setattr=attrs.setters.frozen)
class DurableStore(Generic[E]):
    """A store that outlives the process."""

    on_concurrent_run: Literal["reject", "supersede"] = attrs.field(
        default="reject", kw_only=True, validator=reject_or_supersede
    )
    retention: Retention = attrs.field(
        factory=Retention, kw_only=True, validator=attrs.validators.instance_of(Retention)
    )
    _engines: Engines[E] = attrs.field(factory=Engines, init=False, repr=False)
    _evictions: Evictions = attrs.field(factory=Evictions, init=False, repr=False)

    blocking = False

    def _begin(self) -> E:
        raise NotImplementedError

    def engine(self) -> E:
        """The part of the store that this process has, which begins if there is none.

        For the modules of this package: whoever uses a store needs only its other methods.
        """
        return self._engines.get(self._begin)

    def tidy(self) -> Future[bool]:
        """Do a step of the tidying now: let go of what need not be kept.

        :returns: whether there is more to do.
        """
        return self.engine().tidy()

    @property
    def evictions(self) -> int:
        """The number of threads that this process has let go to stay within the retention."""
        return self._evictions.count

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        engine = self.engine()
        return engine.owned.watch(engine.own_name(key), notify)

    def read(self, cursor: Cursor, max_bytes: int) -> Batch | LogGone | Future[Batch | LogGone]:
        engine = self.engine()
        known = followed(engine.tails, cursor, max_bytes, lambda run: engine.name_of(cursor, run))
        if isinstance(known, Batch):
            return known
        page = engine.ahead.take(known, max_bytes)
        if isinstance(page, Batch):
            return page
        return self._read(engine, known, max_bytes, page)

    def _read(
        self, engine: E, cursor: Cursor, max_bytes: int, pages: int
    ) -> Future[Batch | LogGone]:
        """Read frames from outside of this process; the batch has the run whose owner has died."""
        raise NotImplementedError

    def watch(self, cursor: Cursor, notify: Notify) -> Cancel:
        part = cursor.part
        if part is None or part > 0:
            notify()
            return nothing_to_cancel
        engine = self.engine()
        return engine.tails.watch(engine.name_of(cursor, -part), cursor.offset, notify)

    def _deleting(self, engine: E, work: Any) -> Future[Any]:
        """Do ``work``, which deletes threads, and forget the pages that were read ahead."""
        engine.ahead.forget()
        deletion = engine.write(work)
        # The pages that were read meanwhile are forgotten too, because they may be of deleted
        # threads.
        deletion.add_done_callback(lambda done: engine.ahead.forget())
        return deletion
