"""POST /agent/:agentId/connect: replay a thread's history, then follow its live run."""

from __future__ import annotations

from ..stores.calls import open_cursor, perform
from .run_input import read_input
from .turn import EndpointSteps, LogStream, Reply, Turn


def connect(turn: Turn) -> EndpointSteps:
    """Open a cursor, behind the event that the client names as its last one if it names one."""
    yield from turn.agent()
    parsed = read_input(turn)
    after = turn.request.headers.get("last-event-id") or parsed.last_seen_event_id
    cursor = yield from perform(open_cursor(turn.store, parsed.input.thread_id, after, turn.owner))
    audiences = turn.runtime.audiences
    audience = None if audiences is None else audiences.of(parsed.input.thread_id)
    return Reply.of_stream(LogStream(turn.store, cursor, audience=audience))
