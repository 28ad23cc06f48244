"""The probes of a process: whether it lives, whether it is ready, and its metrics.

An orchestrator asks for the first to decide whether to start the process anew, and for the second
to decide whether to send it requests; the names are those of Kubernetes. Prometheus asks for the
third. The probes are no routes of the protocol, so that no hook and no CORS policy applies: a probe
has no user and no origin.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any, Final

from ..calls import Call
from ..config import RuntimeConfig
from ..errors import text_of
from ..http.messages import Headers, Request, Response
from ..http.refusals import method_not_allowed
from ..metrics import CONTENT_TYPE
from ..stores.calls import check

logger = logging.getLogger(__name__)

_METHODS: Final = ("GET", "HEAD")
# The answers may not be stored, because a cache would repeat an answer that is no longer true.
_FRESH: Final = Headers((("cache-control", "no-store"),))
_TEXT: Final = _FRESH.set("content-type", CONTENT_TYPE)
_OK: Final = Response.json({"status": "ok"}, 200, _FRESH)
_CLOSING: Final = Response.json(
    {"status": "unavailable", "message": "The server is shutting down"}, 503, _FRESH
)
_NO_STORE: Final = Response.json(
    {"status": "unavailable", "message": "The thread store is unavailable"}, 503, _FRESH
)


def probe(
    config: RuntimeConfig, request: Request, path: str, closing: bool
) -> Generator[Call, Any, Response]:
    """The steps of answering a request for one of the ``probe_paths`` of the settings.

    The process lives if it answers at all. It is ready if it is not about to end, and its store
    says that it can be used. A store without a method ``check`` counts as usable.

    :param closing: whether the server is shutting down.
    """
    if request.method not in _METHODS:
        return method_not_allowed(_METHODS)
    if path == config.liveness_path:
        return _OK
    if path == config.metrics_path:
        assert config.metrics is not None, "a runtime with a path for metrics has some"
        return Response(200, _TEXT, config.metrics.text(config.store))
    if closing:
        return _CLOSING
    call = check(config.store)
    if call is not None:
        try:
            call.checked((yield call))
        except Exception as error:
            # Only the log has the cause, because it may name hosts and users.
            logger.warning("not ready: the thread store is unavailable: %s", text_of(error))
            return _NO_STORE
    return _OK
