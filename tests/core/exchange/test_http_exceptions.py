"""The exceptions by which web frameworks answer a request, raised in a hook."""

from __future__ import annotations

import http
from typing import Any

import attrs
import fastapi
import pytest
import werkzeug.exceptions
from starlette.exceptions import HTTPException

from sansio_copilot import CopilotRuntime, Hooks, Reject, Response
from sansio_copilot.testing import Client, ClientResponse

INFO = "/api/copilotkit/info"


def raised(error: Exception, **options: Any) -> ClientResponse:
    def fail(context: Any) -> Any:
        raise error

    return Client(CopilotRuntime({}, hooks=Hooks(on_request=fail), **options)).get(INFO)


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (HTTPException(401, "log in first"), 401, "log in first"),
        (HTTPException(404), 404, "Not Found"),
        (fastapi.HTTPException(422, [{"loc": ["a"]}]), 422, [{"loc": ["a"]}]),
        (fastapi.HTTPException(http.HTTPStatus.CONFLICT, {"a": 1}), 409, {"a": 1}),
        (werkzeug.exceptions.Forbidden("not yours"), 403, "not yours"),
        (werkzeug.exceptions.NotFound(), 404, werkzeug.exceptions.NotFound.description),
    ],
)
def test_an_exception_is_answered_as_its_framework_would(
    error: Exception, status: int, detail: Any
) -> None:
    answer = raised(error)
    message = detail if isinstance(detail, str) else "The request was refused"
    assert (answer.status, answer.json()) == (status, {"error": message, "detail": detail})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_the_headers_of_an_exception_are_sent() -> None:
    basic = HTTPException(401, headers={"WWW-Authenticate": "Basic", "Content-Length": "9"})
    assert raised(basic).headers["www-authenticate"] == "Basic"
    later = werkzeug.exceptions.TooManyRequests(retry_after=7)
    assert raised(later).headers["retry-after"] == "7"
    assert raised(later).headers["content-type"] == "application/json"


def test_an_exception_counts_in_a_group_of_nothing_else() -> None:
    group = ExceptionGroup("hook", [ExceptionGroup("inner", [HTTPException(403, "no")])])
    assert raised(group).status == 403
    mixed = ExceptionGroup("hook", [Reject(Response(402)), HTTPException(403, "no")])
    assert raised(mixed).status == 402
    failed = ExceptionGroup("hook", [HTTPException(403, "no"), ValueError("x")])
    assert raised(failed).status == 500


@attrs.define(slots=False)
class Odd(Exception):
    """Looks like one of them, and is none."""

    status_code: Any = None
    detail: Any = "x"
    headers: Any = None


@pytest.mark.parametrize(
    "error",
    [
        Odd(status_code=200),
        Odd(status_code=600),
        Odd(status_code="401"),
        Odd(status_code=401, detail=print),
        Odd(status_code=401, headers={"a": "b\n"}),
        Odd(status_code=401, headers=5),
        ValueError("x"),
    ],
    ids=repr,
)
def test_an_exception_that_cannot_be_an_answer_is_a_fault(error: Exception) -> None:
    assert raised(error).body == b'{"error":"internal_error"}'


def test_an_exception_is_understood_wherever_a_reject_is() -> None:
    def fail(*args: Any) -> Any:
        raise HTTPException(403, "no")

    for options in ({"identify_user": fail}, {"hooks": Hooks(on_before_handler=fail)}):
        assert Client(CopilotRuntime({}, **options)).get(INFO).status == 403
    assert Client(CopilotRuntime(fail)).get(INFO).status == 403
