"""The check at the edge: an event gets the form that every supported client reads, or is refused.

One rule holds for all types of events, and for what a client sent and other readers are told. What
has one obvious meaning is put right:

- null, where a member may be absent, is absence, at any depth;
- a member that can say one thing only, or has a default, and is missing, is filled in;
- a ``timestamp`` that is a float or an ISO 8601 string becomes an integer of milliseconds, a
  number in ``code`` becomes text, and an object in ``arguments`` becomes the JSON text that it is;
- what one generation of clients cannot read is lowered, as AG-UI's rules for older peers have it:
  the parts of a tool's result to their text, a file that only its provider can read to a
  ``binary`` part, an outcome that 0.0.59 does not know to none.

Anything else is an :class:`EventError` that says which member, what it needs to be, and of what
type it was; never what it was, which may be private or huge. Members that the schema does not
have pass through where both generations ignore them.

The cost is linear in what is looked at, which is what the schema describes: state, metadata and
the like are not walked. Nothing that is given is changed, and what needs no change is returned
as it is.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .. import json_codec
from .schema import Atom, Choice, ListOf, Record, Tagged, TextOrList, Type, read_by_both
from .types import Event, EventError
from .values import copy_json

Take = Callable[[Any], Any]

_ABSENT: Final = object()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SAFE: Final = 2**53 - 1
_LONGEST_TIME: Final = 64  # characters; no ISO 8601 date is as long
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_UPPER: Final = re.compile(r"(?<!^)([A-Z])")

# Members that are missing, by record, and what that means.
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "TextMessageStartEvent": {"role": "assistant"},
    "CustomEvent": {"value": None},
    "RawEvent": {"event": None},
    "RunAgentInput": {"tools": [], "context": []},
}
# What the runtime adds to a RUN_FINISHED that does not say it.
_ADDED_LATER: Final = {"RunFinishedEvent": frozenset({"threadId", "runId"})}
# What other libraries call the roles.
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

    :param expected: that, in words.
    :param found: what is there instead.
    """

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found
        self.path: list[str | int] = []
        """Where it is: the members and indices from the inside out."""

    def located(self) -> str:
        """The path as JavaScript writes it: ``messages[0].role``."""
        steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path]
        return "".join(reversed(steps)).removeprefix(".")


def _unlike(expected: str, value: object) -> Misfit:
    return Misfit(expected, f"got {type(value).__name__}")


# -- single values -------------------------------------------------------------------------


def _string(value: Any) -> Any:
    if isinstance(value, str):
        return value
    raise _unlike("a string", value)


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    raise _unlike("a bool", value)


