"""The fast path of ordinary requests, and of the responses to them: it goes past h11.

h11 checks every part of a message in Python, and for GET /info that was more than half of the
processor time (docs/performance.md). Nearly every request is ordinary, though, and one regular
expression matches an ordinary head as a whole.

This module only recognises requests and never refuses one. Every other request is left to h11, and
so is every error in it. Not ordinary are: bare LF and folded lines, other methods and versions,
targets that are no path, Transfer-Encoding, Expect, Upgrade, any Connection but "keep-alive", and
a field that occurs twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import h11
from msgspec import Struct

from sansio_copilot import Headers, Request
from sansio_copilot.http.messages import WITHOUT_CONTENT

from ..serving.response_wire import Fields
from . import request_head, response_framing

# Each repetition is possessive (it never gives back what it took), so that a head that does not
# match takes no longer than a head that does.
_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_HEAD = re.compile(
    # The core does not need the fragment of a target.
    r"(GET|POST|OPTIONS|HEAD|PATCH|DELETE) (/[!\"$->@-~]*+)(?:\?([!\"$-~]*+))?(?:#[!-~]*+)?"
    r" HTTP/1\.1\r\n"
    rf"((?:{_TOKEN}:[\t -~\x80-\xff]*+\r\n)++)\r\n"
)
_LEFT_TO_H11: Final = frozenset({"transfer-encoding", "expect", "upgrade"})
_HOST = re.compile(request_head.HOST, re.ASCII)
# A length of more than 18 digits is left to h11.
_LENGTH = re.compile("[0-9]{1,18}")

# Open streams share the texts that many requests have, because they keep their requests for hours.
# The texts are not interned, because clients make them up, and Python 3.12 never frees an interned
# text.
_METHODS: Final = {name: name for name in ("GET", "POST", "OPTIONS", "HEAD", "PATCH", "DELETE")}
# The values of these fields are shared, because many clients have the same ones.
_ALIKE: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "cache-control", "connection"),
        *("content-type", "host", "pragma", "priority", "referer", "sec-ch-ua"),
        *("sec-ch-ua-mobile", "sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode"),
        *("sec-fetch-site", "user-agent"),
    }
)
_NAMES: Final = {name: name for name in (*_ALIKE, "authorization", "content-length", "cookie")}
# The values that are shared are forgotten when there are more of them than this number.
_MOST_SHARED: Final = 1024
# A value with more characters is not shared, because the number of values alone would not bound the
# memory.
_LONGEST_SHARED: Final = 256
_shared: Final[dict[str, str]] = {}

# These two patterns accept the same fields of a response that h11 accepts.
_NAME = re.compile(_TOKEN.encode())
_VALUE = re.compile(rb"(?:[^\0\s]++(?:[ \t]++[^\0\s]++)*+)?")
# A response with one of these fields is framed by h11, which moves them or acts on them.
_H11S_OWN: Final = frozenset({"connection", "transfer-encoding", "host"})


def recognise(data: bytearray, searched: int, limit: int) -> tuple[Request, int, int] | None:
    """Read the ordinary request that ``data`` begins with.

    :param searched: how many bytes have been searched by earlier calls.
    :param limit: the largest head in bytes.
    :returns: the request, the length of its body and the length of its head, both in bytes; None if
        the request is not ordinary, or if the end of its head has not arrived.
    """
    end = data.find(b"\r\n\r\n", max(0, searched - 3), limit)
    if end < 0:
        return None
    # The head is decoded as Latin-1, so that every byte is kept.
    match = _HEAD.fullmatch(data[: end + 4].decode("latin-1"))
    if match is None:
        return None
    method, path, query, lines = match.groups()
    rows = lines[:-2].split("\r\n")
    fields: dict[str, str] = {}
    for row in rows:
        name, _, value = row.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name in _NAMES:
            name = _NAMES[name]
            if name in _ALIKE and len(value) <= _LONGEST_SHARED:
                value = _shared.setdefault(value, value)
        fields[name] = value
    if len(_shared) > _MOST_SHARED:
        _shared.clear()
    length = fields.get("content-length", "0")
    if (
        len(fields) == len(rows)
        and _LEFT_TO_H11.isdisjoint(fields)
        and fields.get("connection", "keep-alive").lower() == "keep-alive"
        and _LENGTH.fullmatch(length)
        and _HOST.fullmatch(fields.get("host", "/"))
    ):
        headers = Headers.from_raw(tuple(fields.items()))
        return Request(_METHODS[method], path, query or "", headers), int(length), end + 4
    return None


class FastResponse(Struct, eq=False):
    """Frames the response to an ordinary request, with the same bytes that h11 would send.

    :param is_head: whether the request is HEAD, whose response never has content, whatever its
        fields say (RFC 9110 section 9.3.2).
    """

    is_head: bool
    is_chunked: bool = False
    has_begun: bool = False
    may_be_followed: bool = False
    """Whether the connection may serve another request after this response."""

    def head(self, status: int, fields: Fields, *, close: bool) -> Iterable[bytes]:
        """Frame the status line and the fields (RFC 9112 sections 4 and 5).

        :param close: whether the connection is closed after this response.
        :raises ValueError: if a field has characters that cannot be sent.
        :raises h11.LocalProtocolError: if a field contradicts the framing of the response.
        """
        self.has_begun = True
        before, after, is_chunked, self.may_be_followed = _head(status, fields, close)
        self.is_chunked = is_chunked and not self.is_head
        return (before, response_framing.date(), after)

    def data(self, data: bytes) -> Iterable[bytes]:
        """Frame a piece of the content."""
        if self.is_chunked:
            # An empty piece is left out, because an empty chunk would end the content.
            return (b"%x\r\n" % len(data), data, b"\r\n") if data else ()
        return (data,)

    def end(self) -> Iterable[bytes]:
        """Frame the end of the content."""
        return (b"0\r\n\r\n",) if self.is_chunked else ()


@lru_cache(maxsize=256)
def _head(status: int, fields: Fields, close: bool) -> tuple[bytes, bytes, bool, bool]:
    """Frame a head around its date.

    Heads are cached, because most responses have the same fields as an earlier response.

    :returns: the bytes before the date, the bytes behind it, whether the content is chunked, and
        whether the connection may serve another request.
    """
    names = {name for name, _ in fields}
    if not _H11S_OWN.isdisjoint(names):
        return _head_by_h11(status, fields, close)
    head = [b"HTTP/1.1 %d %b\r\n" % (status, response_framing.PHRASES.get(status, b""))]
    for field in fields:
        name, value = field[0].encode("ascii"), field[1].encode("latin-1")
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            # The message does not quote the value, because it may be a secret.
            raise ValueError(f"the header field {field[0]!r} cannot be sent")
        head.append(b"%b: %b\r\n" % (name, value))
    is_chunked = status not in WITHOUT_CONTENT and "content-length" not in names
    after = b"\r\n"
    if close:
        after += b"connection: close\r\n"
    if is_chunked:
        after += b"Transfer-Encoding: chunked\r\n"
    return b"".join([*head, b"date: "]), after + b"\r\n", is_chunked, not close


def _head_by_h11(status: int, fields: Fields, close: bool) -> tuple[bytes, bytes, bool, bool]:
    """Frame a head by h11, for an application that sets fields of the framing itself."""
    # The request is HEAD, because its response has the head of GET's, and h11 then waits for no
    # content.
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
    while connection.their_state is not h11.DONE:
        connection.next_event()
    head = connection.send(response_framing.head_of(status, fields, close=close))
    connection.send(h11.EndOfMessage())
    assert head is not None
    before, name_of_date, rest = head.rpartition(b"\r\ndate: ")
    after = rest[rest.index(b"\r\n") :]
    is_chunked = b"\r\nTransfer-Encoding: chunked\r\n" in after
    return before + name_of_date, after, is_chunked, connection.our_state is h11.DONE
