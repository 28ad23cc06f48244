"""The check at the edge: an event gets the form that every supported client reads, or is refused.

One rule holds for all types of events, and for the input of a run, which RUN_STARTED repeats to
other readers. A member that has one obvious meaning is put right:

- null, where a member may be absent, is absence, at any depth;
- a member that can say one thing only, or has a default, and is missing, is filled in;
- a ``timestamp`` that is a float or an ISO 8601 string becomes an integer of milliseconds, a
  number in ``code`` becomes text, and an object in ``arguments`` becomes the JSON text that it is;
- a form that one generation of clients cannot read is lowered, as AG-UI's rules for older peers
  have it: the parts of a tool's result become their text, a file that only its provider can read
  becomes a ``binary`` part, and an outcome that 0.0.59 does not know is left out.

Anything else is an :class:`EventError` that names the member, what it needs to be, and its type; it
never quotes the value, which may be private or huge. Members that the schema does not have pass
through where both generations ignore them.

The schema (:mod:`.client_schemas`) is compiled once, into one converter for each type. A converter
returns the value that it is given if nothing is to be changed, and a changed copy otherwise, so
that an event that is in order costs no copy, and no event is ever changed. The cost is linear in
the parts that the schema describes; state, metadata and the like are not walked."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from .client_schemas import (
    Atom,
    ListOf,
    Literals,
    Record,
    RecordUnion,
    TextOrList,
    Type,
    read_by_both,
)
from .converters import ABSENT, AS_THEY_ARE, ATOMS, NAMED, Converter, Misfit, choice, unlike
from .json_values import copy_json
from .types import Event, EventError

_UPPER: Final = re.compile(r"(?<!^)([A-Z])")

# If these members of a record are missing, they are filled in with these values.
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "TextMessageStartEvent": {"role": "assistant"},
    "CustomEvent": {"value": None},
    "RawEvent": {"event": None},
    "RunAgentInput": {"tools": [], "context": []},
}
# These members may be missing, because the runtime adds them to a RUN_FINISHED without them.
_ADDED_LATER: Final = {"RunFinishedEvent": frozenset({"threadId", "runId"})}


_as_they_are = dict(AS_THEY_ARE)

# -- types that consist of others ----------------------------------------------------------


class _RecordConverter:
    """The converter of one kind of object."""

    __slots__ = (
        *("_as_they_are", "_closed", "_defaults", "_fields", "_may_be_empty", "_optional"),
        *("_required", "_said", "_snake"),
    )

    def __init__(self, record: Record) -> None:
        later = _ADDED_LATER.get(record.name, frozenset())
        self._closed = record.closed
        self._fields = {name: _converter(type_) for name, type_ in record.fields.items()}
        self._defaults = dict(_DEFAULTS.get(record.name, ()))
        said_by_itself = set()
        # The set has each choice that a member allows, so that a look-up spares the member's check.
        self._said: set[tuple[str, str]] = set()
        for name, type_ in record.fields.items():
            if type_ == Atom("string") and name in NAMED:
                self._fields[name] = NAMED[name]
            if isinstance(type_, Literals):
                self._said.update((name, value) for value in type_.values)
                if len(type_.values) == 1 and name in record.required:
                    self._defaults[name] = type_.values[0]
                    said_by_itself.add(name)
        self._as_they_are = {
            name: types
            for name, field in self._fields.items()
            if (types := _as_they_are.get(field)) is not None
        }
        self._may_be_empty = {
            name
            for name, type_ in record.fields.items()
            if isinstance(type_, ListOf) and not type_.filled
        }
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
            raise unlike("a dict", value)
        changed: dict[str, Any] | None = None
        fields, as_they_are = self._fields, self._as_they_are
        for name, item in value.items():
            type_ = type(item)
            if (
                type_ in as_they_are.get(name, ())
                or (type_ is str and (name, item) in self._said)
                or (type_ is list and not item and name in self._may_be_empty)
            ):
                # The member is as it should be, as nearly all are, so nothing has to be put right.
                continue
            field = fields.get(name)
            if field is None:
                if name in self._snake and item is not None:
                    raise self._missing(self._snake[name], value)
                if not self._closed:
                    continue
                converted = ABSENT
            elif item is None and name in self._optional:
                converted = ABSENT
            else:
                try:
                    converted = field(item)
                except Misfit as misfit:
                    misfit.path.append(name)
                    raise
                if converted is item:
                    continue
            if changed is None:
                changed = dict(value)
            if converted is ABSENT:
                del changed[name]
            else:
                changed[name] = converted
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


def _union(union: RecordUnion) -> Converter:
    variants = {kind: _converter(record) for kind, record in union.variants.items()}
    # A variant that has no other required member may be given as the discriminator's value alone.
    bare = {
        kind
        for kind, record in union.variants.items()
        if record.required == frozenset({union.discriminator})
    }
    kind_of = choice(tuple(variants))

    def convert(value: Any) -> Any:
        if isinstance(value, str) and value in bare:
            return {union.discriminator: value}
        if not isinstance(value, dict):
            raise unlike("a dict", value)
        kind = value.get(union.discriminator)
        if isinstance(kind, str):
            if kind in variants:
                return variants[kind](value)
            if kind in union.lost:
                return ABSENT
        try:
            kind_of(kind)
        except Misfit as misfit:
            if union.discriminator not in value:
                misfit.found = "but it is missing"
            misfit.path.append(union.discriminator)
            raise
        raise AssertionError("an unknown kind was converted")  # pragma: no cover

    return convert


def _list_of(element: Converter, *, filled: bool = False) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise unlike("a list", value)
        if filled and not value:
            raise Misfit("a list of at least one", "got an empty one")
        whole = value if isinstance(value, list) else list(value)
        changed: list[Any] | None = None
        for index, item in enumerate(value):
            try:
                converted = element(item)
            except Misfit as misfit:
                misfit.path.append(index)
                raise
            if converted is not item:
                if changed is None:
                    changed = list(value)
                changed[index] = converted
        return whole if changed is None else changed

    return convert


def _text_or_list(parts: ListOf) -> Converter:
    of_union = _converter(parts.element)

    def part(value: Any) -> Any:
        converted = of_union(_file_as_binary(value))
        if converted["type"] == "binary" and not any(map(converted.get, ("id", "url", "data"))):
            misfit = Misfit("there, or 'url' or 'data'", "but none is")
            misfit.path.append("id")
            raise misfit
        return converted

    convert_parts = _list_of(part)
    return _text_or("a string or a list", convert_parts)


def _text_or(expected: str, convert_parts: Converter) -> Converter:
    """The converter of a text, or of parts in its place."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple):
            return convert_parts(value)
        raise unlike(expected, value)

    _as_they_are[convert] = frozenset({str})
    return convert


