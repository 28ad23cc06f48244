"""Single-route requests: one URL, and a JSON body that names the endpoint.

In *single-route* mode every call of a client is a POST to the base path, with an envelope for its
body (a runtime in mode "both" takes either transport, each where it belongs)::

    {"method": "agent/run", "params": {"agentId": "default"}, "body": {...}}

An envelope becomes the :class:`~sansio_copilot.http.routing.Route` and the request that the client
would have sent in multi-route mode, so that hooks and endpoints need not know which mode it is::

    under_base_path(path, base_path)                # False: 404; then anything but POST: 405
    envelope = parse_envelope(request)              # EnvelopeRefusal: 400, 415
    resolved = resolve_envelope(envelope, request)  # None: 404
    route, request = resolved                       # then the method check, then hooks
    require_body(envelope, request)                 # EnvelopeRefusal; then the endpoint

A request that matched no route is looked at too, because a client with the wrong transport, or
one that is too old to speak the protocol, deserves to be told so (:func:`detect_envelope`,
:func:`detect_graphql`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlencode

import attrs
import msgspec

from .. import json_codec
from ..errors import shorten
from .messages import TOKEN, Request, Response
from .paths import normalize_path, well_formed
from .refusals import Refusal
from .routing import METHODS, WITH_BODY, Route, is_resource, match_path, path_of


class EnvelopeRefusal(Refusal):
    """The client sent an envelope that cannot be acted on.

    :param status: the status code of the response.
    :param message: what is wrong, in words meant for the developer of the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(Response.json({"error": "invalid_request", "message": message}, status))
        self.message = message

    def __str__(self) -> str:
        return self.message


#: The ``code`` of the 404 that names the cause, by which a client can tell it from others.
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
class _EnvelopeMethod:
    # The names that `params` must have are mapped to the attributes of the Route that they fill.
    params: Mapping[str, str] = attrs.Factory(dict)
    body: Literal["required", "optional", "unused"] = "unused"


_AGENT = {"agentId": "agent_id"}
_RESOURCE = "resource/request"
_METHODS = {
    "agent/run": _EnvelopeMethod(_AGENT, "required"),
    "agent/suggest": _EnvelopeMethod(_AGENT, "required"),
    "agent/connect": _EnvelopeMethod(_AGENT, "required"),
    "agent/stop": _EnvelopeMethod({**_AGENT, "threadId": "thread_id"}, "optional"),
    "info": _EnvelopeMethod(),
    "inspector/metadata": _EnvelopeMethod(),
    "inspector/learning": _EnvelopeMethod(),
    "transcribe": _EnvelopeMethod(body="required"),
    _RESOURCE: _EnvelopeMethod(),
}

#: The values of ``method`` in an envelope: endpoints, and ``resource/request`` for all the others
#: that a client may reach (threads, memories, annotations), by path.
METHOD_NAMES = tuple(_METHODS)

# A parameter that stands for a path, a query or a segment is no longer than these may be on the
# wire, because taking apart one as long as a body would cost many times its size.
_MAX_PARAMETER = 16 * 1024
_LEARNING_QUERY = ("agentId", "skillsPage", "insightsPage")
# These characters of a query are not escaped, because the WHATWG URL parser leaves them as they
# are; "%" is among them so that escapes stay.
_SAFE_IN_QUERY = "!$%&()*+,-./:;=?@[\\]^`{|}"
_C0_AND_SPACE = "".join(map(chr, range(0x21)))
_DROP_TAB_AND_NEWLINE = str.maketrans("", "", "\t\n\r")


def may_be_envelope(request: Request) -> bool:
    """Whether :func:`detect_envelope` has to see the body; otherwise the body is not read."""
    return request.method == "POST" and _is_json(request)


def detect_envelope(request: Request) -> str | None:
    """The method of a single-route envelope that reached a multi-route runtime.

    It is for the 404 of a request that matched no route, which then has :data:`ENVELOPE_CODE`.

    :returns: None for a body that is not certainly an envelope, which gets an ordinary 404.
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

    Such a request is a JSON object, or has a query string, with the text of a query or mutation
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

    :raises EnvelopeRefusal: 415 if it is not declared to be JSON; 400 if it is not JSON, or its
        method is missing or unknown. A body of ``null`` has no method.
    """
    if not _is_json(request):
        raise EnvelopeRefusal(415, "Single-route endpoint expects JSON payloads")
    try:
        envelope = _read_envelope(request.body or b"")
    except ValueError:
        raise EnvelopeRefusal(400, "Invalid JSON payload") from None
    method: object = envelope.method
    if method is None and detect_graphql(request):
        raise EnvelopeRefusal(400, GRAPHQL_MESSAGE)
    # The method is missing if JavaScript takes it for false, because the reference tests it so. The
    # comparison with 0 finds False too, because in Python False equals 0; [] and {} count as true.
    if method is None or method == "" or method == 0:
        raise EnvelopeRefusal(400, "Missing method field")
    if not isinstance(method, str) or method not in _METHODS:
        raise EnvelopeRefusal(400, f"Unsupported method '{_show(method)}'")
    return envelope


class _Members(msgspec.Struct):
    method: Any = None
    params: Any = None
    # The body stays a text, because the endpoint is what makes sense of it.
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_read_members = msgspec.json.Decoder(_Members, float_hook=float).decode


