"""POST /agent/:agentId/run: start a run of the thread and stream it."""

from __future__ import annotations

from ..agents.protocols import Agent
from ..errors import shorten
from ..http.messages import Response
from ..runs.orphans import adopt
from ..runs.quotas import Place
from ..stores.calls import close_run, open_run
from ..stores.protocol import Orphan, ThreadBusy, ThreadOfAnother
from .new_run import new_recorder, run_reply, run_request
from .run_input import RunInput, read_input
from .turn import EndpointSteps, Reply, Turn


def run(turn: Turn) -> EndpointSteps:
    """Open a run, or answer 409 if another one of the thread is live.

    The id of a thread that is somebody else's is answered 404, as one that there is not would be
    elsewhere: nothing is said of it, though a run of a new thread would have been opened.
    """
    agent = yield from turn.agent()
    parsed = read_input(turn)
    with turn.place() as place:
        return (yield from _open(turn, agent, parsed, place))


def _open(turn: Turn, agent: Agent, parsed: RunInput, place: Place | None) -> EndpointSteps:
    store = turn.runtime.store
    owner = yield from turn.owner("run", parsed.input.thread_id)
    yield from turn.check_room(owner)
    opening = open_run(store, run_request(turn, parsed.input, owner))
    opened = opening.checked((yield opening))
    while isinstance(opened, Orphan):
        yield from adopt(turn.runtime, opened, turn.now)
        opened = opening.checked((yield opening))
    if isinstance(opened, ThreadOfAnother):
        raise turn.no_such_thread(parsed.input.thread_id)
    if isinstance(opened, ThreadBusy):
        message = (
            f"Thread '{shorten(parsed.input.thread_id)}' has a live run, "
            f"'{shorten(opened.run_id)}': stop it, or wait for its end."
        )
        return Reply(Response.json({"error": "Thread already running", "message": message}, 409))
    try:
        recorder = new_recorder(turn, opened, parsed.json, opened.known_message_ids)
        return run_reply(turn, agent, parsed.input, store, opened, recorder, owner, place)
    except Exception:
        # A run that nobody drives would keep its thread busy for ever.
        yield close_run(store, opened.key, 0, b"", None)
        raise
