"""Serve a runtime under any WSGI server with threads: gunicorn's gthread, waitress, mod_wsgi.

A request is answered in the server's thread, and a stream keeps that thread for as long as it
lasts. Runs live on an event loop in the background, so that a run goes on when its client goes
away. Each process has its own loop, which begins when it is first needed.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import TypeAlias
from weakref import WeakKeyDictionary

from sansio_copilot import CopilotRuntime, RemoteProtocolError, Response, RunRefused
from sansio_copilot.http import refusals

from ..serving.background_loop import BackgroundLoop
from ..serving.body_limits import Bodies
from ..serving.calls import Calls
from ..serving.grace_period import check_grace_period
from ..serving.os_signals import comes_again, send_to_main_thread
from ..serving.server_life import must_be_opened
from ..serving.service import SHUTDOWN
from ..serving.start_log import log_start
from ..serving.store_life import NotStarted
from ..serving.workers_warning import warn_of_workers
from .request import BodyEndsEarly, Environ, is_exposed, request_of
from .responder import StartResponse, WSGIResponder, send_whole

logger = logging.getLogger(__name__)

_EXIT_SECONDS = 60.0

Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class CopilotWSGI:
    """A WSGI application that serves ``runtime``, by itself or inside another one (PEP 3333).

    The runtime's ``base_path`` is the path that the browser sees, wherever this is mounted. A
    prefix that a proxy or a mount adds may be left out, if the server passes it in ``SCRIPT_NAME``.

    :param runtime: the runtime that is served.
    :param grace_seconds: how many seconds runs may go on after :meth:`close` was called.
    :raises ValueError: if ``grace_seconds`` is not a number from 0 on.
    """

    def __init__(self, runtime: CopilotRuntime, *, grace_seconds: float = 10.0) -> None:
        check_grace_period(grace_seconds)
        self.runtime = runtime
        self.bodies = Bodies(runtime.limits)
        """The room for the bodies of requests."""
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._loop: BackgroundLoop | None = None
        self._forked: list[BackgroundLoop] = []
        self._calls = (os.getpid(), Calls(runtime))
        self._where_exposed: CopilotRuntime | None = None
        self._asked = 0
        """The id of the process that has answered a request."""
        self.closing = False
        """Whether new runs are refused."""
        self.responders = WeakKeyDictionary[object, int]()
        """The responders whose response the server has not ended, each with its process. They are
        held weakly, because not every server and middleware calls ``close``."""

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        try:
            request = request_of(environ, self.runtime.base_path)
        except RemoteProtocolError as error:
            return send_whole(refusals.not_http(str(error)), environ, start_response)
        if self._asked != os.getpid():
            self._begin(environ)
        needs_start = self.runtime.needs_start(request)
        if needs_start and (refusal := self._open()) is not None:
            refused = self.runtime.refused(request, refusal)
            return send_whole(refused, environ, start_response)
        exposed = not self.runtime.exposed and is_exposed(environ)
        runtime = self._exposed() if exposed else self.runtime
        exchange = runtime.exchange(request, time.time(), closing=self.closing)
        responder = WSGIResponder(self, exchange, environ, start_response)
        try:
            responder.begin()
        except BodyEndsEarly as error:
            responder.close()
            refused = runtime.refused(request, refusals.not_http(str(error)))
            return send_whole(refused, environ, start_response)
        except BaseException:
            responder.close()
            raise
        return responder

    def _begin(self, environ: Environ) -> None:
        """Do what is done once in each process, at its first request."""
        with self._lock:
            if self._asked == os.getpid():
                return
            self._asked = os.getpid()
        log_start(logger, "CopilotWSGI", self.runtime)
        where = environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT")
        several = bool(environ.get("wsgi.multiprocess"))
        warn_of_workers(self.runtime.store, *where, several=several)

    def _exposed(self) -> CopilotRuntime:
        """The runtime as other machines reach it, which warns of that once."""
        if self._where_exposed is None:
            with self._lock:
                if self._where_exposed is None:
                    self._where_exposed = self.runtime.where_exposed()
        return self._where_exposed

    def _open(self) -> Response | None:
        """Open the store and the application in this process, before anything is served.

        Each process does so for itself at its first request, because a server may fork after it has
        loaded the application.

        :returns: the response to a request if that fails.
        """
        if must_be_opened(self.runtime):
            try:
                is_open = self.background().service.life.is_open
            except RunRefused:
                is_open = False
            except NotStarted as error:
                logger.error("a request is answered 503: %s", error)
                return error.refusal
            if not is_open:
                # The request is refused, because a call would open the store again, and nobody
                # would close it.
                return refusals.overloaded(SHUTDOWN)
        return None

    def calls(self) -> Calls:
        """The object that makes the calls of this process's threads.

        Each process has its own, because a forked process does not have its parent's threads.
        """
        process, calls = self._calls
        if process != os.getpid():
            with self._lock:
                process, calls = self._calls
                if process != os.getpid():
                    calls = Calls(self.runtime)
                    self._calls = (os.getpid(), calls)
        return calls

    def background(self) -> BackgroundLoop:
        """The event loop of this process.

        :raises RunRefused: if the application was closed before there was one.
        """
        if (loop := self._begun()) is None:
            calls = self.calls()
            with self._lock:
                if (loop := self._begun()) is None:
                    if self.closing:
                        raise RunRefused(SHUTDOWN)
                    if self._loop is not None and self._loop.process != os.getpid():
                        # The loop of the parent process is kept for ever, because in a forked
                        # process it has no thread, and cannot even be finalized.
                        self._forked.append(self._loop)
                    loop = self._loop = BackgroundLoop(
                        self.runtime, self._grace_seconds, calls=calls
                    )
                    atexit.register(self._close_at_exit, loop)
                    if self.closing:
                        # A signal may have come before the loop was there to be closed by it.
                        loop.begin_close()
        return loop

    def _begun(self) -> BackgroundLoop | None:
        loop = self._loop
        if loop is None or loop.process != os.getpid() or loop.failure is not None:
            return None
        return loop

    @property
    def connections(self) -> int:
        """The number of requests that are being answered by this process."""
        # The references are listed in one step, because other threads begin responses meanwhile.
        begun = [reference() for reference in self.responders.keyrefs()]
        mine = [
            each for each in begun if each is not None and self.responders.get(each) == os.getpid()
        ]
        return len(mine)

    @property
    def runs(self) -> int:
        """The number of live runs of this process."""
        loop = self._begun()
        return 0 if loop is None else loop.service.runs

    # Shutdown

    def begin_close(self, *, grace_seconds: float | None = None) -> None:
        """Begin to shut down as :meth:`close` does, and return at once; for a signal handler."""
        check_grace_period(grace_seconds, is_optional=True)
        self.closing = True
        if (loop := self._begun()) is not None:
            loop.begin_close(grace_seconds)

    def close(self, *, grace_seconds: float | None = None) -> None:
        """Start no more runs, let those that are live go on for a while, then end what is left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive if the server goes on serving meanwhile.

        :param grace_seconds: the grace period; None for the one that the application was made with.
        :raises LoopEnded: if an agent has ended the background loop meanwhile.
        """
        self.begin_close(grace_seconds=grace_seconds)
        if (loop := self._begun()) is not None:
            loop.wait_closed()
            atexit.unregister(self._close_at_exit)
        self.calls().release()

    def close_on_signals(self, *numbers: int) -> None:
        """Begin to close when a signal comes, while the server goes on serving.

        To be called in the main thread. A handler that is set already (the server's own) is called
        as well: at once, or a moment later if the signal has interrupted code that holds the lock
        of a thread pool, because the handler might wait for that lock. If no handler is set, the
        process ends by SystemExit in its main thread, when all is closed or at a second signal.

        :param numbers: the signals; SIGTERM and SIGINT if none is given.
        """
        for number in numbers or (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, partial(self._on_signal, signal.getsignal(number)))

    def _on_signal(self, former: Handler, number: int, frame: FrameType | None) -> None:
        if comes_again(number, frame):
            return
        first = not self.closing
        self.begin_close()
        if callable(former) and former is not signal.default_int_handler:
            former(number, frame)
        elif first:
            threading.Thread(target=self._signal_again, args=(number,), daemon=True).start()
        else:
            sys.exit()

    def _signal_again(self, number: int) -> None:
        self.close()
        send_to_main_thread(number)

    def _close_at_exit(self, loop: BackgroundLoop) -> None:
        if loop is self._begun():
            self.begin_close(grace_seconds=0)
            # The wait has a limit, because a store that hangs may keep the loop's thread for ever.
            loop.wait_closed(_EXIT_SECONDS)
            self.calls().release()
