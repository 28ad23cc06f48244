"""Every machine costs no more than what is said to it, and keeps no more: at N, 2N and 4N."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.owner import append
from support.steps import grows_linearly, steps

from sansio_copilot import ForwardHeaders, Headers, MemoryStore, json_codec
from sansio_copilot.events import (
    ChunkExpander,
    Compactor,
    Finalizer,
    MessageFolder,
    StateFolder,
    Verifier,
)
from sansio_copilot.runs.recorder import RunRecorder
from sansio_copilot.sse import Parser
from sansio_copilot.stores import Batch
from sansio_copilot.stores.protocol import Orphan, RunKey, RunOpened, RunRequest

Event = dict[str, Any]
Stream = Callable[[int], Iterator[Event]]

KEY = RunKey("t", 1, "r")
STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def text(what: str, message_id: str = "m", **fields: Any) -> Event:
    return {"type": f"TEXT_MESSAGE_{what}", "messageId": message_id, **fields}


def call(what: str, call_id: str = "c", **fields: Any) -> Event:
    return {"type": f"TOOL_CALL_{what}", "toolCallId": call_id, **fields}


def delta(*operations: Event) -> Event:
    return {"type": "STATE_DELTA", "delta": list(operations)}


def add(path: str, value: Any) -> Event:
    return {"op": "add", "path": path, "value": value}


BAD = delta({"op": "remove", "path": "/no/such/place"})


# -- the streams: everything that may be large in one way --------------------------------------


def deltas_of_one_message(n: int) -> Iterator[Event]:
    yield text("START")
    for _ in range(n):
        yield text("CONTENT", delta="x")
        yield text("CONTENT", delta="x", timestamp=1)
    yield text("END")


def deltas_with_metadata(n: int) -> Iterator[Event]:
    yield text("START")
    yield call("START", toolCallName="f")
    for number in range(n):
        yield text("CONTENT", delta="x", metadata={f"k{number}": 1})
        yield call("ARGS", delta="x", metadata={f"k{number}": 1})
    yield text("END")
    yield call("END")


def messages_one_after_the_other(n: int) -> Iterator[Event]:
    for number in range(n):
        yield text("START", f"m{number}")
        yield text("CONTENT", f"m{number}", delta="x")
        yield {"type": "CUSTOM", "name": "n", "value": 1}
        yield text("END", f"m{number}")


def one_message_again_and_again(n: int) -> Iterator[Event]:
    for _ in range(n):
        yield text("START")
        yield text("CONTENT", delta="x")
        yield text("END")
        yield call("START", toolCallName="f")
        yield call("ARGS", delta="x")
        yield call("END")


def everything_open_at_once(n: int) -> Iterator[Event]:
    for number in range(n):
        yield {"type": "SUBAGENT_STARTED", "subagentRunId": f"s{number}", "name": "s"}
        yield {"type": "STEP_STARTED", "stepName": f"s{number}"}
        yield text("START", f"m{number}")
        yield call("START", f"c{number}", toolCallName="f", parentMessageId="m0")
        yield {"type": "REASONING_START", "messageId": f"z{number}"}
        yield {"type": "REASONING_MESSAGE_START", "messageId": f"z{number}", "role": "reasoning"}
    for number in range(n):
        yield {"type": "CUSTOM", "name": "n", "value": 1}
        yield text("CONTENT", f"m{number}", delta="x")
        yield call("ARGS", f"c{number}", delta="x")
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": f"z{number}", "delta": "x"}
    for number in reversed(range(n)):
        yield {"type": "REASONING_MESSAGE_END", "messageId": f"z{number}"}
        yield {"type": "REASONING_END", "messageId": f"z{number}"}
        yield call("END", f"c{number}")
        yield text("END", f"m{number}")
        yield {"type": "STEP_FINISHED", "stepName": f"s{number}"}
        yield {"type": "SUBAGENT_FINISHED", "subagentRunId": f"s{number}"}


def open_to_the_end(n: int) -> Iterator[Event]:
    for number in range(n):
        yield text("START", f"m{number}")
        yield call("START", f"c{number}", toolCallName="f")
    yield {"type": "RUN_ERROR", "message": "no"}


def chunks_of_many_subagents(n: int) -> Iterator[Event]:
    for number in range(n):
        yield {"type": "SUBAGENT_STARTED", "subagentRunId": f"s{number}", "name": "s"}
        yield text("CHUNK", f"m{number}", delta="x", subagentRunId=f"s{number}")
    for number in range(n):
        yield text("CHUNK", f"m{number}", delta="x")
    for number in range(n):
        yield {"type": "SUBAGENT_FINISHED", "subagentRunId": f"s{number}"}


def results_of_one_parent(n: int) -> Iterator[Event]:
    for number in range(n):
        yield call("START", f"c{number}", toolCallName="f", parentMessageId="m")
        yield call("END", f"c{number}")
    for number in range(n):
        yield text("START", f"after{number}")
        yield text("END", f"after{number}")
    for number in range(n):
        yield call("RESULT", f"c{number}", messageId=f"r{number}", content="x")


def results_with_one_id(n: int) -> Iterator[Event]:
    yield call("START", toolCallName="f")
    yield call("END")
    for number in range(n):
        yield call("RESULT", messageId="r", content="x")
        if number % 8 == 7:
            result = {"id": "r", "role": "tool", "toolCallId": "c", "content": "x"}
            yield {"type": "MESSAGES_SNAPSHOT", "messages": [result]}


def results_that_become_activities(n: int) -> Iterator[Event]:
    yield call("START", toolCallName="f")
    yield call("END")
    for number in range(n):
        yield call("RESULT", messageId=f"r{number}", content="x")
    for number in range(n):
        yield activity(f"r{number * 7919 % n}")


def activity(message_id: str, **fields: Any) -> Event:
    return {
        "type": "ACTIVITY_SNAPSHOT",
        "messageId": message_id,
        "activityType": "a",
        "content": {},
        **fields,
    }


def texts_that_become_activities(n: int) -> Iterator[Event]:
    for number in range(n):
        yield text("START", f"m{number}")
    for number in range(n):
        yield text("CONTENT", f"m{n - 1}", delta="x")
        yield activity(f"m{number}")
        yield activity("a", replace=number % 2 == 0)
    for number in range(n):
        yield text("END", f"m{number}")


def thoughts_and_empty_snapshots(n: int) -> Iterator[Event]:
    for number in range(n):
        yield {"type": "REASONING_MESSAGE_START", "messageId": f"z{number}", "role": "reasoning"}
        yield activity(f"a{number}")
    for _ in range(n):
        yield {"type": "MESSAGES_SNAPSHOT", "messages": []}


def snapshots_inside_of_a_text(n: int) -> Iterator[Event]:
    yield text("START")
    for _ in range(n):
        yield text("CONTENT", delta="x")
        yield {
            "type": "MESSAGES_SNAPSHOT",
            "messages": [{"id": "m", "role": "assistant", "content": "x"}],
        }
    yield text("END")


def encrypted_values(n: int) -> Iterator[Event]:
    yield text("START")
    for _ in range(n):
        yield {
            "type": "REASONING_ENCRYPTED_VALUE",
            "subtype": "message",
            "entityId": "m",
            "encryptedValue": "x",
        }
    yield text("END")


def runs_in_one_stream(n: int) -> Iterator[Event]:
    for number in range(n):
        yield text("START", f"m{number}")
        yield text("END", f"m{number}")
        yield FINISHED
        yield STARTED


def runs_that_fail_in_one_stream(n: int) -> Iterator[Event]:
    for number in range(n):
        yield text("START", f"m{number}")
        yield {"type": "RUN_ERROR", "message": "no"}
        yield STARTED


def runs_that_change_a_large_state(n: int) -> Iterator[Event]:
    yield {"type": "STATE_SNAPSHOT", "snapshot": {f"k{number}": "x" * 90 for number in range(n)}}
    for number in range(n):
        yield delta(add("/n", number))
        yield FINISHED
        yield STARTED


def deltas_that_fail_now_and_then(n: int) -> Iterator[Event]:
    yield {"type": "STATE_SNAPSHOT", "snapshot": {f"k{number}": "x" * 90 for number in range(n)}}
    for number in range(n):
        yield delta(add(f"/k{number}", [number]))
        yield BAD


def deltas_that_remove_and_fail(n: int) -> Iterator[Event]:
    yield {"type": "STATE_SNAPSHOT", "snapshot": {f"k{number}": [0, 1] for number in range(n)}}
    for number in range(n):
        yield delta({"op": "remove", "path": f"/k{number}"}, {"op": "remove", "path": "/no"})
        yield delta({"op": "test", "path": "", "value": 1})
        yield delta({"op": "remove", "path": f"/k{number}/0"})


def copies(n: int) -> Iterator[Event]:
    # Two or three of them are what may be copied at all.
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"a": ["x" * 400] * 1000}}
    for _ in range(n):
        yield delta(
            {"op": "copy", "from": "/a", "path": "/b"},
            {"op": "move", "from": "/b", "path": "/a/-"},
            {"op": "remove", "path": "/a/1000"},
        )


def state_snapshots(n: int) -> Iterator[Event]:
    for number in range(n):
        yield {"type": "STATE_SNAPSHOT", "snapshot": {"n": number}, "metadata": {f"k{number}": 1}}


def patches_of_an_activity(n: int) -> Iterator[Event]:
    yield activity("a", content={f"k{number}": [] for number in range(n)})
    for number in range(n):
        patch = [add(f"/k{number}/-", 1)] if number % 2 else BAD["delta"]
        fields = {"messageId": "a", "activityType": "a", "patch": patch}
        yield {"type": "ACTIVITY_DELTA", **fields, "metadata": {f"k{number}": 1}}


STREAMS: list[Stream] = [
    deltas_of_one_message,
    deltas_with_metadata,
    messages_one_after_the_other,
    one_message_again_and_again,
    everything_open_at_once,
    open_to_the_end,
    chunks_of_many_subagents,
    results_of_one_parent,
    results_with_one_id,
    results_that_become_activities,
    texts_that_become_activities,
    thoughts_and_empty_snapshots,
    snapshots_inside_of_a_text,
    encrypted_values,
    runs_in_one_stream,
    runs_that_fail_in_one_stream,
    runs_that_change_a_large_state,
    deltas_that_fail_now_and_then,
    deltas_that_remove_and_fail,
    copies,
    state_snapshots,
    patches_of_an_activity,
]


# -- the machines: each with what is asked of it at the end ------------------------------------


def expanding(events: list[Event]) -> None:
    expander = ChunkExpander()
    for event in events:
        expander.feed(event)


def verifying(events: list[Event]) -> None:
    verifier = Verifier()
    for event in events:
        verifier.feed(event)
    verifier.closers()


def finalizing(events: list[Event]) -> None:
    finalizer = Finalizer()
    for event in events:
        finalizer.observe(event)
    finalizer.finalize()


def compacting(events: list[Event]) -> None:
    compactor = Compactor()
    for event in events:
        compactor.feed(event)
    compactor.finish()


def folding_messages(events: list[Event]) -> None:
    folder = MessageFolder()
    for event in events:
        folder.feed(event)
    assert folder.messages == folder.conversation.messages()


def folding_state(events: list[Event]) -> None:
    folder = StateFolder()
    for event in events:
        folder.feed(event)
    assert folder.state is folder.state


def recorded(events: list[Event]) -> RunRecorder:
    recorder = RunRecorder(KEY, {"messages": [], "state": {"k": "x" * len(events)}})
    for event in events:
        recorder.record(event, 0.0)
    assert recorder.error is None
    return recorder


def recording(events: list[Event]) -> None:
    recorded(events).finish(1.0)


def adopting(events: list[Event]) -> None:
    recorder = RunRecorder(KEY, {})
    frames = b"".join([recorder.record(event, 0.0) for event in events])
    RunRecorder.adopt(Orphan(KEY, "a", frames)).finish(1.0)


MACHINES = [
    expanding,
    verifying,
    finalizing,
    compacting,
    folding_messages,
    folding_state,
    recording,
    adopting,
]
WITH_CHUNKS = [expanding, recording, adopting]


def events_of(stream: Stream, n: int) -> list[Event]:
    return [STARTED, *stream(n)]


@pytest.mark.untraced
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.__name__)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_a_machine_has_a_cost_linear_in_its_events(
    machine: Callable[[list[Event]], None], stream: Stream
) -> None:
    def cost(n: int) -> int:
        events = events_of(stream, n)
        if machine not in WITH_CHUNKS:
            expander = ChunkExpander()
            events = [out for event in events for out in expander.feed(event)]
        return steps(lambda: machine(events))

    assert grows_linearly(cost, 24)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.__name__)
def test_the_history_of_a_run_is_linear_in_its_events(stream: Stream) -> None:
    for n in (100, 400):
        events = events_of(stream, n)
        result = recorded(events).finish(1.0)[1]
        assert result is not None
        kept = len(result.frames) + len(result.messages or b"") + len(result.state or b"")
        said = len(json_codec.encode(events))
        # An event is a frame with an id; and what snapshots of the state may take besides.
        assert kept <= 3 * said + 150_000


def test_a_repeated_run_does_not_repeat_a_large_input() -> None:
    recorder = RunRecorder(KEY, {"messages": [], "state": {"k": "x" * 100_000}})
    frames = b"".join([recorder.record(event, 0.0) for event in [STARTED, FINISHED] * 100])
    assert len(frames) < 150_000


def test_the_cost_of_headers_is_linear() -> None:
    def cost(n: int) -> int:
        headers = Headers([(f"x-own-{number}", "v") for number in range(n)])
        return steps(lambda: (dict(headers), ForwardHeaders().merge({}, headers)))

    assert grows_linearly(cost, 100)


def test_the_cost_of_a_parser_of_frames_is_linear() -> None:
    def cost(n: int) -> int:
        parser = Parser()
        data = b"".join(b"id: %d\ndata: %s\n\n" % (number, b"x" * 20) for number in range(n))
        return steps(lambda: [parser.feed(data[at : at + 3]) for at in range(0, len(data), 3)])

    assert grows_linearly(cost, 50)


def test_the_cost_of_the_log_in_memory_is_linear() -> None:
    def cost(n: int) -> int:
        store = MemoryStore()
        opened = store.open_run(RunRequest("t", "r", "a"))
        assert isinstance(opened, RunOpened)

        def work() -> None:
            cursor = opened.cursor
            for _ in range(n):
                append(store, opened.key, b"data: 1\n\n")
                batch = store.read(cursor, 100)
                assert isinstance(batch, Batch)
                cursor = batch.cursor

        return steps(work)

    assert grows_linearly(cost, 50)
