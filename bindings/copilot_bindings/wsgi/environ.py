"""PEP 3333: the core's request for an environ, and a server's start_response for its head."""

from __future__ import annotations

import http
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes
from wsgiref.util import is_hop_by_hop

from sansio_copilot import RemoteProtocolError, Request, Response
from sansio_copilot.http.paths import from_base_path

from ..serving.bodies import Body, length_of

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., object]

# RFC 3986 section 3.3: what may stand in a path as it is.
_PATH_SAFE = "/:@!$&'()*+,;=~"
_PIECE_BYTES = 16 * 1024
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
# The CGI names of what HTTP_* has for other fields; a client must not put others in their place.
_CONTENT_FIELDS = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


class BodyEndsEarly(Exception):
    """The client has sent less of a body than it announced."""


def request_of(environ: Environ, base_path: str | None) -> Request:
    """The core's request, without its body.

    :param base_path: of the runtime. Of the path as much of ``SCRIPT_NAME`` is left out as stands
        in front of it: what a proxy or a mount has put there.
    :raises RemoteProtocolError: if the length of the body is no number.
    """
    announced_length(environ)
    return Request(
        environ["REQUEST_METHOD"],
        from_base_path(_path_of(environ), _prefix_of(environ), base_path),
        environ.get("QUERY_STRING", ""),
        _fields_of(environ),
    )


def announced_length(environ: Environ) -> int | None:
    """How long the body is; None if it is not announced.

    :raises RemoteProtocolError: if what is announced is no number.
    """
    field = environ.get("CONTENT_LENGTH")
    if not field:
        return None
    if (length := length_of(field)) is None:
        raise RemoteProtocolError("the Content-Length is no number")
    return length


def read_body(environ: Environ, body: Body) -> bytes:
    """Read the body from the server.

    :param body: what becomes of it.
    :raises BodyTooLarge: if it is too long; unread if that is announced.
    :raises BodyRefused: if there is no room for it.
    :raises BodyEndsEarly: if the client has gone.
    """
    left = announced_length(environ)
    if left is None and not environ.get("wsgi.input_terminated"):
        # Without either nobody knows where the body ends, and there is none by RFC 3875.
        return b""
    body.expect(left or 0)
    while left != 0:
        wanted = _PIECE_BYTES if left is None else min(left, _PIECE_BYTES)
        # The server collects them before it returns any.
        body.reserve(wanted)
        piece = environ["wsgi.input"].read(wanted)
        if not piece:
            break
        body.add(piece)
        if left is not None:
            left -= len(piece)
    if left:
        raise BodyEndsEarly("the request's body ends early")
    return body.whole()


def send_head(
    status: int, fields: Iterable[tuple[str, str]], start_response: StartResponse
) -> None:
    """Hand a response's head to the server."""
    # Those of the connection are the server's alone.
    headers = [(name, value) for name, value in fields if not is_hop_by_hop(name)]
    start_response(f"{status} {_PHRASES.get(status, 'Unknown')}", headers)


def send_whole(response: Response, start_response: StartResponse) -> list[bytes]:
    """Hand a response to the server; returns its body."""
    fields = response.headers.set("content-length", str(len(response.body)))
    send_head(response.status, fields.raw, start_response)
    return [response.body]


def _prefix_of(environ: Environ) -> str:
    prefix: str = environ.get("SCRIPT_NAME", "")
    return prefix.encode("latin-1").decode("utf-8", "replace")


def _path_of(environ: Environ) -> str:
    """The whole path, percent-encoded.

    PATH_INFO has lost its escapes, so that one slash looks like another. Most servers have the
    target as it was sent, too. It is not to be believed when it says something else: what stands
    between this and the server may have put another path in its place.
    """
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    for name in ("REQUEST_URI", "RAW_URI"):
        target = environ.get(name)
        if target:
            try:
                sent = Request.from_target(environ["REQUEST_METHOD"], target).path
            except RemoteProtocolError:
                continue
            if unquote_to_bytes(sent.encode("latin-1")) == path.encode("latin-1"):
                return sent
    return quote(path.encode("latin-1"), safe=_PATH_SAFE) or "/"


def _fields_of(environ: Environ) -> Iterator[tuple[str, str]]:
    for key, value in environ.items():
        name = key.removeprefix("HTTP_")
        if key in _CONTENT_FIELDS:
            # Empty stands for absent.
            if value:
                yield _CONTENT_FIELDS[key], value
        elif name != key and name not in _CONTENT_FIELDS:
            yield name.replace("_", "-").lower(), value
