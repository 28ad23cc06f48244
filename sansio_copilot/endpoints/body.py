"""A request body that is JSON: a bound on its cost, and its value, made once."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .. import json_codec
from ..http.refusals import Refusal, too_large


def check_values(data: bytes, limit: int) -> None:
    """Check that a JSON body has no more values than it may, before it is parsed.

    :param limit: JSON values that the body may have.
    :raises Refusal: with 413, if it has more.
    """
    if json_codec.has_more_values(data, limit):
        raise Refusal(too_large(f"The request body has more than {limit} JSON values"))


class JsonBody(Struct, frozen=True):
    """A body and its value, so that it is not parsed twice, for a hook and for an endpoint.

    :param data: the bytes that were parsed; a request with other bytes needs another object.
    :param content: the value; None if there is a problem.
    :param problem: the reason why the body is not JSON; None if it is JSON. The reason is a text,
        because an exception keeps the parsed text and the frames that it was raised through.
    """

    data: bytes
    content: Any = None
    problem: str | None = None

    @classmethod
    def parse(cls, data: bytes, limit: int) -> JsonBody:
        """Parse a body.

        :param limit: JSON values that the body may have.
        :raises Refusal: with 413, if it has more.
        """
        # Few bodies need to be searched, because each value takes at least one byte.
        if len(data) > limit:
            check_values(data, limit)
        try:
            return cls(data, json_codec.decode(data))
        except ValueError as error:
            return cls(data, None, str(error))