def _read_envelope(data: bytes) -> Envelope:
    """Return the envelope in a JSON text. Its method may still be any value, and is None if the
    text has no object.

    :raises ValueError: if the text is not JSON.
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

    :raises EnvelopeRefusal: 400 if a parameter that the method needs is missing or blank.
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

    :raises EnvelopeRefusal: 400 if ``params.path`` or ``params.httpMethod`` is missing or blank,
        the method is no token, or the path is not relative to the runtime (it has another
        authority, or no leading slash).
    """
    target, method = _expect(envelope, "path"), _expect(envelope, "httpMethod")
    if not TOKEN.fullmatch(method):
        # The method is refused here, because it comes from a JSON string, which may hold line
        # breaks. In a log line these would look like further lines, and every other method has
        # passed the parser of an HTTP request.
        raise EnvelopeRefusal(400, "Parameter 'httpMethod' is no method of HTTP")
    method = method.upper()
    # The target is cleaned as the WHATWG URL parser does it, to which "/\t/host" and "/\\host" are
    # both "//host".
    cleaned = target.rstrip(_C0_AND_SPACE).translate(_DROP_TAB_AND_NEWLINE)
    path, _, query = cleaned.partition("#")[0].partition("?")
    if not target.startswith("/") or path.replace("\\", "/").startswith("//"):
        raise EnvelopeRefusal(400, "Resource path must be Runtime-relative")
    body: bytes | None = None
    if method in WITH_BODY:
        body = b"" if envelope.body is None else _serialize(envelope.body)
    return Request(
        method,
        request.path.removesuffix("/") + normalize_path(path),
        quote(well_formed(query), safe=_SAFE_IN_QUERY),
        request.headers.remove("content-length"),
        body,
    )


def resolve_envelope(envelope: Envelope, request: Request) -> tuple[Route, Request] | None:
    """The route of an envelope, and the request to check, show to hooks and handle.

    The request is the one that the client would have sent in multi-route mode, with the method,
    path and body of the endpoint. The body is None if the endpoint reads no body, or if the
    envelope lacks the body that the endpoint needs (see :func:`require_body`).

    :returns: None if a ``resource/request`` is for no endpoint that it may reach; agents are
        run by their own method, never through a resource.
    :raises EnvelopeRefusal: as :func:`envelope_route` and :func:`resource_request`; and 400 for an
        id that no path can have, or a body that is nested too deeply.
    """
    if envelope.method == _RESOURCE:
        inner = resource_request(envelope, request)
        route = match_path(inner.path, request.path)
        if route is None or not is_resource(route):
            return None
        return route, inner
    route = envelope_route(envelope)
    headers = request.headers.remove("content-length")
    body: bytes | None = None
    need = _METHODS[route.name].body
    if need != "unused":
        headers = headers.set("content-type", "application/json")
        content = {} if need == "optional" and not envelope.has_body else envelope.body
        body = None if content is None else _serialize(content)
    path = path_of(route)
    if path is None:
        raise EnvelopeRefusal(400, "An id must not be '.' or '..'")
    learning = route.name == "inspector/learning"
    return route, Request(
        METHODS[route.name][0],
        request.path.removesuffix("/") + path,
        _learning_query(request, envelope) if learning else request.query,
        headers,
        body,
    )


def require_body(envelope: Envelope, request: Request) -> None:
    """Check that the request that an envelope stands for has the body that its endpoint needs.

    It is called after the hooks, with the request that the hooks have returned.

    :raises EnvelopeRefusal: 400 if the body is missing.
    """
    if request.body is None and _METHODS[envelope.method].body != "unused":
        raise EnvelopeRefusal(400, "Missing request body for JSON handler")


def _is_json(request: Request) -> bool:
    return "application/json" in request.headers.get("content-type", "").lower()


def _expect(envelope: Envelope, key: str) -> str:
    params = envelope.params
    value = params.get(key) if isinstance(params, dict) else None
    if not isinstance(value, str) or not value.strip(json_codec.JS_SPACE):
        raise EnvelopeRefusal(400, f"Missing or invalid parameter '{key}'")
    if len(value) > _MAX_PARAMETER:
        message = f"Parameter '{key}' is longer than {_MAX_PARAMETER} characters"
        raise EnvelopeRefusal(400, message)
    return value


def _show(value: Any) -> str:
    if isinstance(value, str):
        return shorten(value)
    # The content of a container says nothing about the mistake, and may be large.
    if isinstance(value, (dict, list)):
        return "{...}" if isinstance(value, dict) else "[...]"
    return shorten(json_codec.encode(value).decode())


def _serialize(body: Any) -> bytes:
    if isinstance(body, str):
        return well_formed(body).encode()
    if isinstance(body, msgspec.Raw):
        return bytes(body)
    try:
        return json_codec.encode(body)
    except ValueError:
        # The body is nested so deeply that reading it only just succeeded.
        raise EnvelopeRefusal(400, "Invalid JSON payload") from None


def _learning_query(request: Request, envelope: Envelope) -> str:
    query = dict(parse_qsl(well_formed(request.query), keep_blank_values=True))
    params = envelope.params if isinstance(envelope.params, dict) else {}
    for key in _LEARNING_QUERY:
        value = params.get(key)
        if isinstance(value, str):
            query[key] = well_formed(value[:_MAX_PARAMETER])
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            query[key] = json_codec.encode(value).decode()
    return urlencode(query)
