"""Targets: the event machines, and a run's recorder, which has them all."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from fuzz.support import json_lines
from support.model_events import last_run
from support.owner import append, close

from sansio_copilot import MemoryStore, json_codec
from sansio_copilot.agents.protocols import event_dict
from sansio_copilot.endpoints.run_input import parse_input
from sansio_copilot.events import (
    ChunkExpander,
    Compactor,
    EventError,
    ThinkingUpgrader,
    Verifier,
    compact_events,
    expand_chunks,
    finalize_events,
    fold_messages,
    fold_state,
    normalize_event,
    verify_events,
)
from sansio_copilot.events.thinking import THINKING
from sansio_copilot.http.refusals import Refusal
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.sse import frame_data
from sansio_copilot.stores import Batch
from sansio_copilot.stores.protocol import Orphan, RunKey, RunOpened, RunRequest

Event = dict[str, Any]


def _known(values: Iterable[Any]) -> list[Event]:
    """Return the values that have the shape of their type."""
    known = []
    for value in values:
        try:
            if (normal := normalize_event(value)) is not None:
                known.append(normal)
        except EventError as error:
            assert str(error)
    return known


def machines(data: bytes) -> None:
    """Machines keep their promises for the events of ``data``, one a line, that are valid."""
    events = _known(json_lines(data))
    before = copy.deepcopy(events)
    _check_alone(events)
    accepted = _accepted(_upgraded(_expanded(events)))
    _check_accepted(accepted)
    assert events == before, "a machine has changed what it was given"


def _upgraded(events: list[Event]) -> list[Event]:
    """Return the events without the deprecated types; a misplaced event has changed nothing."""
    upgrader, out = ThinkingUpgrader("x"), []
    for event in events:
        try:
            out.append(upgrader.feed(event))
        except EventError as error:
            assert str(error)
    return out


def _expanded(events: list[Event]) -> list[Event]:
    expander = ChunkExpander()
    out: list[dict[str, Any]] = []
    for event in events:
        try:
            expanded = expander.feed(event)
        except EventError as error:
            assert str(error)
            break
        if not event["type"].endswith("_CHUNK"):
            assert expanded[-1] is event
        for one in expanded:
            assert not one["type"].endswith("_CHUNK")
            assert normalize_event(one)
        out += expanded
    return out


def _accepted(events: list[Event]) -> list[Event]:
    """Return the events that the verifier accepts; an event that it refuses has changed nothing."""
    verifier, accepted, refused = Verifier(), [], False
    for event in events:
        try:
            verifier.feed(event)
        except EventError as error:
            assert str(error)
            refused = True
        else:
            # The upgrader has seen a refused event too, so that it may take a run for ended that
            # still goes on. In front of the first refusal the two agree.
            if event["type"] in THINKING:
                assert refused
            else:
                accepted.append(event)
    assert verify_events(accepted) == accepted
    if accepted and accepted[-1]["type"] not in ("RUN_FINISHED", "RUN_ERROR"):
        verify_events([*accepted, *verifier.closers(), {"type": "RUN_FINISHED"}])
    return accepted


def _check_alone(events: list[Event]) -> None:
    """Check the promises that hold for events in any order."""
    for machine in (expand_chunks, verify_events):
        try:
            machine(events)
        except EventError as error:
            assert str(error)
    finalize_events(events, stop_requested=True)
    fold_messages(events)
    fold_state(events)
    compact_events(events)


def _check_accepted(events: list[Event]) -> None:
    """Check the promises that hold for a stream that is in order."""
    run = last_run(events)
    closing = finalize_events(run)
    verify_events([*run, *closing])
    assert finalize_events([*run, *closing]) == []
    once = compact_events(events)
    assert fold_state(once) == fold_state(events)
    twice = compact_events(once)
    assert compact_events(twice) == twice
    assert fold_state(twice) == fold_state(events)
    assert fold_messages(once) == fold_messages(twice) == fold_messages(events)
    assert all(isinstance(message["id"], str) for message in fold_messages(events))


def recorder(data: bytes) -> None:
    """The first line is the run's input, the others are events, or how it ends: a string or true.

    Whatever an agent yields: the log is well formed, and so is what the run leaves; a client that
    was cut off anywhere gets the rest; and whoever takes the run over ends it the same way. All of
    that holds with the data that frameworks add to events, and without it.
    """
    for raw_events in (False, True):
        _check_recorder(data, raw_events)


def _check_recorder(data: bytes, raw_events: bool) -> None:
    first, _, rest = data.partition(b"\n")
    try:
        given = parse_input(json_codec.decode(first)).json
    except (Refusal, ValueError):
        given, rest = {"threadId": "t", "runId": "r", "messages": []}, data
    store = MemoryStore(resumable_runs=4)
    opened = store.open_run(RunRequest("t", "r", "a"))
    assert isinstance(opened, RunOpened)
    run = RunRecorder(opened.key, given, raw_events=raw_events)
    frames, end = b"", dict[str, Any]()
    for value in json_lines(rest):
        if value is True or isinstance(value, str):
            end = {"is_stopped": True} if value is True else {"error": value}
            break
        more = run.record(value, 1.0)
        frames += more
        append(store, opened.key, more, run.result)
        if run.error is not None:
            end = {"error": run.error}
            break
    _check_resumption(store, frames)
    closing, result = run.finish(2.0, **end)
    close(store, opened.key, closing, result)
    whole = frames + closing
    said = _said(json_lines(rest), opened.key, raw_events)
    assert _as_said(_events_in(frames)) == _as_said(said)
    _check_log(whole)
    if result is not None:
        _check_log(result.frames)
        # Messages that the agent has said count; the reference, too, leaves out the runtime's
        # closers.
        folded = fold_messages(_events_in(frames), given.get("messages") or [])
        assert _decoded(result.messages) == (folded or None)
        later = store.open_run(RunRequest("t", "later", "a"))
        assert isinstance(later, RunOpened)
        append(store, later.key, b"id: %s.0\ndata: {}\n\n" % later.key.token.encode())
        _check_resumption(store, whole, later.key)
        _check_resumption(store, result.frames, later.key)
        replayed = _events_in(result.frames)
        before = given.get("messages") or []
        again = Compactor(given.get("state"), None, before, knows_state="state" in given)
        for event in replayed:
            again.feed(event)
        assert again.finish() == replayed
    if frames:
        orphan = Orphan(opened.key, "a", frames, json_codec.encode(given.get("messages") or []))
        adopted, left = RunRecorder.adopt(orphan).finish(2.0, **end)
        assert adopted == closing
        if "state" not in given and result is not None:
            assert left is not None
            assert (left.frames, left.state) == (result.frames, result.state)


def _said(values: list[Any], key: RunKey, raw_events: bool) -> list[Event]:
    """Return an agent's events by the long way: each checked, written out and verified."""
    expander, upgrader = ChunkExpander(), ThinkingUpgrader(key.token)
    verifier, said = Verifier(), list[Event]()
    for value in values:
        if value is True or isinstance(value, str):
            break
        try:
            fields = event_dict(value, raw=raw_events)
            normal = None if fields is None else normalize_event(fields)
            for one in () if normal is None else expander.feed(normal):
                upgraded = upgrader.feed(one)
                verifier.feed(upgraded)
                said.append(json_codec.decode(json_codec.encode(upgraded)))
        except (ValueError, RecursionError):
            break
    if said and said[0]["type"] == "RUN_ERROR":
        # The runtime begins such a run itself, because clients refuse the error behind that of an
        # earlier run.
        said.insert(0, {"type": "RUN_STARTED", "threadId": key.thread_id, "runId": key.run_id})
    return said


