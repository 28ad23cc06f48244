"""The conversion of an ASGI scope to the core's request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import attrs

from sansio_copilot import Request
from sansio_copilot.http.addresses import is_elsewhere
from sansio_copilot.http.paths import from_base_path, under_base_path

# These characters stay as they are when a decoded path is encoded again, because they are valid in
# a path (RFC 3986 section 3.3).
_PATH_SAFE = "/:@!$&'()*+,;=~"


def request_of(scope: Mapping[str, Any], base_path: str | None) -> Request:
    """Convert an HTTP scope (ASGI specification, HTTP connection scope) to the core's request.

    :param base_path: the base path of the runtime. A part of ``root_path`` in front of it is
        removed from the path, because a proxy or a mount has put it there.
    :raises RemoteProtocolError: if the target has a wrong form.
    """
    target = _raw_path(scope, base_path)
    if query := scope.get("query_string"):
        target = f"{target}?{query.decode('latin-1')}"
    headers = (
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
    )
    request = Request.from_target(scope["method"], target, headers, scope=scope)
    path = from_base_path(request.path, scope.get("root_path", ""), base_path)
    return request if path == request.path else attrs.evolve(request, path=path)


def is_exposed(scope: Mapping[str, Any]) -> bool:
    """Whether the request has come to an address that other machines reach, or from one of them.

    A server that listens on all addresses reports the address of the connection.
    """
    return is_elsewhere(scope.get("server")) or is_elsewhere(scope.get("client"))


def _raw_path(scope: Mapping[str, Any], base_path: str | None) -> str:
    """The path as the client has encoded it, so that ``%2F`` differs from a slash."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        root = scope.get("root_path", "")
        encoded = raw.partition(b"?")[0].decode("latin-1")
        decoded = unquote(encoded)
        # Servers and mounts differ: root_path may be part of both paths, of one, or of neither.
        is_same = decoded == path or decoded == root + path or root + decoded == path
        if is_same or _is_cut(path, decoded.removeprefix(root), base_path):
            return encoded
    # The two paths differ, so middleware has rewritten the decoded path, which is the one to use.
    return quote(path, safe=_PATH_SAFE)


def _is_cut(path: str, whole: str, base_path: str | None) -> bool:
    """Whether a mount has cut its own path off ``whole`` without adding it to ``root_path``.

    Litestar's mounts do so, and put a slash at the end of what is left. Such a path is told from a
    rewritten one by the base path: it is not below that, and the part that is missing leads there.
    """
    rest = path.rstrip("/")
    if under_base_path(path, base_path) or not whole.endswith(rest):
        return False
    return under_base_path(unquote(base_path or ""), whole[: len(whole) - len(rest)])
