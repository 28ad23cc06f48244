"""Helpers that several targets need."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sansio_copilot import json_codec

BASE = "/api/copilotkit"


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        # A fault of an agent is no fault of ours.
        if not record.msg.startswith(("agent ", "run %r leaves no history")):
            self.records.append(record)


@contextmanager
def no_error_is_logged() -> Iterator[None]:
    """An error that the core or a binding answers for is also logged; here it fails the target."""
    loggers = [logging.getLogger(name) for name in ("sansio_copilot", "copilot_bindings")]
    errors = _Errors()
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(errors)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagates) in zip(loggers, before, strict=True):
            logger.removeHandler(errors)
            logger.setLevel(level)
            logger.propagate = propagates
    for record in errors.records:
        raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]


def json_lines(data: bytes) -> list[Any]:
    """The JSON values in ``data``, one a line; lines that are none are passed over."""
    values = []
    for line in data.split(b"\n"):
        try:
            values.append(json_codec.decode(line))
        except ValueError:
            continue
    return values


def text_lines(data: bytes, count: int) -> list[str]:
    """``count`` lines; the last is all the rest. Lone surrogates are among the characters."""
    lines = data.decode("utf-8", "surrogatepass" if _may_pass(data) else "replace").split("\n")
    head, rest = lines[: count - 1], "\n".join(lines[count - 1 :])
    return [*head, *[""] * (count - 1 - len(head)), rest]


def _may_pass(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
