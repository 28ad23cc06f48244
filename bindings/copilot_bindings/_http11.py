"""HTTP/1.1 by h11, for the bindings that own their sockets: conversions, and what closes when."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

import h11

from sansio_copilot import RemoteProtocolError, Request, Response, refusals

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
# What of an unread body is worth reading to keep the connection: less than a new one costs.
_WORTH_DRAINING = 64 * 1024

CONTINUE = h11.InformationalResponse(
    status_code=HTTPStatus.CONTINUE, headers=[], reason=b"Continue"
)


def request_of(event: h11.Request) -> Request:
    """The core's request for h11's; field values are Latin-1, so that every byte is kept.

    :raises RemoteProtocolError: the core's, for a target of a wrong form.
    """
    return Request.from_target(
        event.method.decode("ascii"),
        event.target.decode("latin-1"),
        ((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers),
    )


def head_size(event: h11.Request) -> int:
    """The bytes of a request's head, to within its white space."""
    fields = sum(len(name) + len(value) + 4 for name, value in event.headers)
    return len(event.method) + len(event.target) + fields + 14


def announced_length(event: h11.Request) -> int | None:
    """The length that the request announces for its body; None for a chunked one.

    With neither field there is no body (RFC 9112 section 6.3).
    """
    length: int | None = 0
    for name, value in event.headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            length = None
    return length


def head_of(status: int, fields: Iterable[tuple[str, str]], *, close: bool) -> h11.Response:
    """h11's response for the core's head, with the fields that are the connection's."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
    headers.append((b"date", _date()))
    if close:
        headers.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=headers, reason=_PHRASES.get(status, b""))


def whole(response: Response) -> list[h11.Event]:
    """A response that is its connection's last."""
    fields = response.headers.set("content-length", str(len(response.body)))
    head = head_of(response.status, fields.raw, close=True)
    return [head, h11.Data(data=response.body), h11.EndOfMessage()]


def refusal(error: h11.RemoteProtocolError | RemoteProtocolError) -> Response:
    """The answer to what could not be read as HTTP/1.1."""
    if not isinstance(error, h11.RemoteProtocolError):
        return refusals.not_http(str(error))
    if error.error_status_hint == refusals.HEAD_TOO_LARGE.status:
        return refusals.HEAD_TOO_LARGE
    return refusals.not_http(str(error), error.error_status_hint)


def as_bytes(response: Response) -> bytes:
    """The same as bytes, for a connection that no request has been read from."""
    connection = h11.Connection(h11.SERVER)
    return b"".join(connection.send(event) or b"" for event in whole(response))


def must_close(connection: h11.Connection, length: int | None) -> bool:
    """Whether the response about to be sent is the connection's last, because of an unread body.

    A client that waits for "100 Continue" has not sent it, one that announced a long body would
    have to be listened to for nothing, and of a chunked one nobody knows the length (RFC 9112
    section 9.3).
    """
    if connection.their_state is not h11.SEND_BODY:
        return False
    return (
        connection.they_are_waiting_for_100_continue or length is None or length > _WORTH_DRAINING
    )


_date_of: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The Date field (RFC 9110 section 6.6.1), written once a second."""
    global _date_of
    now = int(time.time())
    if _date_of[0] != now:
        _date_of = (now, formatdate(now, usegmt=True).encode("ascii"))
    return _date_of[1]
