"""The core's request for an ASGI scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import attrs

from sansio_copilot import Request
from sansio_copilot.http.paths import from_base_path

from ..serving.bodies import length_of

# What has a meaning of its own in a path (RFC 3986 section 3.3) is no "%" when it comes decoded.
_PATH_SAFE = "/:@!$&'()*+,;=~"


def request_of(scope: Mapping[str, Any], base_path: str | None) -> Request:
    """The request, with the path that the client asked for, as far as it matters to the runtime.

    :param base_path: of the runtime. Of the path as much of ``root_path`` is left out as stands
        in front of it: what a proxy or a mount has put there.
    :raises RemoteProtocolError: for a target of a wrong form.
    """
    target = _raw_path(scope)
    if query := scope.get("query_string"):
        target = f"{target}?{query.decode('latin-1')}"
    headers = (
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
    )
    request = Request.from_target(scope["method"], target, headers)
    path = from_base_path(request.path, scope.get("root_path", ""), base_path)
    return request if path == request.path else attrs.evolve(request, path=path)


def is_behind_cors(scope: Mapping[str, Any]) -> bool:
    """Whether the application that this is mounted in has CORS middleware of its own.

    Starlette and FastAPI show theirs. What wraps an application from outside cannot be seen.
    """
    middleware = getattr(scope.get("app"), "user_middleware", ())
    return any("cors" in getattr(each.cls, "__name__", "").lower() for each in middleware)


def announced_length(request: Request) -> int | None:
    """The length that the request announces for its body; None for none."""
    return length_of(request.headers.get("content-length", ""))


def _raw_path(scope: Mapping[str, Any]) -> str:
    """The path as the client has encoded it, which tells ``%2F`` from a slash."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        root = scope.get("root_path", "")
        encoded = raw.partition(b"?")[0].decode("latin-1")
        decoded = unquote(encoded)
        # What is in front of an application leaves root_path in both, in one, or in none.
        if decoded == path or decoded == root + path or root + decoded == path:
            return encoded
    # Somebody has rewritten the path, and means it.
    return quote(path, safe=_PATH_SAFE)
