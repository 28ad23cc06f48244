"""Readings of a runtime's metrics, and the rates that two readings give for the time between."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from .exposition import NotMetrics, Sample

_MOST_BOUNDS: Final = 100
_MOST_METRICS: Final = 1000
"""The most metrics of a reading, which keeps the numbers of each; a runtime has some dozens."""
# Some metrics are shown by the values of one label; other labels are summed over.
_SHOWN_BY: Final = {"requests_total": "status", "runs_total": "outcome", "tokens_total": "kind"}
_BY_CLASS: Final = "status"


@attrs.frozen
class Reading:
    """The metrics of a runtime at one moment, summed over agents, routes and all other labels that
    are not shown.

    :param counts: numbers by metric, and by the value of the label that is shown, if any.
    :param buckets: for each histogram, how many values were at most as large as each bound.
    """

    counts: dict[tuple[str, str], float]
    buckets: dict[str, dict[float, float]]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Reading:
        """Sum up ``samples``.

        :raises NotMetrics: for a malformed histogram, or for too many metrics.
        """
        counts: dict[tuple[str, str], float] = {}
        buckets: dict[str, dict[float, float]] = {}
        for sample in samples:
            if len(counts) + len(buckets) > _MOST_METRICS:
                raise NotMetrics(f"has more than {_MOST_METRICS} metrics")
            if sample.name.endswith("_bucket"):
                _add_bucket(buckets.setdefault(sample.name.removesuffix("_bucket"), {}), sample)
                continue
            label = _SHOWN_BY.get(sample.name, "")
            part = sample.labels.get(label, "")
            if label == _BY_CLASS:
                part = f"{part[:1]}xx"
            key = sample.name, part
            counts[key] = counts.get(key, 0.0) + sample.value
        return cls(counts, buckets)

    def count(self, metric: str, part: str = "") -> float:
        """Return the number of a metric; 0 if it is absent, like a counter that was never used."""
        return self.counts.get((metric, part), 0.0)

    def may_follow(self, former: Reading) -> bool:
        """Whether the process of ``former`` may have told this reading: no counter has shrunk."""
        return all(
            self.count(*key) >= value
            for key, value in former.counts.items()
            if key[0].endswith(("_total", "_count"))
        )


@attrs.frozen
class Span:
    """The time between two readings of one process.

    :param begin: the earlier reading; None if there is none.
    :param end: the later reading.
    :param seconds: the length of the time.
    :param window: an even earlier reading from which quantiles are counted, because few runs end
        between two readings.
    """

    begin: Reading | None
    end: Reading
    seconds: float
    window: Reading | None

    def now(self, metric: str) -> float:
        """Return the last value of a metric that goes up and down."""
        return self.end.count(metric)

    def rate(self, metric: str, part: str = "", per: float = 1.0) -> float | None:
        """Return how much a counter has grown.

        :param per: the time to which the growth is scaled, in seconds.
        :returns: None if there is no earlier reading.
        """
        if self.begin is None or self.seconds <= 0:
            return None
        grown = self.end.count(metric, part) - self.begin.count(metric, part)
        return max(grown, 0.0) * per / self.seconds

    def quantile(self, histogram: str, share: float) -> float | None:
        """Return the value that the given share of the values in the window did not exceed, as
        Prometheus's ``histogram_quantile`` estimates it.

        :returns: None if there were no values.
        """
        if self.window is None:
            return None
        former = self.window.buckets.get(histogram, {})
        latter = self.end.buckets.get(histogram, {})
        grown = [(bound, latter[bound] - former.get(bound, 0.0)) for bound in sorted(latter)]
        total = grown[-1][1] if grown else 0.0
        if total <= 0:
            return None
        below, counted = 0.0, 0.0
        for bound, count in grown:
            if count >= share * total:
                # The last finite bound is told, because the last bucket has no upper one.
                if bound == float("inf"):
                    return below
                return below + (bound - below) * (share * total - counted) / (count - counted)
            below, counted = bound, count
        return below


def _add_bucket(bounds: dict[float, float], sample: Sample) -> None:
    try:
        bound = float(sample.labels["le"])
    except (KeyError, ValueError):
        raise NotMetrics(f"has a histogram {sample.name!r} without bounds") from None
    if bound not in bounds and len(bounds) >= _MOST_BOUNDS:
        raise NotMetrics(f"has a histogram {sample.name!r} of more than {_MOST_BOUNDS} bounds")
    bounds[bound] = bounds.get(bound, 0.0) + sample.value
