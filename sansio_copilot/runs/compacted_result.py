"""The result of a run when it ends: its events compacted, its conversation and its state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import json_codec
from ..events import Compactor, MessageFolder
from ..sse import COMPACTED_FRAME
from ..stores.protocol import RunResult
from .thread_waits import Waits


def compacted_result(
    token: bytes,
    compactor: Compactor,
    folder: MessageFolder,
    waits: Waits,
    run_input: Mapping[str, Any] | None,
    now: float,
) -> RunResult:
    """The result of a run whose events the machines have been fed.

    The reference compacts a run again when it replays it. That would change nothing here, because
    each message and tool call has ended.

    :param token: the run's part of event ids.
    :param now: seconds since the epoch.
    :raises ValueError: if the run has built a value that JSON has no form for.
    :raises RecursionError: if it has built a value that is nested too deeply.
    """
    messages = folder.conversation.messages()
    events = compactor.finish()
    frames = [
        COMPACTED_FRAME % (token, index, data)
        for index, data in enumerate(json_codec.encode_each(events))
    ]
    state = None
    if compactor.has_state:
        value = compactor.state
        state = json_codec.encode(value) if isinstance(value, dict) else b"null"
    return RunResult(
        b"".join(frames),
        json_codec.encode(messages) if messages else None,
        state,
        message_ids_of(events),
        now,
        waits.told(messages, run_input),
    )


def message_ids_of(events: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The ids of the messages that compacted events are about."""
    ids = set()
    for event in events:
        if isinstance(message_id := event.get("messageId"), str):
            ids.add(message_id)
        if event["type"] == "RUN_STARTED":
            for message in messages_of(event.get("input")):
                if isinstance(message, dict) and isinstance(message.get("id"), str):
                    ids.add(message["id"])
    return frozenset(ids)


def messages_of(run_input: object) -> list[Any]:
    """The messages of a run's input; an agent that made it may have put anything there."""
    messages = run_input.get("messages") if isinstance(run_input, Mapping) else None
    return messages if isinstance(messages, list) else []
