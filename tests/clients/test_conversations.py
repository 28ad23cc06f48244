"""A reload shows the same as was shown live, in conversations of any runs with a real runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clients.conversations import GENERATIONS, Clients, Conversation, Event, listed, said
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.streams import STARTED, streams

FINISHED: Event = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


def once(messages: list[Event]) -> list[Event]:
    """Return the messages whose id is the first of its kind.

    A snapshot puts its message in the place of each that has the id, if a stream has given one id
    to several; the server keeps it once, because otherwise few bytes would make many.
    """
    first: dict[str, Event] = {}
    for message in messages:
        first.setdefault(message["id"], message)
    return list(first.values())


ONE_ID_OF_TWO_MESSAGES: list[Event] = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
    {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"},
    {"type": "TOOL_CALL_RESULT", "messageId": "r1", "toolCallId": "c1", "content": ""},
    {"type": "TOOL_CALL_RESULT", "messageId": "m1", "toolCallId": "c1", "content": ""},
    {
        "type": "MESSAGES_SNAPSHOT",
        "messages": [
            {"id": "m1", "role": "assistant", "content": "so far"},
            {"id": "m2", "role": "user", "content": "asked"},
            {"id": "r1", "role": "tool", "toolCallId": "c1", "content": "done"},
        ],
    },
]


def state(value: Any) -> Event:
    return {"type": "STATE_SNAPSHOT", "snapshot": value}


def delta(*operations: Event) -> Event:
    return {"type": "STATE_DELTA", "delta": list(operations)}


ADDED = {"op": "add", "path": "/a", "value": 1}


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(streams, min_size=1, max_size=2))
@example([ONE_ID_OF_TWO_MESSAGES])
def test_a_reload_shows_the_same_of_any_runs(clients: Clients, runs: list[list[Event]]) -> None:
    held = [Conversation(clients, generation) for generation in GENERATIONS]
    for run in runs:
        for conversation in held:
            conversation.hold(*run)
    # Only first runs are compared, because the server does not know which ids an activity of an
    # earlier run has had: see `listed`. And the generations do different things with an activity
    # whose id a snapshot has.
    seen = [conversation.shown["messages"] for conversation in held]
    if len(runs) == 1 and seen[0] == seen[1]:
        told = held[0].told("messages")
        assert list(map(said, once(listed(seen[0])))) == list(map(said, once(listed(told))))


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("before", [None, False, 0, "", "text", [1], {"list": []}])
@pytest.mark.parametrize(
    "deltas",
    [
        [delta()],
        [delta(ADDED)],
        [delta(ADDED, {"op": "remove", "path": "/a"})],
        [delta({"op": "test", "path": "", "value": {}})],
        [delta({"op": "remove", "path": "/no"}), delta(ADDED)],
        # Clients take no index for the first one, which RFC 6901 does not allow.
        [delta({"op": "add", "path": "/list/", "value": 1}), delta(ADDED)],
        # They take what is not there for undefined, which RFC 6902 does not allow.
        [delta({"op": "copy", "from": "/no", "path": ""}), delta(ADDED)],
        [
            delta({"op": "add", "path": "/list", "value": [{}, 1, {}]}),
            delta({"op": "move", "from": "/list/0", "path": "/list/1/a"}),
            delta(ADDED),
        ],
        # The next deltas are replayed as one delta where the state may be null, so that they try
        # names that have to be escaped, members that move and members that are gone.
        [
            delta(ADDED, {"op": "add", "path": "/first", "value": {}}),
            delta({"op": "add", "path": "/x~1y", "value": [1]}),
            delta({"op": "move", "from": "/x~1y", "path": "/first/~0"}),
            delta({"op": "remove", "path": "/first"}, {"op": "replace", "path": "/a", "value": 2}),
        ],
        [delta(ADDED), delta({"op": "add", "path": "", "value": {"c": 3}}), delta(ADDED)],
        [delta(ADDED), delta({"op": "test", "path": "", "value": None}), delta(ADDED)],
    ],
    ids=repr,
)
def test_a_reload_shows_the_same_of_deltas_of_any_state(
    clients: Clients, generation: str, before: Any, deltas: list[Event]
) -> None:
    conversation = Conversation(clients, generation)
    conversation.hold(STARTED, state({"first": 1}), state(before), FINISHED)
    conversation.hold(STARTED, *deltas, FINISHED)
    conversation.hold(STARTED, delta({"op": "add", "path": "/b", "value": 2}), FINISHED)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_reload_shows_the_same_of_runs_that_end_in_each_way(
    clients: Clients, generation: str
) -> None:
    said = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    asked = {"type": "interrupt", "interrupts": [{"id": "i", "reason": "confirm"}]}
    conversation = Conversation(clients, generation)
    for script in (["it died"], [], [True], [{"type": "RUN_ERROR", "message": "no"}], ["it died"]):
        conversation.hold(*script)
        conversation.hold(STARTED, said, *script)
    conversation.hold(STARTED, {**FINISHED, "outcome": asked})
    assert [one["id"] for one in conversation.shown["interrupts"]] == ["i"]
    conversation.hold(STARTED, FINISHED)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    ("script", "left"),
    [
        (["it died"], ["i", "j"]),
        ([{"type": "RUN_ERROR", "message": "no"}], ["i", "j"]),
        ([STARTED, "it died"], ["i", "j"]),
        ([STARTED], ["i", "j"]),
        ([STARTED, {"type": "RUN_ERROR", "message": "no"}], ["i", "j"]),
        ([STARTED, FINISHED, {"type": "RUN_ERROR", "message": "no"}], []),
        ([STARTED, True], []),
        ([True], []),
        ([STARTED, FINISHED], []),
    ],
    ids=repr,
)
def test_a_client_waits_for_the_interrupts_that_the_runtime_tells(
    clients: Clients, generation: str, script: list[Any], left: list[str]
) -> None:
    """The client would have to answer what nobody waits for, or could not answer what waits."""
    interrupts = [{"id": one, "reason": "confirm"} for one in "ij"]
    outcome = {"type": "interrupt", "interrupts": interrupts}
    conversation = Conversation(clients, generation)
    conversation.hold(STARTED, {**FINISHED, "outcome": outcome})
    conversation.hold(*script)
    assert conversation.open_interrupts() == left
    conversation.hold(*script)
    assert conversation.open_interrupts() == left
    conversation.hold(STARTED, FINISHED)
    assert conversation.open_interrupts() == []
