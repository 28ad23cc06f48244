"""Server-sent events, as section 9.2 of the HTML Standard has them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sse_frames import format_frame

from sansio_copilot.sse import (
    HEARTBEAT,
    EventId,
    FrameData,
    Parser,
    ServerSentEvent,
    frame_data,
    run_token,
)

Event = ServerSentEvent


def parse(*chunks: bytes) -> list[ServerSentEvent]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def one_by_one(stream: bytes) -> list[ServerSentEvent]:
    return parse(*(stream[i : i + 1] for i in range(len(stream))))


class TestHeartbeats:
    def test_a_heartbeat_is_no_event(self) -> None:
        assert HEARTBEAT == b": keep-alive\n\n"
        assert parse(HEARTBEAT * 3) == []


class TestStandard:
    """The examples of section 9.2.6, "Interpreting an event stream"."""

    def test_several_data_lines_are_one_event(self) -> None:
        stream = b"data: YHOO\ndata: +2\ndata: 10\n\n"
        assert parse(stream) == [Event("YHOO\n+2\n10")]

    def test_comments_are_ignored_and_ids_are_set_and_reset(self) -> None:
        stream = (
            b": test stream\n\n"
            b"data: first event\nid: 1\n\n"
            b"data:second event\nid\n\n"
            b"data:  third event\n\n"
        )
        assert parse(stream) == [
            Event("first event", id="1"),
            Event("second event"),
            Event(" third event"),
        ]

    def test_empty_data_is_an_event_and_an_unfinished_event_is_none(self) -> None:
        assert parse(b"data\n\ndata\ndata\n\ndata:") == [Event(""), Event("\n")]

    def test_one_space_after_the_colon_is_ignored(self) -> None:
        assert parse(b"data:test\n\ndata: test\n\n") == [Event("test"), Event("test")]


class TestFields:
    def test_the_type_of_an_event_is_parsed(self) -> None:
        assert parse(b"event: a\ndata: 1\n\ndata: 2\n\n") == [Event("1", "a"), Event("2")]
        assert parse(b"event: a\nevent\ndata: 1\n\n") == [Event("1")]
        assert parse(b"event: a\n\ndata: 1\n\n") == [Event("1")]

    def test_an_id_holds_until_the_next(self) -> None:
        events = parse(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n")
        assert [event.id for event in events] == ["1", "1", "2"]

    def test_an_id_with_nul_is_ignored(self) -> None:
        assert parse(b"id: 1\nid: 2\0\ndata: a\n\n") == [Event("a", id="1")]

    def test_an_id_counts_when_its_event_is_complete(self) -> None:
        parser = Parser()
        parser.feed(b"id: 1\ndata: a\n")
        assert parser.last_event_id == ""
        parser.feed(b"\nid: 2\ndata: b")
        assert parser.last_event_id == "1"
        parser.feed(b"\n\nid: 3\n\n")
        assert parser.last_event_id == "3"

    @pytest.mark.parametrize(
        ("value", "retry"),
        [
            (b"2500", 2500),
            (b"007", 7),
            (b"0", 0),
            (b"-1", None),
            (b"1.5", None),
            (b"", None),
            (b" 5", None),
            ("٣".encode(), None),
            (b"9" * 10_000, None),
        ],
    )
    def test_retry_is_digits(self, value: bytes, retry: int | None) -> None:
        stream = b"retry: " + value + b"\ndata: a\n\ndata: b\n\n"
        assert parse(stream) == [Event("a", retry=retry), Event("b")]

    @pytest.mark.parametrize(
        "line", [b"Data: x", b"data : x", b" data: x", b"foo: x", b"foo", b":"]
    )
    def test_other_fields_are_ignored(self, line: bytes) -> None:
        assert parse(line + b"\ndata: a\n" + line + b"\n\n") == [Event("a")]

    def test_a_colon_in_a_value_stays(self) -> None:
        assert parse(b"data: a: b:c\n\n") == [Event("a: b:c")]


class TestBytes:
    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_a_line_may_end_in_each_of_three_ways(self, end: bytes) -> None:
        stream = b"id: 1%data: a%data: b%%data: c%%".replace(b"%", end)
        events = [Event("a\nb", id="1"), Event("c", id="1")]
        assert parse(stream) == one_by_one(stream) == events

    def test_an_event_is_not_held_back_for_the_lf_after_its_cr(self) -> None:
        parser = Parser()
        assert parser.feed(b"data: a\r\n\r") == [Event("a")]
        assert parser.feed(b"\n") == []
        assert parser.feed(b"\ndata: b\n\n") == [Event("b")]

    def test_other_line_separators_end_no_line(self) -> None:
        text = "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b"
        assert parse(b"data: " + text.encode() + b"\n\n") == [Event(text)]

    def test_one_byte_order_mark_at_the_start_is_skipped(self) -> None:
        stream = b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"
        assert parse(stream) == one_by_one(stream) == [Event("a")]
        assert parse(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n") == []

    def test_broken_utf8_is_replaced(self) -> None:
        stream = b"data: a\xffb\xe2\x82\ndata: \xed\xa0\x80\n\n"
        expected = [Event("a\ufffdb\ufffd\n\ufffd\ufffd\ufffd")]
        assert parse(stream) == one_by_one(stream) == expected

    def test_an_empty_stream_has_no_event(self) -> None:
        assert parse(b"", b"data: a", b"", b"\n\n", b"") == [Event("a")]

    def test_every_cut_of_a_stream_in_three_gives_the_same_events(self) -> None:
        stream = "\ufeffid: é\r\ndata: 1\r\n\r\n: c\rdata: 😀\r\rdata: x\n\n".encode()
        whole = [Event("1", id="é"), Event("😀", id="é"), Event("x", id="é")]
        for a, b in itertools.combinations(range(len(stream) + 1), 2):
            assert parse(stream[:a], stream[a:b], stream[b:]) == whole


TEXT = st.text(st.characters(codec="utf-8"))
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)
ID = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"))
CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(stream)) for at in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


class TestRoundTrip:
    @given(st.lists(st.tuples(TEXT, st.none() | ID, st.none() | LINE)), CUTS)
    def test_an_event_that_is_formatted_is_parsed(
        self, events: list[tuple[str, str | None, str | None]], cuts: list[int]
    ) -> None:
        stream, expected, last_id = b"", [], ""
        for data, event_id, event in events:
            stream += format_frame(data.encode(), event_id, event) + HEARTBEAT
            last_id = last_id if event_id is None else event_id
            data = data.replace("\r\n", "\n").replace("\r", "\n")
            expected.append(Event(data, event or "message", last_id))
        assert parse(*cut(stream, cuts)) == expected

    @given(st.binary() | st.text(alphabet="data:ievnt \r\n\ufeffé").map(str.encode), CUTS)
    def test_cuts_make_no_difference_to_any_stream(self, stream: bytes, cuts: list[int]) -> None:
        assert parse(*cut(stream, cuts)) == parse(stream) == one_by_one(stream)


class TestTheBoundOfAnEvent:
    """No event is held that is longer than its reader wants."""

    LONG = b"data: " + b"x" * 94 + b"\n"

    def test_an_event_of_that_length_is_taken(self) -> None:
        parser = Parser(100)
        assert [event.data for event in parser.feed((self.LONG + b"\n") * 3)] == ["x" * 94] * 3
        assert not parser.overflowed

    @pytest.mark.parametrize(
        "longer",
        [LONG + b":\n", b"x" * 101, b"data: " + b"x" * 95, b": comment\n" * 12],
        ids=["several lines", "no line", "one line", "comments"],
    )
    def test_events_before_a_longer_one_count_and_none_behind_it(self, longer: bytes) -> None:
        stream = b"data: first\n\n" + longer
        for size in (1, 7, len(stream)):
            parser, events = Parser(100), []
            for start in range(0, len(stream), size):
                events += parser.feed(stream[start : start + size])
            assert [event.data for event in events] == ["first"]
            assert parser.overflowed
            assert parser.feed(b"\n\ndata: last\n\n") == []


class TestFrameData:
    FRAMES = b'id: 1.c0\ndata: {"a":1}\n\ndata: \n\nid: 1.c2\ndata: "data: id: "\n\n'

    def test_pages_may_be_cut_anywhere(self) -> None:
        whole = frame_data(self.FRAMES)
        for cuts in itertools.combinations(range(len(self.FRAMES) + 1), 2):
            reader, texts = FrameData(), [b""]
            for begin, end in itertools.pairwise((0, *cuts, len(self.FRAMES))):
                is_inside = reader.is_inside
                got = reader.feed(self.FRAMES[begin:end])
                if is_inside:
                    texts[-1] += got.pop(0)
                texts += got
                assert reader.begun == len(texts) - 1
            assert texts[1:] == whole

    def test_no_part_of_a_long_frame_is_kept(self) -> None:
        reader = FrameData()
        reader.feed(b"data: ")
        assert [reader.feed(b"x" * 1000) for _ in range(3)] == [[b"x" * 1000]] * 3
        assert (reader.begun, reader.is_inside) == (1, True)


def test_work_is_linear_in_the_length_of_a_frame() -> None:
    """A large event comes in small pieces; quadratic work would take minutes."""
    size, piece = 100_000_000, 16_384
    chunk = b"x" * piece
    parser = Parser()
    parser.feed(b"data: ")
    for _ in range(size // piece):
        assert parser.feed(chunk) == []
    (event,) = parser.feed(b"\n\n")
    assert len(event.data) == size // piece * piece


@pytest.mark.parametrize(
    ("event_id", "seq"),
    [
        (f"{run_token(7, 'r')}.3", 7),
        (f"{run_token(7, 'r')}.c3", 7),
        (f"{10**17}.0.1", 10**17),
        (f"{10**18}.0.1", None),
        ("-1.0.1", None),
        ("\u0661.0.1", None),
        (".1", None),
    ],
)
def test_the_place_of_a_run_is_told_if_a_database_can_have_it(
    event_id: str, seq: int | None
) -> None:
    parsed = EventId.parse(event_id)
    assert parsed is not None
    assert parsed.seq == seq
