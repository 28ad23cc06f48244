"""The framing of a response as h11 does it, from the status and fields of the core."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

CONTINUE: Final = h11.InformationalResponse(
    status_code=HTTPStatus.CONTINUE, headers=[], reason=b"Continue"
)


def head_of(status: int, fields: Iterable[tuple[str, str]], *, close: bool) -> h11.Response:
    """Convert a response head of the core to h11's, and add Date and Connection.

    :param close: whether the connection is closed after this response.
    """
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
    headers.append((b"date", date()))
    if close:
        headers.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=headers, reason=PHRASES.get(status, b""))


class H11Response:
    """Frames the response to a request that h11 has read, or has failed to read."""

    def __init__(self, connection: h11.Connection) -> None:
        self._h11 = connection

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the response may have been sent."""
        return self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    @property
    def may_be_followed(self) -> bool:
        """Whether the connection may serve another request after this response."""
        return self._h11.our_state is h11.DONE

    def head(
        self, status: int, fields: Iterable[tuple[str, str]], *, close: bool
    ) -> Iterable[bytes]:
        """Frame the status line and the fields (RFC 9112 sections 4 and 5).

        :param close: whether the connection is closed after this response.
        :raises ValueError: if a field has characters that cannot be sent.
        :raises h11.LocalProtocolError: if a field contradicts the framing of the response.
        """
        return self._send(head_of(status, fields, close=close))

    def data(self, data: bytes) -> Iterable[bytes]:
        """Frame a piece of the content."""
        return self._send(h11.Data(data=data))

    def end(self) -> Iterable[bytes]:
        """Frame the end of the content."""
        return self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> Iterable[bytes]:
        return self._h11.send_with_data_passthrough(event) or ()


_date_of: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """The value of the Date field (RFC 9110 section 6.6.1); formatted once a second."""
    global _date_of
    now = int(time.time())
    if _date_of[0] != now:
        _date_of = (now, formatdate(now, usegmt=True).encode("ascii"))
    return _date_of[1]
