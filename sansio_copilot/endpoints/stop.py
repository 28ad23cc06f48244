"""POST /agent/:agentId/stop/:threadId: stop the thread's live run."""

from __future__ import annotations

from .. import json_codec
from ..errors import shorten
from ..events.finalize import STOP_MESSAGE
from ..http.messages import Response
from ..http.refusals import Refusal
from ..runs.orphans import adopt
from ..stores.calls import request_stop
from ..stores.protocol import Orphan
from .request_and_reply import EndpointInput, EndpointSteps, Reply

_STOPPED = Reply(
    Response.json(
        {
            "stopped": True,
            "interrupt": {
                "type": "RUN_ERROR",
                "message": STOP_MESSAGE,
                "code": "STOPPED",
            },
        }
    )
)


def stop(given: EndpointInput) -> EndpointSteps:
    """Ask for the stop. The run's owner ends the run as soon as the store tells it."""
    run_id = _scope(given)
    yield from given.agent()
    store, thread_id = given.runtime.store, given.route.thread_id
    assert thread_id is not None
    owner = yield from given.owner("stop", thread_id)
    stopping = request_stop(store, thread_id, run_id, owner)
    stopped = stopping.checked((yield stopping))
    if isinstance(stopped, Orphan):
        yield from adopt(given.runtime, stopped, given.now)
    elif not stopped:
        message = (
            f"No active run for thread '{shorten(thread_id)}'."
            if run_id is None
            else f"Run '{shorten(run_id)}' is not the active run for thread '{shorten(thread_id)}'."
        )
        return Reply(Response.json({"stopped": False, "message": message}))
    return _STOPPED


def _invalid(error: str) -> Refusal:
    return Refusal(Response.json({"error": error}, 400))


def _scope(given: EndpointInput) -> str | None:
    """The ``runId`` that the body names.

    :raises Refusal: with 400, if the body is neither empty nor an object with at most that key.
    """
    if not (given.request.body or b"").strip():
        return None
    try:
        scope = given.json()
    except ValueError:
        raise _invalid("Invalid stop request") from None
    if not isinstance(scope, dict) or scope.keys() - {"runId"}:
        raise _invalid("Invalid stop request")
    if not scope:
        return None
    run_id = scope["runId"]
    if not isinstance(run_id, str) or not run_id.strip(json_codec.JS_SPACE):
        raise _invalid("Invalid runId")
    return run_id
