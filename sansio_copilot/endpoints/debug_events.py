"""GET /cpk-debug-events: every event of every run, if the runtime was made with ``debug=True``."""

from __future__ import annotations

from ..http.messages import Response
from ..sse import CONNECTED
from .turn import STREAM, EndpointSteps, LogStream, Reply, Turn


def debug_events(turn: Turn) -> EndpointSteps:
    """Stream the debug feed from now on; it ends only with its client."""
    feed = turn.runtime.debug_feed
    if feed is None:
        return Reply(Response(404, {"content-type": "text/plain;charset=UTF-8"}, "Not Found"))
    return Reply(STREAM, LogStream(feed, feed.end(), preface=CONNECTED))
    yield
