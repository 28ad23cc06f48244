"""The recorded answers of the reference runtime, and what a comparison with them leaves out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ag_ui.core import RunAgentInput

from sansio_copilot import AgentContext, CorsPolicy
from sansio_copilot.http.envelope import ENVELOPE_MESSAGE

VECTORS = Path(__file__).parents[1] / "vectors"
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


def scripted_agents() -> dict[str, Scripted]:
    """The agents of every configuration that the answers were recorded with."""
    return {"default": Scripted("scripted"), "research-agent": Scripted()}


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

UNROUTED_ENVELOPE = {
    "error": "Not found",
    "code": "single_route_envelope_against_multi_route_runtime",
    "message": ENVELOPE_MESSAGE,
}
"""The answer to an envelope in multi-route mode. Its message says what is to be done here, where
there is a mode that the reference has not."""

# Each request (configuration, method, path, body) is mapped to the answer here: the reason for the
# difference, the status and the body.
ACCEPTED_DIFFERENCES: dict[tuple[str, str, str, str], tuple[str, int, Any]] = {
    ("single", "POST", "", "null"): (
        "the reference dies on an envelope of null; like any other without a method it gets 400",
        400,
        {"error": "invalid_request", "message": "Missing method field"},
    ),
}


# The replay of these threads of runs.json folds to the live messages, which the reference's replay
# does not, because a tool call is open while another call, or a text, begins and ends. The
# reference replays it behind them, so that a reload shows the two the other way round, and in
# another order than /messages.
REPLAYED_AS_LIVE = frozenset({"th-11-25", "th-11-122"})

# In these threads of runs.json the runtime sends RUN_STARTED itself, because their agent sends no
# event: the reference leaves RUN_ERROR alone, which both clients refuse in a replay behind another
# RUN_ERROR.
UNSTARTED = frozenset({"th-11-43", "th-11-111"})


def with_vary_of_the_origin(
    headers: Mapping[str, str], cors: CorsPolicy | None, already: str = ""
) -> dict[str, str]:
    """Return recorded ``headers`` with what a list of origins, or credentials, leave out.

    The reference says ``Vary: Origin`` to whom it lets in only, so that a cache may give its
    refusal to somebody else.

    :param already: the members of Vary that the response had before CORS.
    """
    if cors is None or (cors.origin is None and not cors.credentials):
        return dict(headers)
    members = [member for member in headers.get("vary", "").split(", ") if member]
    if "Origin" not in members:
        members.insert(len(already.split(", ")) if already else 0, "Origin")
    return {**headers, "vary": ", ".join(members)}


def with_no_transform(headers: Mapping[str, str]) -> dict[str, str]:
    """Return recorded ``headers``; a stream gets what keeps proxies from compressing it."""
    is_stream = headers.get("content-type") == "text/event-stream"
    return {**headers, "cache-control": "no-cache, no-transform"} if is_stream else dict(headers)


# The thread of each of these cases is mapped to the error that ends its run here, because client
# 1.0.0 refuses to read a run that the reference lets through.
STRICTER: dict[str, str] = {
    "th-11-19": "Cannot send 'RUN_FINISHED' while reasoning messages are still active: z2",
    "th-11-54": "Cannot send 'RUN_FINISHED' while reasoning spans are still active: z2",
    "th-11-87": "Cannot send 'RUN_FINISHED' while reasoning messages are still active: z0",
    "th-11-134": "Cannot send 'REASONING_MESSAGE_CONTENT' event: No active reasoning message found "
    "with ID 'z2'. Start a reasoning message with 'REASONING_MESSAGE_START' first.",
    "th-11-147": "Cannot send 'REASONING_MESSAGE_CONTENT' event: No active reasoning message found "
    "with ID 'z1'. Start a reasoning message with 'REASONING_MESSAGE_START' first.",
}


def is_stricter(case: Case, events: list[dict[str, Any]]) -> bool:
    """Whether ``events`` are what ``case`` streams up to an event that :data:`STRICTER` names.

    What the run has open then is ended, as ever.
    """
    message = STRICTER[case["body"]["threadId"]]
    same = 0
    while events[same] == case["events"][same]:
        same += 1
    *closers, last = events[same:]
    return (
        f"'{case['events'][same]['type']}'" in message
        and last == {"type": "RUN_ERROR", "message": message, "code": "INCOMPLETE_STREAM"}
        and all(closer["type"].endswith(("_END", "_RESULT")) for closer in closers)
    )


class Answer(Protocol):
    """A whole response, whoever received it."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    def json(self) -> Any: ...
    def events(self) -> list[dict[str, Any]]: ...


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


def differences(case: Case, answer: Answer) -> list[str]:
    """Return the points in which ``answer`` is not the recorded one, apart from free ones."""
    expected = case["expect"]
    status, body = expected["status"], expected["body"]
    if identity(case) in ACCEPTED_DIFFERENCES:
        _, status, body = ACCEPTED_DIFFERENCES[identity(case)]
    if isinstance(body, dict) and body.get("code") == UNROUTED_ENVELOPE["code"]:
        body = UNROUTED_ENVELOPE
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name in COMPARED or name.startswith("access-control-")
    }
    cors = CONFIGS[case["config"]].get("cors")
    policy = cors if isinstance(cors, CorsPolicy) else None
    recorded = with_no_transform(with_vary_of_the_origin(expected["headers"], policy))
    found = [("status", answer.status, status), ("headers", headers, recorded)]
    if case["request"]["method"] == "HEAD":
        # The length is computed here, because the recording did not go over a wire, and HEAD has
        # the length that GET would have (RFC 9110 section 9.3.2).
        length = str(len(json.dumps(body, separators=(",", ":"))))
        found.append(("body", answer.body, b""))
        found.append(("content-length", answer.headers.get("content-length"), length))
    else:
        found.append(("body", comparable(body_of(answer)), comparable(body)))
    return [f"{what}: {here!r}, not {there!r}" for what, here, there in found if here != there]
