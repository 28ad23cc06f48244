"""The shape of a run's input, as data, and the walk that checks it.

The walk comes before pydantic's validation, which collects every problem of each element and
reports each branch of a union, so that a body of a million wrong elements would be answered with a
million problems. The walk ends with the first few problems, and their text has a fixed upper size,
because it names members of the protocol, positions and JSON types, and quotes nothing of the body.

The walk also leaves out the members that are not the protocol's, and null where it stands for
absence.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs
from msgspec import Struct

MAX_DEPTH: Final = 200
"""Levels of objects and arrays in which a request's body may be nested.

No state that was made on purpose has so many, and no code that walks the body later, here or in an
agent, runs out of stack with so few.
"""
STATE_DEPTH: Final = MAX_DEPTH - 1
"""Levels that the state may have, because it stands in a body."""
ACTIVITY_DEPTH: Final = MAX_DEPTH - 3
"""Levels that an activity's content may have; it stands in a message, in an array, in a body."""
MAX_PROBLEMS: Final = 5
"""The number of problems after which the walk ends, because they show the pattern of a mistake."""

MAX_ID: Final = 1024
"""Characters that the id of a thread or run may have.

Ids are bounded because they are keys of stores and stand in responses and log lines; no client
makes one of more than a hundred.
"""

_CONTAINERS = frozenset({dict, list})
_NAMES: Mapping[type, str] = {
    type(None): "nothing",
    bool: "a boolean",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def json_type(value: object) -> str:
    """The name of the type of ``value`` in JSON; null is "nothing"."""
    return _NAMES.get(type(value), "a number")


class TooDeep(Exception):
    """The value is nested deeper than :data:`MAX_DEPTH`."""


class Walk(Struct, eq=False):
    """The walk through a value that is being checked.

    :param problems: the problems in words, with the expected type and the type that was received.
    :param unchecked: how many elements of lists came behind the last problem.
    :param path: the members and positions that lead to the part that is checked now.
    """

    problems: list[str] = []
    unchecked: int = 0
    path: list[str | int] = []

    def refuse(self, expected: str, value: object) -> None:
        """Note that ``value``, at the path, should have been something else."""
        self.note(f"expected {expected}, received {json_type(value)}")

    def note(self, problem: str) -> None:
        """Note a problem at the path."""
        path = ".".join(map(str, self.path))
        self.problems.append(f"{path}: {problem}" if path else problem)

    @property
    def details(self) -> str:
        """The problems as one text of a bounded size."""
        told = "; ".join(self.problems[:MAX_PROBLEMS])
        if not self.unchecked and len(self.problems) <= MAX_PROBLEMS:
            return told
        return f"{told}; and more: validation ended there, {self.unchecked} elements are unchecked"


class ValueKind(abc.ABC):
    """The kind of value that a member holds."""

    @property
    def expected(self) -> str:
        """Its name in a problem, where something else was received."""
        return "an object"

    null: ClassVar[bool] = False
    """Whether null is a value; otherwise it is the same as absence."""
    longest: float = -math.inf
    """The most characters of a string that is taken as it is."""
    blank: ClassVar[frozenset[type]] = frozenset()
    """The types of containers that are taken as they are when they are empty."""

    @abc.abstractmethod
    def read(self, value: Any, walk: Walk) -> Any:
        """``value`` in the form in which it goes on; its problems are noted in ``walk``."""


@attrs.frozen
class Text(ValueKind):
    """A string.

    :param longest: characters that it may have.
    """

    longest: float = math.inf

    @property
    def expected(self) -> str:
        """Its name in a problem."""
        return "a string"

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) is not str:
            walk.refuse(self.expected, value)
        elif len(value) > self.longest:
            walk.note(f"expected at most {self.longest} characters, received {len(value)}")
        return value


