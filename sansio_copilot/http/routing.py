"""The table of endpoints and their paths, read in both directions.

In *multi-route* mode every endpoint has a path under the base path (``POST
{base}/agent/default/run``). :func:`match_path` goes from such a path to a :class:`Route`, and
:func:`path_of` back, for a request that came in an envelope (see :mod:`.envelope`). What a failure
looks like on the wire is decided by the caller::

    route = match_path(path, base_path)             # None: 404
    request.method in METHODS[route.name]           # False: 405 with Allow
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import attrs
from msgspec import Struct

from .paths import DOT_SEGMENTS, below, decode_component, well_formed


class Route(Struct, frozen=True):
    """The endpoint that a request is for, and the ids that its path names.

    :param name: the endpoint: ``"info"``, ``"agent/run"``, ``"threads/messages"``, ...
    :param agent_id: the agent, decoded, where the endpoint has one.
    :param thread_id: the thread, decoded, where the endpoint has one.
    :param memory_id: the memory, decoded, where the endpoint has one.
    """

    name: str
    agent_id: str | None = None
    thread_id: str | None = None
    memory_id: str | None = None


def _segments(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("/"))


@attrs.frozen
class _RoutePattern:
    """A pattern by which paths lead to an endpoint.

    :param name: the endpoint, as :class:`Route` names it.
    :param pattern: the segments that the path ends with, separated by "/".
    :param methods: the methods that the endpoint takes, in the order of ``Allow``.
    :param resource: whether a single-route client may reach the endpoint by ``resource/request``.
    """

    name: str
    pattern: tuple[str, ...] = attrs.field(converter=_segments)
    methods: tuple[str, ...]
    resource: bool = False


ENDPOINTS = (
    _RoutePattern("info", "info", ("GET",)),
    _RoutePattern("inspector/metadata", "inspector-metadata", ("GET",)),
    _RoutePattern("inspector/learning", "inspector-learning", ("GET",)),
    _RoutePattern("transcribe", "transcribe", ("POST",)),
    _RoutePattern("cpk-debug-events", "cpk-debug-events", ("GET",)),
    _RoutePattern("agent/run", "agent/:agent_id/run", ("POST",)),
    _RoutePattern("agent/suggest", "agent/:agent_id/suggest", ("POST",)),
    _RoutePattern("agent/connect", "agent/:agent_id/connect", ("POST",)),
    _RoutePattern("agent/stop", "agent/:agent_id/stop/:thread_id", ("POST",)),
    _RoutePattern("threads/subscribe", "threads/subscribe", ("POST",), resource=True),
    _RoutePattern("threads/messages", "threads/:thread_id/messages", ("GET",), resource=True),
    _RoutePattern("threads/events", "threads/:thread_id/events", ("GET",), resource=True),
    _RoutePattern("threads/state", "threads/:thread_id/state", ("GET",), resource=True),
    _RoutePattern("threads/archive", "threads/:thread_id/archive", ("POST",), resource=True),
    _RoutePattern("threads/clear", "threads/clear", ("POST",), resource=True),
    _RoutePattern("threads/update", "threads/:thread_id", ("PATCH", "DELETE"), resource=True),
    _RoutePattern("threads/list", "threads", ("GET",), resource=True),
    _RoutePattern("memories/recall", "memories/recall", ("POST",), resource=True),
    _RoutePattern("memories/subscribe", "memories/subscribe", ("POST",), resource=True),
    _RoutePattern("memories/mutate", "memories/:memory_id", ("PATCH", "DELETE"), resource=True),
    _RoutePattern("memories/list", "memories", ("GET", "POST"), resource=True),
    _RoutePattern("annotate", "annotate", ("POST",), resource=True),
)
"""The patterns of all routes.

A pattern is compared with the last segments of a path; ``:x`` in it is any one segment, and becomes
``Route.x``. The first pattern that fits decides, so the order is part of the protocol:
``/agent/a/stop/threads`` stops a run, and ``/threads/annotate`` is a thread called "annotate".
"""
_BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
METHODS: Mapping[str, tuple[str, ...]] = {endpoint.name: endpoint.methods for endpoint in ENDPOINTS}
"""The methods that each endpoint takes, in the order in which ``Allow`` lists them."""
WITH_BODY: Final = frozenset({"POST", "PATCH"})
"""The methods whose requests have a body that is read; a body of another method is not read."""


def _ending(last: str) -> tuple[_RoutePattern, ...]:
    """The endpoints, in order, whose last segment may be ``last``."""
    return tuple(
        endpoint
        for endpoint in ENDPOINTS
        if endpoint.pattern[-1] == last or endpoint.pattern[-1].startswith(":")
    )


# The patterns are found by their last segment, so that a path is compared with few of them.
_BY_LAST = {
    last: _ending(last)
    for endpoint in ENDPOINTS
    if not (last := endpoint.pattern[-1]).startswith(":")
}
_ENDING_IN_ID = _ending("")


def match_path(path: str, base_path: str | None) -> Route | None:
    """The route of a request in multi-route mode.

    The last segments decide: with a base path they must be below it, but more segments may come
    between. Empty segments are ignored. Ids are percent-decoded, after the segments are
    told apart, so ``%2F`` in an id is a slash and does not separate.

    :param path: the path as received, percent-encoded.
    :param base_path: where the runtime is mounted; None or ``"/"`` for anywhere.
    :returns: None if no endpoint has this path, or an id in it is not percent-encoded UTF-8.
    """
    rest = below(path, base_path)
    if rest is None:
        return None
    segments = [segment for segment in rest.split("/") if segment]
    last = segments[-1] if segments else ""
    for endpoint in _BY_LAST.get(last, _ENDING_IN_ID):
        size = len(endpoint.pattern)
        ids: dict[str, str] = {}
        for expected, segment in zip(endpoint.pattern, segments[-size:], strict=False):
            if expected[0] == ":":
                ids[expected[1:]] = segment
            elif expected != segment:
                break
        else:
            if len(segments) >= size:
                break
    else:
        return None
    for name, segment in ids.items():
        if "%" in segment:
            decoded = decode_component(segment)
            if decoded is None:
                # A malformed id does not pass the path on to a later pattern:
                # "/agent/%/stop/threads" is a bad request to stop, not a list of threads.
                return None
            ids[name] = decoded
    return Route(endpoint.name, **ids)


def is_resource(route: Route) -> bool:
    """Whether a single-route client may reach ``route`` through ``resource/request``."""
    return _BY_NAME[route.name].resource


def path_of(route: Route) -> str | None:
    """The path, below the base path, that leads to ``route``.

    :returns: None if an id is a dot segment, because no path with it leads anywhere.
    """
    path = ""
    for segment in _BY_NAME[route.name].pattern:
        if segment.startswith(":"):
            segment = quote(well_formed(getattr(route, segment[1:])), safe="")
            if segment in DOT_SEGMENTS:
                return None
        path += "/" + segment
    return path
