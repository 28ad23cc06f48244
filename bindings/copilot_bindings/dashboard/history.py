"""The last minutes of a runtime, as its dashboard shows them: bounded, and with gaps."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

from .charts import CHARTS
from .readings import Reading, Span

MOST_POINTS: Final = 300
_WINDOW_SECONDS: Final = 60.0


class History:
    """Points in time, with the values of each chart, or with the reason why there are none.

    One operating system thread writes it, and others read it.

    :param url: the URL of the metrics.
    :param seconds: the seconds between two points.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._lock = threading.Lock()
        self._points: deque[dict[str, Any]] = deque(maxlen=MOST_POINTS)
        # The readings are those of one process within the window. A point is made of two of them:
        # the last one here, of which the point before was made, and the next one.
        self.readings: deque[tuple[float, Reading]] = deque(maxlen=MOST_POINTS)
        self._trouble = ""
        self._trouble_since: float | None = None
        self._told_at: float | None = None

    def add(self, reading: Reading, now: float) -> None:
        """Add ``reading``, which the runtime has told.

        :param now: seconds since the epoch, here and below.
        """
        readings = self.readings
        if readings and not (reading.may_follow(readings[-1][1]) and now > readings[-1][0]):
            readings.clear()
        while readings and readings[0][0] < now - _WINDOW_SECONDS:
            readings.popleft()
        former = readings[-1] if readings else None
        span = Span(
            former and former[1],
            reading,
            now - former[0] if former else 0.0,
            readings[0][1] if readings else None,
        )
        readings.append((now, reading))
        with self._lock:
            self._trouble, self._trouble_since, self._told_at = "", None, now
            self._put(now, [chart.values(span) for chart in CHARTS])

    def fail(self, why: str, now: float) -> None:
        """Add a point without values, because the runtime has not answered.

        :param why: the reason, for an operator.
        """
        with self._lock:
            if self._trouble_since is None:
                self._trouble_since = now
            self._trouble, self._told_at = why, now
            self._put(now, None)

    def told(self, after: int, now: float) -> dict[str, Any]:
        """Return the points that a page is told.

        :param after: the time of the page's last point, in milliseconds; 0 if it has none.
        """
        with self._lock:
            trouble, since = self._trouble, self._trouble_since
            # The delay is told, because a reading may take long: a server may send one byte of it
            # now and then.
            late = now - self._told_at if self._told_at is not None else 0.0
            points = [point for point in self._points if point["at"] > after]
        if late > 10 * self._seconds and since is None:
            trouble, since = "it has not answered yet", now - late
        return {
            "url": self._url,
            "seconds": self._seconds,
            "span": self._seconds * MOST_POINTS,
            "trouble": trouble,
            "since": since,
            "charts": [chart.described() for chart in CHARTS],
            "points": points,
        }

    def _put(self, now: float, values: list[list[float | None]] | None) -> None:
        at = int(now * 1000)
        if self._points:
            # Times always rise, although the clock may have been put back, because a page asks for
            # points later than its own.
            at = max(at, self._points[-1]["at"] + 1)
        self._points.append({"at": at, "values": values})
