"""The metrics of a runtime, and their text in the format of Prometheus.

A :class:`Metrics` is only numbers in memory, so that counting costs next to nothing and needs no
library. It belongs to one process. The metrics hold no content: no text of a message, no id of a
thread, a run or a user. Labels come from the application (ids of agents) or from agents (names of
models). So their number and their length have limits; the rest is counted as "other".

Requests are counted in the operating system thread that serves them, which is safe because CPython
makes the next() of an itertools.count in one step; a ``+= 1`` takes several. Everything else is
counted where runs live, which is one thread.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

from .calls import Call
from .stores.calls import StoreCall
from .stores.optional_methods import evictions_of
from .version import __version__

T = TypeVar("T")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX: Final = "sansio_copilot_"
_MOST_LABELS: Final = 100
_LONGEST_LABEL: Final = 200
_OTHER: Final = "other"
_BOUNDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
_TOKENS: Final = {"input": "inputTokens", "output": "outputTokens"}


class LabelValues:
    """The values of one label: the first ones as they are, and "other" in the place of the rest.

    To be used by a system of metrics that itself keeps each value for ever.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        """The value to tell for ``value``."""
        value = _written(value)
        if value not in self._known:
            if len(self._known) >= _MOST_LABELS:
                return _OTHER
            self._known.add(value)
        return value


