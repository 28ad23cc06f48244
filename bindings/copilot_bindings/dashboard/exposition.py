"""Reading the text format of Prometheus, as far as a runtime writes it.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

import attrs

PREFIX: Final = "sansio_copilot_"

# Names are bounded, because readings keep them; those of a runtime have less than 60 characters.
_NAME: Final = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
# The quantifiers are possessive, because a long value must not be read again and again.
_LABEL: Final = re.compile(
    r'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)="((?:[^"\\]++|\\.)*+)"[ \t]*+(?:,|$)', re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n"}

Labels: TypeAlias = dict[str, str]


class NotMetrics(ValueError):
    """The text is not that of a runtime's metrics; the message says why, for an operator."""


@attrs.frozen
class Sample:
    """A value of a metric.

    :param name: the metric's name, without the prefix that all metrics of a runtime have.
    """

    name: str
    labels: Labels
    value: float


def parse(body: bytes) -> list[Sample]:
    """Return the samples of a runtime in ``body``; other samples are left out.

    :raises NotMetrics: if it is no text of metrics, or has no sample of a runtime.
    """
    try:
        # A label may have any other character at which Python would end a line.
        lines = body.decode().split("\n")
    except UnicodeDecodeError:
        raise NotMetrics("is no Prometheus text: it is not UTF-8") from None
    samples = list(_samples(lines))
    if not any(sample.name == "info" for sample in samples):
        raise NotMetrics("has no metrics of a runtime: is this the metrics_path of one?")
    return samples


def _samples(lines: list[str]) -> Iterator[Sample]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, labels, value = _parts(line)
        if _NAME.fullmatch(name) is None or value is None:
            raise _wrong(number, line)
        if name.startswith(PREFIX):
            yield Sample(name.removeprefix(PREFIX), _labels(labels, number, line), value)


def _parts(line: str) -> tuple[str, str, float | None]:
    """Return the name, the text of the labels, and the value; None for a value that is no number.

    A timestamp may follow the value, and does not count.
    """
    name, brace, rest = line.partition("{")
    labels = ""
    if brace:
        labels, _, rest = rest.rpartition("}")
    else:
        name, _, rest = line.strip().replace("\t", " ").partition(" ")
    try:
        value = float(rest.split()[0])
    except (IndexError, ValueError):
        return name, labels, None
    # Infinite values and NaN are dropped, because a runtime has none, and JSON cannot express them.
    return name.strip(), labels, value if math.isfinite(value) else None


def _labels(text: str, number: int, line: str) -> Labels:
    labels: Labels = {}
    at = 0
    while at < len(text):
        found = _LABEL.match(text, at)
        if found is None:
            raise _wrong(number, line)
        value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), found[2])
        labels[found[1]] = value
        at = found.end()
    return labels


def _wrong(number: int, line: str) -> NotMetrics:
    shown = line if len(line) <= 60 else f"{line[:60]}..."
    return NotMetrics(f"is no Prometheus text: line {number} is {shown!r}")
