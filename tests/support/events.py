"""Events made from the schema of the core, for tests that need one of each type."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sansio_copilot.events.client_schemas import (
    Atom,
    ListOf,
    Literals,
    Lowered,
    Record,
    RecordUnion,
    TextOrList,
    Type,
    read_by_both,
)

_EVENT = read_by_both("Event")
assert isinstance(_EVENT, RecordUnion)
RECORDS: dict[str, Record] = _EVENT.variants
TYPES = sorted(RECORDS)
# Each type is mapped to the string members that it requires, without those that are filled in.
TEXT_FIELDS: dict[str, tuple[str, ...]] = {
    type_: tuple(
        name
        for name, field in record.fields.items()
        if name in record.required
        and isinstance(field, Atom | Lowered)
        and getattr(field, "name", "string") == "string"
        and (type_, name) not in {("RUN_FINISHED", "threadId"), ("RUN_FINISHED", "runId")}
    )
    for type_, record in RECORDS.items()
}


_ATOMS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "any": lambda value: True,
    "value": lambda value: value is not None,
    "number": lambda value: type(value) in (int, float),
    "integer": lambda value: type(value) is int and abs(value) < 2**53,
    "count": lambda value: type(value) is int and 0 <= value < 2**53,
    "pointer": lambda value: (
        isinstance(value, str) and re.fullmatch("(/([^/~]|~[01])*)*", value) is not None
    ),
}


def fits(type_: Type, value: Any) -> bool:
    """Return whether a client with this schema reads ``value``, which is parsed JSON."""
    match type_:
        case Atom():
            return _ATOMS[type_.name](value)
        case Literals():
            return value in type_.values
        case ListOf():
            return (
                isinstance(value, list)
                and (bool(value) or not type_.filled)
                and all(fits(type_.element, item) for item in value)
            )
        case TextOrList() | Lowered():
            return isinstance(value, str) or fits(type_.parts, value)
        case Record():
            return (
                isinstance(value, dict)
                and type_.required <= value.keys()
                and (value.keys() <= type_.fields.keys() or not type_.closed)
                and all(
                    fits(field, value[name])
                    for name, field in type_.fields.items()
                    if name in value
                )
            )
        case RecordUnion():
            kind = value.get(type_.discriminator) if isinstance(value, dict) else None
            if kind == "binary" and kind not in type_.variants:
                # The part fits, because the runtime upgrades it or leaves it out.
                return True
            return kind in type_.variants and fits(type_.variants[kind], value)


def sample(type_: Type, *, whole: bool = False) -> Any:
    """The smallest value of a type of the schema; with ``whole`` one that has every member."""
    match type_:
        case Atom():
            values = {"string": "x", "boolean": False, "object": {}, "pointer": "/x"}
            return values.get(type_.name, 1)
        case Literals():
            return type_.values[0]
        case ListOf():
            return [sample(type_.element, whole=whole)] if type_.filled or whole else []
        case TextOrList():
            return sample(type_.parts, whole=True) if whole else "x"
        case Lowered():
            return "x"
        case Record():
            return {
                name: sample(field, whole=whole)
                for name, field in type_.fields.items()
                if whole or name in type_.required
            }
        case RecordUnion():
            variants = list(type_.variants.values())
            return sample(variants[-1 if whole else 0], whole=whole)


def well_formed(type_: str, *, whole: bool = False) -> dict[str, Any]:
    """The smallest event of a type; with ``whole`` one that has every member."""
    event = sample(RECORDS[type_], whole=whole)
    assert isinstance(event, dict)
    return event


def nested(levels: int) -> Any:
    """A value of so many levels, for a member that takes any."""
    value: Any = 0
    for _ in range(levels):
        value = {"a": value}
    return value
