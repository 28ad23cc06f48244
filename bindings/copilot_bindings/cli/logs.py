"""The log of the command: the choice of its lines, and their form."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, Final

_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
LEVELS: Final = tuple(logging.getLevelName(level).lower() for level in _LEVELS)
COMMAND: Final = "copilot_bindings.cli"
ACCESS: Final = "sansio_copilot.access"

_CLIENTS: Final = (
    *("httpx", "httpcore", "httpx2", "httpcore2"),
    *("openai", "anthropic", "google_genai", "mcp"),
)
"""The loggers of clients of HTTP and of models, whose lines below WARNING have whole URLs, headers
and messages."""

_LONGEST_TRACE: Final = 32 * 1024
"""The most characters of a traceback, because a service that collects lines may take only some."""


def begin(level: str, *, as_json: bool, access: bool) -> None:
    """Write the log to standard error.

    :param level: one of :data:`LEVELS`; lines below it are left out. Those of clients of HTTP and
        of models begin at WARNING, because lower ones have passwords and keys of URLs.
    :param as_json: whether each line is a JSON object, for machines.
    :param access: whether each response has a line.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in _CLIENTS:
        client = logging.getLogger(name)
        # A level that the environment has set, as OPENAI_LOG does, is the user's own choice.
        if client.level == logging.NOTSET:
            client.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    if access:
        logging.getLogger(ACCESS).setLevel(logging.INFO)
    if as_json:
        # Warnings and unhandled errors become lines of the log, because Python itself would write
        # them as plain text.
        logging.captureWarnings(True)
        sys.excepthook = _log_unhandled
        threading.excepthook = lambda args: _log_unhandled(
            args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
        )
        sys.unraisablehook = lambda args: _log_unhandled(
            args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
        )


def line(text: str, *, as_json: bool, failed: bool = False) -> str:
    """Return a message of the command itself as one line, in the format of its log.

    :param failed: whether the message says why the command has failed.
    """
    if not as_json:
        return f"sansio-copilot: {text}" if failed else text
    level = logging.ERROR if failed else logging.INFO
    return JsonFormatter().format(logging.LogRecord(COMMAND, level, "", 0, text, None, None))


def _log_unhandled(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger(COMMAND).critical("unhandled", exc_info=(kind, error, trace))


def seconds_of(record: logging.LogRecord) -> float | None:
    """Return the duration of the request or run that a line is about; None if the line does not
    say when that began."""
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
            "text": _message_of(record),
        }
        if (seconds := seconds_of(record)) is not None:
            line["seconds"] = round(seconds, 6)
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info))
            line["exception"] = trace[-_LONGEST_TRACE:]
        # Everything beyond ASCII is escaped, because some readers end a line at U+2028 or U+0085,
        # and the output may have another encoding. JSON itself leaves DEL as it is.
        return json.dumps(line).replace("\x7f", "\\u007f")


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # The text and the arguments are written side by side, because they do not fit together.
        # logging itself would write a traceback instead.
        return f"{record.msg!s:.1000} {record.args!r:.1000}"
