"""Single values: the converters of the primitive types of the schema.

A *converter* is a function of one value. It returns the value itself if it is as it should be,
another value if it has one obvious meaning, or :data:`ABSENT` if the member is to be left out; it
raises a :class:`Misfit` for anything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from .. import json_codec

Converter: TypeAlias = Callable[[Any], Any]

#: A converter returns this for a value that is to be left out.
ABSENT: Final = object()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SAFE: Final = 2**53 - 1
# A longer text, in characters, is not parsed, because no date of ISO 8601 is as long.
_LONGEST_TIME: Final = 64
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")

# The roles are also accepted by these names, because other libraries use them.
_ROLES: Final = {
    "ai": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "AIMessageChunk": "assistant",
    "human": "user",
    "function": "tool",
}


class Misfit(Exception):
    """A value that is not what it needs to be.

    :param expected: what it needs to be, in words.
    :param found: what it is instead, in words.
    """

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found
        self.path: list[str | int] = []
        """The members and indices that lead to the value, from the inside out."""

    def located(self) -> str:
        """The path as JavaScript writes it: ``messages[0].role``."""
        steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path]
        return "".join(reversed(steps)).removeprefix(".")


def unlike(expected: str, value: object) -> Misfit:
    """The misfit of a value that has the wrong type, which is all that is told of it."""
    return Misfit(expected, f"got {type(value).__name__}")


def _string(value: Any) -> Any:
    if isinstance(value, str):
        return value
    raise unlike("a string", value)


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    raise unlike("a bool", value)


def _object(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    raise unlike("a dict", value)


def _anything(value: Any) -> Any:
    return value


def _value(value: Any) -> Any:
    """Any value; one like NaN counts as absent, because JSON has no form for it but null."""
    return ABSENT if isinstance(value, float) and not math.isfinite(value) else value


def _pointer(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("", "/") and not _BAD_ESCAPE.search(value):
        return value
    raise unlike("a JSON Pointer (RFC 6901)", value)


def _count(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SAFE:
        return value
    raise unlike("an integer from 0 to 2^53 - 1", value)


def _timestamp(value: Any) -> Any:
    """Milliseconds since 1970; the schemas have no other numbers.

    A time without a zone is in UTC.
    """
    try:
        if isinstance(value, float):
            value = round(value)
        elif isinstance(value, str) and len(value) <= _LONGEST_TIME:
            time = datetime.fromisoformat(value)
            since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
            value = since // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        pass  # The value is NaN, an infinity, or a text that is no date.
    if isinstance(value, int) and not isinstance(value, bool) and -_SAFE <= value <= _SAFE:
        return value
    raise unlike("milliseconds since 1970 as an integer", value)


def _code(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _string(value)


def _arguments(value: Any) -> Any:
    if isinstance(value, dict):
        with suppress(TypeError, ValueError):
            return json_codec.encode(value).decode()
    return _string(value)


ATOMS: Final[dict[str, Converter]] = {
    "string": _string,
    "boolean": _boolean,
    "object": _object,
    "pointer": _pointer,
    "count": _count,
    "integer": _timestamp,
    "number": _timestamp,
    "any": _anything,
    "value": _value,
}
# These members mean more than their type says, wherever the schema has them as a string.
NAMED: Final[dict[str, Converter]] = {"code": _code, "arguments": _arguments}
_TEXT: Final = frozenset({str})
_JSON: Final = frozenset({str, int, float, bool, dict, list})
AS_THEY_ARE: Final[dict[Converter, frozenset[type]]] = {
    _string: _TEXT,
    _code: _TEXT,
    _arguments: _TEXT,
    _anything: _JSON,
    _value: _JSON - {float},
}
"""The types of values that a converter returns as they are, so that it need not be called."""


def choice(values: tuple[str, ...]) -> Converter:
    """The converter of one of some strings."""
    quoted = [f"'{value}'" for value in values]
    expected = quoted[0] if len(quoted) == 1 else f"one of {', '.join(quoted)}"

    def convert(value: Any) -> Any:
        if isinstance(value, str) and value in values:
            return value
        raise _not_one_of(expected, value)

    return convert


def _not_one_of(expected: str, value: object) -> Misfit:
    if not isinstance(value, str):
        return unlike(expected, value)
    if value in _ROLES:
        return Misfit(expected, f"got '{value}', which AG-UI calls '{_ROLES[value]}'")
    return Misfit(expected, "got another string")
