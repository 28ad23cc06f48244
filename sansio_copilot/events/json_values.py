"""JSON values that the machines keep: copying and measuring them, and merging metadata."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

_ATOMS = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = (dict, list, tuple)


def copy_json(value: Any) -> Any:
    """A copy that shares no mutable part with ``value``.

    ``copy.deepcopy`` keeps a memo for shared and cyclic parts, which JSON does not have; without it
    this is several times faster. A value that is not JSON is left to ``deepcopy``.
    """
    kind = type(value)
    if kind is dict:
        return {
            key: item if type(item) in _ATOMS else copy_json(item) for key, item in value.items()
        }
    if kind is list:
        return [item if type(item) in _ATOMS else copy_json(item) for item in value]
    if kind in _ATOMS:
        return value
    return deepcopy(value)


def measure(value: Any, enough: float = math.inf, container_bytes: int = 2) -> tuple[int, int]:
    """The size of ``value`` in bytes of JSON, roughly, and its levels of containers.

    :param enough: a size beyond which nothing more is measured; the levels are then too few.
    :param container_bytes: what an array or object counts for beside its content.
    """
    if not isinstance(value, _CONTAINERS):
        return _size_of(value, enough), 0
    size, depth = 0, 0
    level = [value]
    while level and size <= enough:
        depth += 1
        deeper: list[Any] = []
        for container in level:
            # The size of an empty container and the number of its items are added first, so that a
            # long container need not be walked to be found too long.
            size += container_bytes + len(container)
            if size > enough:
                break
            if isinstance(container, dict):
                size += sum(map(_size_of, container))
            for item in container.values() if isinstance(container, dict) else container:
                if isinstance(item, _CONTAINERS):
                    deeper.append(item)
                else:
                    size += _size_of(item, enough)
        level = deeper
    return size, depth


def _size_of(value: Any, enough: float = math.inf) -> int:
    if not isinstance(value, str):
        return 4
    size = len(value) + 2
    if value.isascii() or size > enough:
        return size
    return len(value.encode("utf-8", "surrogatepass")) + 2


def merge_metadata(
    existing: dict[str, Any] | None, incoming: dict[str, Any] | None
) -> dict[str, Any] | None:
    """``existing`` with the keys of ``incoming``, whose values replace older ones whole.

    Neither argument is changed; one of them may be returned. This is ``mergeMetadata`` of
    ``@ag-ui/core``: token usage and finish reason are known only at the end of a message, so
    metadata adds up over its events.
    """
    if incoming is None:
        return existing
    if not existing:
        return incoming
    return {**existing, **incoming}
