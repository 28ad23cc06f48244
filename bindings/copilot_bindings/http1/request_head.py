"""The head of a request: its end, the checks that h11 does not make, and its body's length."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import h11

from sansio_copilot import RemoteProtocolError, Request, Response
from sansio_copilot.http import refusals

from ..serving.content_length import announced_length

_EMPTY_LINE = re.compile(rb"\n\r?\n")
# These characters are never valid in a head. They are refused before h11 sees them, because its
# regular expressions take time quadratic in the length of the white space before them.
_NEVER_IN_HEAD = re.compile(rb"[\x00\x0b\x0c]|\r(?=[^\n])")

# A host has the form of RFC 3986 section 3.2.2, except that the inside of brackets is not checked.
HOST: Final = r"(?:\[[\w.:~%-]+\]|[\w.~%!$&'()*+,;=-]*)(?::[0-9]*)?"
_HOST = re.compile(HOST.encode(), re.ASCII)

_LENGTH = re.compile(rb"(?im)^content-length:([^\r\n]*+)")
# h11 cannot read a length of more than 20 digits.
_LONG_LENGTH = re.compile(rb"(?im)^content-length:[^\r\n]{20,}+")

FieldValues: TypeAlias = Mapping[bytes, bytes]


class RequestRefusal(RemoteProtocolError):
    """A request cannot be served.

    :param response: the response that the client is sent instead.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response


_RULES: Final[tuple[tuple[Callable[[h11.Request, FieldValues], bool], Response], ...]] = (
    (lambda request, fields: request.http_version[:1] != b"1", refusals.OTHER_VERSION),
    (
        # RFC 9112 section 3.2 requires a Host; h11 checks requests of HTTP/1.1 only.
        lambda request, fields: request.http_version > b"1.0" and b"host" not in fields,
        refusals.not_http("The request has no Host"),
    ),
    (
        # RFC 9112 section 3.2 requires the response 400 to an invalid Host.
        lambda request, fields: not _HOST.fullmatch(fields.get(b"host", b"")),
        refusals.not_http("The Host is no host"),
    ),
    (
        # RFC 9112 section 6.1 allows to refuse both together, because one of the two may have been
        # smuggled past a proxy.
        lambda request, fields: b"transfer-encoding" in fields and b"content-length" in fields,
        refusals.not_http("The request has both Transfer-Encoding and Content-Length"),
    ),
    (
        # RFC 9112 section 6.1 calls such a message faulty, because a proxy that speaks HTTP/1.0
        # does not know the field, and so sees another end of the body.
        lambda request, fields: b"transfer-encoding" in fields and request.http_version < b"1.1",
        refusals.not_http("HTTP/1.0 has no Transfer-Encoding"),
    ),
    (
        # RFC 9110 section 9.3.6 makes a tunnel of the connection after a successful response, so
        # this method must not reach the runtime.
        lambda request, fields: request.method == b"CONNECT",
        refusals.NO_PROXY,
    ),
)


def request_of(event: h11.Request) -> Request:
    """Convert a request of h11 to the core's.

    Field values are decoded as Latin-1, so that every byte is kept.

    :raises RemoteProtocolError: the core's, if the target has a wrong form (RFC 9112 section 3.2).
    """
    return Request.from_target(
        event.method.decode("ascii"),
        event.target.decode("latin-1"),
        ((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers),
    )


def head_end(data: bytearray, searched: int, limit: int) -> int | None:
    """Find the end of the request head that ``data`` begins with.

    :param searched: how many bytes have been searched by earlier calls.
    :param limit: the largest head in bytes.
    :returns: the head's length in bytes; None if its end has not arrived.
    :raises RequestRefusal: if the head is larger than ``limit``, or has a control character in it.
    """
    begin = max(0, searched - 2)
    found = _EMPTY_LINE.search(data, begin, limit)
    end = None if found is None else found.end()
    if _NEVER_IN_HEAD.search(data, begin, limit if end is None else end):
        raise RequestRefusal(refusals.not_http("The request's head has a control character in it"))
    if end is None and len(data) >= limit:
        is_line = b"\n" not in data[:limit]
        raise RequestRefusal(refusals.TARGET_TOO_LONG if is_line else refusals.HEAD_TOO_LARGE)
    return end


def check(request: h11.Request, fields: FieldValues) -> None:
    """Refuse a request that h11 accepts although RFC 9112 says that a server must refuse it.

    :param fields: the fields of ``request``, with names in lower case.
    :raises RequestRefusal: with the response of the first rule that is broken.
    """
    for is_broken, response in _RULES:
        if is_broken(request, fields):
            raise RequestRefusal(response)


def read_length(head: bytes) -> tuple[bytes, int | None]:
    """Read the length that a head announces for the body, before h11 sees the head.

    h11 would refuse a wrong length in words of its own.

    :returns: the head with a length of few digits, and the length in bytes; None if the head
        announces none.
    :raises RemoteProtocolError: if the length is no number.
    """
    fields = _LENGTH.findall(head)
    length = announced_length(b",".join(fields).decode("latin-1") if fields else None)
    if length is None:
        return head, None
    return _LONG_LENGTH.sub(b"content-length: %d" % length, head), length


def refusal(error: h11.RemoteProtocolError | RemoteProtocolError) -> Response:
    """The response to a client whose bytes could not be read as HTTP/1.1."""
    if isinstance(error, RequestRefusal):
        return error.response
    if isinstance(error, RemoteProtocolError):
        return refusals.not_http(str(error))
    if error.error_status_hint == refusals.HEAD_TOO_LARGE.status:
        return refusals.HEAD_TOO_LARGE
    # The quotation at the end of h11's message is cut off, because it may be long, or a secret.
    message, _, _ = str(error).partition(": bytearray(")
    return refusals.not_http(message, error.error_status_hint)
