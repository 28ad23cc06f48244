"""Recording a run: an agent's events go in, frames for the log come out.

A recorder is a row of machines, each of which knows one thing, and which see each event once:

    the agent's event -> event_dict -> normalize_event -> ChunkExpander -> ThinkingUpgrader
        -> Verifier -> encoded to a frame -> MessageFolder, Compactor

The expander and the upgrader are made when the first event comes that needs them. The expander is
in front, because a message of chunks ends at the next event even if that event is refused.

The machines in front of the frame may refuse an event. Then the machines behind it have not
changed, the run ends with an error, and no further event is taken. The machines behind the frame
add up the result of the run, its :class:`~sansio_copilot.stores.RunResult`. They refuse only
patches, before these have changed anything, because the effect of a patch is not known until it is
applied.

Three rules make it right:

- Frames leave in the order of events, and the position in their id counts them without a gap, so
  that a reader resumes exactly.
- The result is made together with the frames of a terminal event and is appended with them, so that
  the thread is free at the moment in which a reader sees the end.
- Whatever the agent did, :meth:`RunRecorder.finish` leaves a log that the verifier accepts.

Almost every event is one more delta of the message before it, and goes by :mod:`.delta_shortcut`
around all of the machines. A test runs any stream with and without it, and compares every byte. So
a machine that is added must also be given the deltas of a continuation.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from .. import json_codec
from ..agents.disclosure import TELLS_ALL, Teller
from ..agents.protocols import event_dict
from ..events import (
    ChunkExpander,
    Compactor,
    EventError,
    MessageFolder,
    ThinkingUpgrader,
    Verifier,
    compact,
    message_folder,
    normalize_event,
)
from ..events.chunk_events import CHUNKS
from ..events.converters import Misfit
from ..events.finalize import closing_events
from ..events.next_body import SENT_BACK, SURE_BRACKETS, check_fits
from ..events.normalize import EVENTS
from ..events.patch import PatchBudget
from ..events.thinking import THINKING
from ..events.types import Event
from ..limits import DEFAULT_LIMITS, Limits
from ..sse import FRAME, NUMBERED_FRAME, frame_data
from ..stores.protocol import Orphan, RunKey, RunResult
from . import thread_waits
from .compacted_result import compacted_result, messages_of
from .completion import COMPLETED, Completion
from .delta_shortcut import DELTAS, Continuation
from .developer_warnings import DeveloperWarnings
from .thread_waits import Waits
from .token_usage import sum_up

logger = logging.getLogger(__name__)

# The results of the first runs of a stream are made at once, up to this number of runs, although
# each is made of all events before it.
_RESULTS_AT_ONCE = 8
_TERMINAL = frozenset({"RUN_FINISHED", "RUN_ERROR"})
_SKIPPED = "run %r: state deltas that do not apply, and are kept as they are: %d"


class RunRecorder:
    """Turns one run's events into frames and, at its end, into a :class:`RunResult`.

    It knows no clock and no store. It takes no more events after :attr:`error` was set or
    :meth:`finish` was called.

    :param key: the run.
    :param input: the run's input as JSON; RUN_STARTED carries it to readers who did not send it.
        None for a run that stores nothing, whose frames have no ids either.
    :param known_message_ids: ids of the messages of the input that history has already, so that a
        replay need not repeat them.
    :param limits: the limits of the values that its patches make, and that a client sends back.
    :param raw_events: whether RAW events and ``rawEvent`` members are kept.
    :param teller: decides what clients are told of a RUN_ERROR that the agent yields.
    :param waits_for: what the thread has waited for before the run.
    """

    __slots__ = (
        *("_warnings", "_compactor", "_complete", "_expander", "_folder", "_going", "_input"),
        *("_key", "_limits", "_raw_events", "_result_due", "_results", "_sure_bytes"),
        *("_token", "_upgrader", "_verifier", "_waits"),
        *("close", "error", "events", "failure", "has_failed", "result", "size", "teller"),
        *("agent_has_raised", "terminal", "usage"),
    )

    def __init__(
        self,
        key: RunKey,
        input: Mapping[str, Any] | None,
        known_message_ids: Collection[str] = (),
        limits: Limits = DEFAULT_LIMITS,
        *,
        raw_events: bool = False,
        teller: Teller = TELLS_ALL,
        waits_for: bytes | None = None,
    ) -> None:
        self._key = key
        self._raw_events = raw_events
        self.teller = teller
        self._input = input
        self._complete = Completion(key, input, known_message_ids)
        self._token = b"" if input is None else key.token.encode()
        self.events = 0
        """The number of events that were recorded."""
        self._expander: ChunkExpander | None = None
        self._upgrader: ThinkingUpgrader | None = None
        self._verifier = Verifier()
        self._limits = limits
        # An event with fewer bytes has fewer values, too.
        self._sure_bytes = min(limits.body_bytes, limits.body_values)
        self._begin(messages_of(input))
        self._waits = Waits(waits_for)
        self._going: Continuation | None = None
        self._warnings = DeveloperWarnings(key.run_id, teller.agent_id)
        self._results = self._result_due = 0
        self.agent_has_raised = False
        """Whether the agent ends the run by an exception."""
        self.terminal = False
        """Whether the last event was terminal, so that the run has ended unless another follows."""
        self.has_failed = False
        """Whether a RUN_ERROR was recorded."""
        self.failure: str | None = None
        """The text of the agent's own RUN_ERROR; clients may be told another text."""
        self.size = 0
        """The size of all frames in bytes."""
        self.usage: list[dict[str, Any]] = []
        """The tokens that the agent says it has used; see :attr:`.RunReport.usage`."""
        self.error: str | None = None
        """The rule that an event broke, so that the run must end, in words for its developer."""
        self.result: RunResult | None = None
        """The result if the run ends here; set while its terminal event is the last one.

        An agent may go on with further runs in the same stream, and each result is made of all
        events before it. So from the ninth run on a result is made only when the stream has doubled
        since the last result, and by :meth:`finish`.
        """

    def record(self, event: object, now: float) -> bytes:
        """Take one event from the agent.

        An event that breaks a rule sets :attr:`error`.

        :param now: seconds since the epoch.
        :returns: the frames to append, which may be empty. Frames that are returned with an error
            precede it.
        """
        # This is one function, because every event of every run passes it, and calls cost.
        frames: list[bytes] = []
        going = self._going
        try:
            # Almost every event of a stream continues the one before it, and needs no copy.
            if (
                going is not None
                and type(event) is dict
                and (data := going.take(event)) is not None
            ):
                return self._frame(data)
            fields = event_dict(event, raw=self._raw_events)
            if fields is None:
                return b""
            if going is not None:
                # Only a model is looked at here, because a dict was looked at above, before it was
                # copied.
                if type(event) is not dict and (data := going.take(fields)) is not None:
                    return self._frame(data)
                self._going = None
            try:
                # The converter is looked up here, as the handlers in _keep() are.
                normal = EVENTS[fields["type"]](fields)
            except (KeyError, TypeError, Misfit):
                # This call returns None for an unknown type, and refuses any other of these events.
                normal = normalize_event(fields)
            if normal is not None:
                type_ = normal["type"]
                expander = self._expander
                expanded: Iterable[Event] = (normal,)
                if type_ == "RUN_ERROR":
                    self._tell(normal)
                    if self.events == 0:
                        expanded = (self._start(), normal)
                        self._waits.has_begun = False
                if type_ in CHUNKS or (expander is not None and expander.lanes):
                    expander = self._expander = expander or ChunkExpander()
                    expanded = expander.feed(normal)
                for one in expanded:
                    written = one
                    if self._upgrader is not None or one["type"] in THINKING:
                        written = self._upgrade(one)
                    type_ = written["type"]
                    whole = self._complete(written) if type_ in COMPLETED else written
                    try:
                        data = json_codec.encode_usual(whole)
                    except (UnicodeEncodeError, RecursionError):
                        data = json_codec.encode(whole)
                    if (type_ in SENT_BACK or "metadata" in written) and (
                        len(data) >= self._sure_bytes
                        or data.count(b"{") + data.count(b"[") >= SURE_BRACKETS
                    ):
                        check_fits(written, self._limits)
                    # The completed event is verified, because clients verify it in this form.
                    self._verifier.feed(whole)
                    frames.append(self._keep(whole, data))
                if len(frames) == 1 and written["type"] in DELTAS:
                    history = self._compactor.continuation(written)
                    message = self._folder.continuation(written)
                    self._going = Continuation.of(normal, written, message, history)
            else:
                # The event is dropped, as in the reference, because a client could not read it.
                self._warnings.unknown(fields["type"])
        except (TypeError, ValueError, RecursionError) as error:
            # The error is an EventError, or pydantic's, if a model has no form in JSON.
            self.error = str(error)
        if frames:
            due = self.terminal and self.events >= self._result_due
            self.result = self._result(now) if due else None
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(
        self, now: float, *, is_stopped: bool = False, error: str | None = None
    ) -> tuple[bytes, RunResult | None]:
        """End the run.

        :param now: seconds since the epoch.
        :param is_stopped: whether somebody has stopped it, so that it ends with RUN_FINISHED rather
            than RUN_ERROR.
        :param error: the reason for the end, in words that reach the client.
        :returns: the frames that make the run well formed, and its result, which is None if its
            agent failed before its first event.
        """
        leaves_history = self.events > 0 or (self.error is None and not self.agent_has_raised)
        closing = []
        if not self.terminal:
            kept = self._compactor.kept
            closing = closing_events(kept, stop_requested=is_stopped, message=error)
        self.terminal = True
        frames: list[bytes] = []
        if closing:
            if self.events == 0 and leaves_history:
                first = self._complete(self._start())
                frames.append(self._keep(first, json_codec.encode(first)))
            # A stopped run waits for nothing, though RUN_FINISHED ends it.
            self._waits.ended = None if is_stopped else "RUN_ERROR"
        for event in closing[:-1]:
            self._verifier.feed(event)
        if closing and is_stopped:
            # RUN_FINISHED must leave nothing open. The finalizer, like the reference, does not end
            # steps, tool calls that were started again, and tool calls with an empty id; the
            # verifier ends these.
            closing[-1:] = [*self._verifier.closers(), closing[-1]]
        closing[-1:] = map(self._complete, closing[-1:])
        for event, data in zip(closing, json_codec.encode_each(closing), strict=True):
            frames.append(self._frame(data))
            if event["type"] == "RUN_ERROR":
                self._end_messages()
            # The folder is not fed: the messages of a thread are what its agents have said, as in
            # the reference, without the results that the finalizer gives to open tool calls.
            compact.HANDLERS.get(event["type"], compact.KEEP)(self._compactor, event)
        if not leaves_history:
            self.result = None
        elif frames or self.result is None:
            self.result = self._result(now)
        if skipped := self._compactor.skipped:
            logger.warning(_SKIPPED, self._key.run_id, skipped)
        return b"".join(frames), self.result

    @classmethod
    def adopt(cls, orphan: Orphan, limits: Limits = DEFAULT_LIMITS) -> RunRecorder:
        """Return a recorder in the state of the one that died with the owner of ``orphan``.

        Only :meth:`finish` is to be called on it.

        :param limits: see the class.
        """
        said = frame_data(orphan.frames)
        events = [json_codec.decode(data) for data in said]
        given = events[0].get("input") if events else None
        given = given if isinstance(given, dict) else {}
        recorder = cls(orphan.key, given, (), limits, waits_for=orphan.waits_for)
        recorder.close()
        recorder._begin(json_codec.decode(orphan.messages))
        for event, data in zip(events, said, strict=True):
            # Older releases verified RUN_STARTED before the input was added to it.
            with suppress(EventError):
                recorder._verifier.feed(event)
            # A delta that nests too deeply may be there, because older releases took it.
            with suppress(EventError):
                recorder._keep(event, data)
        recorder.events, recorder.size = len(events), len(orphan.frames)
        return recorder

    def _begin(self, conversation: list[Any]) -> None:
        """Begin to fold and compact, with ``conversation`` as the messages before the run."""
        given = self._input or {}
        left = self._limits.patch_bytes
        self._folder = MessageFolder(conversation, PatchBudget(left))
        self.close = self._folder.conversation.close
        """Frees the folded messages; called when a run is over and its recorder unused."""
        self._compactor = Compactor(
            given.get("state"), PatchBudget(left), conversation, knows_state="state" in given
        )

    def _start(self) -> Event:
        """The RUN_STARTED of a run that leaves history and ends before its agent has sent one.

        Clients refuse RUN_FINISHED as a stream's first event. They take RUN_ERROR there, but refuse
        it in a replay behind the RUN_ERROR of an earlier run; and without RUN_STARTED the messages
        of the run's input would not be in the replay.
        """
        key = self._key
        return {"type": "RUN_STARTED", "threadId": key.thread_id, "runId": key.run_id}

    def _upgrade(self, event: Event) -> Event:
        if self._upgrader is None:
            is_running = self.events > 0 and not self.terminal
            self._upgrader = ThinkingUpgrader(self._key.token, is_running=is_running)
        return self._upgrader.feed(event)

    def _keep(self, event: Event, data: bytes) -> bytes:
        type_ = event["type"]
        # The frame is made as in _frame(), because calls cost.
        frame = NUMBERED_FRAME % (self._token, self.events, data) if self._token else FRAME % data
        # The handlers are looked up here and not by each machine's feed(), because calls cost.
        if (fold := message_folder.HANDLERS.get(type_)) is not None:
            fold(self._folder, event)
        if type_ == "ACTIVITY_DELTA":
            self._warnings.look_at(type_, self._folder.declined)
        elif type_ == "RUN_ERROR":
            self._end_messages()
        compact.HANDLERS.get(type_, compact.KEEP)(self._compactor, event)
        if type_ in thread_waits.OBSERVED:
            self._waits.observe(event)
        if type_ in _TERMINAL:
            self.terminal = True
            if usage := event.get("usage"):
                sum_up(self.usage, usage)
        elif type_ == "RUN_STARTED":
            self.terminal = False
            self._complete.input_bytes -= len(frame)
        elif type_ == "STATE_DELTA":
            self._warnings.look_at(type_, self._compactor.declined)
        self.events += 1
        self.size += len(frame)
        return frame

    def _tell(self, failure: dict[str, Any]) -> None:
        """Put the text that clients are told into a RUN_ERROR of the agent's own."""
        said = self.failure = failure["message"]
        failure["message"] = self.teller.told(dict(failure), said)
        if failure["message"] != said:
            logger.error("agent %r ended its run: %s", self.teller.agent_id, said)

    def _end_messages(self) -> None:
        """End in a replay the messages that RUN_ERROR, which comes next, leaves open.

        A replay has each message whole, in the place of its end. A message without an end would
        come behind RUN_ERROR, where a client takes nothing any more.
        """
        self.has_failed = True
        for closer in self._verifier.closers():
            if closer["type"] in ("TEXT_MESSAGE_END", "TOOL_CALL_END"):
                self._compactor.feed(closer)

    def _frame(self, data: bytes) -> bytes:
        position = self.events
        self.events = position + 1
        frame = NUMBERED_FRAME % (self._token, position, data) if self._token else FRAME % data
        self.size += len(frame)
        return frame

    def _result(self, now: float) -> RunResult | None:
        token = self._token or self._key.token.encode()
        try:
            result = compacted_result(
                token, self._compactor, self._folder, self._waits, self._input, now
            )
        except (ValueError, RecursionError) as error:
            # Many deltas, each of them harmless, can build a value that has no copy or no JSON.
            logger.error("run %r leaves no history: %s", self._key.run_id, error)
            return None
        self._results += 1
        self._result_due = 2 * self.events if self._results >= _RESULTS_AT_ONCE else 0
        return result
