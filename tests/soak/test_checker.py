"""The soak's own checker: what is whole passes, and no single fault does, wherever it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from soak.checker import Reading, Run, Wrong, check_replay, folded
from soak.script import Event, Plan

from sansio_copilot.events import compact_events
from sansio_copilot.sse import ServerSentEvent

FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
FAILED = {"type": "RUN_ERROR", "message": "on purpose"}
Frames = list[ServerSentEvent]


def make_run(run_id: str = "r", stopped: bool = False, **plan: Any) -> Run:
    return Run("t", run_id, Plan(seed=3, deltas=3, **plan), stopped)


def frames_of(events: list[Event], token: str = "1.abc.") -> Frames:
    """Return frames of ``events``, numbered as a server sends them."""
    return [
        ServerSentEvent(json.dumps(event), "message", f"{token}{number}", None)
        for number, event in enumerate(events)
    ]


def read(run: Run, frames: Frames) -> Reading:
    reading = Reading(run)
    for frame in frames:
        reading.take(frame)
    reading.end()
    return reading


def renumbered(frames: Frames) -> Frames:
    """Return frames with new ids, as if the fault were older than the ids."""
    return [
        attrs.evolve(frame, id=f"{frame.id.rpartition('.')[0]}.{number}")
        for number, frame in enumerate(frames)
    ]


def without(frames: Frames, at: int) -> Frames:
    return frames[:at] + frames[at + 1 :]


def doubled(frames: Frames, at: int) -> Frames:
    return frames[: at + 1] + frames[at:]


def swapped(frames: Frames, at: int) -> Frames:
    """Return frames in which one has changed places with the next, or the last with the first."""
    frames, other = list(frames), (at + 1) % len(frames)
    frames[at], frames[other] = frames[other], frames[at]
    return frames


def altered(frames: Frames, at: int) -> Frames:
    """Return frames with another value for the last member of an event."""
    event = json.loads(frames[at].data)
    name, value = list(event.items())[-1]
    event[name] = f"{value}x" if isinstance(value, str) else {"altered": True}
    return [*frames[:at], attrs.evolve(frames[at], data=json.dumps(event)), *frames[at + 1 :]]


FAULTS = [without, doubled, swapped, altered]
Fault = Callable[[Frames, int], Frames]


def everywhere(fault: Fault, frames: Frames) -> Iterator[Frames]:
    """The stream with that fault at each place, numbered as before and anew."""
    for at in range(len(frames)):
        faulty = fault(frames, at)
        yield faulty
        yield renumbered(faulty)


# --- A run as it is streamed ---------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["finishes", "asks"])
def test_a_whole_run_passes(ending: Any) -> None:
    run = make_run(ending=ending)
    read(run, frames_of(run.script))
    assert run.said == run.script


@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_fault_anywhere_fails(fault: Fault) -> None:
    run = make_run()
    for faulty in everywhere(fault, frames_of(run.script)):
        with pytest.raises(Wrong, match="of run r of thread t: "):
            read(run, faulty)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (without, "event 4: expected .*1 before it are lost"),
        (doubled, "event 5: expected .*is event 4 again, doubled"),
        (swapped, "event 4: expected .*lost or out of order"),
    ],
)
def test_the_checker_says_where_and_what_was_expected(fault: Fault, told: str) -> None:
    run = make_run()
    with pytest.raises(Wrong, match=told):
        read(run, fault(frames_of(run.script), 4))


def test_a_run_that_ends_early_fails() -> None:
    run = make_run()
    for length in range(len(run.script)):
        with pytest.raises(Wrong, match=f"ended after {length} events"):
            read(run, frames_of(run.script[:length]))


def test_an_event_of_another_run_fails() -> None:
    run, other = make_run(), make_run("other")
    differ = [at for at, event in enumerate(run.script) if event != other.script[at]]
    assert len(differ) > 10
    for at in differ:
        with pytest.raises(Wrong):
            read(run, frames_of([*run.script[:at], other.script[at], *run.script[at + 1 :]]))


def test_ids_of_another_run_fail() -> None:
    run = make_run()
    frames = frames_of(run.script)
    with pytest.raises(Wrong, match=r"its id is 2\.abc\.7, not 1\.abc\.7"):
        read(run, frames[:7] + frames_of(run.script, "2.abc.")[7:])


@pytest.mark.parametrize("seam", [-1, 1])
def test_a_resume_that_is_off_by_one_fails(seam: int) -> None:
    """A resume that repeats one event, or leaves one out, is reported."""
    run = make_run()
    frames = frames_of(run.script)
    for cut in range(1, len(frames) - 1):
        with pytest.raises(Wrong):
            read(run, frames[:cut] + frames[cut + seam :])


# --- Runs that are ended -------------------------------------------------------------------------


def closed(run: Run, length: int) -> list[Event]:
    """Cut there, and closed as a runtime does."""
    said = run.script[:length]
    closing = []
    kinds = [("TEXT_MESSAGE", "messageId"), ("TOOL_CALL", "toolCallId")]
    for kind, name in kinds:
        ids = {event[name] for event in said if event["type"] == f"{kind}_START"}
        ids -= {event[name] for event in said if event["type"] == f"{kind}_END"}
        closing += [{"type": f"{kind}_END", name: one} for one in ids]
    return [*said, *closing, FINISHED]


def test_a_stopped_run_may_end_anywhere() -> None:
    length = len(make_run().script)
    for cut in range(1, length):
        run = make_run(stopped=True)
        read(run, frames_of(closed(run, cut)))
        assert run.said == closed(run, cut)


def test_a_run_that_was_not_stopped_may_not() -> None:
    run = make_run()
    for cut in range(1, len(run.script) - 1):
        with pytest.raises(Wrong):
            read(run, frames_of(closed(run, cut)))


def test_a_forgotten_closer_fails() -> None:
    run = make_run(stopped=True)
    inside = [event["type"] for event in run.script].index("TEXT_MESSAGE_CONTENT")
    with pytest.raises(Wrong, match="not well formed"):
        read(run, frames_of([*run.script[:inside], FINISHED]))


def test_an_end_without_a_terminal_event_fails() -> None:
    run = make_run(stopped=True)
    with pytest.raises(Wrong, match="ended after 4 events"):
        read(run, frames_of(run.script[:4]))


def test_an_event_behind_a_terminal_event_fails() -> None:
    run = make_run(stopped=True)
    with pytest.raises(Wrong, match="expected what ends the run"):
        read(run, frames_of([*run.script[:2], FINISHED, FINISHED]))


def test_a_failed_run_ends_where_its_agent_does() -> None:
    run = make_run(ending="raises")
    said = [*closed(run, len(run.script))[:-1], FAILED]
    read(run, frames_of(said))
    with pytest.raises(Wrong):
        read(run, frames_of([*run.script[:1], FAILED]))


@pytest.mark.parametrize("other", [3, 5])
def test_two_readers_see_the_same_end(other: int) -> None:
    run = make_run(stopped=True)
    read(run, frames_of(closed(run, 4)))
    with pytest.raises(Wrong, match="differs from what another reader saw"):
        read(run, frames_of(closed(run, other)))


# --- The history of a thread ---------------------------------------------------------------------


def history(*runs: Run) -> Frames:
    """Return the compacted frames of runs that have been read."""
    frames = []
    for number, run in enumerate(runs):
        assert run.said is not None
        frames += frames_of(compact_events(run.said), f"{number}.abc.c")
    return frames


def runs_that_were_read() -> list[Run]:
    runs = [make_run("r1"), make_run("r2", ending="asks"), make_run("r", stopped=True)]
    for run in runs[:2]:
        read(run, frames_of(run.script))
    read(runs[2], frames_of(closed(runs[2], 12)))
    return runs


def test_a_whole_history_passes() -> None:
    runs = runs_that_were_read()
    check_replay(runs, history(*runs), "history")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_fault_anywhere_in_a_history_fails(fault: Fault) -> None:
    runs = runs_that_were_read()
    whole = history(*runs)
    for at in range(len(whole)):
        with pytest.raises(Wrong, match="history"):
            check_replay(runs, fault(whole, at), "history")


def test_a_run_too_few_or_too_many_fails() -> None:
    runs = runs_that_were_read()
    with pytest.raises(Wrong, match=r"expected .*RUN_STARTED.*, received nothing"):
        check_replay(runs, history(*runs[:2]), "history")
    with pytest.raises(Wrong, match=r"expected nothing, received .*RUN_STARTED"):
        check_replay(runs[:2], history(*runs), "history")


def tampered(change: Callable[[list[str]], list[str]]) -> Frames:
    """The history of one run, with the deltas of one message changed before they were joined."""
    run = make_run()
    read(run, frames_of(run.script))
    frames = history(run)
    at, event = next(
        (n, event)
        for n, event in enumerate(json.loads(frame.data) for frame in frames)
        if event["type"] == "TEXT_MESSAGE_CONTENT"
    )
    deltas = change([f"{delta};" for delta in event["delta"].split(";")[:-1]])
    frames[at] = attrs.evolve(frames[at], data=json.dumps({**event, "delta": "".join(deltas)}))
    return frames


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda deltas: deltas[1:], "delta 0 of r-m1 is lost: delta 1 came"),
        (lambda deltas: [*deltas[:2], *deltas[1:]], "delta 2 of r-m1 is doubled"),
        (lambda deltas: [deltas[0], deltas[2], deltas[1]], "delta 1 of r-m1 is lost"),
        (lambda deltas: [deltas[0][:-1] + "x;", *deltas[1:]], "delta 1 of r-m1: .* altered"),
        (lambda deltas: [deltas[0], "x", *deltas[1:]], "delta 1 of r-m1: 'x' is no delta"),
    ],
    ids=["lost", "doubled", "swapped", "altered", "added"],
)
def test_the_stamps_tell_of_deltas_that_were_joined(
    change: Callable[[list[str]], list[str]], told: str
) -> None:
    run = make_run()
    run.said = run.script
    with pytest.raises(Wrong, match=told):
        check_replay([run], tampered(change), "history")


def test_folding_is_what_compacting_leaves_alone() -> None:
    run = make_run()
    assert folded(compact_events(run.script)) == folded(run.script)
    assert len(folded(run.script)) < len(run.script)
