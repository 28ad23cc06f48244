"""The tokens that an agent says it has used, summed up for each provider and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_COUNTS: Final = (
    *("inputTokens", "outputTokens", "totalTokens", "reasoningTokens", "cachedInputTokens"),
    "cacheWriteInputTokens",
)
_LABELS: Final = ("provider", "model")
# A run has at most this many entries, because an agent that makes up names of models must not fill
# the memory. Most runs ask a handful of models.
_ENTRIES: Final = 32


def sum_up(total: list[dict[str, Any]], usage: Iterable[Mapping[str, Any]]) -> None:
    """Add the token counts of a terminal event to those of the terminal events before it.

    An agent that goes on after RUN_FINISHED has several, each with counts of its own.

    :param total: an entry for each provider and model, which is changed.
    """
    known = {tuple(entry.get(label) for label in _LABELS): entry for entry in total}
    for said in usage:
        labels = tuple(said.get(label) for label in _LABELS)
        entry = known.get(labels)
        if entry is None:
            if len(total) >= _ENTRIES:
                continue
            entry = known[labels] = {
                label: value for label, value in zip(_LABELS, labels, strict=True) if value
            }
            total.append(entry)
        for name in _COUNTS:
            if (count := said.get(name)) is not None:
                entry[name] = entry.get(name, 0) + count
