"""Which endpoint a request is for: by its path, or by the envelope in its body.

CopilotKit clients speak to a runtime in one of two ways. In *multi-route* mode every endpoint has
a path under the base path (``POST {base}/agent/default/run``). In *single-route* mode there is
one URL, and every call is a POST to it whose JSON body names the endpoint (a runtime in mode
"both" takes either, each where it belongs)::

    {"method": "agent/run", "params": {"agentId": "default"}, "body": {...}}

Both lead to the same :class:`Route`. Everything here is a function of its arguments; what a
failure looks like on the wire is decided by whoever catches it.

A pipeline uses the multi-route half like this::

    route = match_path(path, base_path)             # None: 404
    request.method in allowed_methods(route.name)   # False: 405 with Allow

and the single-route half like this::

    under_base_path(path, base_path)                # False: 404; then anything but POST: 405
    envelope = parse_envelope(request)              # InvalidRequest: its status
    resolved = resolve_envelope(envelope, request)  # None: 404
    route, request = resolved                       # then the method check, then hooks
    require_body(envelope, request)                 # InvalidRequest; then the endpoint
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

import attrs
import msgspec

from .. import json_codec
from ..errors import shorten
from .messages import Request


@attrs.frozen
class Route:
    """What a request asks for.

    :param name: the endpoint: ``"info"``, ``"agent/run"``, ``"threads/messages"``, ...
    :param agent_id: the agent, decoded, where the endpoint has one.
    :param thread_id: the thread, decoded, where the endpoint has one.
    :param memory_id: the memory, decoded, where the endpoint has one.
    """

    name: str
    agent_id: str | None = None
    thread_id: str | None = None
    memory_id: str | None = None


class InvalidRequest(Exception):
    """The client sent an envelope that cannot be acted on.

    :param status: the status code to answer with.
    :param message: what is wrong, in words meant for the developer of the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message


# --- Paths ------------------------------------------------------------------------------------


def _segments(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("/"))


@attrs.frozen
class _Endpoint:
    name: str
    pattern: tuple[str, ...] = attrs.field(converter=_segments)
    methods: tuple[str, ...]
    # Whether a single-route client may reach it through "resource/request".
    resource: bool = False


# The last segments of a path, ":x" being any one segment that becomes Route.x. The first pattern
# that fits decides, so the order is part of the protocol: "/agent/a/stop/threads" stops a run,
# and "/threads/annotate" is a thread called "annotate".
_ENDPOINTS = (
    _Endpoint("info", "info", ("GET",)),
    _Endpoint("inspector/metadata", "inspector-metadata", ("GET",)),
    _Endpoint("inspector/learning", "inspector-learning", ("GET",)),
    _Endpoint("transcribe", "transcribe", ("POST",)),
    _Endpoint("cpk-debug-events", "cpk-debug-events", ("GET",)),
    _Endpoint("agent/run", "agent/:agent_id/run", ("POST",)),
    _Endpoint("agent/suggest", "agent/:agent_id/suggest", ("POST",)),
    _Endpoint("agent/connect", "agent/:agent_id/connect", ("POST",)),
    _Endpoint("agent/stop", "agent/:agent_id/stop/:thread_id", ("POST",)),
    _Endpoint("threads/subscribe", "threads/subscribe", ("POST",), resource=True),
    _Endpoint("threads/messages", "threads/:thread_id/messages", ("GET",), resource=True),
    _Endpoint("threads/events", "threads/:thread_id/events", ("GET",), resource=True),
    _Endpoint("threads/state", "threads/:thread_id/state", ("GET",), resource=True),
    _Endpoint("threads/archive", "threads/:thread_id/archive", ("POST",), resource=True),
    _Endpoint("threads/clear", "threads/clear", ("POST",), resource=True),
    _Endpoint("threads/update", "threads/:thread_id", ("PATCH", "DELETE"), resource=True),
    _Endpoint("threads/list", "threads", ("GET",), resource=True),
    _Endpoint("memories/recall", "memories/recall", ("POST",), resource=True),
    _Endpoint("memories/subscribe", "memories/subscribe", ("POST",), resource=True),
    _Endpoint("memories/mutate", "memories/:memory_id", ("PATCH", "DELETE"), resource=True),
    _Endpoint("memories/list", "memories", ("GET", "POST"), resource=True),
    _Endpoint("annotate", "annotate", ("POST",), resource=True),
)
_BY_NAME = {endpoint.name: endpoint for endpoint in _ENDPOINTS}


