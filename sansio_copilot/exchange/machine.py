"""One request and its response: the state machine that a binding drives.

An exchange is to a request what ``h11.Connection`` is to a connection. It does no I/O, and it
decides everything: the binding calls :meth:`Exchange.start`, performs the action that it gets,
reports the outcome with :meth:`Exchange.done` or :meth:`Exchange.failed`, performs the next one,
until :class:`~sansio_copilot.exchange.actions.Finish` or
:class:`~sansio_copilot.exchange.actions.Abandon`. Whether a hook, an agent or a store is plain or
async is the binding's business alone; the sequence of actions is the same.

**Steps and a table hold each other in check.** The *steps* are generators, so that the order of a
request can be read from top to bottom. Two generators follow each other: :mod:`.pipeline` leads
from the request to the reply, and :mod:`.stream` sends the response, with the log that the reply
may refer to. Two more may take their place: one cleans up when the response is given up, and one
makes a store call again while the pipeline is suspended (:mod:`.retries`). The exchange resumes
each generator directly, because every outcome would pass through a generator around it. The *table*
(:data:`TRANSITIONS`) says which action may follow which. Every action that the steps yield is
looked up in it before a binding sees it, so that a mistake in the steps is an AssertionError in a
test and never a malformed response. docs/architecture.md draws the table.

**A state is the outcome that is awaited.** No flag stands beside it but whether the client has
gone. The rest that is kept between two calls decides nothing: the action, the steps, the part of
the application that raised an error, and the words of the line in the log.

**One head.** Until SENDING_HEAD anything may still become another response: a refusal, a hook's
response, a 500. From there on the status is out, so that an error can only break the response off
(Abandon), and the row of a state has either the actions before the head or those after it.

**Nothing is left open.** A run that was opened is either handed to a home by StartRun or closed
again, whatever fails and whenever the client goes. That is why a StoreCall is seen through when the
client goes (its outcome may be an open run), and why the steps clean up at the ``yield`` where
:class:`ClientGone` or another exception reaches them.

The steps may be changed freely, as long as the table allows what they yield; the tests try
every fault at every position. A new transition needs a row here, and every binding must be able to
perform the action at that place, in the middle of a response for example. An exchange must
not refer to the request, its body or the pipeline once the head is out, because a stream may last
for hours and there may be thousands.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any

from ..calls import Call
from ..config import RuntimeConfig
from ..endpoints import LogStream, Reply
from ..errors import LocalProtocolError, StoreUnavailable, shorten
from ..hooks import rejection_in
from ..http.messages import Request
from ..http.refusals import unread
from ..stores.calls import StoreCall, label_of
from .actions import (
    Abandon,
    Action,
    ClientGone,
    Finish,
    ReadBody,
    SendBytes,
    SendHead,
    StartRun,
    WaitForFrames,
)
from .pipeline import Pipeline, Steps
from .stream import give_up, head_of, send_log, send_pieces, send_whole

logger = logging.getLogger(__name__)
access = logging.getLogger("sansio_copilot.access")
"""The logger of a line for each response, at INFO, once an application sets its level to INFO."""
# The lines are off by default, because servers around the application have such lines already.
access.setLevel(logging.WARNING)


class ExchangeState(enum.Enum):
    """The outcome that an exchange waits for."""

    # The hash of Enum is Python code, which is too slow, because a state is looked up for every
    # action.
    __hash__ = object.__hash__

    IDLE = "idle"
    CALLING = "calling"
    READING_BODY = "reading body"
    STORING = "storing"
    WAITING_FOR_STORE = "waiting for store"
    STARTING_RUN = "starting run"
    SENDING_HEAD = "sending head"
    READING_LOG = "reading log"
    SENDING_BYTES = "sending bytes"
    WAITING_FOR_FRAMES = "waiting for frames"
    FINISHED = "finished"
    ABANDONED = "abandoned"


_S = ExchangeState
_BEFORE_THE_HEAD: dict[type[Action], ExchangeState] = {
    Call: _S.CALLING,
    ReadBody: _S.READING_BODY,
    StoreCall: _S.STORING,
    WaitForFrames: _S.WAITING_FOR_STORE,
    StartRun: _S.STARTING_RUN,
    SendHead: _S.SENDING_HEAD,
    Abandon: _S.ABANDONED,
}
_AFTER_THE_HEAD: dict[type[Action], ExchangeState] = {
    StoreCall: _S.READING_LOG,
    SendBytes: _S.SENDING_BYTES,
    WaitForFrames: _S.WAITING_FOR_FRAMES,
    Finish: _S.FINISHED,
    Abandon: _S.ABANDONED,
}


def _only(
    actions: dict[type[Action], ExchangeState], *kinds: type[Action]
) -> dict[type[Action], ExchangeState]:
    return {kind: actions[kind] for kind in kinds}


TRANSITIONS: dict[ExchangeState, dict[type[Action], ExchangeState]] = {
    # Anything may come first, because a request may arrive with its body already read.
    _S.IDLE: _only(_BEFORE_THE_HEAD, Call, ReadBody, StoreCall, StartRun, SendHead),
    _S.CALLING: _only(_BEFORE_THE_HEAD, Call, ReadBody, StoreCall, StartRun, SendHead, Abandon),
    _S.READING_BODY: _only(_BEFORE_THE_HEAD, Call, StoreCall, StartRun, SendHead, Abandon),
    _S.STORING: _only(
        _BEFORE_THE_HEAD, Call, StoreCall, WaitForFrames, StartRun, SendHead, Abandon
    ),
    # This wait is for a store that is unavailable, because nothing has been sent yet.
    _S.WAITING_FOR_STORE: _only(_BEFORE_THE_HEAD, Call, StoreCall, SendHead, Abandon),
    _S.STARTING_RUN: _only(_BEFORE_THE_HEAD, StoreCall, SendHead),
    _S.SENDING_HEAD: _only(_AFTER_THE_HEAD, StoreCall, SendBytes, Finish, Abandon),
    _S.READING_LOG: _AFTER_THE_HEAD,
    _S.SENDING_BYTES: _AFTER_THE_HEAD,
    _S.WAITING_FOR_FRAMES: _only(_AFTER_THE_HEAD, StoreCall, SendBytes, Abandon),
    _S.FINISHED: {},
    _S.ABANDONED: {},
}
"""In each state, the actions that the exchange may ask for next, and the state each leads to."""

_OVER = frozenset({_S.FINISHED, _S.ABANDONED})
_WITHOUT_OUTCOME = _OVER | {_S.IDLE}
# The actions of these states are seen through when the client goes, because what they began must
# be ended.
_UNINTERRUPTED = frozenset({_S.STORING, _S.READING_LOG, _S.STARTING_RUN})


class Exchange:
    """One request being answered. Made by :meth:`CopilotRuntime.exchange`.

    :param runtime: the settings, which the exchange only reads.
    :param request: the request, without its body unless that has been read already.
    :param now: seconds since the epoch.
    :param closing: whether the server is shutting down.
    """

    __slots__ = (
        *("_action", "_culprit", "_gone", "_line", "_method", "_now", "_pipeline", "_runtime"),
        *("_steps", "_stream", "__weakref__", "state"),
    )

    state: ExchangeState

    def __init__(
        self, runtime: RuntimeConfig, request: Request, now: float, closing: bool = False
    ) -> None:
        self.state = _S.IDLE
        self._runtime = runtime
        self._now = now
        self._gone = False
        self._action: Action | None = None
        self._culprit: tuple[Exception | None, str] = (None, "")
        # A hook or an envelope may put a request with another method in this one's place, but the
        # response goes to the request that is on the wire.
        self._method = request.method
        # The pipeline is forgotten when the reply is known.
        self._pipeline: Pipeline | None = Pipeline(runtime, request, now, self._where, closing)
        self._stream: LogStream | None = None
        # The method, the path and the status code, if the response is to have a line in the log.
        self._line: tuple[str, str, int] | None = None
        self._steps: Steps = self._pipeline.reply(self)

    def start(self) -> Action:
        """Begin.

        :returns: the first action.
        :raises LocalProtocolError: if the exchange was started before.
        """
        if self.state is not _S.IDLE:
            raise self._not_allowed("start")
        try:
            action = self._steps.send(None)
        except (Exception, ClientGone) as raised:
            action = self._go_on(raised)
        following = TRANSITIONS[_S.IDLE].get(type(action))
        if following is None:
            return self._advance(action)
        self.state = following
        self._action = action
        return action

    def done(self, outcome: Any = None) -> Action:
        """Report that the action succeeded with ``outcome``.

        :returns: the next action.
        :raises LocalProtocolError: if no outcome is awaited.
        """
        state = self.state
        if state in _WITHOUT_OUTCOME:
            raise self._not_allowed("done")
        if self._runtime.metrics is not None and isinstance(self._action, StoreCall):
            self._runtime.metrics.store_called(self._action.method.name)
        try:
            action = self._steps.send(outcome)
        except (Exception, ClientGone) as raised:
            action = self._go_on(raised)
        following = TRANSITIONS[state].get(type(action))
        if following is None or following in _OVER or self._gone:
            return self._advance(action)
        # The state is set here and not by a method, because nearly every action comes this way.
        self.state = following
        self._action = action
        return action

    def failed(self, error: Exception) -> Action:
        """Report that the action raised ``error``, which the exchange deals with.

        :returns: the next action.
        :raises LocalProtocolError: if no outcome is awaited.
        """
        if self.state in _WITHOUT_OUTCOME:
            raise self._not_allowed("failed")
        action, pipeline = self._action, self._pipeline
        again: Steps | None = None
        match action:
            case StoreCall():
                self._culprit = (error, action.name)
                if self._runtime.metrics is not None:
                    self._runtime.metrics.store_failed(action.method.name)
                if pipeline is not None and isinstance(error, StoreUnavailable):
                    again = pipeline.ask_again(self._steps, action, error)
            case Call():
                error = rejection_in(error)
                self._culprit = (error, action.name)
            case WaitForFrames():
                self._culprit = (error, label_of("watch"))
            case ReadBody():
                error = unread(error, action.limit)
        try:
            if again is None:
                return self._advance(self._resume(self._steps.throw, error))
            self._steps = again
            return self._advance(self._resume(again.send, None))
        finally:
            # The name is deleted to break a cycle of references: the traceback of the error may
            # have this frame, which has the error.
            del error

    def client_gone(self) -> Action | None:
        """Report that the client has closed the connection; the action in progress may be given up.

        :returns: the next action; None to see the action through and report its outcome as usual.
        :raises LocalProtocolError: if the exchange has not started, or is over.
        """
        if self.state in _WITHOUT_OUTCOME:
            raise self._not_allowed("client_gone")
        self._gone = True
        if self.state in _UNINTERRUPTED:
            return None
        return self._advance(self._resume(self._steps.throw, ClientGone()))

    def _not_allowed(self, call: str) -> LocalProtocolError:
        return LocalProtocolError(f"{call} is not allowed in state {self.state.name}")

    def _advance(self, action: Action) -> Action:
        while True:
            following = TRANSITIONS[self.state].get(type(action))
            if following is None:
                raise AssertionError(f"{action} cannot follow {self.state.name}")
            self.state = following
            self._action = action
            if following in _OVER:
                # The steps are closed, because suspended steps and this exchange would keep each
                # other and all of the run's log in memory until the garbage collector runs.
                self._steps.close()
                if self._stream is not None and self._runtime.metrics is not None:
                    self._runtime.metrics.stream_ended()
                self._pipeline, self._stream, self._culprit = None, None, (None, "")
                if self._runtime.long_answers.sent:
                    self._runtime.long_answers.done(self)
                if self._line is not None:
                    self._log_access(self._line)
                return action
            if not self._gone or isinstance(action, StoreCall):
                return action
            action = self._resume(self._steps.throw, ClientGone())

    def _resume(self, resume: Callable[[Any], Action], value: Any) -> Action:
        try:
            return resume(value)
        except (Exception, ClientGone) as raised:
            return self._go_on(raised)
        finally:
            # The value may be an exception whose traceback has this frame. The frame would keep the
            # exception, and so everything that the steps refer to.
            del value

    def _go_on(self, raised: BaseException) -> Action:
        """Begin the steps that follow those that have ended with ``raised``."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and pipeline.suspended is not None:
            # A store call was made again, and the suspended steps wait for its outcome.
            self._pipeline, self._steps, pipeline.suspended = pipeline, pipeline.suspended, None
            if isinstance(raised, StopIteration):
                return self._resume(self._steps.send, raised.value)
            return self._resume(self._steps.throw, raised)
        if isinstance(raised, StopIteration):
            reply = raised.value
            if not isinstance(reply, Reply):
                return Finish() if reply and not self._gone else Abandon()
            assert pipeline is not None, "there is one reply"
            request, path, response = pipeline.request, pipeline.path, reply.response
            if access.isEnabledFor(logging.INFO):
                self._line = request.method, path, response.status
            self._stream, runtime = reply.stream, self._runtime
            if runtime.metrics is not None and path not in runtime.probe_paths:
                runtime.metrics.responded(pipeline.route_name, response.status)
                if reply.stream is not None:
                    runtime.metrics.stream_begun()
            is_known = reply.stream is None and reply.content is None
            length = len(response.body) if is_known else None
            head, has_content = head_of(response, length, self._method)
            # Only this is kept of the request, because a stream may last for hours.
            asked = request.method, path
            if reply.content is not None:
                pieces, limits = reply.content.pieces, runtime.limits
                self._steps = send_pieces(pieces, head, limits, asked, has_content=has_content)
            elif reply.stream is None:
                self._steps = send_whole(head, response.body if has_content else b"")
            else:
                self._steps = send_log(
                    reply.stream, head, self, runtime, self._now, asked, has_content=has_content
                )
        else:
            if isinstance(raised, Exception):
                # The body must not look complete. Nothing else can be done, because the head has
                # been sent.
                logger.error("the response broke off%s", self._where(raised), exc_info=raised)
            self._steps = give_up(self._stream)
        try:
            return self._steps.send(None)
        except (Exception, ClientGone) as end:
            return self._go_on(end)

    def _log_access(self, line: tuple[str, str, int]) -> None:
        """Write the line of a response that is over.

        The core has no clock, and so the record has ``started_at``, from which a formatter may tell
        how long the response took.
        """
        method, path, status = line
        over = "" if self.state is _S.FINISHED else ", broken off"
        access.info(
            "%s %s %d%s",
            *(shorten(method), shorten(path), status, over),
            extra={"started_at": self._now},
        )

    def _where(self, error: Exception) -> str:
        """The part of the application that raised ``error``, for a log line."""
        culprit, name = self._culprit
        return f" in {name}" if culprit is error and name else ""
