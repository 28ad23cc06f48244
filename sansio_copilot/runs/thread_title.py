"""The title of a thread, which an application's function makes of the first run that finished."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from .. import json_codec
from ..calls import Call
from ..errors import shorten
from ..stores.calls import perform, update_thread
from .parameters import RunParameters, Title
from .report import RunReport

_TITLE_LENGTH: Final = 120 - len("...")
"""The number of characters that are kept of a longer title; a list of threads shows fewer."""


def _has_no_name(run: RunParameters) -> Generator[Call, Any, bool]:
    """Whether the run's thread is there, and nobody has named it."""
    known = yield from perform(update_thread(run.store, run.key.thread_id, {}, run.owner))
    return known is not None and known.name is None


def name_thread(run: RunParameters, make: Title, report: RunReport) -> Generator[Call, Any, None]:
    """Ask for a title, unless the thread has a name, which a person may have given it."""
    thread_id = run.key.thread_id
    result = run.recorder.result
    if result is None or result.messages is None or not (yield from _has_no_name(run)):
        return
    messages = json_codec.decode(result.messages)
    title = yield Call(make, (report, messages), name="title function", part="service")
    if title is None:
        return
    if not isinstance(title, str):
        raise TypeError(f"title returned {type(title).__name__}, expected str or None")
    # A title is one line, whatever a model makes of the question for one.
    name = shorten(" ".join(title.split()), _TITLE_LENGTH)
    # A person may have named the thread while a title was sought, which may take minutes.
    if name and (yield from _has_no_name(run)):
        yield from perform(update_thread(run.store, thread_id, {"name": name}, run.owner))