def _ending(last: str) -> tuple[_Endpoint, ...]:
    """The endpoints, in order, whose last segment may be ``last``."""
    return tuple(
        endpoint
        for endpoint in _ENDPOINTS
        if endpoint.pattern[-1] == last or endpoint.pattern[-1].startswith(":")
    )


# So that a path is compared with few patterns.
_BY_LAST = {
    last: _ending(last)
    for endpoint in _ENDPOINTS
    if not (last := endpoint.pattern[-1]).startswith(":")
}
_ENDING_IN_ID = _ending("")

# A "%" that starts no escape: decodeURIComponent throws where urllib.parse.unquote keeps it.
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# RFC 3986 section 5.2.4, and the escaped spellings the WHATWG URL parser knows as well.
_ONE_DOT = frozenset({".", "%2e"})
_TWO_DOTS = frozenset({"..", ".%2e", "%2e.", "%2e%2e"})
# A decoded path keeps these as they are, and no "%", which is itself there (RFC 3986 section 3.3).
_DECODED_SAFE = "/:@!$&'()*+,;=~"
# The WHATWG URL parser leaves these as they are in a path and a query; "%" so that escapes stay.
_PATH_SAFE = "!$%&'()*+,/:;=@[]^|"
_QUERY_SAFE = "!$%&()*+,-./:;=?@[\\]^`{|}"


# Nearly every path; what it matches is in its normal form already.
_PLAIN_PATH = re.compile("(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")


def normalize_path(path: str) -> str:
    """``path`` as a browser would have sent it (WHATWG URL Standard section 4.4, "path state").

    Dot segments are resolved, plain or escaped, and what has no place in a path is escaped, so
    that a decision about the path (a route, a hook's allow list) cannot be talked past with
    ``/open/../closed``. Empty segments and other escapes stay. Idempotent.
    """
    if _PLAIN_PATH.fullmatch(path):
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
    return quote(_well_formed("/" + "/".join(resolved)), safe=_PATH_SAFE)


def normalize_base_path(base_path: str | None) -> str | None:
    """The form of a base path that the functions below compare with, for use at construction.

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


def _below(path: str, base_path: str | None) -> str | None:
    """What of ``path`` is below ``base_path``; None if it is elsewhere."""
    base = (base_path or "").rstrip("/")
    if not path.startswith(base):
        return None
    rest = path[len(base) :]
    # "/api/copilotkitchen" is not below "/api/copilotkit".
    return None if rest and not rest.startswith("/") else rest


def under_base_path(path: str, base_path: str | None) -> bool:
    """Whether the single-route endpoint at ``base_path`` answers for ``path``.

    It does for everything below its base path as well, so that a client configured with a
    multi-route URL gets told what is wrong with its request instead of a 404.
    """
    return _below(path, base_path) is not None


def at_base_path(path: str, base_path: str | None) -> bool:
    """Whether ``path`` is ``base_path`` itself; any path is, if that is anywhere."""
    return base_path is None or _below(path, base_path) in ("", "/")


def from_base_path(path: str, root: str, base_path: str | None) -> str:
    """``path`` as the runtime knows it, where only the deployment knows a prefix of it.

    ASGI calls that prefix ``root_path``, WSGI ``SCRIPT_NAME`` (PEP 3333). What a proxy has put in
    front of the base path is left out, and what a mount has cut off is put back; a path that is
    the base path's already, or that neither helps, stays.

    :param path: percent-encoded.
    :param root: the prefix, decoded.
    """
    if not root or under_base_path(normalize_path(path), base_path):
        return path
    rest = path.split("/")
    front = root.rstrip("/").split("/")
    if unquote("/".join(rest[: len(front)])) != "/".join(front):
        # The path was cut off by a mount that did not keep it.
        whole = quote(_well_formed(root.rstrip("/")), safe=_DECODED_SAFE) + path
        return whole if under_base_path(normalize_path(whole), base_path) else path
    for count in range(1, len(front)):
        shorter = "/" + "/".join(rest[count + 1 :])
        if under_base_path(normalize_path(shorter), base_path):
            return shorter
    return path


def match_path(path: str, base_path: str | None) -> Route | None:
    """The route of a request in multi-route mode.

    The last segments decide: with a base path they must be below it, but more segments may come
    between. Empty segments count for nothing. Ids are percent-decoded, after the segments are
    told apart, so ``%2F`` in an id is a slash and does not separate.

    :param path: the path as received, percent-encoded.
    :param base_path: where the runtime is mounted; None or ``"/"`` for anywhere.
    :returns: None if no endpoint has this path, or an id in it is not percent-encoded UTF-8.
    """
    rest = _below(path, base_path)
    if rest is None:
        return None
    segments = [segment for segment in rest.split("/") if segment]
    last = segments[-1] if segments else ""
    for endpoint in _BY_LAST.get(last, _ENDING_IN_ID):
        ids = _fit(endpoint.pattern, segments)
        if ids is not None:
            break
    else:
        return None
    if not ids:
        return Route(endpoint.name)
    decoded = {name: _decode_component(value) for name, value in ids.items()}
    # A malformed id does not pass the path on to a later pattern: "/agent/%/stop/threads" is
    # a bad request to stop, not a list of threads.
    return None if None in decoded.values() else Route(endpoint.name, **decoded)


def allowed_methods(route_name: str) -> tuple[str, ...]:
    """The methods an endpoint takes, in the order in which ``Allow`` lists them.

    :raises KeyError: if there is no such endpoint.
    """
    return _BY_NAME[route_name].methods


def _fit(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    """The ids in ``segments``, still encoded, if they end like ``pattern``; else None."""
    if len(segments) < len(pattern):
        return None
    ids = {}
    for expected, segment in zip(reversed(pattern), reversed(segments), strict=False):
        if expected.startswith(":"):
            ids[expected[1:]] = segment
        elif expected != segment:
            return None
    return ids


def _decode_component(segment: str) -> str | None:
    """ECMA-262 ``decodeURIComponent``, None where that throws."""
    if "%" not in segment:
        return segment
    if _BAD_ESCAPE.search(segment):
        return None
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None


def _well_formed(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which UTF-8 has no form for."""
    return _SURROGATE.sub("\ufffd", text)


