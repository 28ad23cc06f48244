"""JSON as JavaScript writes and reads it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
from ag_ui.core import UserMessage
from hypothesis import given
from hypothesis import strategies as st
from support.steps import steps

from sansio_copilot import json_codec
from sansio_copilot.json_codec import decode, encode, to_builtins

# The texts are those that JavaScript has: any code point and lone surrogates, but no pair of
# surrogates, because a pair is another spelling of one character.
TEXT = st.text(st.characters(exclude_categories=[])).map(
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


class Color(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class OwnText(str):
    """A text type of some agent libraries, which have it instead of str."""


class OwnInt(int):
    pass


@dataclass
class Point:
    x: int


@attrs.define
class Attrs:
    x: int


class Struct(msgspec.Struct):
    x: int


def nested(depth: int, innermost: Any = None) -> Any:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


def finite(value: Any) -> Any:
    """Return what JSON.parse(JSON.stringify(value)) makes of ``value``."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case list():
            return [finite(item) for item in value]
        case dict():
            return {key: finite(item) for key, item in value.items()}
    return value


class TestEncode:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": [1, None, True, "x"]}, '{"a":[1,null,true,"x"]}'),
            ("é😀\u2028\u2029\x7f", '"é😀\u2028\u2029\x7f"'),
            ('\n\r\t"\\/', '"\\n\\r\\t\\"\\\\/"'),
            ("\0\x1f", '"\\u0000\\u001f"'),
            ((1, 2), "[1,2]"),
            ({1: "a"}, '{"1":"a"}'),
            (10**30, "1" + "0" * 30),
        ],
    )
    def test_json_is_compact_and_utf8(self, value: Any, text: str) -> None:
        assert encode(value) == text.encode()

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_float_that_is_no_number_is_null(self, value: float) -> None:
        assert encode(value) == b"null"
        assert encode({"a": [value, "\udc00"]}) == b'{"a":[null,"\\udc00"]}'
        assert encode(("\udc00", (value,))) == b'["\\udc00",[null]]'

    def test_a_lone_surrogate_is_escaped(self) -> None:
        assert encode("a\ud800b") == b'"a\\ud800b"'
        assert encode({"\udfff": 1.5}) == b'{"\\udfff":1.5}'
        assert (
            encode(["\ud800", 10**30, True, None, {"é": {}}])
            == ('["\\ud800",1' + "0" * 30 + ',true,null,{"é":{}}]').encode()
        )

    @pytest.mark.parametrize(
        "of", [lambda n: ["\ud800"] * n, lambda n: {f"\ud800{i}": i for i in range(n)}]
    )
    def test_no_python_code_runs_for_each_value(self, of: Callable[[int], Any]) -> None:
        few, many = of(10), of(1000)
        assert steps(lambda: encode(many)) == steps(lambda: encode(few))

    def test_a_pair_of_surrogates_is_one_character_to_the_reader(self) -> None:
        assert json.loads(encode("\ud83d\ude00")) == "😀"

    def test_a_backslash_before_a_surrogate_stays_one(self) -> None:
        assert decode(encode("\\\ud800")) == "\\\ud800"

    @pytest.mark.parametrize("value", [object(), ["\ud800", object()], {(1, 2): 3}])
    def test_a_value_that_has_no_json_form_is_refused(self, value: Any) -> None:
        with pytest.raises(TypeError):
            encode(value)

    @pytest.mark.parametrize(
        "value",
        [
            datetime(2026, 1, 1),
            datetime(2026, 1, 1, tzinfo=UTC),
            date(2026, 1, 1),
            time(1, 2),
            timedelta(seconds=3),
            Decimal("1.5"),
            UUID(int=1),
            Color.RED,
            Size.BIG,
            b"ab",
            bytearray(b"x"),
            memoryview(b"q"),
            {3},
            frozenset([3]),
            (1, (2,)),
            Point(1),
            Attrs(1),
            Struct(1),
            msgspec.Raw(b'{"a":1}'),
            UserMessage(id="u", content="hi"),
            OwnText("x"),
            OwnInt(3),
            math.nan,
            {1: 2, 1.5: (), UUID(int=1): 0, date(2026, 1, 1): 0, Color.RED: 0, OwnText("q"): 0},
            {True: {"a": [{False: 1}]}},
            {b"a": Decimal(1)},
        ],
    )
    def test_a_value_is_encoded_the_same_beside_a_lone_surrogate(self, value: Any) -> None:
        assert encode([value, "\ud800"]) == b"[%s,%s]" % (encode(value), b'"\\ud800"')
        assert encode(to_builtins(value)) == encode(value)

    @pytest.mark.parametrize("value", [{None: 1}, {(): 1}, 1j, range(3)])
    def test_a_value_without_a_form_is_refused_beside_a_lone_surrogate(self, value: Any) -> None:
        for beside in ("", "\ud800"):
            with pytest.raises(TypeError):
                encode([value, beside])

    def test_deep_nesting_is_not_encoded(self) -> None:
        assert encode(nested(200)) == b"[" * 200 + b"null" + b"]" * 200
        assert encode(nested(200, "\ud800")) == b"[" * 200 + b'"\\ud800"' + b"]" * 200
        with pytest.raises(ValueError, match="nested too deeply"):
            encode(nested(100_000))

    def test_a_value_that_contains_itself_is_refused(self) -> None:
        value: list[Any] = []
        value.append(value)
        with pytest.raises(ValueError, match="contains itself"):
            encode(value)

    def test_deep_nesting_with_a_lone_surrogate_is_not_encoded(self) -> None:
        value: list[Any] = ["\ud800"]
        value.append(value)
        with pytest.raises(ValueError, match="nested too deeply"):
            encode(value)
        with pytest.raises(ValueError, match="nested too deeply"):
            encode(["\ud800", nested(100_000)])

    @given(VALUES)
    def test_json_is_one_line_that_any_parser_reads(self, value: Any) -> None:
        data = encode(value)
        assert b"\n" not in data
        assert b"\r" not in data
        assert json.loads(data.decode("utf-8")) == finite(value)
        assert decode(data) == finite(value)


