"""Context variables: what a part of an exchange sets, the later parts of it see, and nobody else.

docs/bindings.md says in which context what is called.
"""

from __future__ import annotations

import itertools
import json

import pytest
from conformance.client import Client
from conformance.contexts import PARTS
from conformance.process import Server

CONFIG = "contexts"
ORDER = PARTS[:-1]

_ids = itertools.count(1)


def assert_nobody_else_is_seen(client: Client, parts: str, agent: str) -> None:
    """Each part sees what those before it have set for this request, and no other part."""
    request_id = f"request-{next(_ids)}"
    headers = {"x-id": request_id, "x-parts": parts}
    answer = client.stream("run", request_id, agent=agent, headers=headers).receive()
    assert answer.status == 200
    seen = next(event["snapshot"] for event in answer.events() if "snapshot" in event)
    expected = {part: dict.fromkeys(ORDER[:index], request_id) for index, part in enumerate(ORDER)}
    assert seen == expected


@pytest.mark.parametrize("parts", ["plain", "async"])
@pytest.mark.parametrize("agent", ["plain", "async", "asyncio"])
def test_each_of_several_connections_has_its_own_context(
    server: Server, parts: str, agent: str
) -> None:
    for _ in range(3):
        with server.clients(3, CONFIG) as clients:
            for client in clients:
                assert_nobody_else_is_seen(client, parts, agent)


@pytest.mark.needs("keep-alive")
def test_each_request_of_one_connection_has_its_own_context(server: Server) -> None:
    with server.client(CONFIG) as client:
        for parts, agent in itertools.product(("plain", "async"), repeat=2):
            for _ in range(3):
                assert_nobody_else_is_seen(client, parts, agent)


@pytest.mark.parametrize("parts", ["plain", "async"])
def test_functions_of_other_endpoints_have_the_context_of_their_request(
    server: Server, parts: str
) -> None:
    for _ in range(3):
        request_id = f"request-{next(_ids)}"
        headers = {"x-id": request_id, "x-parts": parts, "content-type": "application/json"}
        info = server.request("GET", "/info", headers=headers, config=CONFIG)
        assert "other=on_request+on_before_handler+agents" in info.headers["x-seen"]
        recording = {"audio": "AAEC", "mimeType": "audio/webm", "filename": request_id}
        body = json.dumps(recording).encode()
        answer = server.request("POST", "/transcribe", body, headers, config=CONFIG)
        assert answer.json()["text"] == "on_request+on_before_handler"
