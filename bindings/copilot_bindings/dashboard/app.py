"""The dashboard as an application: a thread that reads metrics, and a page that shows them."""

from __future__ import annotations

import logging
import re
import threading
import time
from importlib import resources
from typing import Final

from sansio_copilot import CopilotRuntime, Hooks, Reject, Request, Response
from sansio_copilot.hooks import HookContext

from ..static_pages import page_headers
from .exposition import NotMetrics
from .history import History
from .source import Away, Source

logger = logging.getLogger(__name__)

SECONDS: Final = 2.0
"""The seconds between two readings."""

_END_SECONDS: Final = 1.0
_AFTER: Final = re.compile("after=([0-9]{1,16})")
_FRESH: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_NOT_FOUND: Final = Response(404, {"content-type": "text/plain; charset=utf-8"}, "Not found\n")
_WRONG_HOST: Final = Response(
    403,
    {"content-type": "text/plain; charset=utf-8"},
    "The dashboard is for its own machine: open it by http://127.0.0.1 or http://localhost\n",
)
_OWN_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def build_dashboard(source: Source, seconds: float = SECONDS) -> CopilotRuntime:
    """Make the dashboard, which reads ``source`` while it is served.

    It is a runtime without agents, so that each binding can serve it.

    :param seconds: the seconds between two readings.
    """
    poller = _Poller(source, seconds)
    html = resources.files(__package__).joinpath("page.html").read_bytes()
    page = Response(200, page_headers(html), html)

    def answer(context: HookContext) -> None:
        request = context.request
        if not _is_for_us(request):
            raise Reject(_WRONG_HOST)
        if request.method in ("GET", "HEAD"):
            if context.path == "/":
                raise Reject(page)
            if context.path == "/points":
                told = poller.history.told(_after(request.query), time.time())
                raise Reject(Response.json(told, 200, _FRESH))
        raise Reject(_NOT_FOUND)

    return CopilotRuntime(
        {},
        cors=False,
        hooks=Hooks(on_request=answer),
        on_start=poller.begin,
        on_close=poller.end,
        shared_threads=False,
    )


def _is_for_us(request: Request) -> bool:
    """Whether the request names this machine.

    The page of another site may make its own name lead to this machine, and so send requests to the
    dashboard (DNS rebinding).
    """
    host = request.headers.get("host", "")
    return host.rpartition(":")[0] in _OWN_NAMES or host in _OWN_NAMES


def _after(query: str) -> int:
    found = _AFTER.fullmatch(query)
    return int(found[1]) if found else 0


class _Poller:
    """The thread that reads the metrics, again and again."""

    def __init__(self, source: Source, seconds: float) -> None:
        self.history = History(source.shown, seconds)
        self._source = source
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="dashboard", daemon=True)

    def begin(self) -> None:
        """Read from now on."""
        self._thread.start()

    def end(self) -> None:
        """Stop reading. If an answer is being waited for, the wait is short."""
        self._over.set()
        self._thread.join(_END_SECONDS)

    def _read(self) -> None:
        former = ""
        while not self._over.is_set():
            trouble = ""
            try:
                self.history.add(self._source.read(), time.time())
            except (Away, NotMetrics) as error:
                trouble = str(error)
                self.history.fail(trouble, time.time())
            except Exception:
                logger.exception("the metrics could not be read")
                self.history.fail("the dashboard has failed: see its log", time.time())
            if bool(trouble) != bool(former):
                if trouble:
                    logger.warning("%s is away: %s", self._source.shown, trouble)
                else:
                    logger.info("%s is back", self._source.shown)
            former = trouble
            self._over.wait(self._seconds)
        self._source.close()
