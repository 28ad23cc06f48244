"""Holds what readers receive against what the agent said: not one event lost, doubled, misplaced.

A :class:`Run` knows its script. Each reader of it has a :class:`Reading`, which is told frame after
frame, over as many connections as the reader needs; :func:`check_replay` takes the history of a
thread, which is compacted. All of them raise :class:`Wrong`, which says of which stream, where in
it, and what was expected.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from sansio_copilot.events import EventError, verify_events
from sansio_copilot.sse import ServerSentEvent

from .script import STAMPED, Event, Plan, script

TERMINAL = ("RUN_FINISHED", "RUN_ERROR")
CLOSING = ("TEXT_MESSAGE_END", "TOOL_CALL_END", "TOOL_CALL_RESULT", *TERMINAL)
"""The events that the runtime itself appends to a run that does not come to its own end."""
DELTAS = {"TEXT_MESSAGE_CONTENT": "messageId", "TOOL_CALL_ARGS": "toolCallId"}
STATE = ("STATE_SNAPSHOT", "STATE_DELTA")


class Wrong(AssertionError):
    """A stream is not what it must be."""


@attrs.define(eq=False)
class Run:
    """A run, and what is known of it.

    :param stopped: whether it may end anywhere, because it was stopped or superseded.
    :ivar said: what it said from beginning to end, once a reader has seen its end.
    """

    thread_id: str
    run_id: str
    plan: Plan
    stopped: bool = False
    script: list[Event] = attrs.field(init=False)
    said: list[Event] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.script = script(self.plan, self.thread_id, self.run_id)

    @property
    def cut_short(self) -> bool:
        """Whether the agent itself leaves its run without an end."""
        return self.plan.ending in ("raises", "forgets")

    def settle(self, said: list[Event], who: str) -> None:
        """A reader has seen this run's end: each other one must see the same."""
        if self.said is None:
            self.said = said
        elif self.said != said:
            where, one, other = _difference(self.said, said)
            raise Wrong(
                f"{who}: event {where} differs from what another reader saw: {one}, now {other}"
            )


@attrs.define(eq=False)
class Reading:
    """A reader's progress in the frames of a live run, however often it has to connect.

    :ivar position: how many events it has seen.
    :ivar last_id: of the last of them, to resume behind it.
    """

    run: Run
    who: str = "reader"
    position: int = attrs.field(default=0, init=False)
    last_id: str = attrs.field(default="", init=False)
    _closing: list[Event] = attrs.field(factory=list, init=False)
    _token: str = attrs.field(default="", init=False)

    def __str__(self) -> str:
        return f"{self.who} of run {self.run.run_id} of thread {self.run.thread_id}"

    def take(self, frame: ServerSentEvent, *, has_id: bool = True) -> Event:
        """The next frame that arrived.

        :param has_id: suggestions have none.
        :raises Wrong: if it is another one than had to come.
        """
        event = _event_of(frame)
        if not self._is_expected(event):
            raise Wrong(f"{self}: event {self.position}: {self._diagnosis(event)}")
        if has_id:
            token, _, number = frame.id.rpartition(".")
            if number != str(self.position) or token != (self._token or token):
                expected = f"{self._token}.{self.position}"
                raise Wrong(f"{self}: event {self.position}: its id is {frame.id}, not {expected}")
            self._token, self.last_id = token, frame.id
        self.position += 1
        return event

    def end(self) -> None:
        """The stream has ended, well formed.

        :raises Wrong: if the run has not, or another reader saw another end.
        """
        run, seen = self.run, self.position - len(self._closing)
        if not self._closing and (seen < len(run.script) or run.cut_short):
            expected = run.script[seen] if seen < len(run.script) else "a terminal event"
            raise Wrong(
                f"{self}: ended after {seen} events of {len(run.script)}: "
                f"expected {_short(expected)}"
            )
        said = run.script[:seen] + self._closing
        try:
            verify_events(said)
        except EventError as error:
            raise Wrong(
                f"{self}: the end is not well formed: {error}: {_short(said[-5:])}"
            ) from None
        if said[-1]["type"] not in TERMINAL:
            raise Wrong(f"{self}: ends with {_short(said[-1])}, which is no terminal event")
        run.settle(said, str(self))

    def _is_expected(self, event: Event) -> bool:
        script = self.run.script
        if not self._closing:
            if self.position < len(script) and event == script[self.position]:
                return True
            ends_here = self.run.cut_short and self.position == len(script)
            if not (ends_here or self.run.stopped):
                return False
        if event["type"] not in CLOSING or (
            self._closing and self._closing[-1]["type"] in TERMINAL
        ):
            return False
        self._closing.append(event)
        return True

    def _diagnosis(self, event: Event) -> str:
        script = self.run.script
        expected = script[self.position] if self.position < len(script) else "a terminal event"
        if self._closing:
            expected = "what ends the run"
        what = "was not said"
        if event in script:
            found = script.index(event)
            what = (
                f"is event {found} again, doubled or out of order"
                if found < self.position
                else f"is event {found}: {found - self.position} before it are lost or out of order"
            )
        return f"expected {_short(expected)}, received {_short(event)}, which {what}"


