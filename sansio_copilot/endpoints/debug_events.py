"""GET /cpk-debug-events: every event of every run, if the runtime was made with ``debug=True``."""

from __future__ import annotations

from ..http.messages import Response
from ..sse import CONNECTED
from .request_and_reply import STREAM, EndpointInput, EndpointSteps, LogStream, Reply


def debug_events(given: EndpointInput) -> EndpointSteps:
    """Stream the user's debug feed from now on; it ends only with its client."""
    feeds = given.runtime.debug_feeds
    if feeds is None:
        return Reply(Response(404, {"content-type": "text/plain;charset=UTF-8"}, "Not Found"))
    feed = feeds.of((yield from given.owner("debug")))
    return Reply(STREAM, LogStream(feed, feed.end(), preface=CONNECTED))
