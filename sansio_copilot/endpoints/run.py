"""POST /agent/:agentId/run: start a run of the thread and stream it."""

from __future__ import annotations

from ..errors import shorten
from ..http.messages import Response
from ..runs.orphans import adopt
from ..stores.calls import close_run, open_run
from ..stores.protocol import Orphan, RunOpened, ThreadBusy, ThreadOfAnother
from .request_and_reply import EndpointInput, EndpointSteps, Reply
from .run_opening import new_recorder, run_reply, run_request


def run(given: EndpointInput) -> EndpointSteps:
    """Open a run, or answer 409 if another one of the thread is live.

    If the thread has another owner, the answer is 404, as other endpoints answer for a thread that
    does not exist. So the client learns nothing of that thread, except that its id cannot be used.
    """
    agent = yield from given.agent()
    parsed = given.run_input()
    store, thread_id = given.runtime.store, parsed.input.thread_id
    with given.quota_slot() as slot:
        owner = yield from given.owner("run", thread_id)
        opening = open_run(store, run_request(given, parsed.input, owner))
        opened = yield opening
        if type(opened) is not RunOpened:
            opened = opening.checked(opened)
        while isinstance(opened, Orphan):
            yield from adopt(given.runtime, opened, given.now)
            opened = opening.checked((yield opening))
        if isinstance(opened, ThreadOfAnother):
            raise given.no_such_thread(thread_id)
        if isinstance(opened, ThreadBusy):
            return _busy(thread_id, opened)
        try:
            recorder = new_recorder(given, opened, parsed.json, opened.known_message_ids)
            return run_reply(given, agent, parsed.input, store, opened, recorder, owner, slot)
        except Exception:
            # The run is closed, because a run that nobody drives would keep its thread busy for
            # ever.
            yield close_run(store, opened.key, 0, b"", None)
            raise


def _busy(thread_id: str, busy: ThreadBusy) -> Reply:
    message = (
        f"Thread '{shorten(thread_id)}' has a live run, '{shorten(busy.run_id)}': stop it, or wait "
        "for its end."
    )
    return Reply(Response.json({"error": "Thread already running", "message": message}, 409))
