"""Hooks, plain and async: each is called, is told what is known, and may change what happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.hooks import SECRET
from conformance.process import Server, wait_until

from sansio_copilot.testing import run_input

pytestmark = pytest.mark.parametrize("hooks", ["plain", "async"])


@pytest.mark.one_a_loop
@pytest.mark.parametrize("name", ["on-request", "on-before-handler", "on-run-start", "on-response"])
def test_a_hook_can_reject_a_request(server: Server, thread: str, hooks: str, name: str) -> None:
    headers = {"x-hooks": hooks, f"x-{name}": "reject", "origin": "https://app.example.com"}
    answer = server.run("run", thread, headers=headers)
    assert (answer.status, answer.json()) == (403, {"rejected": name})
    assert answer.headers["access-control-allow-origin"] == "*"
    # The agent has not begun.
    assert server.gate(thread)["waiting"] == 0
    assert server.run("run", thread, agent="text").status == 200


def test_on_request_can_put_another_request_in_its_place(server: Server, hooks: str) -> None:
    headers = {"x-hooks": hooks, "x-rewrite": f"{server.file.base_path}/info"}
    answer = server.request("GET", "/nothing-here", headers=headers)
    assert (answer.status, answer.headers["x-route"]) == (200, "info")
    assert "default" in answer.json()["agents"]


@pytest.mark.of_the_binding
def test_on_before_handler_knows_the_body_and_can_add_a_header(
    server: Server, thread: str, hooks: str
) -> None:
    headers = {"x-hooks": hooks}
    _, mirrored, _ = server.run("run", thread, agent="mirror", headers=headers).events()
    size = len(json.dumps(run_input(thread)))
    assert mirrored["snapshot"]["headers"]["x-body-size"] == str(size)


@pytest.mark.of_the_binding
def test_on_response_knows_the_route_and_can_add_headers(
    server: Server, thread: str, hooks: str
) -> None:
    headers = {"x-hooks": hooks, "x-cookies": "two"}
    streamed = server.run("run", thread, agent="text", headers=headers)
    assert streamed.headers["x-route"] == "agent/run"
    assert streamed.headers["x-route-agent"] == "text"
    assert streamed.headers["set-cookie"] == "a=1, b=2"
    assert streamed.events()[-1]["type"] == "RUN_FINISHED"
    whole = server.request("POST", f"/agent/default/stop/{thread}", headers=headers)
    assert whole.headers["x-route"] == "agent/stop"
    assert whole.headers["x-route-agent"] == "default"
    assert whole.headers["x-route-thread"] == thread
    assert whole.headers["set-cookie"] == "a=1, b=2"
    assert server.request("GET", "/nope", headers=headers).headers["set-cookie"] == "a=1, b=2"


@pytest.mark.one_a_loop
@pytest.mark.parametrize("name", ["on-request", "on-before-handler", "on-response"])
@pytest.mark.parametrize("on_error", ["none", "fail"])
def test_a_hook_that_fails_is_a_bare_500(
    server: Server, thread: str, hooks: str, name: str, on_error: str
) -> None:
    headers = {
        "x-hooks": hooks,
        f"x-{name}": "fail",
        "x-on-error": on_error,
        "origin": "https://app.example.com",
    }
    answer = server.run("run", thread, headers=headers)
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert SECRET not in f"{answer.headers} {answer.body!r}"
    assert server.gate(thread)["waiting"] == 0
    assert server.run("run", thread, agent="text").status == 200


@pytest.mark.of_the_binding
def test_on_error_can_answer(server: Server, hooks: str) -> None:
    headers = {"x-hooks": hooks, "x-on-before-handler": "fail", "x-on-error": "answer"}
    answer = server.request("GET", "/info", headers=headers)
    assert (answer.status, answer.json()) == (502, {"handled": "OnPurposeError"})


def reports(server: Server, thread: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the reports to on_run_end of the thread's runs, once there are ``count`` of them."""
    told: list[dict[str, Any]] = []

    def all_told() -> bool:
        told[:] = server.gate(thread)["reports"]
        return len(told) >= count

    wait_until(all_told, f"{count} runs of {thread} were reported")
    return told


@pytest.mark.one_a_loop
def test_on_run_end_is_told_of_each_run(server: Server, thread: str, hooks: str) -> None:
    headers = {"x-hooks": hooks}
    first = server.run("run", thread, agent="text", run_id="one", headers=headers).events()
    server.run("run", thread, agent="fails-midway", run_id="two", headers=headers)
    with server.client() as client:
        stream = client.stream("run", thread, run_id="three", headers=headers)
        begun = stream.events(1)
        server.stop(thread)
        stopped = begun + stream.rest()
    told = {report["run"]: report for report in reports(server, thread, 3)}
    assert len(told) == 3
    assert told["one"] == {
        "agent": "text",
        "run": "one",
        "outcome": "finished",
        "error": None,
        "events": len(first),
    }
    assert told["two"]["outcome"] == "failed"
    assert told["two"]["error"] == "failed midway"
    assert told["three"]["outcome"] == "stopped"
    assert told["three"]["events"] == len(stopped)


@pytest.mark.of_the_binding
def test_a_run_that_on_run_start_refuses_has_no_end(
    server: Server, thread: str, hooks: str
) -> None:
    headers = {"x-hooks": hooks}
    refused = server.run("run", thread, headers=headers | {"x-on-run-start": "reject"})
    assert refused.status == 403
    server.run("run", thread, agent="text", run_id="next", headers=headers)
    assert [report["run"] for report in reports(server, thread)] == ["next"]
