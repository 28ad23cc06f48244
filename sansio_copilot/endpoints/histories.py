"""A thread's history as one JSON text, in pieces, because all of it may not fit into memory.

A history up to :data:`~sansio_copilot.http.long_answers.LONG` is answered whole, so that hooks see
its body and its length is announced. A longer one is made while its client takes it:

- events are read page by page, the next page when the client has taken the last one;
- messages and state are one text in every store. The store is asked for all of it at once, because
  a later page may be one of a newer text. A store in memory hands out the text that it has itself;
  other texts are counted (:class:`~sansio_copilot.http.long_answers.LongAnswers`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Any, Final

import attrs

from .. import json_codec
from ..calls import Call
from ..http.long_answers import LONG
from ..http.messages import Response
from ..sse import FrameData
from ..stores.calls import StoreCall, perform
from ..stores.protocol import Batch, LogGone
from .request_and_reply import Content, Pieces, Reply

_JSON: Final = Response(200, {"content-type": "application/json"})
_STREAMED: Final = attrs.evolve(_JSON, stream=True)


@attrs.frozen
class Window:
    """The window of a longer list: the items that are asked for.

    :param start: the number of items before the window.
    :param limit: the most items of the window; None for all.
    :param requested: whether a page was asked for, which says where the next page begins.
    """

    start: int = 0
    limit: int | None = None
    requested: bool = False

    @property
    def stop(self) -> int:
        """The place behind the last item of the window."""
        return sys.maxsize if self.limit is None else self.start + max(self.limit, 1)

    def end(self, items: int) -> bytes:
        """The end of a JSON object whose last member is the array of the items.

        :param items: the number of items in the list; a lower number is enough if it is above
            :attr:`stop`.
        """
        if not self.requested:
            return b"]}"
        cursor = str(self.stop) if self.stop < items else None
        return b'],"nextCursor":%s}' % json_codec.encode(cursor)


def answer(
    make: Callable[[], Pieces], text: bytes = b"", own: int = 0
) -> Generator[Call, Any, Reply | None]:
    """Answer with the pieces as a whole, or, if they are too long, with each as it is made.

    :param make: makes the pieces from the first one on.
    :param text: the text that the pieces are made of, if it has been read.
    :param own: the bytes of the longest piece, if that counts too.
    :returns: None if the history has changed meanwhile, so that the next pieces do not fit.
    """
    pieces: list[bytes] = []
    steps, size, outcome = make(), 0, None
    while size <= LONG:
        try:
            step = steps.send(outcome)
        except StopIteration as end:
            return Reply(attrs.evolve(_JSON, body=b"".join(pieces))) if end.value else None
        outcome = None
        if isinstance(step, bytes):
            pieces.append(step)
            size += len(step)
        else:
            outcome = yield step
    # The pieces are made again from the first one on, so that a slow client does not hold them.
    return Reply(_STREAMED, content=Content(make(), text, own))


def events(read: Callable[[Any], StoreCall[Batch | LogGone]], window: Window) -> Pieces:
    """The events of a history, which are not parsed, because each is JSON already.

    :param read: makes the call that reads the page at a cursor, None for the first one.
    """
    frames, piece, cursor, sent = FrameData(), b'{"events":[', None, False
    while True:
        page = yield from perform(read(cursor))
        if isinstance(page, LogGone):
            return False
        begun, is_inside = frames.begun, frames.is_inside
        texts = frames.feed(page.data)
        # The first text is the rest of an event if the page before ended inside of that event.
        first = begun - is_inside
        skipped = max(window.start - first, 0)
        texts = texts[skipped : max(window.stop - first, 0)]
        if texts and sent and (skipped or not is_inside):
            piece += b","
        sent = sent or bool(texts)
        piece += b",".join(texts)
        cursor, ended = page.cursor, page.ended or frames.begun > window.stop
        # Nothing but the piece is kept while the client takes it.
        del page, texts
        if ended:
            yield piece + window.end(frames.begun)
            return True
        if piece:
            yield piece
        piece = b""


class Messages:
    """The messages of a history, a few of which are parsed at a time.

    :param text: a JSON array.
    :param mapped: turns a message into the form in which it is sent.
    :param size: the bytes that are parsed, and sent, at a time, unless one message has more.
    """

    def __init__(
        self, text: bytes, window: Window, mapped: Callable[[Any], Any], size: int
    ) -> None:
        text, lengths = json_codec.elements(text)
        self.text = text
        """The array without a blank between its elements."""
        self._mapped, self._size = mapped, size
        self._end = window.end(len(lengths))
        self._groups: list[tuple[int, int]] = []
        begin = place = 1
        for index, length in enumerate(islice(lengths, window.stop)):
            if index < window.start:
                begin = place + length + 1
            elif begin < place and place + length - begin > size:
                self._groups.append((begin, place - 1))
                begin = place
            place += length + 1
        if begin < place:
            self._groups.append((begin, place - 1))

    @property
    def own(self) -> int:
        """The bytes of the longest message, if it is so long that the copy of it counts."""
        longest = max((end - begin for begin, end in self._groups), default=0)
        return longest if longest > LONG else 0

    def pieces(self) -> Pieces:
        """The pieces of the JSON object that has the messages."""
        before = b'{"messages":['
        for begin, end in self._groups:
            messages = json_codec.decode(b"[%s]" % self.text[begin:end])
            made = before + json_codec.encode([self._mapped(message) for message in messages])[1:-1]
            del messages
            yield from _slices(made, self._size)
            before = b","
        yield self._end if self._groups else before + self._end
        return True


def state(text: bytes, size: int) -> Pieces:
    """The pieces of the JSON object that has the thread's state.

    :param text: the state as JSON; empty if there is none.
    :param size: the bytes that are sent at a time.
    """
    yield b'{"state":'
    yield from _slices(text or b"null", size)
    yield b"}"
    return True


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[begin : begin + size] for begin in range(0, len(data), size))
