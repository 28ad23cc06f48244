"""Whole runs, as the reference runtime streams, replays and folds them: runs.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.vectors import REPLAYED_AS_LIVE, STRICTER, is_stricter

from sansio_copilot.events import (
    ChunkExpander,
    EventError,
    Finalizer,
    Verifier,
    compact_events,
    fold_messages,
    normalize_event,
)

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "runs.json").read_text())["cases"]


def run(body: Any) -> Any:
    """Return what a run of the vectors' agent streams, and how much of it came from the agent.

    None instead of a number if the agent broke before its first event; such a run is not kept.
    """
    expander, verifier, finalizer = ChunkExpander(), Verifier(), Finalizer()
    script, failure = body["forwardedProps"]["script"], body["forwardedProps"].get("fail")
    events, interruption = [], None
    try:
        for raw in script:
            event = {"input": body, **raw} if raw["type"] == "RUN_STARTED" else raw
            assert normalize_event(event)
            for out in expander.feed(event):
                verifier.feed(out)
                finalizer.observe(out)
                events.append(out)
        if failure is not None:
            raise RuntimeError(failure)
    except (EventError, RuntimeError) as error:
        interruption = str(error)
    count = len(events) if events or interruption is None else None
    return [*events, *finalizer.finalize(interruption_message=interruption)], count


def as_listed(message: Any) -> Any:
    """A message as GET threads/:id/messages writes it."""
    listed = {"id": message["id"], "role": message["role"]}
    if "content" in message:
        listed["content"] = message["content"]
    if message.get("toolCalls"):
        listed["toolCalls"] = [
            {
                "id": call["id"],
                "name": call["function"]["name"],
                "args": call["function"]["arguments"],
            }
            for call in message["toolCalls"]
        ]
    if "toolCallId" in message:
        listed["toolCallId"] = message["toolCallId"]
    return listed


@pytest.mark.untraced
@pytest.mark.parametrize("case", CASES)
def test_a_run_streams_replays_and_folds_as_the_reference_does(case: Any) -> None:
    events, count = run(case["body"])
    if case["body"]["threadId"] in STRICTER:
        assert is_stricter(case, events)
        return
    assert events == case["events"]

    if count is None:
        assert (case["replay"], case["messages"], case["state"]) == ([], [], None)
        return
    replay = compact_events(compact_events(events))
    states = [event["snapshot"] for event in replay if event["type"] == "STATE_SNAPSHOT"]
    messages = fold_messages(events[:count], case["body"]["messages"])
    if case["body"]["threadId"] in REPLAYED_AS_LIVE:
        assert fold_messages(replay) == fold_messages(events) != fold_messages(case["replay"])
    else:
        assert replay == case["replay"]
    assert [as_listed(message) for message in messages] == case["messages"]
    assert (states[-1] if states else None) == case["state"]
