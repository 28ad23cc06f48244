"""One agent run in its home: the state machine that a binding drives beside any request.

A run belongs to its thread and not to the request that began it, so that it goes on when the client
has gone. Its home performs the run's actions: it pulls an event from the agent, or makes a store
call, and tells the run the outcome, which gives the next action. A table
(:data:`~sansio_copilot.runs.states.CALLS`) says in which state each call is allowed.

**One thing at a time.** A run waits for its agent (PULLING), for its store (STORING, CLOSING), or
for a store that is unavailable to come back (WAITING), and has never more than one store call in
progress. So frames are in the log in the order of the events. The calls that come from elsewhere (a
notification of the store, a shutdown, an audience that has become empty) may come in any state.
They are acted upon at once while the agent is waited for; otherwise they are remembered, and looked
at before the agent is asked again.

**Each frame is in one place.** A frame that the recorder has made is held, or part of the store
call in progress, or in the log. It goes from the first to the second place in one method, and back
only if the call has failed. Each append says at which byte it begins, so that no frame is in the
log twice. A frame may be held until others come, but readers wait for the terminal event: its frame
is held only until the agent waits for something, and a frame behind it is not held at all.

**The end comes first in the log.** Every end, whatever its cause, is one call of ``close_run``,
with the frames that make the log well formed, and only its outcome is RunOver. So an agent that
ignores its cancellation, or blocks its thread, holds up neither readers nor the next run of the
thread. Only a run that the store calls SEALED is over without a close, because the store has closed
it already.

What the run does when its store fails is decided by a machine beside it (:mod:`.store_failures`).

The times at which frames are appended may be changed, within the rules above. Three things may not
be added: an end that does not go through ``_close``, a store call beside the one in progress, and a
call that is missing in the table.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import attrs

from ..agents.protocols import call_agent
from ..calls import Call
from ..errors import LocalProtocolError
from ..events import EventError
from ..metrics import counted
from ..stores import calls
from ..stores.calls import StoreCall
from ..stores.protocol import Signal
from .actions import PULL, Pause, PullEvent, RunAction, RunOver
from .outage import LAST_SECONDS
from .parameters import RunParameters
from .run_end import count, farewell
from .states import CALLS, CLOSING, IDLE, OVER, PULLING, STORING, WAITING, RunState
from .store_failures import FailedCall, Remedy, StoreFailures

_HELD_BYTES = 64 * 1024
_STORING = CALLS["stored"]


@attrs.define(eq=False)
class Run(RunParameters):
    """An agent, its input, and the log that its events go to.

    The binding calls :meth:`events` for the agent's iterator, then :meth:`start`, and tells each
    outcome to the method named for it; each returns the next :data:`RunAction`. Calls must not
    overlap. While the pull goes on it calls :meth:`signalled` when the store notifies the owner
    (``store.watch_run(run.key, ...)``), :meth:`check` every ``lease / 3`` seconds if there is a
    lease, and :meth:`settle` when an agent has been silent for the ``patience`` of a pull.
    """

    state: RunState = attrs.field(default=IDLE, init=False)
    _fate: RunOver = attrs.field(default=RunOver("done"), init=False, repr=False)
    # These frames wait for others, or for a store that is unavailable.
    _held: bytearray = attrs.field(factory=bytearray, init=False, repr=False)
    _appended_at: float = attrs.field(default=-math.inf, init=False, repr=False)
    # The log has a result if the last event was terminal when it was appended.
    _ended: bool = attrs.field(default=False, init=False, repr=False)
    # The store call is in progress, or was the last one.
    _call: StoreCall[Any] = attrs.field(init=False, repr=False)
    _failures: StoreFailures = attrs.field(factory=StoreFailures, init=False, repr=False)
    # The log is known to have this many bytes of the run.
    _at: int = attrs.field(default=0, init=False, repr=False)
    # The store has given this signal while it was being called.
    _signal: Signal = attrs.field(default=Signal.CONTINUE, init=False, repr=False)
    # The store call in progress appends these frames; a close appends those of a terminal event.
    _unstored: bytes = attrs.field(default=b"", init=False, repr=False)
    _interruption: str | None = attrs.field(default=None, init=False, repr=False)
    _abandoned: bool = attrs.field(default=False, init=False, repr=False)
    _check_due: bool = attrs.field(default=False, init=False, repr=False)
    # The flag is set if somebody else has ended the run before its own end was in the log.
    _overtaken: bool = attrs.field(default=False, init=False, repr=False)

    def events(self) -> Any:
        """Call the agent; see :func:`~sansio_copilot.agents.call_agent`."""
        return call_agent(self.agent, self.input, self.context)

    def start(self, now: float) -> RunAction:
        """Begin the run, because its home is ready.

        :param now: seconds since the epoch, here and below.
        """
        if self.state is not IDLE:
            self._expect("start")
        self.course.started(now)
        if self.metrics is not None:
            self.metrics.run_started()
        return self._pull(now)

    def event(self, event: object, now: float) -> RunAction:
        """Take ``event``, which the agent has yielded."""
        if self.state is not PULLING:
            self._expect("event")
        recorder = self.recorder
        frames = recorder.record(event, now)
        if frames:
            self._held += frames
            if self.tap is not None:
                self.tap(frames, now)
        if recorder.error is not None:
            self.course.broke_rule(recorder.error)
            told = recorder.teller.told(EventError(recorder.error), recorder.error)
            return self._close(now, RunOver("cancel"), error=told)
        if (outage := self._failures.outage) is not None:
            return self._hold(outage.pause)
        if not frames:
            return self._pull(now)
        # A frame behind the end is not held, because readers take the run for ended until it comes.
        if self.batch_seconds and not self._ended and len(self._held) < _HELD_BYTES:
            if recorder.terminal and self.course.first_event_at is not None:
                # Most agents end at once, so that one call appends these frames and closes the log.
                # Patience begins when they have been appended.
                return PullEvent(flush=0.0)
            if now - self._appended_at < self.batch_seconds and not recorder.terminal:
                is_first = len(self._held) == len(frames)
                return PullEvent(flush=self.batch_seconds) if is_first else PULL
        return self._append(now)

    def agent_ended(self, now: float, error: BaseException | None = None) -> RunAction:
        """End the run, because its agent has no more events, or raised ``error``."""
        if self.state is not PULLING:
            self._expect("agent_ended")
        if error is None:
            if not self.recorder.terminal:
                self.course.broke_off()
            return self._close(now, RunOver("done"))
        self.recorder.agent_has_raised = True
        error, said = self.course.agent_failed(error)
        told = self.recorder.teller.told(error, said)
        return self._close(now, RunOver("done"), error=told)

    def check(self) -> RunAction | None:
        """Ask the store for the run's signal, which also renews its lease.

        :returns: None if the run is over, or if a store call is in progress, because the check has
            to follow it.
        """
        if self.state is not PULLING:
            self._check_due = True
            return None
        return self._renew()

    def signalled(self, signal: Signal, now: float) -> RunAction | None:
        """Obey the ``signal`` that the store has given to the run's owner.

        :returns: None if there is nothing to do, if that has to wait for the store call in
            progress, or if the run is over.
        """
        if self.state is PULLING:
            return None if signal is Signal.CONTINUE else self._obey(signal, now)
        if self._signal is not Signal.SEALED:
            self._signal = signal
        return None

    def settle(self, now: float) -> RunAction:
        """End the run, because the agent has been silent since its terminal event. So its readers
        end, and a client that waits for the end goes on, while the agent cleans up.
        """
        self._expect("settle")
        return self._close(now, RunOver("drain"))

    def flush(self, now: float) -> RunAction | None:
        """Append the frames that wait, for others or for a store that was unavailable.

        :returns: None if they follow the store call in progress, or if there are none.
        """
        if self.state is not PULLING:
            return None
        if self._held:
            return self._append(now)
        # A renewal that failed is made again, because nothing else would notice that the store is
        # back.
        return None if self._failures.outage is None else self._renew()

    def resume(self, now: float) -> RunAction:
        """Go on, because a :class:`~sansio_copilot.actions.Pause` is over."""
        self._expect("resume")
        if self._failures.call is FailedCall.APPEND:
            return self._append(now)
        self.state = CLOSING
        return self._call

    def interrupt(self, now: float, reason: str) -> RunAction | None:
        """End the run from outside, as a shutdown does.

        :param reason: the reason, in words that reach the client.
        :returns: None if that has to wait for the store call in progress, or if the run is over.
        """
        self._failures.last_moment = now + LAST_SECONDS
        if self.state is not PULLING:
            self._interruption = reason
            return None
        return self._close(now, RunOver("cancel"), error=reason)

    def abandon(self, now: float) -> RunAction | None:
        """Stop the run, as a client's stop would, if it still has no reader.

        :returns: None if it has a reader, if the stop has to wait for the store call in progress,
            or if the run is over.
        """
        if self.audience is None or not self.audience.is_empty:
            return None
        if self.state is not PULLING:
            self._abandoned = True
            return None
        self.course.left_alone()
        return self._close(now, RunOver("cancel"), is_stopped=True)

    def stored(self, outcome: Any, now: float) -> RunAction:
        """Take the ``outcome`` of the store call, which has succeeded."""
        if self.state not in _STORING:
            self._expect("stored")
        method = self._call.method
        is_expected = isinstance(outcome, method.types)
        if not is_expected:
            return self.store_failed(method.unexpected(outcome), now)
        if self.metrics is not None:
            self.metrics.store_called(method.name)
        if self.state is CLOSING:
            if outcome is False and not self._failures.may_be_closed:
                self._overtaken = not self._ended
                self.course.is_sealed = True
            return self._over(self._fate, now)
        if self._unstored:
            self._at += len(self._unstored)
            self._unstored = b""
            # Frames wait for others from the end of the call and not from its beginning, because a
            # store that takes longer than frames wait would be called for each event otherwise.
            self._appended_at = now
        if self._failures.outage is not None:
            self.course.store_is_back()
        # The call is dropped, because a run that waits for its agent would keep the frames that it
        # has stored.
        del self._call
        self._failures.outage = None
        return self._pull(now) if outcome is Signal.CONTINUE else self._obey(outcome, now)

    def store_failed(self, error: BaseException, now: float) -> RunAction:
        """Take the ``error`` that the store call has raised. The run waits for a store that is
        unavailable; after any other error it ends, also in its log if the store can still close
        it (:mod:`.store_failures`).
        """
        self._expect("store_failed")
        method = self._call.method
        if self.metrics is not None:
            self.metrics.store_failed(method.name)
        call = FailedCall.APPEND
        if self.state is CLOSING:
            call = FailedCall.CLOSE_WITH_END if self._unstored else FailedCall.CLOSE
        else:
            self._take_back()
        if (pause := self._failures.pause(call, error, now, self)) is not None:
            self.course.asks_again(pause)
            return self._wait(pause, now)
        self.course.store_failed(method.label, error, closing=call is not FailedCall.APPEND)
        remedy = self._failures.remedy(call)
        if remedy is Remedy.CLOSE:
            fate = self._fate if self._failures.may_be_closed else RunOver("cancel")
            return self._close(now, fate, error="The thread store failed")
        if remedy is Remedy.APPEND_END:
            self._take_back()
            return self._append(now)
        if remedy is Remedy.CLOSE_AGAIN:
            return self._call
        self.course.stays_open()
        return self._over(self._fate, now)

    def farewell(self) -> Generator[Call, Any, None]:
        """The steps that follow the end of the run, once its agent has ended, too; see
        :func:`.run_end.farewell`.

        Each step is a call; send its outcome, or throw the error that it raised. There are no steps
        for a run that is not over.
        """
        if self.state is OVER:
            yield from counted(farewell(self), self.metrics)

    def _wait(self, pause: float, now: float) -> RunAction:
        """Go on while the store is unavailable, after a call that failed."""
        if self._failures.may_be_closed:
            self.state = WAITING
            return Pause(pause)
        self.state = PULLING
        return self._end_if_told(now) or self._hold(pause)

    def _hold(self, pause: float) -> RunAction:
        """Have the agent go on, or wait if too much is held already."""
        if len(self._held) > self.limits.outage_bytes:
            self.state = WAITING
            return Pause(pause)
        return PullEvent(self.limits.cleanup_seconds if self.recorder.terminal else None, pause)

    def _expect(self, call: str) -> None:
        if self.state not in CALLS[call]:
            raise LocalProtocolError(f"Run.{call} is not allowed in state {self.state.name}")

    def _pull(self, now: float) -> RunAction:
        self.state = PULLING
        told = self._abandoned or self._interruption is not None
        if (told or self._signal is not Signal.CONTINUE) and (end := self._end_if_told(now)):
            return end
        if self._failures.may_be_closed:
            return self._close(now, self._fate)
        if self._check_due:
            return self._renew()
        if self._held:
            return self._append(now)
        return PullEvent(self.limits.cleanup_seconds) if self.recorder.terminal else PULL

    def _end_if_told(self, now: float) -> RunAction | None:
        """End the run if a signal or another call has asked for it while the store was called."""
        if self._interruption is not None:
            return self._close(now, RunOver("cancel"), error=self._interruption)
        if self._abandoned:
            self._abandoned = False
            if (stop := self.abandon(now)) is not None:
                return stop
        return None if self._signal is Signal.CONTINUE else self._obey(self._signal, now)

    def _obey(self, signal: Signal, now: float) -> RunAction:
        """End the run, as the store says."""
        if signal is Signal.STOP:
            return self._close(now, RunOver("cancel"), is_stopped=True)
        if self._failures.may_be_closed:
            # The run is over, because the store has closed it: the answer to an earlier close was
            # lost.
            return self._over(self._fate, now)
        self.course.is_sealed = True
        return self._over(RunOver("drain"), now)

    def _append(self, now: float) -> RunAction:
        self._appended_at = now
        if self.course.first_event_at is None:
            self.course.first_event_at = now
        result = self.recorder.result
        self._ended = result is not None
        self._unstored, self._held = bytes(self._held), bytearray()
        self.state = STORING
        self._call = calls.append(self.store, self.key, self._at, self._unstored, result)
        return self._call

    def _renew(self) -> RunAction:
        self._check_due = False
        self.state = STORING
        self._call = calls.renew(self.store, self.key)
        return self._call

    def _take_back(self) -> None:
        """Hold again the frames of the store call in progress, whether or not the log has them."""
        self._held[:0] = self._unstored
        self._unstored = b""

    def _close(
        self, now: float, fate: RunOver, *, is_stopped: bool = False, error: str | None = None
    ) -> RunAction:
        self._fate = fate
        if self.course.error is None:
            self.course.error = error
        # A plain agent cannot be cancelled in its thread, and looks at its context instead.
        self.context.stop_requested = fate.agent == "cancel"
        self.course.is_stopped = is_stopped
        has_end = self.recorder.terminal
        last, result = self.recorder.finish(now, is_stopped=is_stopped, error=error)
        if self.tap is not None and last:
            self.tap(last, now)
        frames, self._held = bytes(self._held) + last, bytearray()
        self._unstored = frames if has_end else b""
        self.state = CLOSING
        self._call = calls.close_run(self.store, self.key, self._at, frames, result)
        return self._call

    def _over(self, fate: RunOver, now: float) -> RunAction:
        self.state = OVER
        recorder = self.recorder
        terminal = recorder.terminal and not self._overtaken
        self.course.ended(now, recorder.events, has_failed=recorder.has_failed, terminal=terminal)
        if self.metrics is not None:
            count(self, self.metrics)
        self.disband()
        return self.with_stop_call(fate) if fate.agent == "cancel" else fate
