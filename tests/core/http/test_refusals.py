"""Tests of the responses that are sent before there is an exchange."""

from __future__ import annotations

import json

import pytest

from sansio_copilot import Response
from sansio_copilot.http.refusals import (
    HEAD_TOO_LARGE,
    NO_PROXY,
    OTHER_VERSION,
    TARGET_TOO_LONG,
    TOO_MANY_CONNECTIONS,
    TOO_SLOW,
    not_http,
    overloaded,
)


@pytest.mark.parametrize(
    ("response", "status", "error"),
    [
        (TOO_SLOW, 408, "Request timeout"),
        (HEAD_TOO_LARGE, 431, "Request header fields too large"),
        (TARGET_TOO_LONG, 414, "URI too long"),
        (NO_PROXY, 501, "Not implemented"),
        (OTHER_VERSION, 505, "HTTP version not supported"),
        (TOO_MANY_CONNECTIONS, 503, "Service unavailable"),
        (overloaded("why"), 503, "Service unavailable"),
        (not_http("why"), 400, "Bad request"),
        (not_http("why", 501), 501, "Bad request"),
    ],
)
def test_each_refusal_says_what_is_wrong(response: Response, status: int, error: str) -> None:
    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.body)
    assert body["error"] == error
    assert body["message"]


@pytest.mark.parametrize("response", [TOO_MANY_CONNECTIONS, overloaded("why")])
def test_a_server_without_room_says_when_to_come_back(response: Response) -> None:
    assert response.headers["retry-after"] == "1"


def test_the_message_of_a_refusal_is_told() -> None:
    assert json.loads(overloaded("too many runs").body)["message"] == "too many runs"
    assert json.loads(not_http("no Host").body)["message"] == "no Host"
