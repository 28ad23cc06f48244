"""The figures of a measurement, their table, and the chart of their ratios."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import attrs

OURS = "asyncio"
REFERENCE = "reference"


@attrs.define
class Figure:
    """A quantity that was measured, on each of some servers, in each of some rounds.

    :param against: the server whose median ours is divided by.
    :param more_is_better: whether a higher value is.
    :param target: of the ratio: at least that if more is better, else at most.
    :param samples: server to values in ``unit``, one a round.
    :param cpu: server to microseconds of its processor time for each operation.
    :param client: server to the share of a core that the load generator took meanwhile.
    """

    section: str
    name: str
    unit: str
    against: str = REFERENCE
    more_is_better: bool = True
    target: float | None = None
    operation: str = ""
    note: str = ""
    samples: dict[str, list[float]] = attrs.field(factory=dict)
    cpu: dict[str, list[float]] = attrs.field(factory=dict)
    client: dict[str, list[float]] = attrs.field(factory=dict)

    def add(
        self,
        server: str,
        value: float,
        *,
        cpu: float | None = None,
        count: int = 1,
        client: float | None = None,
    ) -> None:
        """Take one sample.

        :param cpu: seconds that the server took over ``count`` operations.
        """
        self.samples.setdefault(server, []).append(value)
        if cpu is not None and count:
            self.cpu.setdefault(server, []).append(cpu / count * 1e6)
        if client is not None:
            self.client.setdefault(server, []).append(client)

    def median(self, server: str) -> float | None:
        """The median of the rounds."""
        samples = self.samples.get(server)
        return statistics.median(samples) if samples else None

    @property
    def ratio(self) -> float | None:
        """Our median divided by the other's."""
        ours, other = self.median(OURS), self.median(self.against)
        # A value that is not above 0 (memory that was given back) has no ratio.
        return ours / other if ours and other and min(ours, other) > 0 else None

    @property
    def cpu_ratio(self) -> float | None:
        """The same of processor time for each operation."""
        ours, other = self.cpu.get(OURS), self.cpu.get(self.against)
        if not ours or not other or not statistics.median(other):
            return None
        return statistics.median(ours) / statistics.median(other)

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None if there is none."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio >= self.target if self.more_is_better else self.ratio <= self.target

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        medians = {server: self.median(server) for server in self.samples}
        return {
            **attrs.asdict(self),
            "medians": medians,
            "cpu_medians": {name: statistics.median(values) for name, values in self.cpu.items()},
            "ratio": self.ratio,
            "cpu_ratio": self.cpu_ratio,
            "met": self.met,
        }


def machine() -> dict[str, Any]:
    """Return what this machine and Python are, as far as it matters."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "node": node.stdout.strip(),
        "load": os.getloadavg()[0],
    }


# --- The table ----------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def table(figures: Iterable[Figure]) -> str:
    """Figures of ours and one other server, as Markdown."""
    rows = []
    for figure in figures:
        other = figure.against if figure.against in figure.samples else ""
        client = [statistics.median(values) for values in figure.client.values()]
        cpu = {name: statistics.median(values) for name, values in figure.cpu.items()}
        sign = "at least" if figure.more_is_better else "at most"
        target = "" if figure.target is None else f"{sign} {number(figure.target)}"
        if figure.met is not None:
            target += ", met" if figure.met else ", MISSED"
        rows.append(
            [
                figure.name,
                figure.unit,
                number(figure.median(OURS)),
                number(figure.median(other)) + (" (floor)" if other == "floor" else ""),
                number(figure.ratio),
                target,
                number(cpu.get(OURS)),
                number(cpu.get(other)),
                number(figure.cpu_ratio),
                f"{max(client):.0%}" if client else "",
            ]
        )
    head = (
        "measured",
        "unit",
        "ours",
        "reference",
        "ratio",
        "target of the ratio",
        "ours: CPU us/op",
        "reference: CPU us/op",
        "ratio of CPU",
        "load generator, of a core",
    )
    return _markdown(head, rows)


def wide_table(figures: Iterable[Figure]) -> str:
    """Figures of many servers, as Markdown: of each the value, and in brackets its CPU us/op."""
    figures = list(figures)
    servers = list(dict.fromkeys(name for figure in figures for name in figure.samples))
    rows = []
    for figure in figures:
        cells = [figure.name, figure.unit]
        for server in servers:
            cpu = figure.cpu.get(server)
            cost = f" ({number(statistics.median(cpu))})" if cpu else ""
            known = figure.samples.get(server)
            cells.append(number(figure.median(server)) + cost if known else "")
        rows.append(cells)
    return _markdown(("measured (CPU us/op)", "unit", *servers), rows)


def _markdown(head: Iterable[str], rows: list[list[str]]) -> str:
    lines = [list(head), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    # The first two columns are words, and the others are numbers.
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if index < 2 or row == 1 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        + " |"
        for row, cells in enumerate(lines)
    )


# --- The chart ----------------------------------------------------------------------------------

_ROW, _LABEL, _PLOT, _VALUE = 22, 360, 420, 130


def chart(figures: Iterable[Figure], about: Mapping[str, Any]) -> str:
    """Return an SVG of how many times better than the reference each figure is, and its target."""
    bars = []
    for figure in figures:
        if figure.ratio and figure.against == REFERENCE:
            better = figure.ratio if figure.more_is_better else 1 / figure.ratio
            target = figure.target
            if target is not None and not figure.more_is_better:
                target = 1 / target
            bars.append((figure.name, better, target, figure.met))
    furthest = max([10.0, *(max(better, target or 1) for _, better, target, _ in bars)])
    nearest = min([1.0, *(better for _, better, _, _ in bars)])
    low, high = math.floor(math.log10(nearest)), math.ceil(math.log10(furthest))

    def place(value: float) -> float:
        return _LABEL + (math.log10(value) - low) / (high - low) * _PLOT

    height = 70 + _ROW * len(bars) + 20
    width = _LABEL + _PLOT + _VALUE
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="10" y="20" font-size="15">Times better than the Node runtime '
        "(a longer bar is better; the line is the target)</text>",
        f'<text x="10" y="38" fill="#666">{escape(describe(about))}</text>',
    ]
    for exponent in range(low, high + 1):
        x = place(10.0**exponent)
        out.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="50" y2="{height - 20}" '
            f'stroke="{"#444" if exponent == 0 else "#ddd"}"/>'
            f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle" fill="#666">'
            f"{10.0**exponent:g}x</text>"
        )
    for index, (name, better, target, met) in enumerate(bars):
        y = 58 + index * _ROW
        left, right = sorted((place(1), place(better)))
        colour = {True: "#2a7", False: "#c43", None: "#58a"}[met]
        out.append(
            f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left:.1f}" y="{y}" width="{right - left:.1f}" height="{_ROW - 7}" '
            f'fill="{colour}"/>'
            f'<text x="{max(right, place(target or 1)) + 6:.1f}" y="{y + 12}">'
            f"{number(better)}x</text>"
        )
        if target is not None:
            x = place(target)
            out.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + _ROW - 5}" '
                'stroke="black" stroke-width="2"/>'
            )
    return "\n".join([*out, "</svg>", ""])


def describe(about: Mapping[str, Any]) -> str:
    """The machine in one line."""
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['system']}, {about['python']}, "
        f"node {about['node']}, load average {about['load']:.2f} before the first measurement"
    )
