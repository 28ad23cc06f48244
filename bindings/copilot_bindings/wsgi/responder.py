"""The responder under WSGI: its exchange is driven when the server asks for the body."""

from __future__ import annotations

import contextlib
import errno
import http
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary, ref
from wsgiref.util import is_hop_by_hop

from sansio_copilot import BodyRefused, BodyTooLarge, CopilotRuntime, Exchange, Response, RunRefused
from sansio_copilot.actions import (
    Abandon,
    Action,
    Call,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    StoreCall,
    WaitForFrames,
)
from sansio_copilot.exchange.stream import whole_of
from sansio_copilot.http.refusals import log_refusal

from ..serving.background_loop import BackgroundLoop, watching
from ..serving.body_limits import Bodies, Body
from ..serving.calls import Calls
from ..serving.context import CallContext
from ..serving.pending_call import Pending
from ..serving.service import SHUTDOWN
from ..serving.store_life import NotStarted
from .request import Environ, read_body

logger = logging.getLogger(__name__)

StartResponse: TypeAlias = Callable[..., object]

_NO_LOOP = "The server has no room for the request"
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


class StreamBroken(ConnectionResetError):
    """A response broke off, and the client must not take it for complete.

    It is a ConnectionResetError, because servers treat that as the client's act: they drop the
    connection, and log little or nothing.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the response broke off")


class ResponderApp(Protocol):
    """The part of the application that a :class:`WSGIResponder` needs."""

    runtime: CopilotRuntime
    bodies: Bodies
    closing: bool
    responders: WeakKeyDictionary[object, int]

    def background(self) -> BackgroundLoop:
        """The event loop of this process."""
        ...

    def calls(self) -> Calls:
        """The object that makes the calls of this process's threads."""
        ...


