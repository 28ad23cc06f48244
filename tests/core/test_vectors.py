"""Whole requests against the recorded answers of the reference runtime, run by the test client."""

from __future__ import annotations

import pytest
from support.vectors import (
    ACCEPTED_DIFFERENCES,
    CONFIGS,
    REPLAYED_AS_LIVE,
    STRICTER,
    UNSTARTED,
    Case,
    Scripted,
    differences,
    identity,
    is_stricter,
    load,
    name_of,
    scripted_agents,
)

from sansio_copilot import CopilotRuntime
from sansio_copilot.events import fold_messages
from sansio_copilot.testing import Client

BASE = "/api/copilotkit"


# --- runs.json: what a run streams, and what it leaves in its thread ---------------------------


@pytest.mark.parametrize("case", load("runs.json"), ids=lambda case: case["body"]["threadId"])
def test_each_run_streams_and_replays_as_recorded(case: Case) -> None:
    client = Client(CopilotRuntime({"default": Scripted()}))
    body, thread = case["body"], f"{BASE}/threads/{case['body']['threadId']}"
    streamed = client.post(f"{BASE}/agent/default/run", json=body).events()
    if body["threadId"] in STRICTER:
        assert is_stricter(case, streamed)
        return
    replay = client.post(f"{BASE}/agent/default/connect", json=body).events()
    if body["threadId"] in UNSTARTED:
        assert streamed.pop(0) == replay.pop(0)
    assert streamed == case["events"]
    if body["threadId"] in REPLAYED_AS_LIVE:
        assert fold_messages(replay) == fold_messages(case["events"])
        assert fold_messages(replay) != fold_messages(case["replay"])
    else:
        assert replay == case["replay"]
    assert client.get(f"{thread}/messages").json() == {"messages": case["messages"]}
    assert client.get(f"{thread}/state").json() == {"state": case["state"]}


# --- http.json: status, headers and body of every kind of request ------------------------------


@pytest.mark.untraced
@pytest.mark.parametrize("case", load("http.json"), ids=name_of)
def test_each_request_is_answered_as_recorded(case: Case) -> None:
    client = Client(CopilotRuntime(scripted_agents(), **CONFIGS[case["config"]]))
    request = case["request"]
    answer = client.request(
        request["method"],
        BASE + request["path"],
        headers=request.get("headers") or {},
        body=request.get("body", ""),
    )
    assert differences(case, answer) == []


def test_every_accepted_difference_is_a_difference() -> None:
    cases = {identity(case): case["expect"] for case in load("http.json")}
    for request, (reason, status, body) in ACCEPTED_DIFFERENCES.items():
        assert reason
        assert (cases[request]["status"], cases[request]["body"]) != (status, body)
