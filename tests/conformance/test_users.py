"""Users: whose a thread is holds behind every server, over whatever store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.client import Answer
from conformance.process import Server, wait_until

from sansio_copilot.testing import run_input

pytestmark = pytest.mark.of_the_binding

JSON = {"content-type": "application/json"}
CONFIGS = pytest.mark.parametrize(
    "config",
    [
        "users",
        *(
            pytest.param(name, marks=pytest.mark.one_a_loop)
            for name in ("users-plain", "users-async-store", "users-sqlite-store")
        ),
    ],
)


def ask(server: Server, config: str, user: str | None, method: str, path: str) -> Answer:
    headers = {} if user is None else {"x-user": user}
    return server.request(method, path, b"", headers, config=config)


def run(server: Server, config: str, user: str, thread: str, operation: str = "run") -> Answer:
    return server.run(
        operation, thread, agent="who", headers={"x-user": user}, config=config, run_id=user
    )


def told(answer: Answer) -> Any:
    """Return what an answer tells, but for the time at which it was sent."""
    fields = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status, fields, answer.body


@CONFIGS
def test_a_client_that_is_not_known_is_refused(server: Server, thread: str, config: str) -> None:
    for method, path in (("GET", "/info"), ("GET", "/threads"), ("GET", "/nope")):
        answer = ask(server, config, None, method, path)
        assert (answer.status, answer.json()["error"]) == (401, "Unauthorized")
    assert server.run("run", thread, config=config).status == 401
    assert server.gate(thread)["waiting"] == 0


@CONFIGS
def test_an_agent_knows_the_user_and_the_function_what_the_server_knows(
    server: Server, thread: str, config: str
) -> None:
    answer = run(server, config, "ann", thread)
    snapshot = answer.events()[1]["snapshot"]
    assert snapshot["user"] == "ann"
    known = set(snapshot["data"].values()) - {None}
    # The connection is the scope of ASGI, the environ of WSGI, or nothing if the binding has
    # sockets.
    assert known in (set(), {"http"}, {"POST"})
    assert not (server.file.owns_sockets and known)


@CONFIGS
def test_another_users_thread_does_not_exist(server: Server, thread: str, config: str) -> None:
    with server.client(config) as runner:
        runner.stream("run", thread, headers={"x-user": "ann"})
        runner.events(2)
        for method, path in (
            ("GET", "/threads/{}/messages"),
            ("GET", "/threads/{}/events"),
            ("GET", "/threads/{}/state"),
            ("DELETE", "/threads/{}"),
            ("POST", "/threads/{}/archive"),
            ("POST", "/agent/default/stop/{}"),
        ):
            answers = [
                told(ask(server, config, "bob", method, path.format(name)))
                for name in (thread, thread[::-1])
            ]
            # An answer that names the thread names the one that was asked for.
            assert answers[0][0] == answers[1][0]
            assert answers[0][2] == answers[1][2].replace(thread[::-1].encode(), thread.encode())
        assert run(server, config, "bob", thread, "connect").body == b""
        assert run(server, config, "bob", thread).json()["error"] == "Thread not found"
        listed = ask(server, config, "bob", "GET", "/threads").json()["threads"]
        assert thread not in [known["id"] for known in listed]
        server.let(thread)
        assert runner.rest()[-1]["type"] == "RUN_FINISHED"
    assert run(server, config, "carol", thread, "connect").events()[-1]["type"] == "RUN_FINISHED"
    assert run(server, config, "carol", thread).status == 404
    # The end of a stream may reach its reader before the store lists the thread.
    assert ask(server, config, "ann", "DELETE", f"/threads/{thread}").status == 200


@CONFIGS
def test_an_envelope_belongs_to_the_user_who_sends_it(
    server: Server, thread: str, config: str
) -> None:
    run(server, config, "ann", thread)

    def enveloped(user: str, method: str, **content: Any) -> Answer:
        body = json.dumps({"method": method, **content}).encode()
        return server.request("POST", "", body, JSON | {"x-user": user}, config=f"{config}-single")

    messages = {"path": f"/threads/{thread}/state", "httpMethod": "GET"}
    assert enveloped("bob", "resource/request", params=messages).json() == {"state": None}
    assert enveloped("ann", "resource/request", params=messages).json()["state"]["user"] == "ann"
    agent = {"agentId": "who"}
    asked = run_input(thread, "r")
    assert enveloped("bob", "agent/connect", params=agent, body=asked).body == b""
    assert enveloped("bob", "agent/run", params=agent, body=asked).status == 404


def test_a_user_has_so_many_live_runs(server: Server, thread: str) -> None:
    def another(user: str) -> Answer:
        return run(server, "users-limited", user, f"{thread}-{user}")

    with server.client("users-limited") as runner:
        runner.stream("run", thread, headers={"x-user": thread})
        runner.events(2)
        answer = another(thread)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert another("somebody").status == 200
        server.let(thread)
        runner.rest()
    server.wait_unwound(thread)
    wait_until(lambda: another(thread).status == 200, "its place is free")