class TestDecode:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            (b'{"a":[1,2.5,true,null]}', {"a": [1, 2.5, True, None]}),
            (b' \t\r\n"x" ', "x"),
            (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
            (b'\xef\xbb\xbf"\\ud800"', "\ud800"),
            (b'"\\ud83d\\ude00"', "😀"),
            (b'"\\ud800x\\udc00"', "\ud800x\udc00"),
            (b'"a\xffb"', "a\ufffdb"),
            (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
            (b'{"a":1,"a":2}', {"a": 2}),
            (b"1e400", math.inf),
            (b"12345678901234567890123", 12345678901234567890123),
        ],
    )
    def test_values_are_decoded(self, data: bytes, value: Any) -> None:
        assert decode(data) == value

    @pytest.mark.parametrize(
        "data",
        [b"", b" ", b"{", b"[1,]", b"{'a':1}", b'"a\nb"', b"01", b"1.", b"{}x", b"\xff1", b"/**/1"],
    )
    def test_text_that_is_not_json_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match=r".+"):
            decode(data)

    @pytest.mark.parametrize(
        "number",
        ["1.5e300", "-5e-324", "1.7976931348623157e308", "2e-400", f"0.{'0' * 320}7", "-0.0"],
    )
    def test_numbers_that_msgspec_takes_long_for_are_read_by_python(self, number: str) -> None:
        """msgspec itself would take some 10 us for most of them, and Python takes 0.3 us."""
        assert repr(decode(f"[{number}]".encode())) == repr([float(number)])
        assert json_codec.DECODER.float_hook is float

    @pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b"-Infinity"])
    def test_infinite_values_and_nan_are_not_json(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="is not JSON"):
            decode(data)

    @pytest.mark.parametrize("prefix", [b"", b'["\\ud800",'])
    def test_deep_nesting_is_not_decoded(self, prefix: bytes) -> None:
        assert decode(b"[" * 200 + b"]" * 200) == nested(199, [])
        with pytest.raises(ValueError, match="nested too deeply"):
            decode(prefix + b"[" * 100_000 + b"]" * 100_000)

    @pytest.mark.parametrize(
        ("end", "value", "most"),
        [
            (rb"\ud800", "\ud800", 1),
            (rb"\udfff\ud800", "\udfff\ud800", 1),
            (rb"\ud83d\ude00\udE00", "\U0001f600\ude00", 1),
            (rb"\\\uDbfF", "\\\udbff", 1),
            (rb"\\ud800\ud83d\ude00", "\\ud800\U0001f600", 1),
            (rb"\\ud83d\ude00", "\\ud83d\ude00", 1),
            (rb"\ud83d\ude00", "\U0001f600", 1),
            (rb"\ud83d\ude00" * 2000 + rb"\ud800", "\U0001f600" * 2000 + "\ud800", 2),
            (b"\xff", "\ufffd", 2),
        ],
        ids=str,
    )
    def test_a_text_is_read_a_few_times_at_most(
        self, end: bytes, value: str, most: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[int] = []

        def counted(read_text: Any) -> Any:
            def reads(text: Any, **options: Any) -> Any:
                read.append(len(text))
                return read_text(text, **options)

            return reads

        decoder = SimpleNamespace(decode=counted(msgspec.json.Decoder().decode))
        monkeypatch.setattr(json_codec, "DECODER", decoder)
        monkeypatch.setattr(json, "loads", counted(json.loads))
        data = b'{"a":[%b{}],"z":"%b"}' % (b"1," * 100_000, end)
        assert decode(data)["z"] == value
        assert sum(read) <= most * len(data) + 10

    @given(st.binary())
    def test_any_bytes_are_a_value_or_a_value_error(self, data: bytes) -> None:
        with contextlib.suppress(ValueError):
            decode(data)


class TestElements:
    @pytest.mark.parametrize(
        "values",
        [[], [1], [[], {}, "a,b]", None, -1.5, {"é": ["\\", '"']}], ["\ud800", "\U0001f600"]],
    )
    def test_elements_of_encoded_lists_are_found(self, values: list[Any]) -> None:
        text = encode(values)
        array, lengths = json_codec.elements(text)
        assert array == text
        assert lengths == [len(encode(value)) for value in values]

    @pytest.mark.parametrize("text", [b" [1, 2]", b"[ ]", b'\xef\xbb\xbf["a" ,"\xff"]'])
    def test_blanks_between_elements_are_left_out(self, text: bytes) -> None:
        values = decode(text)
        assert json_codec.elements(text) == (encode(values), [len(encode(v)) for v in values])

    @pytest.mark.parametrize("text", [b"{}", b"", b"[1", b"5", b"[" * 100_000])
    def test_text_that_is_no_list_is_refused(self, text: bytes) -> None:
        with pytest.raises(ValueError):
            json_codec.elements(text)
