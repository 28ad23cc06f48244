"""Answers that are long are bounded together, whoever takes them and however slowly."""

from __future__ import annotations

import gc

from sansio_copilot import CopilotRuntime, Exchange, Hooks, Limits, Request, Response
from sansio_copilot.actions import Abandon, Action, Call, Finish, SendBytes, SendHead
from sansio_copilot.hooks import HookContext
from sansio_copilot.http.long_answers import LONG

SIZE = 2 * LONG


def runtime(**limits: int) -> CopilotRuntime:
    """A runtime that answers each request by so many bytes as its query says."""

    def answer(context: HookContext) -> Response:
        return Response(200, {}, b"x" * int(context.request.query))

    return CopilotRuntime({}, hooks=Hooks(on_response=answer), limits=Limits(**limits))


def begin(server: CopilotRuntime, size: int) -> tuple[Exchange, SendHead]:
    """An exchange whose head is about to be sent, and its head."""
    exchange = server.exchange(Request("GET", "/api/copilotkit/info", str(size)), 0.0)
    action: Action = exchange.start()
    while isinstance(action, Call):
        action = exchange.done(action.function(*action.args))
    assert isinstance(action, SendHead)
    return exchange, action


def status(server: CopilotRuntime, size: int) -> int:
    """The status of an answer that is taken at once."""
    exchange, head = begin(server, size)
    action = exchange.done()
    while not isinstance(action, Finish):
        assert isinstance(action, SendBytes)
        action = exchange.done()
    return head.status


def test_a_long_answer_is_refused_until_there_is_room() -> None:
    server = runtime(answers_bytes=2 * SIZE)
    first, _ = begin(server, SIZE)
    second, _ = begin(server, SIZE)
    _, refused = begin(server, SIZE)
    assert refused.status == 503
    assert dict(refused.headers)["retry-after"] == "1"
    assert dict(refused.headers)["access-control-allow-origin"] == "*"
    assert status(server, LONG) == 200, "what is not long has no part in it"
    assert isinstance(first.done(), SendBytes)
    assert status(server, SIZE) == 503
    assert isinstance(first.done(), Finish)
    assert status(server, SIZE) == 200
    assert isinstance(second.client_gone(), Abandon)
    assert status(server, 2 * SIZE) == 200


def test_a_single_answer_may_be_longer_than_the_room() -> None:
    server = runtime(answers_bytes=1)
    assert status(server, SIZE) == 200
    assert status(server, SIZE) == 200


def test_an_answer_whose_event_loop_was_dropped_does_not_count() -> None:
    server = runtime(answers_bytes=SIZE)
    dropped, _ = begin(server, SIZE)
    assert status(server, SIZE) == 503
    del dropped
    gc.collect()
    assert status(server, SIZE) == 200
