"""Probes: whether a process lives, and whether it may be sent requests."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sansio_copilot import CopilotRuntime, Hooks, MemoryStore, Reject, Request, Response
from sansio_copilot.actions import Finish, SendBytes, SendHead
from sansio_copilot.testing import Client

SECRET = "no route to db.internal"


class AwayStore(MemoryStore):
    def check(self) -> None:
        raise OSError(SECRET)


def asked(runtime: CopilotRuntime, path: str, method: str = "GET") -> Any:
    return Client(runtime).request(method, path)


def test_a_runtime_is_alive_and_ready() -> None:
    runtime = CopilotRuntime({})
    for path in ("/healthz", "/readyz"):
        answer = asked(runtime, path)
        assert (answer.status, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["cache-control"] == "no-store"


def test_the_store_is_asked_whether_it_can_be_used(caplog: pytest.LogCaptureFixture) -> None:
    runtime = CopilotRuntime({}, store=AwayStore())
    assert asked(runtime, "/healthz").status == 200
    with caplog.at_level(logging.WARNING):
        answer = asked(runtime, "/readyz")
    assert (answer.status, answer.json()) == (
        503,
        {"status": "unavailable", "message": "The thread store is unavailable"},
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"not ready: the thread store is unavailable: {SECRET}"
    ]


def test_a_store_that_can_be_used_is_ready() -> None:
    asked_for = []

    class CheckedStore(MemoryStore):
        def check(self) -> None:
            asked_for.append("check")

    runtime = CopilotRuntime({}, store=CheckedStore())
    assert asked(runtime, "/readyz").status == 200
    assert asked_for == ["check"]


def test_a_store_that_returns_that_it_is_not_ready_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class HonestStore(MemoryStore):
        def check(self) -> bool:
            return False

    assert asked(CopilotRuntime({}, store=HonestStore()), "/readyz").status == 503
    assert "store method check returned bool, expected None" in caplog.text


def test_a_server_that_shuts_down_lives_and_is_not_ready() -> None:
    runtime = CopilotRuntime({})
    for path, status in (("/healthz", 200), ("/readyz", 503)):
        exchange = runtime.exchange(Request.from_target("GET", path, ()), 0.0, closing=True)
        head = exchange.start()
        assert isinstance(head, SendHead)
        assert head.status == status
        assert isinstance(exchange.done(), SendBytes)
        assert isinstance(exchange.done(), Finish)


def test_probes_are_read_and_nothing_else() -> None:
    assert asked(CopilotRuntime({}), "/healthz", "HEAD").body == b""
    answer = asked(CopilotRuntime({}), "/readyz", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_neither_hooks_nor_cors_come_between() -> None:
    def refuse(context: Any) -> None:
        raise Reject(Response.json({"error": "who are you?"}, 401))

    client = Client(CopilotRuntime({}, hooks=Hooks(on_request=refuse)))
    answer = client.request("GET", "/healthz", headers={"origin": "https://a.example"})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
    assert client.request("GET", "/api/copilotkit/info").status == 401


def test_the_paths_are_chosen_by_the_application() -> None:
    runtime = CopilotRuntime({}, liveness_path=None, readiness_path="/status//ready")
    assert asked(runtime, "/healthz").status == 404
    assert asked(runtime, "/readyz").status == 404
    assert asked(runtime, "/status/ready").status == 404
    assert asked(runtime, "/status//ready").status == 200


@pytest.mark.parametrize("path", ["healthz", "", 5])
def test_a_path_begins_with_a_slash(path: Any) -> None:
    with pytest.raises(ValueError, match="liveness_path is a path that begins with '/', or None"):
        CopilotRuntime({}, liveness_path=path)
    with pytest.raises(ValueError, match="readiness_path is a path"):
        CopilotRuntime({}, readiness_path=path)


def test_only_the_question_whether_a_process_lives_needs_no_start() -> None:
    runtime = CopilotRuntime({})
    asked_for = [Request.from_target("GET", path, ()) for path in ("/healthz", "/readyz", "/x")]
    assert [runtime.needs_start(request) for request in asked_for] == [False, True, True]