# --- Envelopes --------------------------------------------------------------------------------

#: What a client can branch on in the 404 that names the cause (see :func:`detect_envelope`).
ENVELOPE_CODE = "single_route_envelope_against_multi_route_runtime"
ENVELOPE_MESSAGE = (
    'Received a single-route request envelope ({ method: "..." }) but this runtime is mounted in '
    "multi-route mode, so the request matched no route. Either drop useSingleEndpoint from the "
    "frontend provider so it negotiates the transport, or make the runtime with "
    'mode="both", which takes envelopes beside routes.'
)
GRAPHQL_CODE = "graphql_request"
GRAPHQL_MESSAGE = (
    "Received a GraphQL request, which CopilotKit's clients before 1.50 send; this runtime speaks "
    "the protocol of later ones (AG-UI over HTTP). Upgrade the @copilotkit packages of the page to "
    "1.50 or later."
)


@attrs.frozen
class Envelope:
    """The body of a single-route request.

    :param method: one of :data:`METHOD_NAMES`.
    :param params: the parameters as sent; not checked yet.
    :param body: the content for the endpoint: any JSON value, or its text as a ``msgspec.Raw``; a
        str is JSON already.
    :param has_body: whether there was a ``body`` member at all; ``null`` counts as one.
    """

    method: str
    params: Any = attrs.field(default=None, repr=False)
    body: Any = attrs.field(default=None, repr=False)
    has_body: bool = False


@attrs.frozen
class _Method:
    # Names in `params` that must be there -> what they are of the Route.
    params: Mapping[str, str] = attrs.Factory(dict)
    body: Literal["required", "optional", "unused"] = "unused"


_AGENT = {"agentId": "agent_id"}
_RESOURCE = "resource/request"
_METHODS = {
    "agent/run": _Method(_AGENT, "required"),
    "agent/suggest": _Method(_AGENT, "required"),
    "agent/connect": _Method(_AGENT, "required"),
    "agent/stop": _Method({**_AGENT, "threadId": "thread_id"}, "optional"),
    "info": _Method(),
    "inspector/metadata": _Method(),
    "inspector/learning": _Method(),
    "transcribe": _Method(body="required"),
    _RESOURCE: _Method(),
}

#: What ``method`` of an envelope may be: endpoints, and ``resource/request`` for all the others
#: that a client may reach (threads, memories, annotations), by path.
METHOD_NAMES = tuple(_METHODS)

# What stands for a path, a query or a segment of one is no longer than these may be on the wire;
# taking a body's worth of it apart would cost many times its size.
_MAX_PARAMETER = 16 * 1024
_LEARNING_QUERY = ("agentId", "skillsPage", "insightsPage")
_C0_AND_SPACE = "".join(map(chr, range(0x21)))
_DROP_TAB_AND_NEWLINE = str.maketrans("", "", "\t\n\r")


def may_be_envelope(request: Request) -> bool:
    """Whether :func:`detect_envelope` has to see the body, so that no other body is read."""
    return request.method == "POST" and _is_json(request)


