"""Plain requests and the responses to them, without h11.

h11 checks everything, in Python, and of GET /info that was more than half of the processor time
(docs/performance.md). Nearly every request is plain, though: one regular expression knows such a
head whole. It only recognises, and refuses nothing. What is not plain is h11's, and so is whatever
is wrong with it: bare LF and folded lines, other methods and versions, targets that are no path,
Transfer-Encoding, Expect, Upgrade, any Connection but "keep-alive", a field that occurs twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from sys import intern
from typing import Final, TypeAlias

import h11

from sansio_copilot import Headers, Request

from . import messages

# Each repetition keeps what it took, so a head that does not match takes no longer than one that
# does.
_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_HEAD = re.compile(
    r"(GET|POST|OPTIONS|HEAD|PATCH|DELETE) (/[!-~]*+) HTTP/1\.1\r\n"
    rf"((?:{_TOKEN}:[\t -~\x80-\xff]*+\r\n)++)\r\n"
)
_LEFT_TO_H11: Final = frozenset({"transfer-encoding", "expect", "upgrade"})
_HOST = re.compile(messages.HOST, re.ASCII)
# A length of more digits is h11's to judge.
_LENGTH = re.compile("[0-9]{1,18}")

# What h11 takes for a field that may be sent.
_NAME = re.compile(_TOKEN.encode())
_VALUE = re.compile(rb"(?:[^\0\s]++(?:[ \t]++[^\0\s]++)*+)?")
# What h11 puts in another place, or obeys.
_H11S_OWN: Final = frozenset({"connection", "transfer-encoding", "host"})

Fields: TypeAlias = tuple[tuple[str, str], ...]


def recognise(data: bytearray, searched: int, limit: int) -> tuple[Request, int, int] | None:
    """The plain request that ``data`` begins with, the length of its body, and of its head.

    :param searched: how much has been searched before.
    :param limit: largest head in bytes.
    :returns: None for what is not plain, or has not arrived to the end of its head.
    """
    end = data.find(b"\r\n\r\n", max(0, searched - 3), limit)
    if end < 0:
        return None
    # Latin-1, so that every byte is kept.
    match = _HEAD.fullmatch(data[: end + 4].decode("latin-1"))
    if match is None:
        return None
    method, target, lines = match.groups()
    rows = lines[:-2].split("\r\n")
    fields: dict[str, str] = {}
    for row in rows:
        name, _, value = row.partition(":")
        # Interned: many streams that are open at once have the same few names.
        fields[intern(name.lower())] = value.strip(" \t")
    length = fields.get("content-length", "0")
    if (
        len(fields) == len(rows)
        and _LEFT_TO_H11.isdisjoint(fields)
        and fields.get("connection", "keep-alive").lower() == "keep-alive"
        and _LENGTH.fullmatch(length)
        and _HOST.fullmatch(fields.get("host", "/"))
    ):
        headers = Headers.from_raw(tuple(fields.items()))
        return Request.from_target(method, target, headers), int(length), end + 4
    return None


class PlainResponse:
    """Frames the response to a plain request, byte by byte as h11 would.

    :param is_head: the request is HEAD: there is no content, whatever the head says.
    """

    __slots__ = ("_is_chunked", "_is_head", "has_begun", "may_be_followed")

    def __init__(self, is_head: bool) -> None:
        self._is_head = is_head
        self._is_chunked = False
        self.has_begun = False
        self.may_be_followed = False
        """Whether another response may, behind this one."""

    def head(self, status: int, fields: Fields, *, close: bool) -> Iterable[bytes]:
        """The status line and the fields.

        :raises ValueError: for a field that is none.
        :raises h11.LocalProtocolError: for one that breaks the framing.
        """
        self.has_begun = True
        before, after, is_chunked, self.may_be_followed = _head(status, fields, close)
        self._is_chunked = is_chunked and not self._is_head
        return (before, messages.date(), after)

    def data(self, data: bytes) -> Iterable[bytes]:
        """A piece of the content."""
        if self._is_chunked:
            # An empty chunk would be the last.
            return (b"%x\r\n" % len(data), data, b"\r\n") if data else ()
        return (data,)

    def end(self) -> Iterable[bytes]:
        """The content is complete."""
        return (b"0\r\n\r\n",) if self._is_chunked else ()


@lru_cache(maxsize=256)
def _head(status: int, fields: Fields, close: bool) -> tuple[bytes, bytes, bool, bool]:
    """What stands before and behind the date; whether chunks follow; whether a response may.

    Remembered, because most responses have the fields of one before.
    """
    names = {name for name, _ in fields}
    if not _H11S_OWN.isdisjoint(names):
        return _head_by_h11(status, fields, close)
    head = [b"HTTP/1.1 %d %b\r\n" % (status, messages.PHRASES.get(status, b""))]
    for field in fields:
        name, value = field[0].encode("ascii"), field[1].encode("latin-1")
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            # The value may be a secret.
            raise ValueError(f"the header field {field[0]!r} cannot be sent")
        head.append(b"%b: %b\r\n" % (name, value))
    # RFC 9110 sections 15.3.5 and 15.4.5.
    has_content = status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    is_chunked = has_content and "content-length" not in names
    after = b"\r\n"
    if close:
        after += b"connection: close\r\n"
    if is_chunked:
        after += b"Transfer-Encoding: chunked\r\n"
    return b"".join([*head, b"date: "]), after + b"\r\n", is_chunked, not close


def _head_by_h11(status: int, fields: Fields, close: bool) -> tuple[bytes, bytes, bool, bool]:
    """The same, for an application that knows better than to leave framing to the server."""
    # Of HEAD, which has the head that GET would have, and no content to be sent as well.
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
    while connection.their_state is not h11.DONE:
        connection.next_event()
    head = connection.send(messages.head_of(status, fields, close=close))
    connection.send(h11.EndOfMessage())
    assert head is not None
    before, name_of_date, rest = head.rpartition(b"\r\ndate: ")
    after = rest[rest.index(b"\r\n") :]
    is_chunked = b"\r\nTransfer-Encoding: chunked\r\n" in after
    return before + name_of_date, after, is_chunked, connection.our_state is h11.DONE
