"""A pool of threads with a fixed size, and a pool of calls that may hang."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable

from sansio_copilot import StoreUnavailable

logger = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""The seconds after which an operating system thread without work ends."""


class ThreadPool:
    """Threads for work that may block for ever.

    There are two differences from ``concurrent.futures``. The threads are daemons, so that a
    process does not wait for them at its end. And there is no queue: work is refused if no thread
    is free.

    :param size: the largest number of threads.
    :param name: the name of each thread.
    """

    def __init__(self, size: int, name: str = "copilot-connection") -> None:
        self._size = size
        self._name = name
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        """The number of waiting threads for which there is no work in the queue yet."""
        self._closed = False
        self._released = False
        self.is_over = False
        """Whether the interpreter is ending, so that no thread can be begun (since Python 3.12)."""

    def submit(self, work: Callable[[], object]) -> bool:
        """Have a thread do ``work``; returns False if no thread is free and none can be made."""
        with self._lock:
            if self._closed:
                return False
            if self._idle:
                self._idle -= 1
            elif len(self._threads) >= self._size or not self._add_thread():
                return False
            self._work.put(work)
        return True

    def close(self, timeout: float) -> None:
        """End the threads, and wait ``timeout`` seconds at most for their work to end."""
        self.release()
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if busy := sum(thread.is_alive() for thread in threads):
            logger.warning("left %d threads that do not end", busy)

    def release(self) -> None:
        """End the threads that are idle now, and the others when their work is done."""
        with self._lock:
            self._released = True
            for _ in range(self._idle):
                self._work.put(None)
            self._idle = 0

    def _add_thread(self) -> bool:
        thread = threading.Thread(target=self._live, name=self._name, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self.is_over = "interpreter shutdown" in str(error)
            if not self.is_over:
                # The error is logged for the operator, because the system's limit on threads has
                # been reached.
                logger.error("no thread %r: %s", self._name, error)
            self._threads.discard(thread)
            return False
        return True

    def _live(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:
                logger.exception("the work of a thread %r failed", self._name)
            # The work is forgotten, so that an idle thread does not keep its objects in memory.
            del work
            with self._lock:
                if self._released:
                    break
                self._idle += 1
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], object] | None:
        while True:
            try:
                return self._work.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    # If no thread counts as idle, work for this one has just been put into the
                    # queue.
                    if self._idle:
                        self._idle -= 1
                        return None


class PoolExhausted(RuntimeError):
    """Every thread of a :class:`CallPool` hangs in a call, so that no other call can be made."""


class StoreExhausted(PoolExhausted, StoreUnavailable):
    """Every thread for the calls of a store hangs, which is an outage of the store."""


class Job:
    """A call that has a thread of a :class:`CallPool`, or waits for one.

    :param work: makes the call; it must not raise.
    """

    __slots__ = ("_work", "returned", "since")

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self.since = math.inf
        """When the job got its thread, in seconds of the monotonic clock; infinite until then."""
        self.returned = False
        """Whether the call has returned. The job's thread may have more steps to do after that."""

    def do(self) -> None:
        """Do the work, and forget it.

        It is forgotten to break a cycle of references: the waiting object has a reference to the
        job, and the work has one to the waiting object.
        """
        work, self._work = self._work, None
        self.since = time.monotonic()
        if work is not None:
            work()

    def drop(self) -> None:
        """Forget the work without doing it."""
        self._work = None


class CallPool:
    """Threads for the calls of one kind of the application's functions, any of which may hang.

    At the interpreter's end no thread can be begun. If no call has a thread then, :meth:`submit`
    makes the call in the caller's thread: no other request is served any more, and a store has to
    learn of the end of its runs.

    At most ``size`` calls are made at once, and further calls wait for their turn. A call whose
    result is not needed any more (see :meth:`leave`) goes on but does not count, so that another
    thread takes its place, until there are ``2 * size`` threads. When every thread that counts
    hangs too, further calls are refused, because waiting would be in vain.

    :param kind: the kind of functions, for names of threads and for messages.
    :param size: the number of calls that are made at once.
    :param seconds: the time after which a call counts as hanging.
    """

    def __init__(self, kind: str, size: int, seconds: float) -> None:
        self._kind = kind
        self._size = size
        self._seconds = seconds
        self._threads = ThreadPool(2 * size, f"copilot-{kind}")
        self._lock = threading.Lock()
        self._running: set[Job] = set()
        self._left: set[Job] = set()
        self._waiting: dict[Job, None] = {}

    def submit(self, job: Job) -> None:
        """Have ``job`` done, as soon as there is a thread for it.

        :raises PoolExhausted: if all threads hang, or if the system cannot make another one.
        """
        with self._lock:
            if len(self._running) < self._size and self._begin(job):
                return
            is_alone = self._threads.is_over and not self._running
            since = time.monotonic() - self._seconds
            if not is_alone and all(running.since < since for running in self._running):
                job.drop()
                hang = len(self._running) + len(self._left)
                exhausted = StoreExhausted if self._kind == "store" else PoolExhausted
                raise exhausted(f"no thread for another call of {self._kind}: {hang} do not return")
            if not is_alone:
                self._waiting[job] = None
        if is_alone:
            job.do()

    def leave(self, job: Job) -> None:
        """Leave ``job`` to itself, because its result is not needed any more.

        A job without a thread is dropped; a job with a thread no longer counts.
        """
        with self._lock:
            if job in self._waiting:
                del self._waiting[job]
                job.drop()
            elif job in self._running and len(self._left) < self._size:
                self._running.discard(job)
                self._left.add(job)
                self._begin_next()

    def release(self) -> None:
        """End the threads that are idle; threads that hang are left to themselves."""
        self._threads.release()
        with self._lock:
            hanging = sum(not job.returned for job in self._running | self._left)
        if hanging:
            logger.warning("left %d calls of %s that do not return", hanging, self._kind)

    def _begin(self, job: Job) -> bool:
        if self._threads.submit(lambda: self._live(job)):
            self._running.add(job)
            return True
        return False

    def _begin_next(self) -> None:
        if self._waiting and len(self._running) < self._size:
            job = next(iter(self._waiting))
            # If no thread can be begun now, the job has its turn when another call returns.
            if self._begin(job):
                del self._waiting[job]

    def _live(self, job: Job | None) -> None:
        while job is not None:
            job.do()
            with self._lock:
                self._running.discard(job)
                self._left.discard(job)
                job = None
                if self._waiting and len(self._running) < self._size:
                    job = next(iter(self._waiting))
                    del self._waiting[job]
                    self._running.add(job)
