"""The conversion of a WSGI environ (PEP 3333) to the core's request, and reading of the body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from sansio_copilot import RemoteProtocolError, Request
from sansio_copilot.http.addresses import is_elsewhere
from sansio_copilot.http.paths import from_base_path

from ..serving.body_limits import Body
from ..serving.content_length import announced_length

Environ: TypeAlias = dict[str, Any]

# These characters may stand in a path without encoding (RFC 3986 section 3.3).
_PATH_SAFE = "/:@!$&'()*+,;=~"
_PIECE_BYTES = 16 * 1024
# CGI has these names without HTTP_. Fields that would be HTTP_CONTENT_TYPE or HTTP_CONTENT_LENGTH
# are left out, so that a client cannot replace the real ones.
_CONTENT_FIELDS = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


class BodyEndsEarly(Exception):
    """The client has sent fewer bytes of its body than it announced."""


def request_of(environ: Environ, base_path: str | None) -> Request:
    """Convert an environ (PEP 3333) to the core's request, without its body.

    :param base_path: the base path of the runtime. A part of ``SCRIPT_NAME`` in front of it is
        removed from the path, because a proxy or a mount has put it there.
    :raises RemoteProtocolError: if the announced length of the body is no number.
    """
    _length_of(environ)
    return Request(
        environ["REQUEST_METHOD"],
        from_base_path(_path_of(environ), _prefix_of(environ), base_path),
        environ.get("QUERY_STRING", ""),
        _fields_of(environ),
        environ=environ,
    )


def is_exposed(environ: Environ) -> bool:
    """Whether the request has come to an address that other machines reach, or from one of them.

    Some servers give their address as SERVER_NAME and others a name, but all give the client's
    address.
    """
    return is_elsewhere(environ.get("SERVER_NAME")) or is_elsewhere(environ.get("REMOTE_ADDR"))


def read_body(environ: Environ, body: Body) -> bytes:
    """Read the body from the server.

    :param body: collects the pieces.
    :returns: the whole body.
    :raises BodyTooLarge: if the body is too long; before any of it is read, if its length was
        announced.
    :raises BodyRefused: if there is no room for the body now.
    :raises BodyEndsEarly: if the client goes before the body is complete.
    """
    left = _length_of(environ)
    if left is None and not environ.get("wsgi.input_terminated"):
        # Without a length, and without a server that marks the end of the input, there is no body
        # (RFC 3875 section 4.1.2).
        return b""
    body.expect(left or 0)
    while left != 0:
        wanted = _PIECE_BYTES if left is None else min(left, _PIECE_BYTES)
        # The room is taken before the bytes are read, because the server collects them all before
        # it returns any. Bytes beyond the limit need none, because they are refused.
        body.reserve(min(wanted, body.limit - body.size))
        piece = environ["wsgi.input"].read(wanted)
        if not piece:
            break
        body.add(piece)
        if left is not None:
            left -= len(piece)
    if left:
        raise BodyEndsEarly("the request's body ends early")
    return body.whole()


def _length_of(environ: Environ) -> int | None:
    # A server may pass an empty string for a field that is absent.
    return announced_length(environ.get("CONTENT_LENGTH") or None)


def _prefix_of(environ: Environ) -> str:
    prefix: str = environ.get("SCRIPT_NAME", "")
    return prefix.encode("latin-1").decode("utf-8", "replace")


def _path_of(environ: Environ) -> str:
    """The whole path, percent-encoded.

    PATH_INFO is decoded, so that ``%2F`` looks like a slash. Most servers also pass the target as
    it was sent. The target is used only if it has the same path after decoding, because middleware
    may have put another path into PATH_INFO.
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
            # A server may pass an empty string for a field that is absent.
            if value:
                yield _CONTENT_FIELDS[key], value
        elif name != key and name not in _CONTENT_FIELDS:
            yield name.replace("_", "-").lower(), value
