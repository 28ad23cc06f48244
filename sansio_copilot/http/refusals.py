"""Refusals: the responses that say no, each in one place, and the exception that carries one.

The refusal of a request that is too slow, too large or no HTTP at all belongs to no exchange,
because there is no request yet. Such refusals stand here too, so that every binding that owns its
sockets answers in the same words.
"""

from __future__ import annotations

import logging
from typing import Final

from ..errors import BodyRefused, BodyTimeout, BodyTooLarge, shorten
from .messages import Headers, Response

logger = logging.getLogger(__name__)


class Refusal(Exception):
    """The core refuses a request, at any step of its way; a hook raises ``Reject`` instead.

    :param response: the response that says no.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(f"refused with {response.status}")
        self.response = response


INTERNAL_ERROR: Final = Response.json({"error": "internal_error"}, 500)
"""RFC 9110 section 15.6.1. The response says nothing of the cause, which may be private."""

UNAUTHORIZED: Final = Response.json(
    {"error": "Unauthorized", "message": "The request is of nobody who is known here"},
    401,
    # RFC 9110 section 11.6.1 has every 401 name a scheme.
    {"www-authenticate": "Bearer"},
)
"""RFC 9110 section 15.5.2."""

NOT_FOUND: Final = Response.json({"error": "Not found"}, 404)
"""RFC 9110 section 15.5.5."""

TOO_SLOW: Final = Response.json(
    {"error": "Request timeout", "message": "The request did not arrive in time"}, 408
)
"""RFC 9110 section 15.5.9."""

HEAD_TOO_LARGE: Final = Response.json(
    {
        "error": "Request header fields too large",
        "message": "The request's head is longer than the limit",
    },
    431,
)
"""RFC 6585 section 5."""

TARGET_TOO_LONG: Final = Response.json(
    {"error": "URI too long", "message": "The request line is longer than the limit"}, 414
)
"""RFC 9110 section 15.5.15."""

CLIENT_GONE: Final = Response(499, {"content-length": "0"})
"""The response to a client that left before its response began. It reaches only logs and
middleware. The code is nginx's, because RFC 9110 section 15 has no code for it."""


def method_not_allowed(allowed: tuple[str, ...]) -> Response:
    """The path has no such method (RFC 9110 section 15.5.6).

    :param allowed: the methods that it has, which ``Allow`` lists.
    """
    headers = Headers((("allow", ", ".join(allowed)),))
    return Response.json({"error": "Method not allowed"}, 405, headers)


def too_large(message: str) -> Response:
    """The content is more than a limit allows (RFC 9110 section 15.5.14)."""
    return Response.json({"error": "Payload too large", "message": message}, 413)


def invalid_body(details: str) -> Response:
    """The body is not what its endpoint takes (RFC 9110 section 15.5.1)."""
    return Response.json({"error": "Invalid request body", "details": details}, 400)


def forbidden(message: str) -> Response:
    """Refuse a request for something that exists and that its user may not have (RFC 9110 section
    15.5.4)."""
    return Response.json({"error": "Forbidden", "message": message}, 403)


def too_many(message: str, seconds: int) -> Response:
    """A user has used up a quota (RFC 6585 section 4).

    :param seconds: the time after which to try again (RFC 9110 section 10.2.3).
    """
    return Response.json(
        {"error": "Too many requests", "message": message}, 429, {"retry-after": str(seconds)}
    )


def overloaded(message: str) -> Response:
    """The server has no room now; a client should try again soon (RFC 9110 section 15.6.4)."""
    return Response.json(
        {"error": "Service unavailable", "message": message}, 503, {"retry-after": "1"}
    )


def coded(coding: str) -> Response:
    """The body has a content coding, such as gzip (RFC 9110 sections 8.4 and 15.5.16).

    :param coding: the request's Content-Encoding.
    """
    message = (
        f"The request has Content-Encoding '{shorten(coding)}'; send the body as it is, "
        "without a Content-Encoding"
    )
    return Response.json(
        {"error": "Unsupported media type", "message": message},
        415,
        {"accept-encoding": "identity"},
    )


NO_PROXY: Final = Response.json(
    {"error": "Not implemented", "message": "The server is no proxy"}, 501
)
"""The response to CONNECT (RFC 9110 sections 9.3.6 and 15.6.2)."""

OTHER_VERSION: Final = Response.json(
    {"error": "HTTP version not supported", "message": "The server speaks HTTP/1.1"}, 505
)
"""RFC 9110 section 15.6.6."""

TOO_MANY_CONNECTIONS: Final = overloaded("The server has too many connections")

STORE_UNAVAILABLE: Final = overloaded("The thread store is unavailable")

NOT_STARTED: Final = overloaded("The server has not started")

TOO_MANY_BODIES: Final = overloaded("The server holds too many request bodies")


def unread(error: Exception, limit: int) -> Exception:
    """The refusal of a request whose body was not read because of ``error``.

    :param limit: the largest body in bytes.
    :returns: ``error`` itself if it is not an error that a binding reports of a body.
    """
    if isinstance(error, BodyTooLarge):
        return Refusal(too_large(f"The request body is longer than {limit} bytes"))
    if isinstance(error, BodyTimeout):
        return Refusal(TOO_SLOW)
    return Refusal(TOO_MANY_BODIES) if isinstance(error, BodyRefused) else error


def not_http(message: str, status: int = 400) -> Response:
    """The client sent bytes that are not HTTP/1.1, or a request that is not for this server.

    :param message: what was wrong, in words.
    :param status: a more precise status code, if there is one.
    """
    return Response.json({"error": "Bad request", "message": message}, status)


def log_refusal(response: Response) -> None:
    """Tell the log of ``response``, with which a binding answers a request without an exchange."""
    said = shorten(response.body.decode("utf-8", "replace"))
    logger.debug("a request is answered %d without an exchange: %s", response.status, said)