def _as_said(events: list[Event]) -> list[Event]:
    """Return the events without what the runtime adds."""
    added = {"RUN_STARTED": ("input",), "RUN_FINISHED": ("threadId", "runId")}
    return [
        {key: value for key, value in event.items() if key not in added.get(event["type"], ())}
        for event in events
    ]


def _check_log(frames: bytes) -> None:
    events = _events_in(frames)
    verify_events(events)
    if events:
        assert events[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")


def _check_resumption(store: MemoryStore, frames: bytes, later: RunKey | None = None) -> None:
    """A reader of some of ``frames`` gets exactly the others, and those of a ``later`` run."""
    following = b"" if later is None else b"id: %s.0\ndata: {}\n\n" % later.token.encode()
    seen = 0
    for frame in frames.split(b"\n\n")[:-1]:
        seen += len(frame) + 2
        event_id = frame.partition(b"\n")[0].removeprefix(b"id: ").decode()
        batch = store.read(store.open_cursor("t", event_id), len(frames) + 1000)
        assert isinstance(batch, Batch)
        assert batch.data == frames[seen:] + following


def _events_in(frames: bytes) -> list[Event]:
    return [json.loads(text) for text in frame_data(frames)]


def _decoded(text: bytes | None) -> Any:
    return None if text is None else json_codec.decode(text)