def _file_as_binary(part: Any) -> Any:
    """Return the part for a file that its provider keeps as 0.0.59 has it; 1.0.0 lacks the form."""
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


def _lowered(parts: ListOf) -> Converter:
    convert_parts = _list_of(_converter(parts.element))

    def joined(value: Any) -> str:
        return "".join(part["text"] for part in convert_parts(value) if part["type"] == "text")

    return _text_or("a string or a list of parts", joined)


def _moving(operation: Converter) -> Converter:
    """The converter of a ``move`` of JSON Patch, which moves nothing into itself.

    A client does not check that. It makes a document that contains itself, and hangs.

    Source: RFC 6902 section 4.4.
    """

    def convert(value: Any) -> Any:
        converted = operation(value)
        if converted["path"].startswith(f"{converted['from']}/"):
            misfit = Misfit("a place outside of 'from'", "got one inside of it")
            misfit.path.append("path")
            raise misfit
        return converted

    return convert


_converters: dict[int, Converter] = {}


def _converter(type_: Type) -> Converter:
    # The converter of a type is made once and found by the id of the type, because a type stands in
    # many places. No other object can get that id, because the union of all events keeps every type
    # alive.
    convert = _converters.get(id(type_))
    if convert is None:
        convert = _converters[id(type_)] = _make_converter(type_)
    return convert


def _make_converter(type_: Type) -> Converter:
    match type_:
        case Atom():
            return ATOMS[type_.name]
        case Literals():
            return choice(type_.values)
        case ListOf():
            return _list_of(_converter(type_.element), filled=type_.filled)
        case Record():
            convert = _RecordConverter(type_)
            return _moving(convert) if type_.name == "MoveOperation" else convert
        case RecordUnion():
            return _union(type_)
        case TextOrList():
            return _text_or_list(type_.parts)
        case _:
            return _lowered(type_.parts)


# -- whole events --------------------------------------------------------------------------

_EVENT: Final = read_by_both("Event")
assert isinstance(_EVENT, RecordUnion)
EVENTS: Final = {type_: _converter(record) for type_, record in _EVENT.variants.items()}
"""The converter of each type of event, which raises :class:`~.converters.Misfit`."""
_INPUT: Final = _converter(_EVENT.variants["RUN_STARTED"].fields["input"])
KNOWN_TYPES: Final = frozenset(EVENTS)


def nearest_type(unknown: str) -> str | None:
    """The event type that ``unknown`` was most likely meant to be; None if it is like no type.

    :param unknown: a short text, because the comparison takes time that grows with its length.
    """
    names = {name.replace("_", ""): name for name in KNOWN_TYPES}
    letters = "".join(filter(str.isalnum, unknown)).upper()
    near = difflib.get_close_matches(letters, names, 1)
    return names[near[0]] if near else None


def normalize_event(event: Any) -> Event | None:
    """``event`` in the form that every supported client reads.

    :param event: an event of an agent, as a dict; it is not changed.
    :returns: the same dict, if it has that form already, or a changed copy. None if the type is not
        one of AG-UI's, so that the event is to be dropped, as the reference does.
    :raises EventError: if it is not a dict with a ``type``, or a member is missing or wrong. Its
        text has a bounded size, and quotes no value.
    """
    if not isinstance(event, dict):
        raise EventError(f"an event needs to be a dict, got {type(event).__name__}")
    type_ = event.get("type")
    if not isinstance(type_, str):
        found = f"got {type(type_).__name__}" if "type" in event else "but it is missing"
        raise EventError(f"an event needs 'type' to be a string, {found}")
    convert = EVENTS.get(type_)
    if convert is None:
        return None
    try:
        normal: Event = convert(event)
    except Misfit as misfit:
        raise EventError(
            f"{type_} needs '{misfit.located()}' to be {misfit.expected}, {misfit.found}"
        ) from None
    return normal


def normalize_input(run_input: dict[str, Any]) -> dict[str, Any]:
    """A RunAgentInput, as JSON, in the form in which every supported client reads it.

    :param run_input: the JSON that a client sent; it is not changed.
    :raises EventError: if a member is missing or wrong.
    """
    try:
        normal: dict[str, Any] = _INPUT(run_input)
    except Misfit as misfit:
        raise EventError(
            f"{misfit.located()}: expected {misfit.expected}, {misfit.found}"
        ) from None
    return normal
