"""An endpoint's refusals: exceptions that are a response."""

from __future__ import annotations

from ..http.messages import Response


class Refusal(Exception):
    """The request cannot be answered as it asks.

    :param response: what to answer instead.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(f"refused with {response.status}")
        self.response = response