class Counter:
    """A number that only grows, one at a time, from any thread."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = itertools.count()

    def add_one(self) -> None:
        """Count one more."""
        next(self._count)

    @property
    def value(self) -> int:
        """The number so far."""
        # The number is read from the text "count(5)", because every other way to read an iterator
        # takes its next value.
        return int(repr(self._count)[len("count(") : -1])


class Sum:
    """A number that grows by any amount, in one thread."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """Counts of the values that were at most as large as each of several bounds. One operating
    system thread uses it."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``, in seconds."""
        self._counts[bisect_left(_BOUNDS, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The samples of this histogram."""
        total = 0
        more = f"{labels}," if labels else ""
        for bound, count in zip((*_BOUNDS, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{more}le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum:.6f}"
        yield f"{name}_count{{{labels}}} {total}"


class Family(Generic[T]):
    """The same metric for each value of some labels.

    :param labels: the names of the labels.
    :param make: makes the metric for values that come for the first time.
    """

    def __init__(self, labels: tuple[str, ...], make: Callable[[], T]) -> None:
        self._labels = labels
        self._make = make
        self._members: dict[tuple[str, ...], T] = {}

    def of(self, *values: str) -> T:
        """The metric for these values of the labels."""
        member = self._members.get(values)
        if member is None:
            values = tuple(map(_written, values))
            if values not in self._members and len(self._members) >= _MOST_LABELS:
                values = (_OTHER,) * len(values)
            # Two threads may make a metric at the same time; setdefault() gives both the same one.
            member = self._members.setdefault(values, self._make())
        return member

    def items(self) -> list[tuple[tuple[str, ...], T]]:
        """Each metric with the values of its labels, in their order."""
        return sorted(self._members.items(), key=lambda item: item[0])

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Each metric with its labels as text."""
        for values, member in self.items():
            pairs = zip(self._labels, values, strict=True)
            yield ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs), member


class Metrics:
    """The metrics of one runtime in this process."""

    def __init__(self) -> None:
        self._requests = Family(("route", "status"), Counter)
        self._streams = Counter(), Counter()
        self._runs_begun = Counter()
        self._runs = Family(("agent", "outcome"), Counter)
        self._seconds = Family(("agent",), Histogram)
        self._first_event = Family(("agent",), Histogram)
        self._events = Family(("agent",), Sum)
        self._bytes = Family(("agent",), Sum)
        self._tokens = Family(("model", "kind"), Sum)
        self._store_calls = Family(("method",), Counter)
        self._store_failures = Family(("method",), Counter)

    # Counting

    def responded(self, route: str, status: int) -> None:
        """Count the response to a request, whose head is about to be sent.

        :param route: the name of the route; "none" if there is none.
        """
        self._requests.of(route, str(status)).add_one()

    def stream_begun(self) -> None:
        """Count a client that begins to read a stream."""
        self._streams[0].add_one()

    def stream_ended(self) -> None:
        """Count a client that reads its stream no longer."""
        self._streams[1].add_one()

    def run_started(self) -> None:
        """Count a run that has started."""
        self._runs_begun.add_one()

    def run_ended(
        self, agent: str, outcome: str, seconds: float, first_event_seconds: float | None
    ) -> None:
        """Count a run that is over; see :class:`.RunReport`."""
        self._runs.of(agent, outcome).add_one()
        self._seconds.of(agent).observe(seconds)
        if first_event_seconds is not None:
            self._first_event.of(agent).observe(first_event_seconds)

    def run_lost(self, agent: str, outcome: str) -> None:
        """Count a run that was ended in the place of its owner, a process that has died."""
        self._runs_begun.add_one()
        self._runs.of(agent, outcome).add_one()

    def run_said(
        self, agent: str, events: int, size: int, usage: Iterable[Mapping[str, Any]]
    ) -> None:
        """Count a run that is over: its events, and the tokens that it has used."""
        self._events.of(agent).value += events
        self._bytes.of(agent).value += size
        for entry in usage:
            model = entry.get("model") or _OTHER
            for kind, name in _TOKENS.items():
                if count := entry.get(name):
                    self._tokens.of(model, kind).value += count

    def store_called(self, method: str) -> None:
        """Count a call of the store that has its outcome, or has failed.

        :param method: the name of the method, here and below.
        """
        self._store_calls.of(method).add_one()

    def store_failed(self, method: str) -> None:
        """Count a call of the store that has failed."""
        self.store_called(method)
        self._store_failures.of(method).add_one()

    # Reading

    @property
    def readers(self) -> int:
        """The number of clients that read a stream now."""
        begun, ended = self._streams
        return max(begun.value - ended.value, 0)

    @property
    def runs_live(self) -> int:
        """The number of runs that go on now."""
        return max(self._runs_begun.value - sum(each.value for _, each in self._runs), 0)

    @property
    def store_calls(self) -> dict[str, int]:
        """The number of calls of each method of the store."""
        return {method: calls.value for (method,), calls in self._store_calls.items()}

    @property
    def store_failures(self) -> dict[str, int]:
        """The number of failures of each method of the store."""
        return {method: failures.value for (method,), failures in self._store_failures.items()}

    def text(self, store: object = None) -> bytes:
        """All metrics, as Prometheus reads them.

        :param store: the store, which itself counts the threads that it lets go.
        """
        return "".join(f"{line}\n" for line in self._lines(evictions_of(store))).encode()

    def _lines(self, evictions: int | None) -> Iterator[str]:
        yield from _head("info", "gauge", "The version of this library.")
        yield f'{_PREFIX}info{{version="{__version__}"}} 1'
        yield from _head("readers", "gauge", "Clients that read a stream now.")
        yield f"{_PREFIX}readers {self.readers}"
        yield from _head("runs_live", "gauge", "Runs that go on now.")
        yield f"{_PREFIX}runs_live {self.runs_live}"
        yield from _counted("requests_total", "Responses by route and status.", self._requests)
        yield from _counted("runs_total", "Runs that are over, by how they ended.", self._runs)
        yield from _counted("events_total", "Events that runs have sent.", self._events)
        yield from _counted("event_bytes_total", "The bytes of these as frames.", self._bytes)
        yield from _counted("tokens_total", "Tokens that agents say they have used.", self._tokens)
        yield from _counted("store_calls_total", "Calls of the store.", self._store_calls)
        yield from _counted(
            "store_failures_total", "Calls of the store that failed.", self._store_failures
        )
        if evictions is not None:
            yield from _head("evictions_total", "counter", "Threads that had to go for others.")
            yield f"{_PREFIX}evictions_total {evictions}"
        yield from _measured("run_seconds", "How long runs took.", self._seconds)
        yield from _measured(
            "first_event_seconds", "After how long the first event was there.", self._first_event
        )


def counted(steps: Generator[Call, Any, T], metrics: Metrics | None) -> Generator[Call, Any, T]:
    """Return ``steps`` so that each call of the store is counted."""
    if metrics is None:
        return (yield from steps)
    try:
        call = next(steps)
        while True:
            try:
                outcome = yield call
            except Exception as error:
                if isinstance(call, StoreCall):
                    metrics.store_failed(call.method.name)
                call = steps.throw(error)
            else:
                if isinstance(call, StoreCall):
                    metrics.store_called(call.method.name)
                call = steps.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"


def _counted(name: str, text: str, family: Family[Counter] | Family[Sum]) -> Iterator[str]:
    yield from _head(name, "counter", text)
    for labels, member in family:
        yield f"{_PREFIX}{name}{{{labels}}} {member.value}"


def _measured(name: str, text: str, family: Family[Histogram]) -> Iterator[str]:
    yield from _head(name, "histogram", text)
    for labels, member in family:
        yield from member.lines(f"{_PREFIX}{name}", labels)


def _written(value: str) -> str:
    """Return a value of a label as it is told: not too long, and without characters that UTF-8
    cannot express.

    Values are converted before members are looked up, because Prometheus takes no series twice.
    """
    return value[:_LONGEST_LABEL].encode("utf-8", "replace").decode()


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
