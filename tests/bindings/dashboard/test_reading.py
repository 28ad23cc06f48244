"""Tests of how the dashboard reads a text of metrics, and compares two of them."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from copilot_bindings.dashboard.charts import CHARTS
from copilot_bindings.dashboard.exposition import NotMetrics, Sample, parse
from copilot_bindings.dashboard.history import MOST_POINTS, History
from copilot_bindings.dashboard.readings import Reading, Span
from sansio_copilot.metrics import Metrics

INFO = b'sansio_copilot_info{version="1"} 1\n'


def read(*lines: str) -> Reading:
    return Reading.of(parse(INFO + "\n".join(lines).encode()))


class Evicting:
    evictions = 3


def filled() -> bytes:
    """Metrics of which each has counted something."""
    metrics = Metrics()
    metrics.responded("agent/run", 200)
    metrics.stream_begun()
    metrics.run_started()
    metrics.run_started()
    metrics.run_ended("a", "finished", 1.0, 0.5)
    metrics.run_said("a", 3, 100, [{"model": 'm"\\\n\u2028', "inputTokens": 2, "outputTokens": 1}])
    metrics.store_failed("store method read")
    return metrics.text(Evicting())


def test_all_metrics_that_a_runtime_tells_are_read() -> None:
    text = filled()
    samples = parse(text)
    told = [line for line in text.decode().split("\n") if line and not line.startswith("#")]
    assert len(samples) == len(told)
    [tokens] = [each for each in samples if each.labels.get("kind") == "input"]
    assert tokens == Sample("tokens_total", {"model": 'm"\\\n\u2028', "kind": "input"}, 2.0)


def test_every_chart_shows_what_a_runtime_counts() -> None:
    """No chart stays empty because a metric has another name."""
    nothing, much = Reading.of(parse(Metrics().text())), Reading.of(parse(filled()))
    span = Span(nothing, much, 1.0, nothing)
    for chart in CHARTS:
        assert any(chart.values(span)), chart.title


def test_every_metric_has_a_chart() -> None:
    names = {sample.name for sample in parse(filled())} - {"info"}
    shown = " ".join(repr(value) for chart in CHARTS for value in chart.series.values())
    for name in names:
        histogram = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert histogram in shown, name


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "has no metrics of a runtime"),
        (b"up 1\nprocess_cpu_seconds_total 1.5e3 1700000000\n", "has no metrics of a runtime"),
        (b"<!doctype html>\n<p>", "line 1 is '<!doctype html>'"),
        (b'{"status": "ok"}', "is no Prometheus text"),
        (b"\xff\xfe", "it is not UTF-8"),
        (INFO + b"sansio_copilot_readers", "line 2 is 'sansio_copilot_readers'"),
        (INFO + b"sansio_copilot_readers many", "is no Prometheus text"),
        (INFO + b"sansio_copilot_readers NaN", "is no Prometheus text"),
        (INFO + b"sansio_copilot_readers 1e999", "is no Prometheus text"),
        (INFO + b'sansio_copilot_runs_total{agent="a} 1', "is no Prometheus text"),
        (INFO + b"sansio_copilot_runs_total{agent} 1", "is no Prometheus text"),
        (INFO + b"sansio_copilot_x " + b"9" * 5000 + b"x", "9999..."),
    ],
)
def test_a_text_that_has_no_metrics_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(NotMetrics) as raised:
        parse(body)
    assert why in str(raised.value)
    assert len(str(raised.value)) < 200


def test_metrics_of_others_beside_are_left_out() -> None:
    assert [sample.name for sample in parse(b'go_gc{x="1",} 1 170\n\nup\t1\n' + INFO)] == ["info"]


@pytest.mark.parametrize(
    "line",
    [
        "{0}name{{" + " {0}",
        'sansio_copilot_x{{a="{0}',
        'sansio_copilot_x{{a="{1}"}} 1',
        "sansio_copilot_x{2}{{",
        "{3}",
    ],
)
def test_a_long_line_costs_no_more_than_its_length(line: str) -> None:
    def seconds(size: int) -> float:
        text = line.format("a" * size, "\\\\" * size, " " * size, "}" * size).encode()
        begun = time.process_time()
        with contextlib.suppress(NotMetrics):
            parse(text)
        return time.process_time() - begun

    # A cost that grows with the square of the length would be an hour here.
    assert seconds(300_000) < 20


def test_a_histogram_without_bounds_or_with_too_many_is_none() -> None:
    with pytest.raises(NotMetrics, match="without bounds"):
        read("sansio_copilot_run_seconds_bucket 1")
    with pytest.raises(NotMetrics, match="more than 100 bounds"):
        read(*(f'sansio_copilot_run_seconds_bucket{{le="{n}"}} 1' for n in range(101)))


@pytest.mark.parametrize("line", ["sansio_copilot_x{} 1", "sansio_copilot_x{}_bucket{{le='1'}} 1"])
def test_a_reading_keeps_a_bounded_number_of_metrics(line: str) -> None:
    line = line.replace("'", '"')
    assert read(*(line.format(number) for number in range(900)))
    with pytest.raises(NotMetrics, match="more than 1000 metrics"):
        read(*(line.format(number) for number in range(1001)))


def test_a_metric_with_a_long_name_is_none() -> None:
    assert read(f"sansio_copilot_{'x' * 185} 1")
    with pytest.raises(NotMetrics, match="is no Prometheus text"):
        read(f"sansio_copilot_{'x' * 186} 1")


def test_agents_and_routes_are_summed_up() -> None:
    reading = read(
        'sansio_copilot_requests_total{route="a",status="200"} 1',
        'sansio_copilot_requests_total{route="b",status="204"} 2',
        'sansio_copilot_requests_total{route="b",status="404"} 4',
    )
    assert reading.count("requests_total", "2xx") == 3
    assert reading.count("requests_total", "4xx") == 4
    assert reading.count("requests_total", "5xx") == 0


def test_a_rate_is_what_was_counted_between_two_readings() -> None:
    former, latter = (read(f"sansio_copilot_events_total {n}") for n in (10, 40))
    assert Span(former, latter, 2.0, former).rate("events_total") == 15
    assert Span(former, latter, 2.0, former).rate("events_total", per=60) == 900
    assert Span(None, latter, 0.0, None).rate("events_total") is None


def test_a_quantile_is_estimated_within_its_bucket() -> None:
    bounds = ("0.1", "1.0", "2.0", "+Inf")

    def reading(*counts: int) -> Reading:
        name = "sansio_copilot_run_seconds_bucket"
        return read(
            *(f'{name}{{le="{le}"}} {n}' for le, n in zip(bounds, counts, strict=True)),
        )

    former, latter = reading(5, 5, 5, 5), reading(5, 15, 15, 15)
    span = Span(former, latter, 1.0, former)
    assert span.quantile("run_seconds", 0.5) == pytest.approx(0.55)
    assert span.quantile("run_seconds", 0.9) == pytest.approx(0.91)
    beyond = Span(former, reading(5, 5, 5, 15), 1.0, former)
    assert beyond.quantile("run_seconds", 0.5) == 2.0
    assert Span(former, former, 1.0, former).quantile("run_seconds", 0.5) is None
    assert Span(None, latter, 1.0, None).quantile("run_seconds", 0.5) is None
    assert span.quantile("first_event_seconds", 0.5) is None
    # The estimate goes from 0 to the first bound if that bound has all values.
    first = Span(former, reading(15, 15, 15, 15), 1.0, former)
    assert first.quantile("run_seconds", 0.5) == pytest.approx(0.05)


# --- The history ----------------------------------------------------------------------------------

EVENTS = next(at for at, chart in enumerate(CHARTS) if "events" in chart.series)


def events(count: int) -> Reading:
    return read(f"sansio_copilot_events_total {count}")


def rates(history: History, now: float = 0.0) -> list[float | None]:
    points = history.told(0, now)["points"]
    return [None if point["values"] is None else point["values"][EVENTS][0] for point in points]


def test_the_first_reading_says_nothing_of_the_time_before() -> None:
    history = History("u", 2.0)
    history.add(events(1000), 100.0)
    history.add(events(1010), 102.0)
    assert rates(history) == [None, 5.0]


def test_another_process_begins_anew() -> None:
    history = History("u", 2.0)
    for now, count in ((1, 1000), (3, 1010), (5, 3), (7, 5)):
        history.add(events(count), now)
    assert rates(history) == [None, 5.0, None, 1.0]


def test_a_clock_that_is_set_back_loses_no_point() -> None:
    history = History("u", 2.0)
    for now, count in ((100, 0), (102, 2), (50, 4), (52, 6)):
        history.add(events(count), now)
    ats = [point["at"] for point in history.told(0, 52)["points"]]
    assert ats == sorted(set(ats))
    assert rates(history) == [None, 1.0, None, 1.0]


def test_a_time_without_an_answer_is_a_gap_and_said() -> None:
    history = History("u", 2.0)
    history.add(events(0), 1.0)
    history.fail("nobody listens", 3.0)
    history.fail("still nobody", 5.0)
    told = history.told(0, 5.0)
    assert (told["trouble"], told["since"]) == ("still nobody", 3.0)
    history.add(events(4), 7.0)
    told = history.told(0, 7.0)
    assert (told["trouble"], told["since"]) == ("", None)
    # The rate is spread over the time that the server was away, because it counted meanwhile.
    assert rates(history) == [None, None, None, pytest.approx(4 / 6, rel=1e-3)]


def test_an_answer_that_does_not_come_is_said() -> None:
    history = History("u", 2.0)
    history.add(events(0), 0.0)
    assert history.told(0, 19.0)["since"] is None
    told = history.told(0, 30.0)
    assert (told["trouble"], told["since"]) == ("it has not answered yet", 0.0)


def test_a_page_is_told_what_it_has_not() -> None:
    history = History("u", 2.0)
    for now in range(10, 20):
        history.add(events(0), now)
    assert [point["at"] for point in history.told(17_000, 20)["points"]] == [18_000, 19_000]


def test_the_history_is_bounded() -> None:
    history = History("u", 2.0)
    for now in range(2 * MOST_POINTS):
        history.add(Reading.of(parse(filled())), float(now))
    told = history.told(0, 0.0)
    assert len(told["points"]) == MOST_POINTS
    assert len(json.dumps(told)) < 200_000
    assert len(history.readings) <= 62


def test_a_value_that_is_too_large_for_a_number_is_left_out() -> None:
    history = History("u", 2.0)
    lines = (f'sansio_copilot_events_total{{agent="{n}"}} 1.7e308' for n in range(3))
    history.add(events(0), 0.0)
    history.add(read(*lines), 1e-9)
    assert "Infinity" not in json.dumps(history.told(0, 0.0))
