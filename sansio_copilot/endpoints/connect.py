"""POST /agent/:agentId/connect: replay a thread's history, then follow its live run."""

from __future__ import annotations

from ..stores.calls import open_cursor
from .request_and_reply import STREAM, EndpointInput, EndpointSteps, LogStream, Reply


def connect(given: EndpointInput) -> EndpointSteps:
    """Open a cursor, behind the event that the client names as its last one if it names one."""
    yield from given.agent()
    parsed = given.run_input()
    store, audiences = given.runtime.store, given.runtime.audiences
    after = given.request.headers.get("last-event-id") or parsed.last_seen_event_id
    owner = yield from given.owner("connect", parsed.input.thread_id)
    cursor = yield open_cursor(store, parsed.input.thread_id, after, owner)
    audience = None if audiences is None else audiences.of(parsed.input.thread_id, owner)
    return Reply(STREAM, LogStream(store, cursor, audience=audience))