@attrs.frozen
class Enumeration(ValueKind):
    """A string of a fixed set."""

    choices: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The values that are allowed, in the words of a problem."""
        return ("one of " if len(self.choices) > 1 else "") + ", ".join(map(repr, self.choices))

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) is not str:
            walk.refuse(self.expected, value)
        elif value not in self.choices:
            walk.note(f"expected {self.expected}, received another string")
        return value


@attrs.frozen
class Anything(ValueKind):
    """Any JSON value; only its depth is checked."""

    longest = math.inf
    blank = _CONTAINERS

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) in _CONTAINERS and _depth_exceeds(value, MAX_DEPTH - len(walk.path)):
            raise TooDeep
        return value


@attrs.frozen
class AnyValue(Anything):
    """Any JSON value, and null is one too."""

    null = True


@attrs.frozen
class Map(ValueKind):
    """An object with any members."""

    blank = frozenset({dict})

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) is not dict:
            walk.refuse(self.expected, value)
        return ANYTHING.read(value, walk)


@attrs.frozen
class Object(ValueKind):
    """An object with members that are known; others are left out.

    :param members: the kind of each member.
    :param required: the members that must be there.
    :param one_of: members of which one must be there and hold something; may be empty.
    """

    members: Mapping[str, ValueKind]
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) is not dict:
            walk.refuse(self.expected, value)
            return value
        known: dict[str, Any] = {}
        kind_of = self.members.get
        path = walk.path
        for name, member in value.items():
            kind = kind_of(name)
            if kind is None or (member is None and not kind.null):
                continue
            type_ = type(member)
            if len(member) <= kind.longest if type_ is str else not member and type_ in kind.blank:
                # The member is taken as it is, as nearly all are, because it has no parts to read.
                known[name] = member
                continue
            path.append(name)
            known[name] = kind.read(member, walk)
            path.pop()
        for name in self.required:
            if name not in known:
                path.append(name)
                walk.refuse(self.members[name].expected, None)
                path.pop()
        if self.one_of and not any(map(known.get, self.one_of)):
            walk.note(f"expected {', '.join(self.one_of[:-1])} or {self.one_of[-1]}")
        return known


@attrs.frozen
class Variants(ValueKind):
    """An object whose shape depends on the value of one member.

    :param discriminator: the name of that member.
    :param shapes: the shapes, by the value of that member.
    """

    discriminator: str
    shapes: Mapping[str, Object]

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) is not dict:
            walk.refuse(self.expected, value)
            return value
        kind = value.get(self.discriminator)
        shape = self.shapes.get(kind) if type(kind) is str else None
        if shape is None:
            walk.path.append(self.discriminator)
            Enumeration(tuple(self.shapes)).read(kind, walk)
            walk.path.pop()
            return value
        return shape.read(value, walk)


@attrs.frozen
class List(ValueKind):
    """An array of elements of one kind.

    :param element: the kind of its elements.
    :param longest: characters of a string that may stand in its place.
    """

    element: ValueKind
    longest: float = attrs.field(default=-math.inf, kw_only=True)
    blank = frozenset({list})

    @property
    def expected(self) -> str:
        """Its name in a problem."""
        return "a string or an array" if self.longest > 0 else "an array"

    def read(self, value: Any, walk: Walk) -> Any:
        if type(value) is not list:
            walk.refuse(self.expected, value)
            return value
        known = []
        path = walk.path
        path.append(0)
        for position, element in enumerate(value):
            path[-1] = position
            known.append(self.element.read(element, walk))
            if len(walk.problems) >= MAX_PROBLEMS:
                walk.unchecked += len(value) - position - 1
                break
        path.pop()
        return known


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return False
    return True


# --- The shapes (AG-UI 1.0, RunAgentInput) ------------------------------------------------------

TEXT: Final = Text()
ID: Final = Text(MAX_ID)
MAP: Final = Map()
ANYTHING: Final = Anything()
VALUE: Final = AnyValue()


def _texts(names: str) -> dict[str, ValueKind]:
    return dict.fromkeys(names.split(), TEXT)


def _source(kind: str, required: str, optional: str = "") -> Object:
    members = {"type": Enumeration((kind,)), **_texts(f"{required} {optional}")}
    return Object(members, tuple(required.split()))


_SOURCE = Variants(
    "type",
    {
        "data": _source("data", "value mimeType"),
        "url": _source("url", "value", "mimeType"),
        "file": _source("file", "value", "provider mimeType"),
    },
)
_MEDIA = Object({**_texts("type id"), "source": _SOURCE, "metadata": VALUE}, ("source",))
_PART = Variants(
    "type",
    {
        "text": Object({**_texts("type id text"), "metadata": VALUE}, ("text",)),
        **dict.fromkeys(("image", "audio", "video", "document"), _MEDIA),
        # This part is accepted, although AG-UI 1.0 has dropped it, because CopilotKit's client
        # still sends it for attachments.
        "binary": Object(
            {**_texts("type mimeType data url id filename"), "metadata": VALUE},
            ("mimeType",),
            ("data", "url", "id"),
        ),
    },
)
_CALL = Object(
    {
        **_texts("id encryptedValue"),
        "type": Enumeration(("function",)),
        "function": Object(_texts("name arguments"), ("name", "arguments")),
        "metadata": MAP,
    },
    ("id", "function"),
)


def _message(required: str, optional: str = "", **others: ValueKind) -> Object:
    common = _texts(f"id role subagentRunId {required} {optional}")
    return Object({**common, "metadata": MAP, **others}, ("id", *required.split()))


_MESSAGE = Variants(
    "role",
    {
        "developer": _message("content", "name encryptedValue"),
        "system": _message("content", "name encryptedValue"),
        "assistant": _message("", "content name encryptedValue", toolCalls=List(_CALL)),
        "user": _message("content", "name encryptedValue", content=List(_PART, longest=math.inf)),
        "tool": _message(
            "content toolCallId", "error encryptedValue", content=List(_PART, longest=math.inf)
        ),
        "activity": _message("activityType content", content=MAP),
        "reasoning": _message("content", "encryptedValue"),
    },
)
_TOOL = Object(
    {**_texts("name description"), "parameters": VALUE, "metadata": MAP}, ("name", "description")
)
_CONTEXT = Object(_texts("description value"), ("description", "value"))
_ANSWER = Object(
    {
        "interruptId": TEXT,
        "status": Enumeration(("resolved", "cancelled")),
        "payload": VALUE,
        "metadata": MAP,
    },
    ("interruptId", "status"),
)

RUN_INPUT: Final = Object(
    {
        "threadId": ID,
        "runId": ID,
        "parentRunId": ID,
        "state": ANYTHING,
        "messages": List(_MESSAGE),
        "tools": List(_TOOL),
        "context": List(_CONTEXT),
        "forwardedProps": VALUE,
        "resume": List(_ANSWER),
    },
    ("threadId", "runId", "messages", "tools", "context"),
)
"""The body of run, connect and suggest."""
