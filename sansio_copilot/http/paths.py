"""Paths: their normal form, and where they lie relative to the runtime's base path.

A path is percent-encoded everywhere in the runtime, as it was received, except for dot segments.
:func:`normalize_path` resolves them before a route or a hook's allow list is applied, because
``/open/../closed`` must not get past such a decision. An id in a path is decoded last, after the
segments are told apart, so that ``%2F`` in an id is a slash and separates nothing.

Every function here depends on nothing but its arguments.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

# A "%" that starts no escape has to be found, because decodeURIComponent throws at it, while
# urllib.parse.unquote keeps it.
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# The dot segments are those of RFC 3986 section 5.2.4, and the escaped spellings that the WHATWG
# URL parser knows as well.
_ONE_DOT = frozenset({".", "%2e"})
_TWO_DOTS = frozenset({"..", ".%2e", "%2e.", "%2e%2e"})
DOT_SEGMENTS = _ONE_DOT | _TWO_DOTS
# A decoded path keeps these characters as they are; "%" is not among them, because in a decoded
# path it stands for itself (RFC 3986 section 3.3).
_SAFE_IN_DECODED = "/:@!$&'()*+,;=~"
# These characters of a path are not escaped, because the WHATWG URL parser leaves them as they are;
# "%" is among them so that escapes stay.
_SAFE_IN_PATH = "!$%&'()*+,/:;=@[]^|"
# This pattern matches nearly every path. A path that it matches is in its normal form already, so
# that the work below can be left out.
_NORMAL_PATH = re.compile("(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")


def normalize_path(path: str) -> str:
    """``path`` as a browser would have sent it (WHATWG URL Standard section 4.4, "path state").

    Dot segments are resolved, escaped or not, and characters that have no place in a path are
    escaped. Empty segments and other escapes stay. The function is idempotent.
    """
    if _NORMAL_PATH.fullmatch(path):
        return path
    resolved: list[str] = []
    segments = path.replace("\\", "/").split("/")[1:]
    for position, segment in enumerate(segments, 1):
        lower = segment.lower()
        if lower in _TWO_DOTS:
            del resolved[-1:]
        elif lower not in _ONE_DOT:
            resolved.append(segment)
            continue
        if position == len(segments):
            resolved.append("")
    return quote(well_formed("/" + "/".join(resolved)), safe=_SAFE_IN_PATH)


def normalize_base_path(base_path: str | None) -> str | None:
    """The form of a base path that the functions below compare with.

    :param base_path: where the runtime is mounted; None or ``""`` matches endpoints under any
        prefix. A trailing slash does not matter.
    :raises ValueError: if it is not a path that starts with ``/``.
    :raises TypeError: if it is neither a str nor None.
    """
    if base_path is None or base_path == "":
        return None
    if not isinstance(base_path, str):
        raise TypeError(f"base_path must be a str or None, not {type(base_path).__name__}")
    if not base_path.startswith("/"):
        raise ValueError(
            f"base_path must start with '/' (such as '/api/copilotkit'), not {base_path!r}"
        )
    for character, what in (("?", "a query"), ("#", "a fragment")):
        if character in base_path:
            raise ValueError(f"base_path must not have {what}: {base_path!r}")
    return normalize_path(base_path).rstrip("/") or "/"


def below(path: str, base_path: str | None) -> str | None:
    """The part of ``path`` that is below ``base_path``; None if ``path`` is not below it."""
    base = (base_path or "").rstrip("/")
    if not path.startswith(base):
        return None
    rest = path[len(base) :]
    # "/api/copilotkitchen" is not below "/api/copilotkit".
    return None if rest and not rest.startswith("/") else rest


def under_base_path(path: str, base_path: str | None) -> bool:
    """Whether the single-route endpoint at ``base_path`` answers for ``path``.

    The endpoint also answers for every path below its base path, so that a client configured with a
    multi-route URL is told what is wrong with its request instead of a 404.
    """
    return below(path, base_path) is not None


def at_base_path(path: str, base_path: str | None) -> bool:
    """Whether ``path`` is ``base_path`` itself; every path is, if ``base_path`` is None."""
    return base_path is None or below(path, base_path) in ("", "/")


def from_base_path(path: str, root: str, base_path: str | None) -> str:
    """Return ``path`` relative to the same root as the base path, without or with a prefix that
    only the deployment knows.

    ASGI calls the prefix ``root_path``, WSGI ``SCRIPT_NAME`` (PEP 3333). A prefix that a proxy has
    put in front of the base path is removed, and a prefix that a mount has cut off is put back. A
    path that is below the base path already, or that neither change brings there, stays.

    :param path: the path as received, percent-encoded.
    :param root: the prefix, decoded.
    """
    if not root or under_base_path(normalize_path(path), base_path):
        return path
    rest = path.split("/")
    front = root.rstrip("/").split("/")
    if unquote("/".join(rest[: len(front)])) != "/".join(front):
        # The root is put in front again, because the mount has cut it off and not kept the whole
        # path.
        whole = quote(well_formed(root.rstrip("/")), safe=_SAFE_IN_DECODED) + path
        return whole if under_base_path(normalize_path(whole), base_path) else path
    for count in range(1, len(front)):
        shorter = "/" + "/".join(rest[count + 1 :])
        if under_base_path(normalize_path(shorter), base_path):
            return shorter
    return path


def decode_component(segment: str) -> str | None:
    """Decode as ``decodeURIComponent`` (ECMA-262); None where that function throws."""
    if _BAD_ESCAPE.search(segment):
        return None
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None


def well_formed(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which UTF-8 has no form for."""
    return _SURROGATE.sub("\ufffd", text)
