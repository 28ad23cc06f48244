"""Whole requests against the recorded answers of the reference runtime, run by the test client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import RunAgentInput

from sansio_copilot import AgentContext, CopilotRuntime, CorsPolicy
from sansio_copilot.testing import Answer, Client

VECTORS = Path(__file__).parents[1] / "vectors"
BASE = "/api/copilotkit"
Case = dict[str, Any]


def load(name: str) -> list[Case]:
    cases: list[Case] = json.loads((VECTORS / name).read_text("utf-8"))["cases"]
    return cases


class Scripted:
    """Yields what the request tells it to, and fails if the request says so."""

    def __init__(self, description: str = "") -> None:
        self.description = description

    async def run(self, input: RunAgentInput, context: AgentContext) -> AsyncIterator[Any]:
        props = input.forwarded_props or {}
        for event in props.get("script", ()):
            yield event
        if "fail" in props:
            raise RuntimeError(props["fail"])


# --- runs.json: what a run streams, and what it leaves in its thread ---------------------------


@pytest.mark.parametrize("case", load("runs.json"), ids=lambda case: case["body"]["threadId"])
def test_run(case: Case) -> None:
    client = Client(CopilotRuntime({"default": Scripted()}))
    body, thread = case["body"], f"{BASE}/threads/{case['body']['threadId']}"
    assert client.post(f"{BASE}/agent/default/run", json=body).events() == case["events"]
    assert client.post(f"{BASE}/agent/default/connect", json=body).events() == case["replay"]
    assert client.get(f"{thread}/messages").json() == {"messages": case["messages"]}
    assert client.get(f"{thread}/state").json() == {"state": case["state"]}


# --- http.json: status, headers and body of every kind of request ------------------------------

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"cors": False},
    "cors": {"cors": True},
    "credentials": {
        "cors": CorsPolicy(
            origin=["https://app.example.com"],
            credentials=True,
            expose_headers=["x-request-id"],
            max_age=600,
        )
    },
    "single": {"mode": "single-route", "cors": True},
}

COMPARED = ("content-type", "allow", "cache-control", "vary")

# (configuration, method, path, body) -> the answer here instead: (why, status, body).
ACCEPTED_DIFFERENCES: dict[tuple[str, str, str, str], tuple[str, int, Any]] = {
    ("single", "POST", "", "null"): (
        "the reference dies on an envelope of null; like any other without a method it gets 400",
        400,
        {"error": "invalid_request", "message": "Missing method field"},
    ),
}


def name_of(case: Case) -> str:
    request = case["request"]
    about = [case["config"], request["method"], request["path"] or "(base)"]
    headers = request.get("headers") or {}
    about += [headers[name] for name in ("origin", "content-type") if name in headers]
    if "body" in request:
        about.append(request["body"][-60:] or "(empty)")
    return " ".join(about)


def identity(case: Case) -> tuple[str, str, str, str]:
    request = case["request"]
    return case["config"], request["method"], request["path"], request.get("body", "")


def body_of(answer: Answer) -> Any:
    content_type = answer.headers.get("content-type", "")
    if content_type == "text/event-stream":
        return answer.events()
    if content_type == "application/json":
        return answer.json()
    return answer.body.decode()


def comparable(body: Any) -> Any:
    """``body`` without what may differ: free text, the version, names of Python classes."""
    if not isinstance(body, dict):
        return body
    body = {key: value for key, value in body.items() if key not in ("version", "details")}
    if "agents" in body:
        body["agents"] = {
            name: {key: value for key, value in agent.items() if key != "className"}
            for name, agent in body["agents"].items()
        }
    return body


@pytest.mark.parametrize("case", load("http.json"), ids=name_of)
def test_request(case: Case) -> None:
    agents = {"default": Scripted("scripted"), "research-agent": Scripted()}
    client = Client(CopilotRuntime(agents, **CONFIGS[case["config"]]))
    request, expected = case["request"], case["expect"]
    status, body = expected["status"], expected["body"]
    if identity(case) in ACCEPTED_DIFFERENCES:
        _, status, body = ACCEPTED_DIFFERENCES[identity(case)]
    answer = client.request(
        request["method"],
        BASE + request["path"],
        headers=request.get("headers") or {},
        body=request.get("body", ""),
    )
    assert answer.status == status
    assert {
        name: value
        for name, value in answer.headers.items()
        if name in COMPARED or name.startswith("access-control-")
    } == expected["headers"]
    if request["method"] == "HEAD":
        # The recording did not go over a wire; RFC 9110 section 9.3.2.
        assert answer.body == b""
        assert int(answer.headers["content-length"]) == len(json.dumps(body, separators=(",", ":")))
    else:
        assert comparable(body_of(answer)) == comparable(body)


def test_every_accepted_difference_is_one() -> None:
    cases = {identity(case): case["expect"] for case in load("http.json")}
    for request, (reason, status, body) in ACCEPTED_DIFFERENCES.items():
        assert reason
        assert (cases[request]["status"], cases[request]["body"]) != (status, body)