def _object(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    raise _unlike("a dict", value)


def _anything(value: Any) -> Any:
    return value


def _value(value: Any) -> Any:
    """Anything but null, which is seen before; JSON has no other form for a number like NaN."""
    return _ABSENT if isinstance(value, float) and not math.isfinite(value) else value


def _pointer(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("", "/") and not _BAD_ESCAPE.search(value):
        return value
    raise _unlike("a JSON Pointer (RFC 6901)", value)


def _count(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SAFE:
        return value
    raise _unlike("an integer from 0 to 2^53 - 1", value)


def _timestamp(value: Any) -> Any:
    """Milliseconds since 1970, in UTC if a time names no zone: the schemas' only numbers."""
    try:
        if isinstance(value, float):
            value = round(value)
        elif isinstance(value, str) and len(value) <= _LONGEST_TIME:
            time = datetime.fromisoformat(value)
            since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
            value = since // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        pass  # NaN, an infinity, or another text
    if isinstance(value, int) and not isinstance(value, bool) and -_SAFE <= value <= _SAFE:
        return value
    raise _unlike("milliseconds since 1970 as an integer", value)


def _code(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _string(value)


def _arguments(value: Any) -> Any:
    if isinstance(value, dict):
        with suppress(TypeError, ValueError):
            return json_codec.encode(value).decode()
    return _string(value)


_ATOMS: Final[dict[str, Take]] = {
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
# Members that mean more than their type says, wherever they occur as a string.
_NAMED: Final[dict[str, Take]] = {"code": _code, "arguments": _arguments}


def _choice(values: tuple[str, ...]) -> Take:
    quoted = [f"'{value}'" for value in values]
    expected = quoted[0] if len(quoted) == 1 else f"one of {', '.join(quoted)}"

    def take(value: Any) -> Any:
        if isinstance(value, str) and value in values:
            return value
        raise _not_one_of(expected, value)

    return take


def _not_one_of(expected: str, value: object) -> Misfit:
    if not isinstance(value, str):
        return _unlike(expected, value)
    if value in _ROLES:
        return Misfit(expected, f"got '{value}', which AG-UI calls '{_ROLES[value]}'")
    return Misfit(expected, "got another string")


# -- what consists of others ---------------------------------------------------------------


class _Records:
    """Takes one kind of object."""

    __slots__ = ("_closed", "_defaults", "_fields", "_optional", "_required", "_said", "_snake")

    def __init__(self, record: Record) -> None:
        later = _ADDED_LATER.get(record.name, frozenset())
        self._closed = record.closed
        self._fields = {name: _taker(type_) for name, type_ in record.fields.items()}
        self._defaults = dict(_DEFAULTS.get(record.name, ()))
        said_by_itself = set()
        # The set has each choice that a member allows, so that a look-up spares the member's check.
        self._said: set[tuple[str, str]] = set()
        for name, type_ in record.fields.items():
            if type_ == Atom("string") and name in _NAMED:
                self._fields[name] = _NAMED[name]
            if isinstance(type_, Choice):
                self._said.update((name, value) for value in type_.values)
                if len(type_.values) == 1 and name in record.required:
                    self._defaults[name] = type_.values[0]
                    said_by_itself.add(name)
        self._required = tuple(
            name
            for name in record.fields
            if name in self._defaults or (name in record.required and name not in later)
        )
        self._optional = record.fields.keys() - record.required | later | said_by_itself
        self._snake = {
            _UPPER.sub(r"_\1", name).lower(): name for name in record.fields if name.lower() != name
        }

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise _unlike("a dict", value)
        changed: dict[str, Any] | None = None
        fields = self._fields
        for name, item in value.items():
            field = fields.get(name)
            if type(item) is str and (field is _string or (name, item) in self._said):
                # The member is as it should be, as nearly all are, so nothing has to be put right.
                continue
            if field is None:
                if name in self._snake and item is not None:
                    raise self._missing(self._snake[name], value)
                if not self._closed:
                    continue
                taken = _ABSENT
            elif item is None and name in self._optional:
                taken = _ABSENT
            else:
                try:
                    taken = field(item)
                except Misfit as misfit:
                    misfit.path.append(name)
                    raise
                if taken is item:
                    continue
            if changed is None:
                changed = dict(value)
            if taken is _ABSENT:
                del changed[name]
            else:
                changed[name] = taken
        whole = value if changed is None else changed
        for name in self._required:
            if name not in whole:
                if name not in self._defaults:
                    raise self._missing(name, whole)
                if changed is None:
                    whole = changed = dict(value)
                changed[name] = copy_json(self._defaults[name])
        return whole

    def _missing(self, name: str, value: dict[str, Any]) -> Misfit:
        snake = _UPPER.sub(r"_\1", name).lower()
        if snake in value and snake != name:
            found = f"but '{snake}' is there: AG-UI's JSON is in camelCase"
        else:
            found = "but it is missing"
        misfit = Misfit("any value", found)
        try:
            self._fields[name](None)
        except Misfit as wanted:
            misfit.expected = wanted.expected
        misfit.path.append(name)
        return misfit


def _tagged(union: Tagged) -> Take:
    variants = {tag: _taker(record) for tag, record in union.variants.items()}
    # Those that are all said by their tag may be given as no more than that.
    bare = {
        tag for tag, record in union.variants.items() if record.required == frozenset({union.tag})
    }
    tag_of = _choice(tuple(variants))

    def take(value: Any) -> Any:
        if isinstance(value, str) and value in bare:
            return {union.tag: value}
        if not isinstance(value, dict):
            raise _unlike("a dict", value)
        tag = value.get(union.tag)
        if isinstance(tag, str):
            if tag in variants:
                return variants[tag](value)
            if tag in union.lost:
                return _ABSENT
        try:
            tag_of(tag)
        except Misfit as misfit:
            if union.tag not in value:
                misfit.found = "but it is missing"
            misfit.path.append(union.tag)
            raise
        raise AssertionError("a tag that is none was taken")  # pragma: no cover

    return take


def _list_of(element: Take, *, filled: bool = False) -> Take:
    def take(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _unlike("a list", value)
        if filled and not value:
            raise Misfit("a list of at least one", "got an empty one")
        whole = value if isinstance(value, list) else list(value)
        changed: list[Any] | None = None
        for index, item in enumerate(value):
            try:
                taken = element(item)
            except Misfit as misfit:
                misfit.path.append(index)
                raise
            if taken is not item:
                if changed is None:
                    changed = list(value)
                changed[index] = taken
        return whole if changed is None else changed

    return take


def _text_or_list(parts: ListOf) -> Take:
    of_union = _taker(parts.element)

    def part(value: Any) -> Any:
        taken = of_union(_file_as_binary(value))
        if taken["type"] == "binary" and not any(map(taken.get, ("id", "url", "data"))):
            misfit = Misfit("there, or 'url' or 'data'", "but none is")
            misfit.path.append("id")
            raise misfit
        return taken

    take_parts = _list_of(part)

    def take(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple):
            return take_parts(value)
        raise _unlike("a string or a list", value)

    return take


def _file_as_binary(part: Any) -> Any:
    """A part whose bytes its provider has, as 0.0.59 says that; 1.0.0 leaves such a part out."""
    source = part.get("source") if isinstance(part, dict) else None
    if not isinstance(source, dict) or source.get("type") != "file":
        return part
    binary = {
        "type": "binary",
        "mimeType": source.get("mimeType") or "application/octet-stream",
        "id": source.get("value"),
    }
    metadata = part.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("filename"), str):
        binary["filename"] = metadata["filename"]
    return binary


def _lowered(parts: ListOf) -> Take:
    take_parts = _list_of(_taker(parts.element))

    def take(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple):
            return "".join(part["text"] for part in take_parts(value) if part["type"] == "text")
        raise _unlike("a string or a list of parts", value)

    return take


_takers: dict[int, Take] = {}


def _taker(type_: Type) -> Take:
    # Types stand in many places, and live as long as the union of all events.
    take = _takers.get(id(type_))
    if take is None:
        take = _takers[id(type_)] = _make_taker(type_)
    return take


def _make_taker(type_: Type) -> Take:
    match type_:
        case Atom():
            return _ATOMS[type_.name]
        case Choice():
            return _choice(type_.values)
        case ListOf():
            return _list_of(_taker(type_.element), filled=type_.filled)
        case Record():
            return _Records(type_)
        case Tagged():
            return _tagged(type_)
        case TextOrList():
            return _text_or_list(type_.parts)
        case _:
            return _lowered(type_.parts)


# -- the whole -----------------------------------------------------------------------------

_EVENT: Final = read_by_both("Event")
assert isinstance(_EVENT, Tagged)
_EVENTS: Final = {type_: _taker(record) for type_, record in _EVENT.variants.items()}
_INPUT: Final = _taker(_EVENT.variants["RUN_STARTED"].fields["input"])
KNOWN_TYPES: Final = frozenset(_EVENTS)


def nearest_type(unknown: str) -> str | None:
    """The event type that ``unknown`` was most likely meant to be; None if it is like none.

    :param unknown: a short text: the comparison takes time that grows with its length.
    """
    names = {name.replace("_", ""): name for name in KNOWN_TYPES}
    letters = "".join(filter(str.isalnum, unknown)).upper()
    near = difflib.get_close_matches(letters, names, 1)
    return names[near[0]] if near else None


def normalize_event(event: Any) -> Event | None:
    """``event`` in the form that every supported client reads.

    :param event: what an agent yielded, as a dict; it is not changed.
    :returns: the same dict, if it has that form already, or a changed copy. None if the type is not
        one of AG-UI's: the event is then to be dropped, as the reference does.
    :raises EventError: if it is not a dict with a ``type``, or a member is missing or wrong. Its
        text has a bounded size, and says nothing of what the event holds.
    """
    if not isinstance(event, dict):
        raise EventError(f"an event needs to be a dict, got {type(event).__name__}")
    type_ = event.get("type")
    if not isinstance(type_, str):
        found = f"got {type(type_).__name__}" if "type" in event else "but it is missing"
        raise EventError(f"an event needs 'type' to be a string, {found}")
    take = _EVENTS.get(type_)
    if take is None:
        return None
    try:
        normal: Event = take(event)
    except Misfit as misfit:
        raise EventError(
            f"{type_} needs '{misfit.located()}' to be {misfit.expected}, {misfit.found}"
        ) from None
    return normal


def normalize_input(run_input: dict[str, Any]) -> dict[str, Any]:
    """A RunAgentInput, as JSON, in the form in which every supported client reads it.

    :param run_input: what a client sent; it is not changed.
    :raises EventError: if a member is missing or wrong.
    """
    try:
        normal: dict[str, Any] = _INPUT(run_input)
    except Misfit as misfit:
        raise EventError(
            f"{misfit.located()}: expected {misfit.expected}, {misfit.found}"
        ) from None
    return normal