def detect_envelope(request: Request) -> str | None:
    """The method of a single-route envelope that reached a multi-route runtime.

    For the 404 of a request that matched no route: a client with the wrong transport deserves
    to be told so, under :data:`ENVELOPE_CODE`. Anything that is not certainly an envelope is
    None and an ordinary 404.
    """
    if not may_be_envelope(request):
        return None
    try:
        method = _read_envelope(request.body or b"").method
    except ValueError:
        return None
    return method if isinstance(method, str) and method in _METHODS else None


def detect_graphql(request: Request) -> bool:
    """Whether a request is a GraphQL operation, as CopilotKit's earlier clients send them.

    That is a JSON object, or a query string, with the text of a query or mutation
    (GraphQL over HTTP, sections 5.3 and 5.4).
    """
    if request.method == "GET":
        return _GRAPHQL_QUERY.search(request.query) is not None
    if not may_be_envelope(request):
        return False
    try:
        query = _read_graphql((request.body or b"").removeprefix(codecs.BOM_UTF8)).query
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return _GRAPHQL.match(query) is not None


class _GraphQL(msgspec.Struct):
    query: str


_read_graphql = msgspec.json.Decoder(_GraphQL).decode
_GRAPHQL = re.compile(r"\s*(?:query|mutation|subscription|fragment)\b|\s*\{")
_GRAPHQL_QUERY = re.compile(r"(?:^|&)query=(?:\+|%20|%0A)*(?:query|mutation|fragment|%7B)", re.I)


def parse_envelope(request: Request) -> Envelope:
    """Read the envelope of a single-route request.

    :raises InvalidRequest: 415 if it is not declared to be JSON; 400 if it is not JSON, or its
        method is missing or unknown. A body of ``null`` has no method.
    """
    if not _is_json(request):
        raise InvalidRequest(415, "Single-route endpoint expects JSON payloads")
    try:
        envelope = _read_envelope(request.body or b"")
    except ValueError:
        raise InvalidRequest(400, "Invalid JSON payload") from None
    method: object = envelope.method
    if method is None and detect_graphql(request):
        raise InvalidRequest(400, GRAPHQL_MESSAGE)
    # What is falsy in JavaScript; [] and {} are not. False equals 0.
    if method is None or method == "" or method == 0:
        raise InvalidRequest(400, "Missing method field")
    if not isinstance(method, str) or method not in _METHODS:
        raise InvalidRequest(400, f"Unsupported method '{_show(method)}'")
    return envelope


class _Members(msgspec.Struct):
    method: Any = None
    params: Any = None
    # As its text, because it is the endpoint that makes sense of it.
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_read_members = msgspec.json.Decoder(_Members).decode


