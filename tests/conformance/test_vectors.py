"""Every request of the vectors is answered as the reference runtime answers it."""

from __future__ import annotations

import json

import pytest
from conformance.client import Client
from conformance.process import Server
from support.vectors import CONFIGS, differences, load, name_of

CASES = load("http.json")
CLEAR = {"method": "resource/request", "params": {"path": "/threads/clear", "httpMethod": "POST"}}


def config(name: str) -> object:
    """Return a parameter; every server has the configurations whose headers it might lose."""
    marks = () if name in ("plain", "cors") else pytest.mark.of_the_binding
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("config", [config(name) for name in CONFIGS])
def test_the_answer_is_the_recorded_one(server: Server, config: str) -> None:
    wrong = []
    for case in CASES:
        request = case["request"]
        where = request["method"], request["path"]
        if case["config"] != config or where in server.file.answers_itself:
            continue
        headers, body = request.get("headers"), request.get("body", "").encode()
        with server.client(config) as client:
            answer = client.request(request["method"], request["path"], body, headers)
        wrong += [f"{name_of(case)}: {found}" for found in differences(case, answer)]
        if answer.headers.get("content-type") == "text/event-stream":
            with server.client(config) as client:
                forget_threads(client, config)
    assert not wrong, "\n".join(wrong)


def forget_threads(client: Client, config: str) -> None:
    """Each case begins with an empty store."""
    if config == "single":
        body = json.dumps(CLEAR).encode()
        answer = client.request("POST", "", body, {"content-type": "application/json"})
    else:
        answer = client.request("POST", "/threads/clear")
    assert answer.status == 204


def test_requests_that_a_server_answers_itself_are_in_the_vectors(server: Server) -> None:
    requests = {(case["request"]["method"], case["request"]["path"]) for case in CASES}
    assert server.file.answers_itself.keys() <= requests
    assert all(server.file.answers_itself.values())
