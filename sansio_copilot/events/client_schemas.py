"""From the clients' schemas to the one that both generations read.

:mod:`.client_schema_texts` has a text for each generation. This module parses both texts, and
*meets* them: a type of the result requires the members that one of the generations requires, and
takes the values that both take. Where a generation has a form of its own, :data:`_UPGRADED` and
:class:`Lowered` say what becomes of that form.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import attrs

from .client_schema_texts import V0_0_59, V1_0_0


@attrs.frozen
class Atom:
    """``string``, ``integer`` and the like."""

    name: str


@attrs.frozen
class Literals:
    """A string of a fixed set."""

    values: tuple[str, ...]


@attrs.frozen(eq=False)
class ListOf:
    element: Type
    filled: bool = False


@attrs.frozen(eq=False)
class Record:
    """An object with these members.

    :param closed: whether a member that is not among them is refused, or else ignored.
    """

    name: str
    fields: dict[str, Type]
    required: frozenset[str]
    closed: bool = False


@attrs.frozen(eq=False)
class RecordUnion:
    """A record of one of several kinds.

    :param discriminator: the name of the member whose value tells the kind.
    :param variants: the record of each kind.
    :param lost: values of the discriminator that one generation has and the other refuses.
    """

    discriminator: str
    variants: dict[str, Record]
    lost: frozenset[str] = frozenset()


@attrs.frozen(eq=False)
class TextOrList:
    parts: ListOf


@attrs.frozen(eq=False)
class Lowered:
    """A text, or parts that are sent as their text, because one generation reads only text."""

    parts: ListOf


Type: TypeAlias = Atom | Literals | ListOf | Record | RecordUnion | TextOrList | Lowered

# The schema of 1.0.0 does not have these forms of 0.0.59, but its client upgrades them before it
# checks them (``compatibility-boundary.ts``); the runtime upgrades the events too, see
# ``thinking``.
_UPGRADED: Final = frozenset(
    {
        "binary",
        "THINKING_START",
        "THINKING_END",
        "THINKING_TEXT_MESSAGE_START",
        "THINKING_TEXT_MESSAGE_CONTENT",
        "THINKING_TEXT_MESSAGE_END",
    }
)
_DEFINITION: Final = re.compile(r"^(\w+) = (.*(?:\n .*)*)", re.MULTILINE)
_NARROWER: Final = {("number", "integer"): "integer", ("any", "value"): "value"}


class Schemas:
    """The schemas of one generation, by name."""

    def __init__(self, text: str) -> None:
        self._definitions = {
            name: " ".join(definition.split()) for name, definition in _DEFINITION.findall(text)
        }
        self._types: dict[str, Record | RecordUnion] = {}

    def __getitem__(self, name: str) -> Record | RecordUnion:
        if name not in self._types:
            self._types[name] = self._define(name, self._definitions[name])
        return self._types[name]

    def _define(self, name: str, text: str) -> Record | RecordUnion:
        if text.startswith("by "):
            discriminator, _, names = text.removeprefix("by ").partition(": ")
            variants = {}
            for variant in map(self.__getitem__, names.split(" | ")):
                assert isinstance(variant, Record)
                value = variant.fields[discriminator]
                assert isinstance(value, Literals)
                variants[value.values[0]] = variant
            return RecordUnion(discriminator, variants)
        closed, _, members = text.partition("{ ")
        fields: dict[str, Type] = {}
        required: set[str] = set()
        for member in members.removesuffix(" }").split("; "):
            if member.startswith("..."):
                base = self[member.removeprefix("...")]
                assert isinstance(base, Record)
                fields |= base.fields
                required |= base.required
                continue
            field, _, type_ = member.partition(": ")
            fields[field.removesuffix("?")] = self._type(type_)
            if not field.endswith("?"):
                required.add(field)
        return Record(name, fields, frozenset(required), bool(closed))

    def _type(self, text: str) -> Type:
        alternatives = text.split(" | ")
        if text.startswith('"'):
            return Literals(tuple(alternative.strip('"') for alternative in alternatives))
        if len(alternatives) > 1:
            _, parts = map(self._type, alternatives)
            assert isinstance(parts, ListOf)
            return TextOrList(parts)
        if text.endswith("[]+"):
            return ListOf(self._type(text.removesuffix("[]+")), filled=True)
        if text.endswith("[]"):
            return ListOf(self._type(text.removesuffix("[]")))
        return self[text] if text in self._definitions else Atom(text)


class Meeting:
    """Finds the type that two generations both read."""

    def __init__(self) -> None:
        self._met: dict[tuple[int, int], Type] = {}

    def __call__(self, one: Type, other: Type) -> Type:
        # A type is met once and remembered, because it stands in many places.
        key = id(one), id(other)
        if key not in self._met:
            self._met[key] = self._meet(one, other)
        return self._met[key]

    def _meet(self, one: Type, other: Type) -> Type:
        if one == other:
            return one
        for this, that in ((one, other), (other, one)):
            if isinstance(this, Atom):
                if isinstance(that, Atom) and (narrower := _NARROWER.get((this.name, that.name))):
                    return Atom(narrower)
                if this.name == "any" and not isinstance(that, Atom):
                    return that
                if this.name == "string" and isinstance(that, TextOrList):
                    return Lowered(that.parts)
        match one, other:
            case ListOf(), ListOf():
                return ListOf(self(one.element, other.element), one.filled or other.filled)
            case TextOrList(), TextOrList():
                parts = self(one.parts, other.parts)
                assert isinstance(parts, ListOf)
                return TextOrList(parts)
            case Record(), Record():
                return self._record(one, other)
            case RecordUnion(), RecordUnion():
                return self._union(one, other)
        raise TypeError(f"nothing is both {one} and {other}")

    def _record(self, one: Record, other: Record) -> Record:
        fields = {}
        for name in {**one.fields, **other.fields}:
            types = [record.fields[name] for record in (one, other) if name in record.fields]
            if len(types) == 2:
                fields[name] = self(*types)
            elif not (one.closed or other.closed):
                fields[name] = types[0]
        return Record(other.name, fields, one.required | other.required, one.closed or other.closed)

    def _union(self, one: RecordUnion, other: RecordUnion) -> RecordUnion:
        variants = {}
        lost = set()
        for kind in {**one.variants, **other.variants}:
            found = [union.variants[kind] for union in (one, other) if kind in union.variants]
            if len(found) == 2:
                variants[kind] = self._variant(*found)
            elif kind in _UPGRADED:
                variants[kind] = found[0]
            else:
                lost.add(kind)
        return RecordUnion(other.discriminator, variants, frozenset(lost))

    def _variant(self, one: Record, other: Record) -> Record:
        variant = self(one, other)
        assert isinstance(variant, Record)
        return variant


def read_by_both(name: str) -> Record | RecordUnion:
    """The type that both generations read under the definition called ``name``."""
    met = Meeting()(Schemas(V0_0_59)[name], Schemas(V1_0_0)[name])
    assert isinstance(met, Record | RecordUnion)
    return met
