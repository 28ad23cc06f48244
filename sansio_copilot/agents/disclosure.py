"""The parts of a run that its readers are not told, unless the application says so.

An agent's framework attaches its own data to the events that it makes (RAW events, and ``rawEvent``
members): the system's prompt, tools, names of models. And the text of an exception may hold any
value from the place where it was raised. A thread's readers are browsers, which should get neither.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ag_ui.core import BaseEvent
from msgspec import Struct

from ..errors import contained, text_of
from ..events import types as t
from ..functions import check_function, is_async

logger = logging.getLogger(__name__)

ErrorMessage: TypeAlias = Callable[[str | None, Any], str | None]
"""A plain function of an agent's id and an error, which returns the text that clients are told.

The error is the exception, or the RUN_ERROR event, a dict, that the agent yielded. If the function
returns None, the text stays as it is. The id is None for a transcription service.
"""

RAW_MEMBERS = frozenset({"rawEvent", "raw_event"})
"""The members of an event that hold the data of its framework."""
_UNSAID = "Something went wrong"


def without_raw(event: BaseEvent | dict[str, Any]) -> BaseEvent | dict[str, Any] | None:
    """``event`` without the data of its framework; None if it consists of nothing else."""
    if isinstance(event, dict):
        if event.get("type") == t.RAW:
            return None
        return {name: event[name] for name in event if name not in RAW_MEMBERS}
    if event.type == t.RAW:
        return None
    # The raw event is dropped before the event is dumped, because it may be many times as large as
    # the rest.
    return event.model_copy(update={"raw_event": None})


def check_error_message(function: ErrorMessage | None) -> ErrorMessage | None:
    """``function``, if it can be called without waiting.

    :raises TypeError: if it cannot be.
    """
    check_function("error_message", function)
    if is_async(function):
        raise TypeError("error_message cannot be an async function: it is called without waiting")
    return function


class Teller(Struct, frozen=True):
    """Decides what clients are told of an error of one agent, or of a transcription service.

    :param function: the application's function; if None, clients are told the error's own text.
    """

    agent_id: str | None = None
    function: ErrorMessage | None = None

    def told(self, problem: BaseException | Mapping[str, Any], message: str) -> str:
        """The text to tell instead of ``message``, a fixed one if the function fails."""
        if self.function is None:
            return message
        try:
            instead = contained(self.function, self.agent_id, problem)
            if instead is None:
                return message
            if isinstance(instead, str):
                return instead
            logger.error("error_message returned %s, expected str or None", type(instead).__name__)
        except Exception as error:
            logger.error("error_message failed: %s", text_of(error), exc_info=error)
        return _UNSAID


TELLS_ALL = Teller()
