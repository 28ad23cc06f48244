"""GET /threads, GET /threads/:threadId/messages|events|state, POST /threads/clear."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from .. import _json
from ..http import Response
from ..recorder import frame_data
from ._turn import Reply, Steps, Turn


def list_threads(turn: Turn) -> Steps:
    """The threads that have history, the last updated first; ``agentId`` in the query filters."""
    records = yield turn.store("list_threads")
    agent_id = parse_qs(turn.request.query).get("agentId", [""])[0]
    threads = [
        {
            "id": record.thread_id,
            "name": None,
            "agentId": record.agent_id,
            "organizationId": "",
            "createdById": "",
            "archived": False,
            "createdAt": _iso(record.created_at),
            "updatedAt": _iso(record.updated_at),
        }
        for record in records
        if not agent_id or record.agent_id == agent_id
    ]
    return Reply(Response.json({"threads": threads, "nextCursor": None}))


def messages(turn: Turn) -> Steps:
    """The thread's messages after its last run, in the reference's own shape."""
    history = yield from _history(turn)
    return Reply(Response.json({"messages": [_message(m) for m in _json.decode(history.messages)]}))


def events(turn: Turn) -> Steps:
    """The thread's compacted events; what a connect replays."""
    history = yield from _history(turn)
    # Each is JSON already; parsing it to write it again would be waste.
    body = b'{"events":[%s]}' % b",".join(frame_data(history.frames))
    return Reply(Response(200, {"content-type": "application/json"}, body))


def state(turn: Turn) -> Steps:
    """The thread's state after its last run; null if it has none."""
    history = yield from _history(turn)
    body = b'{"state":%s}' % (b"null" if history.state is None else history.state)
    return Reply(Response(200, {"content-type": "application/json"}, body))


def clear(turn: Turn) -> Steps:
    """Forget all threads; a live run goes on."""
    yield turn.store("clear")
    return Reply(Response(204))


def _history(turn: Turn) -> Any:
    history = yield turn.store("read_history", turn.route.thread_id)
    return history


def _iso(seconds: float) -> str:
    """A time as JavaScript's ``toISOString`` writes it."""
    time = datetime.fromtimestamp(seconds, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(message: dict[str, Any]) -> dict[str, Any]:
    mapped = {"id": message.get("id"), "role": message.get("role")}
    if "content" in message:
        mapped["content"] = message["content"]
    if message.get("role") == "assistant" and message.get("toolCalls"):
        mapped["toolCalls"] = [
            {
                "id": call["id"],
                "name": call["function"]["name"],
                "args": call["function"]["arguments"],
            }
            for call in message["toolCalls"]
        ]
    if message.get("role") == "tool":
        mapped["toolCallId"] = message.get("toolCallId")
    return mapped
