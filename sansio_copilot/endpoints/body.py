"""A request body that is JSON: what it may cost, and its value, made once."""

from __future__ import annotations

from typing import Any

import attrs

from .. import json_codec
from ..http.refusals import Refusal, too_large


def check_values(data: bytes, limit: int) -> None:
    """See that a JSON body has no more values than it may, before one of them is made.

    :raises Refusal: with 413, if it has.
    """
    if json_codec.has_more_values(data, limit):
        message = f"The request body has more than {limit} JSON values"
        raise Refusal(too_large(message))


@attrs.frozen
class JsonBody:
    """A body and what it says, so that a hook and an endpoint do not have it parsed twice.

    :param data: the bytes that were parsed; a request with other bytes needs another.
    :param content: the value; None if there is a problem.
    :param problem: why it is not JSON; None if it is. No exception, because that keeps what was
        parsed, and once it was raised whoever had asked.
    """

    data: bytes = attrs.field(repr=False)
    content: Any = attrs.field(default=None, repr=False)
    problem: str | None = None

    @classmethod
    def parse(cls, data: bytes, limit: int) -> JsonBody:
        """Parse a body, if it has no more values than ``limit``.

        :raises Refusal: with 413, if it has.
        """
        check_values(data, limit)
        try:
            return cls(data, json_codec.decode(data))
        except ValueError as error:
            return cls(data, None, str(error))

    @property
    def value(self) -> Any:
        """The value.

        :raises ValueError: if the body is not JSON, with the reason.
        """
        if self.problem is not None:
            raise ValueError(self.problem)
        return self.content

    @property
    def thread_id(self) -> str | None:
        """The thread that the body of a run, connect or suggest names; None if it names none."""
        thread_id = self.content.get("threadId") if isinstance(self.content, dict) else None
        return thread_id if isinstance(thread_id, str) else None