def check_replay(runs: Sequence[Run], frames: Iterable[ServerSentEvent], who: str) -> None:
    """A thread's whole history: these runs, of each of which a reader has seen the end.

    :raises Wrong: if it is anything else.
    """
    tokens: dict[str, int] = {}
    found = []
    for frame in frames:
        token, _, number = frame.id.rpartition(".")
        expected = tokens.get(token, 0)
        if number.removeprefix("c") != str(expected):
            raise Wrong(f"{who}: the id {frame.id} came where {token} was at {expected}")
        tokens[token] = expected + 1
        found.append(_event_of(frame))
    check_texts(found, who)
    expected_events: list[Event] = []
    for run in runs:
        assert run.said is not None, "somebody has to have seen what is expected"
        expected_events += folded(run.said)
    if (got := folded(found)) != expected_events:
        where, one, other = _difference(expected_events, got)
        raise Wrong(f"{who}: event {where} of the history: expected {one}, received {other}")


def check_texts(events: Iterable[Event], who: str) -> None:
    """The stamps in the deltas of several runs: each number one more, each checksum right.

    :raises Wrong: at the first that is not.
    """
    number, checksum = 0, 0
    for event in events:
        if event["type"] == "RUN_STARTED":
            number, checksum = 0, zlib.crc32(event["runId"].encode())
        if event["type"] not in DELTAS:
            continue
        text, at = event["delta"], 0
        for match in STAMPED.finditer(text):
            where = f"{who}: delta {number} of {event[DELTAS[event['type']]]}"
            if match.start() != at:
                raise Wrong(f"{where}: {text[at : match.start()]!r} is no delta")
            if int(match[1]) != number:
                what = "doubled or out of order" if int(match[1]) < number else "lost"
                raise Wrong(f"{where} is {what}: delta {match[1]} came in its place")
            if match[2] != f"{checksum:08x}":
                raise Wrong(f"{where}: the text before it was altered: {match[2]} is its checksum")
            number, at = number + 1, match.end()
            checksum = zlib.crc32(match[0].encode(), checksum)
        if at != len(text):
            raise Wrong(f"{who}: {_short(text[at:])} behind delta {number - 1} is none")


def folded(events: Iterable[Event]) -> list[Event]:
    """A stream without what compacting changes: deltas put together, state as it is at the end."""
    out: list[Event] = []
    state: Any = None
    for event in events:
        kind = event["type"]
        if kind == "STATE_SNAPSHOT":
            state = dict(event["snapshot"])
        elif kind == "STATE_DELTA":
            (patch,) = event["delta"]
            state[patch["path"][1:]] = patch["value"]
        elif kind in DELTAS and out and out[-1]["type"] == kind and _same_entity(out[-1], event):
            out[-1] = {**out[-1], "delta": out[-1]["delta"] + event["delta"]}
        else:
            if kind in TERMINAL and state is not None:
                out.append({"type": "STATE_SNAPSHOT", "snapshot": state})
                state = None
            out.append(event)
    return out


def _same_entity(one: Event, other: Event) -> bool:
    name = DELTAS[one["type"]]
    return bool(one[name] == other[name])


def _event_of(frame: ServerSentEvent) -> Event:
    try:
        event: Event = json.loads(frame.data)
    except ValueError as error:
        ends = f"{frame.data[:200]!r} ... {frame.data[-200:]!r}"
        raise Wrong(f"event {frame.id} is no JSON: {error}: {ends}") from None
    if event["type"] == "RUN_STARTED":
        # The input is not compared, because the runtime adds it.
        event.pop("input", None)
    return event


def _difference(one: Sequence[Event], other: Sequence[Event]) -> tuple[int, str, str]:
    """Return where the two differ first, and what stands there."""
    where = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    found = [_short(side[where]) if where < len(side) else "nothing" for side in (one, other)]
    return where, *found  # type: ignore[return-value]


def _short(value: object, length: int = 300) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"
