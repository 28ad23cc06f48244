"""What the machines do with JSON values they keep: copy them, and merge metadata."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

_ATOMS = frozenset({str, int, float, bool, type(None)})


def copy_json(value: Any) -> Any:
    """A copy that shares no mutable part with ``value``.

    ``copy.deepcopy`` keeps a memo for shared and cyclic parts, which JSON has not; without it
    this is several times faster. Anything that is not plain JSON is left to ``deepcopy``.
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