class WSGIResponder:
    """Drives an exchange: :meth:`begin` up to its head, and iteration through its body (PEP 3333).

    :param app: gives the room for bodies, the calls and the background loop.
    :param exchange: a new exchange, which is started here.
    :param environ: the environ of the request.
    :param start_response: the server's callable for the head.
    """

    def __init__(
        self, app: ResponderApp, exchange: Exchange, environ: Environ, start_response: StartResponse
    ) -> None:
        self._app = app
        self._exchange = exchange
        self._calls = app.calls()
        # The context is a copy of the current one, because middleware may have set variables in it.
        self._context = CallContext.of_now()
        self._environ = environ
        self._start_response = start_response
        self._begun = False
        self._body: Body | None = None
        self._connection: _Connection | None = None
        """This responder among the connections of a loop; None if no loop has it."""
        self._woken = threading.Event()
        self._aborted = False
        self._action: Action = Finish()
        """The action to perform next; Finish as long as there is nothing to end."""
        self._action = exchange.start()
        app.responders[self] = os.getpid()

    def begin(self) -> None:
        """Drive the exchange until the head has been handed to the server."""
        while not self._begun:
            self._step()

    def __iter__(self) -> Iterator[bytes]:
        try:
            if isinstance(self._action, SendHead):
                self._action = self._exchange.done()
            while not isinstance(self._action, Finish):
                # A store call is made even after abort(), because the exchange would take one that
                # was left out for a failure of the store.
                is_aborted = self._aborted and not isinstance(self._action, StoreCall)
                if is_aborted or isinstance(self._action, Abandon):
                    raise StreamBroken
                if not isinstance(self._action, SendBytes):
                    self._step()
                    continue
                yield self._action.data
                if not self._aborted:
                    self._action = self._exchange.done()
        finally:
            # The exchange is ended here too, because some middleware does not call close().
            self.close()

    def close(self) -> None:
        """End the exchange; called by the server at the end of the response (PEP 3333).

        The response may be complete, or the client may have gone.
        """
        self._app.responders.pop(self, None)
        if not isinstance(self._action, (Finish, Abandon)):
            # client_gone() returns None during a store call. There is one only if it has raised a
            # BaseException that is no Exception, and so it has failed.
            self._action = self._exchange.client_gone() or self._exchange.failed(StreamBroken())
            while not isinstance(self._action, Abandon):
                self._step()
        self._release_body()
        if self._connection is not None:
            self._connection.end()

    def __del__(self) -> None:
        # The exchange is ended here too, because some middleware drops a response without reading
        # or closing it, and the run would count a reader for ever.
        self.close()

    def abort(self) -> None:
        """End the stream at once."""
        self._aborted = True
        self._woken.set()

    # Driving the exchange

    def _step(self) -> None:
        """Perform the present action, and take the next one from the exchange."""
        exchange, action = self._exchange, self._action
        match action:
            case ReadBody(limit=limit):
                # Other errors are not caught, because the server itself has to handle them.
                self._body = Body(self._app.bodies, limit)
                try:
                    outcome: Any = read_body(self._environ, self._body)
                except (BodyTooLarge, BodyRefused) as error:
                    self._action = exchange.failed(error)
                    return
            case SendHead(status=status, headers=headers):
                self._release_body()
                send_head(status, headers, self._start_response)
                # The exchange is told of it when the body is asked for, because the action that
                # follows could not be taken back if the response is closed unread.
                self._begun = True
                return
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
                self._context.current.run(self._background().start_run, run)
                return None
            case WaitForFrames(timeout=timeout):
                return self._wait_for_frames(action, timeout)
            case Call():
                outcome = self._calls.begin(
                    action, self._context, lambda: self._background().live_backend(), own=True
                )
                if not isinstance(outcome, Pending):
                    return outcome
                # The loop is told of this responder, so that it gives up the call at the loop's end
                # if the call has not returned.
                with contextlib.suppress(RunRefused):
                    self._admit(self._background())
                return outcome.block()
        raise AssertionError(action)

    def _background(self) -> BackgroundLoop:
        """The event loop of this process.

        :raises RunRefused: if there is none, and none can be begun now.
        """
        try:
            return self._app.background()
        except NotStarted as error:
            # The client is told in the library's own words, because the error names the system's.
            logger.error("a request finds no loop: %s", error)
            raise RunRefused(_NO_LOOP) from error

    def _admit(self, loop: BackgroundLoop) -> None:
        """Add this responder to the connections of ``loop``, unless that is done."""
        if self._connection is None:
            self._connection = _Connection(self, loop)

    def _wait_for_frames(self, action: WaitForFrames, timeout: float) -> bool:
        self._admit(self._background())
        self._woken.clear()
        with watching(action, self._calls.lock, self._context, self._woken.set):
            return self._aborted or self._woken.wait(timeout)


class _Connection:
    """A responder as its loop knows it.

    The loop does not keep the responder, because some middleware drops a response without closing
    it.
    """

    __slots__ = ("_loop", "_responder")

    def __init__(self, responder: WSGIResponder, loop: BackgroundLoop) -> None:
        self._responder = ref(responder)
        self._loop = loop
        loop.service.admit(self)

    def close_if_idle(self) -> None:
        """Do nothing, because a request is being answered."""

    def abort(self) -> None:
        """End the stream at once."""
        if (responder := self._responder()) is not None:
            responder.abort()

    def end(self) -> None:
        """Leave the loop."""
        self._loop.connection_ended(self)


def send_head(
    status: int, fields: Iterable[tuple[str, str]], start_response: StartResponse
) -> None:
    """Hand a response's head to the server (PEP 3333, "The start_response() Callable")."""
    # Hop-by-hop fields are left out, because PEP 3333 leaves them to the server.
    headers = [(name, value) for name, value in fields if not is_hop_by_hop(name)]
    start_response(f"{status} {_PHRASES.get(status, 'Unknown')}", headers)


def send_whole(response: Response, environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Hand a response that comes from no exchange to the server; returns its content."""
    log_refusal(response)
    head, content = whole_of(response, environ["REQUEST_METHOD"])
    send_head(head.status, head.headers, start_response)
    return [content] if content else []
