"""The charts of the dashboard, with the metrics that each shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from .readings import Span

Measure: TypeAlias = Callable[[Span], float | None]

_MINUTE: Final = 60.0
_QUANTILES: Final = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}


@attrs.frozen
class Chart:
    """A chart of the page.

    :param title: the subject of the chart.
    :param unit: the unit of its values: "s" for seconds, "B" for bytes, "" for numbers.
    :param series: its lines by name, each with the function that makes its next value.
    """

    title: str
    unit: str
    series: dict[str, Measure]

    def described(self) -> dict[str, Any]:
        """The description of this chart that a page needs to draw it."""
        return {"title": self.title, "unit": self.unit, "series": list(self.series)}

    def values(self, span: Span) -> list[float | None]:
        """The next value of each line; None where there is none."""
        return [_rounded(value(span)) for value in self.series.values()]


def _rounded(value: float | None) -> float | None:
    """Return ``value`` with a few digits; None if it has become too large for a number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _now(metric: str) -> Measure:
    return partial(Span.now, metric=metric)


def _rate(metric: str, part: str = "", per: float = 1.0) -> Measure:
    return partial(Span.rate, metric=metric, part=part, per=per)


def _parts(metric: str, *parts: str, per: float = 1.0) -> dict[str, Measure]:
    return {part: _rate(metric, part, per) for part in parts}


def _quantiles(histogram: str) -> dict[str, Measure]:
    return {
        name: partial(Span.quantile, histogram=histogram, share=share)
        for name, share in _QUANTILES.items()
    }


CHARTS: Final = (
    Chart("Live runs and readers", "", {"runs": _now("runs_live"), "readers": _now("readers")}),
    Chart("Requests per second", "", _parts("requests_total", "2xx", "3xx", "4xx", "5xx")),
    Chart("Time to the first event, last minute", "s", _quantiles("first_event_seconds")),
    Chart("How long runs took, last minute", "s", _quantiles("run_seconds")),
    Chart(
        "Runs that ended, per minute",
        "",
        _parts("runs_total", "finished", "stopped", "failed", "lost", per=_MINUTE),
    ),
    Chart("Events per second", "", {"events": _rate("events_total")}),
    Chart("Bytes of events per second", "B", {"bytes": _rate("event_bytes_total")}),
    Chart("Tokens per minute", "", _parts("tokens_total", "input", "output", per=_MINUTE)),
    Chart("Calls of the store per second", "", {"calls": _rate("store_calls_total")}),
    Chart(
        "Failures and evictions of the store per minute",
        "",
        {
            "failures": _rate("store_failures_total", per=_MINUTE),
            "evictions": _rate("evictions_total", per=_MINUTE),
        },
    ),
)
"""The charts, in their order."""
