"""JSON Patch (RFC 6902) over JSON Pointers (RFC 6901), within a budget.

A patch is small and may ask for much: a ``copy`` doubles its source, and thirty of them make a
gigabyte; an insertion at the front of a list moves all of it. So the bytes that an operation makes
or moves beyond its own text are charged to a :class:`PatchBudget`, before it is done. All other
work is linear in the text of the patch. A patch that fails is undone, which costs as much as the
operations before the failure.

The package ``jsonpatch`` cannot be kept within such bounds: its copies have no limit, it lists all
members of an object for each patch that removes one, and it writes the whole document into the text
of an error. The tests compare the two.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final

from msgspec import Struct

from .input_shape import STATE_DEPTH
from .json_values import copy_json, measure
from .types import EventError

# A list moves its elements thirty times as fast as a byte of small JSON values is copied.
_MOVED_FOR_A_BYTE: Final = 32
# An array or object takes as long to copy as this many bytes of small JSON values.
_CONTAINER_BYTES: Final = 16
DEFAULT_PATCH_BYTES: Final = 1024**2

_INDEX: Final = re.compile("0|[1-9][0-9]{0,17}")
_WRONG_ESCAPE: Final = re.compile("~(?![01])")
_GONE: Final = object()
# Each object of JavaScript inherits these members. A client finds them where a state has none of
# that name, and copies a function into the state, which it can neither copy again nor send.
_INHERITED: Final = frozenset(
    {
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
        *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable"),
        *("toLocaleString", "toString", "valueOf"),
    }
)
_MORE_NAMES: Final = (
    "anchor at big blink bold charAt charCodeAt codePointAt concat copyWithin endsWith "
    "entries every fill filter find findIndex findLast findLastIndex fixed flat flatMap "
    "fontcolor fontsize forEach includes indexOf isWellFormed italics join keys lastIndexOf "
    "length link localeCompare map match matchAll normalize padEnd padStart pop push reduce "
    "reduceRight repeat replace replaceAll reverse search shift slice small some sort splice "
    "split startsWith strike sub substr substring sup toExponential toFixed toLocaleLowerCase "
    "toLocaleUpperCase toLowerCase toPrecision toReversed toSorted toSpliced toUpperCase "
    "toWellFormed trim trimEnd trimLeft trimRight trimStart unshift values with"
)
# Arrays, texts and numbers inherit members of these names beside.
_INHERITED_BY_OTHERS: Final = _INHERITED.union(_MORE_NAMES.split())


class PatchDeclined(EventError):
    """A patch that would apply, but is declined, because it makes more than its budget allows."""


class PatchHarmful(PatchDeclined):
    """A patch that a client would apply, and that makes a state which no client can go on with."""


class PatchTooDeep(PatchHarmful):
    """A patch that would apply, but makes a document that no body of a request may hold."""


class PatchBudget(Struct, eq=False):
    """The bytes of JSON that the patches of one stream may make beyond their own text.

    :param left: the bytes that are left; see :attr:`Limits.patch_bytes
        <sansio_copilot.Limits.patch_bytes>`.
    """

    left: float = DEFAULT_PATCH_BYTES
    made: int = 0
    """The bytes of JSON that went into documents so far, from patches or as charged for copies."""

    def charge(self, cost: int) -> None:
        """Take ``cost`` bytes.

        :raises PatchDeclined: if fewer are left. The budget is empty then, because the measurement
            of the value has used the rest.
        """
        if cost > self.left:
            self.left = 0
            raise PatchDeclined("the delta does not apply: it makes more than a run's patches may")
        self.left -= cost


def apply_patch(document: Any, patch: Any, budget: PatchBudget, levels: int = STATE_DEPTH) -> Any:
    """Apply ``patch`` to ``document``, in place.

    No part of ``patch`` becomes part of the document.

    :param levels: levels of objects and arrays that the document may have.
    :returns: the patched document; another object than ``document`` if its root was replaced.
    :raises EventError: if the patch does not apply, for any reason; the document is unchanged then.
        It is a :class:`PatchDeclined` if the patch would apply, but the document would become too
        large, and a :class:`PatchHarmful` if a client would apply it nevertheless: it is nested too
        deeply, or takes what each object of JavaScript inherits.
    """
    if not isinstance(patch, list | tuple):
        raise EventError(f"the delta does not apply: it is no list, but {type(patch).__name__}")
    application = _AppliedPatch(document, budget, levels)
    try:
        for operation in patch:
            application.apply(operation)
    except EventError:
        application.undo()
        raise
    except Exception as error:
        # Any exception may come, because the patch may hold values that cannot be copied or
        # compared.
        application.undo()
        raise _failure(f"{type(error).__name__}: {error}") from error
    application.sweep()
    return application.document


class _AppliedPatch:
    """A patch that is being applied."""

    __slots__ = ("_budget", "_gone", "_levels", "_undo", "document")

    def __init__(self, document: Any, budget: PatchBudget, levels: int) -> None:
        self.document = document
        self._budget = budget
        self._levels = levels
        self._undo: list[tuple[Any, ...]] = []
        # Members that are removed stay in their place until it is known that the patch applies,
        # because members that are put back come behind the others. They are kept by the identity of
        # their object.
        self._gone: dict[int, tuple[dict[str, Any], set[str]]] = {}

    def apply(self, operation: Any) -> None:
        if not isinstance(operation, dict):
            raise _failure("an operation is no object")
        name = operation.get("op")
        rule = _OPERATIONS.get(name) if isinstance(name, str) else None
        if rule is None:
            raise _failure("an operation is unknown")
        rule(self, operation, _tokens(operation, "path"))

    def undo(self) -> None:
        while self._undo:
            restore, container, key, *old = self._undo.pop()
            restore(container, key, *old)

    def sweep(self) -> None:
        """Remove for good the members that are marked as removed."""
        for container, keys in self._gone.values():
            for key in keys:
                del container[key]
        self._gone.clear()

    # -- the operations --------------------------------------------------------------------

    def _add(self, operation: dict[str, Any], path: list[str]) -> None:
        self._put(path, self._value(operation, len(path)))

    def _replace(self, operation: dict[str, Any], path: list[str]) -> None:
        value = self._value(operation, len(path))
        if not path:
            self.document = value
            return
        container, key = self._find(path)
        self._undo.append((_set, container, key, container[key]))
        container[key] = value

    def _remove(self, operation: dict[str, Any], path: list[str]) -> None:
        if not path:
            # The document becomes null, because the clients' library leaves null, too.
            self.document = None
            return
        self._take(*self._find(path))

    def _move(self, operation: dict[str, Any], path: list[str]) -> None:
        source = _tokens(operation, "from")
        if len(source) < len(path) and path[: len(source)] == source:
            raise _failure("nothing can be moved into itself")
        value = self._get(source)
        if source == path:
            return
        if len(path) > len(source) and isinstance(value, dict | list):
            self._charge_for(value, len(path))
        if path:
            # The place has to be there before as well, as the clients' library has it, because a
            # removal moves the elements of a list.
            self._place(path)
        self._take(*self._find(source))
        self._put(path, value)

    def _copy(self, operation: dict[str, Any], path: list[str]) -> None:
        value = self._get(_tokens(operation, "from"))
        self._budget.made += self._charge_for(value, len(path))
        self._put(path, copy_json(value))

    def _test(self, operation: dict[str, Any], path: list[str]) -> None:
        if "value" not in operation:
            raise _failure("an operation has no value")
        # The comparison ends at the first difference, so that it costs no more than the patch's
        # text.
        if not self._equal(operation["value"], self._get(path)):
            raise _failure("a test fails")

    # -- parts of operations ---------------------------------------------------------------

    def _equal(self, said: Any, found: Any) -> bool:
        """Whether two values are the same JSON: 1 and 1.0 are the same, true and 1 are not."""
        if isinstance(said, bool) or isinstance(found, bool):
            return said is found
        if isinstance(said, dict) and isinstance(found, dict):
            _, gone = self._gone.get(id(found), (found, ()))
            return len(said) == len(found) - len(gone) and all(
                key in found and key not in gone and self._equal(value, found[key])
                for key, value in said.items()
            )
        if isinstance(said, list | tuple) and isinstance(found, list | tuple):
            return len(said) == len(found) and all(map(self._equal, said, found))
        return bool(said == found)

    def _value(self, operation: dict[str, Any], depth: int) -> Any:
        """A copy of the value of ``operation``, which will be ``depth`` levels deep."""
        if "value" not in operation:
            raise _failure("an operation has no value")
        value = operation["value"]
        size, levels = measure(value)
        self._check_depth(depth + levels)
        self._budget.made += size
        return copy_json(value)

    def _charge_for(self, value: Any, depth: int) -> int:
        """Charge for ``value``, which will be ``depth`` levels deep.

        :returns: the bytes that were charged.
        """
        self.sweep()
        size, levels = measure(value, self._budget.left, _CONTAINER_BYTES)
        self._budget.charge(size)
        self._check_depth(depth + levels)
        return size

    def _check_depth(self, levels: int) -> None:
        if levels > self._levels:
            raise PatchTooDeep(
                f"the delta does not apply: its result is nested deeper than {self._levels} "
                "levels, and no client could send it back"
            )

    def _get(self, path: list[str]) -> Any:
        value = self.document
        for token in path:
            value = value[_key(value, token)]
        return value

    def _find(self, path: list[str]) -> tuple[Any, Any]:
        """The container of the value at ``path``, and its key or index there."""
        container = self._get(path[:-1])
        return container, _key(container, path[-1])

    def _place(self, path: list[str]) -> tuple[Any, Any]:
        """The container that a value can be added to at ``path``, and its key or index there."""
        container, token = self._get(path[:-1]), path[-1]
        if isinstance(container, dict):
            return container, token
        if not isinstance(container, list):
            raise _failure("there is no such place")
        index = len(container) if token == "-" else _index(token)
        if index > len(container):
            raise _failure("there is no such place")
        return container, index

    def _put(self, path: list[str], value: Any) -> None:
        if not path:
            self.document = value
            return
        container, key = self._place(path)
        if isinstance(container, dict):
            if key in container:
                self._undo.append((_set, container, key, container[key]))
                if container[key] is _GONE:
                    self._gone[id(container)][1].remove(key)
                    del container[key]
            else:
                self._undo.append((_delete, container, key))
            container[key] = value
            return
        self._budget.charge((len(container) - key) // _MOVED_FOR_A_BYTE)
        container.insert(key, value)
        self._undo.append((_delete, container, key))

    def _take(self, container: Any, key: Any) -> None:
        old = container[key]
        if isinstance(container, dict):
            container[key] = _GONE
            self._gone.setdefault(id(container), (container, set()))[1].add(key)
            self._undo.append((_set, container, key, old))
        else:
            self._budget.charge((len(container) - key) // _MOVED_FOR_A_BYTE)
            del container[key]
            self._undo.append((_insert, container, key, old))


_OPERATIONS: Final = {
    "add": _AppliedPatch._add,
    "remove": _AppliedPatch._remove,
    "replace": _AppliedPatch._replace,
    "move": _AppliedPatch._move,
    "copy": _AppliedPatch._copy,
    "test": _AppliedPatch._test,
}


def _set(container: Any, key: Any, old: Any) -> None:
    container[key] = old


def _delete(container: Any, key: Any) -> None:
    del container[key]


def _insert(container: list[Any], index: int, old: Any) -> None:
    container.insert(index, old)


def _tokens(operation: dict[str, Any], member: str) -> list[str]:
    """The reference tokens of a JSON Pointer; an empty list for the whole document."""
    pointer = operation.get(member)
    if not isinstance(pointer, str) or (pointer and pointer[0] != "/"):
        raise _failure(f"the {member} of an operation is no JSON Pointer")
    tokens = pointer.split("/")[1:]
    if "~" in pointer:
        if _WRONG_ESCAPE.search(pointer):
            raise _failure(f"the {member} of an operation is no JSON Pointer")
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in tokens]
    if "__proto__" in tokens or ("constructor", "prototype") in pairwise(tokens):
        # The clients' library applies no patch that could change the prototype of all objects.
        raise _failure(f"the {member} of an operation leads to a prototype")
    return tokens


def _key(container: Any, token: str) -> Any:
    """``token`` as a key of ``container``, which has a value there."""
    inherited = _INHERITED_BY_OTHERS
    if isinstance(container, dict):
        if container.get(token, _GONE) is not _GONE:
            return token
        inherited = _INHERITED
    elif isinstance(container, list) and _INDEX.fullmatch(token) and int(token) < len(container):
        return int(token)
    if token in inherited:
        raise PatchHarmful(
            f"the delta does not apply: there is no '{token}', but a client would take that which "
            "each object of JavaScript inherits"
        )
    raise _failure("there is no such place")


def _index(token: str) -> int:
    if _INDEX.fullmatch(token) is None:
        raise _failure("there is no such place")
    return int(token)


def _failure(reason: str) -> EventError:
    return EventError(f"the delta does not apply: {reason}")
