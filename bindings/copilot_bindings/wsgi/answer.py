"""One request under a WSGI server: its exchange, driven as far as the server asks for the body."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from sansio_copilot import BodyRefused, BodyTooLarge, CopilotRuntime, Exchange, RunRefused
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    WaitForFrames,
)

from ..serving.background_loop import BackgroundLoop, watching
from ..serving.bodies import Bodies, Body
from ..serving.calls import Calls, Pending
from ..serving.context import CallContext
from ..serving.service import SHUTDOWN
from .environ import Environ, StartResponse, read_body, send_head


class StreamBroken(ConnectionResetError):
    """A response broke off, and what has been sent must not pass for complete.

    Servers take this for the client's doing: they drop the connection, and log little or nothing.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the response broke off")


class Host(Protocol):
    """What an answer asks of the application."""

    runtime: CopilotRuntime
    bodies: Bodies
    closing: bool

    def background(self) -> BackgroundLoop:
        """The event loop of this process."""
        ...

    def calls(self) -> Calls:
        """What makes the calls of this process's threads."""
        ...


class Answer:
    """Drives an exchange: to its head, and then as far as the server asks for the body."""

    def __init__(
        self,
        app: Host,
        exchange: Exchange,
        environ: Environ,
        start_response: StartResponse,
    ) -> None:
        self._app = app
        self._exchange = exchange
        self._calls = app.calls()
        # A copy of the current one, since middleware may have set something for this request.
        self._context = CallContext()
        self._environ = environ
        self._start_response = start_response
        self._begun = False
        self._body: Body | None = None
        self._loop: BackgroundLoop | None = None
        """What knows that this is being answered."""
        self._woken = threading.Event()
        self._aborted = False
        self._action: Action = exchange.start()

    def begin(self) -> None:
        """Go on until the head has been handed to the server."""
        while not self._begun:
            self._step()

    def __iter__(self) -> Iterator[bytes]:
        while not isinstance(self._action, Finish):
            if isinstance(self._action, SendBytes):
                yield self._action.data
                self._action = self._exchange.done()
            elif isinstance(self._action, Abandon) or self._aborted:
                self.close()
                raise StreamBroken
            else:
                self._step()

    def close(self) -> None:
        """The server wants no more: all has been sent, or the client has gone."""
        if not isinstance(self._action, (Finish, Abandon)):
            # None if it was a store call that did not return, but raised what is no Exception.
            self._action = self._exchange.client_gone() or self._exchange.failed(StreamBroken())
            while not isinstance(self._action, Abandon):
                self._step()
        self._release_body()
        if self._loop is not None:
            self._loop.connection_ended(self)

    # What the loop says

    def close_if_idle(self) -> None:
        """Nothing: there is a request being answered."""

    def abort(self) -> None:
        """End the stream at once."""
        self._aborted = True
        self._woken.set()

    # What the exchange wants

    def _step(self) -> None:
        """Perform the action, which gives the next."""
        exchange, action = self._exchange, self._action
        match action:
            case ReadBody(limit=limit):
                # What else goes wrong is between the server and its client.
                self._body = self._app.bodies.begin(limit)
                try:
                    outcome: Any = read_body(self._environ, self._body)
                except (BodyTooLarge, BodyRefused) as error:
                    self._action = exchange.failed(error)
                    return
            case SendHead(status=status, headers=headers):
                self._release_body()
                send_head(status, headers, self._start_response)
                self._begun = True
                outcome = None
            case _:
                try:
                    outcome = self._perform(action)
                except Exception as error:
                    self._action = exchange.failed(error)
                    return
        self._action = exchange.done(outcome)

    def _release_body(self) -> None:
        if self._body is not None:
            self._body.release()
            self._body = None

    def _perform(self, action: Action) -> Any:
        app = self._app
        match action:
            case StartRun(run=run):
                if app.closing:
                    raise RunRefused(SHUTDOWN)
                return self._context.current.run(app.background().start_run, run)
            case WaitForFrames(timeout=timeout):
                return self._wait_for_frames(action, timeout)
            case Call():
                outcome = self._calls.begin(
                    action, self._context, lambda: app.background().home(), own=True
                )
                if not isinstance(outcome, Pending):
                    return outcome
                # At its end the loop gives up what does not return.
                with contextlib.suppress(RunRefused):
                    self._admit(app.background())
                return outcome.block()
        raise AssertionError(action)

    def _admit(self, loop: BackgroundLoop) -> None:
        """Have ``loop`` know, from now on, that this is being answered."""
        if self._loop is None:
            self._loop = loop
            loop.service.admit(self)

    def _wait_for_frames(self, action: WaitForFrames, timeout: float) -> bool:
        self._admit(self._app.background())
        self._woken.clear()
        with watching(action, self._calls.lock, self._context, self._woken.set):
            return self._aborted or self._woken.wait(timeout)