def _read_envelope(data: bytes) -> Envelope:
    """The envelope in a JSON text, whose method may still be anything; None if it is no object.

    :raises ValueError: if it is not JSON.
    """
    try:
        members = _read_members(data.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = json_codec.decode(data)
        found: Any = value if isinstance(value, dict) else {}
        return Envelope(
            found.get("method"), found.get("params"), found.get("body"), "body" in found
        )
    if isinstance(members.body, msgspec.UnsetType):
        return Envelope(members.method, members.params)
    text = bytes(members.body)
    is_text = text == b"null" or text.startswith(b'"')
    body = json_codec.decode(text) if is_text else members.body
    return Envelope(members.method, members.params, body, True)


def envelope_route(envelope: Envelope) -> Route:
    """The route that an envelope names by its method.

    :raises InvalidRequest: 400 if a parameter that the method needs is missing or blank.
    :raises ValueError: for ``resource/request``, whose route is the path of its request; use
        :func:`resolve_envelope`.
    """
    if envelope.method == _RESOURCE:
        raise ValueError("resource/request names its route by a path, not by its method")
    params = _METHODS[envelope.method].params
    return Route(
        envelope.method, **{field: _expect(envelope, key) for key, field in params.items()}
    )


def resource_request(envelope: Envelope, request: Request) -> Request:
    """The request that a ``resource/request`` envelope stands for.

    It goes to this runtime whatever its path says: only the path and query of ``params.path``
    are used, and they are put below the path of the outer request, whose headers it keeps.

    :raises InvalidRequest: 400 if ``params.path`` or ``params.httpMethod`` is missing or blank,
        or the path is not relative to the runtime (it has another authority, or no leading
        slash).
    """
    target, method = _expect(envelope, "path"), _expect(envelope, "httpMethod").upper()
    # As the WHATWG URL parser cleans its input; "/\t/host" and "/\\host" are both "//host" to it.
    cleaned = target.rstrip(_C0_AND_SPACE).translate(_DROP_TAB_AND_NEWLINE)
    path, _, query = cleaned.partition("#")[0].partition("?")
    if not target.startswith("/") or path.replace("\\", "/").startswith("//"):
        raise InvalidRequest(400, "Resource path must be Runtime-relative")
    has_body = method not in ("GET", "HEAD") and envelope.body is not None
    return Request(
        method,
        request.path.removesuffix("/") + normalize_path(path),
        quote(_well_formed(query), safe=_QUERY_SAFE),
        request.headers.remove("content-length"),
        _serialize(envelope.body) if has_body else b"",
    )


def resolve_envelope(envelope: Envelope, request: Request) -> tuple[Route, Request] | None:
    """The route of an envelope, and the request to check, show to hooks and handle.

    That is the request that the client would have sent in multi-route mode: with the method, path
    and body of the endpoint. The body is None if the endpoint needs one that the envelope does not
    have (see :func:`require_body`), and empty if the endpoint has none.

    :returns: None if a ``resource/request`` is for no endpoint that it may reach; agents are
        run by their own method, never through a resource.
    :raises InvalidRequest: as :func:`envelope_route` and :func:`resource_request`; and 400 for an
        id that no path can have, or a body that is nested too deeply.
    """
    if envelope.method == _RESOURCE:
        inner = resource_request(envelope, request)
        route = match_path(inner.path, request.path)
        if route is None or not _BY_NAME[route.name].resource:
            return None
        return route, inner
    route = envelope_route(envelope)
    headers = request.headers.remove("content-length")
    body: bytes | None = b""
    need = _METHODS[route.name].body
    if need != "unused":
        headers = headers.set("content-type", "application/json")
        content = {} if need == "optional" and not envelope.has_body else envelope.body
        body = None if content is None else _serialize(content)
    learning = route.name == "inspector/learning"
    return route, Request(
        allowed_methods(route.name)[0],
        request.path.removesuffix("/") + _path_of(route),
        _learning_query(request, envelope) if learning else request.query,
        headers,
        body,
    )


def require_body(envelope: Envelope, request: Request) -> None:
    """Check that the request that an envelope stands for has the body that its endpoint needs.

    To be called after the hooks, with the request that they leave.

    :raises InvalidRequest: 400 if it has none.
    """
    if request.body is None and _METHODS[envelope.method].body != "unused":
        raise InvalidRequest(400, "Missing request body for JSON handler")


def _path_of(route: Route) -> str:
    """The path, below the base path, that leads to ``route``.

    :raises InvalidRequest: 400 for an id that is a dot segment, with which no path leads there.
    """
    path = ""
    for segment in _BY_NAME[route.name].pattern:
        if segment.startswith(":"):
            segment = quote(_well_formed(getattr(route, segment[1:])), safe="")
            if segment in _ONE_DOT | _TWO_DOTS:
                raise InvalidRequest(400, "An id must not be '.' or '..'")
        path += "/" + segment
    return path


def _is_json(request: Request) -> bool:
    return "application/json" in request.headers.get("content-type", "").lower()


def _expect(envelope: Envelope, key: str) -> str:
    params = envelope.params
    value = params.get(key) if isinstance(params, dict) else None
    if not isinstance(value, str) or not value.strip(json_codec.JS_SPACE):
        raise InvalidRequest(400, f"Missing or invalid parameter '{key}'")
    if len(value) > _MAX_PARAMETER:
        message = f"Parameter '{key}' is longer than {_MAX_PARAMETER} characters"
        raise InvalidRequest(400, message)
    return value


def _show(value: Any) -> str:
    if isinstance(value, str):
        return shorten(value)
    # What is inside says nothing about the mistake, and may be large.
    if isinstance(value, (dict, list)):
        return "{...}" if isinstance(value, dict) else "[...]"
    return shorten(json_codec.encode(value).decode())


def _serialize(body: Any) -> bytes:
    if isinstance(body, str):
        return _well_formed(body).encode()
    if isinstance(body, msgspec.Raw):
        return bytes(body)
    try:
        return json_codec.encode(body)
    except ValueError:
        # Nested so deeply that reading it only just succeeded.
        raise InvalidRequest(400, "Invalid JSON payload") from None


def _learning_query(request: Request, envelope: Envelope) -> str:
    query = dict(parse_qsl(_well_formed(request.query), keep_blank_values=True))
    params = envelope.params if isinstance(envelope.params, dict) else {}
    for key in _LEARNING_QUERY:
        value = params.get(key)
        if isinstance(value, str):
            query[key] = _well_formed(value[:_MAX_PARAMETER])
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            query[key] = json_codec.encode(value).decode()
    return urlencode(query)
