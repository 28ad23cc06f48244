"""The log of the command: which lines it has, and in which form."""

from __future__ import annotations

import datetime
import json
import logging
import traceback
from typing import Any, Final

_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
LEVELS: Final = tuple(logging.getLevelName(level).lower() for level in _LEVELS)
ACCESS: Final = "sansio_copilot.access"

_LONGEST_TRACE: Final = 32 * 1024
"""Characters of a traceback, of which a service that collects lines may take only some."""


def begin(level: str, *, as_json: bool, access: bool) -> None:
    """Write the log to standard error.

    :param level: one of :data:`LEVELS`; lines below it are left out.
    :param as_json: whether each line is a JSON object, for machines.
    :param access: whether each response has a line.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if access:
        logging.getLogger(ACCESS).setLevel(logging.INFO)


def seconds_of(record: logging.LogRecord) -> float | None:
    """How long what a line is about has taken; None if the line does not say when it began."""
    began = getattr(record, "started_at", None)
    return None if began is None else max(record.created - began, 0.0)


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's own name
        """The line without its traceback."""
        text = super().formatMessage(record)
        seconds = seconds_of(record)
        return text if seconds is None else f"{text} {seconds:.3f} s"


class JsonFormatter(logging.Formatter):
    """Lines for machines: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``text``.

    ``exception`` has the traceback, and ``seconds`` how long it took, where a line has them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The object, in one line."""
        created = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": created.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        if (seconds := seconds_of(record)) is not None:
            line["seconds"] = round(seconds, 6)
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info))
            line["exception"] = trace[-_LONGEST_TRACE:]
        return json.dumps(line, ensure_ascii=False)
