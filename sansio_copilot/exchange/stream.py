"""Sending a response: its head, and then content that is whole, or made meanwhile, or a thread log.

A reader is only a cursor on the log: it reads the frames that are there, sends them, and waits for
the store to say that there are more. A slow client takes no memory but its offset, because nothing
is read for a client that has not taken the bytes before. Five things can happen besides:

- the log is silent for long: a heartbeat comment goes out, so that proxies keep the stream open;
- the log ends: so does the response;
- the next part of the log has been evicted or deleted (:class:`~sansio_copilot.stores.LogGone`):
  the response is broken off, so that it does not look complete;
- the run's owner has died (an orphan): this reader ends the run in its owner's place, and goes on;
- the store is unavailable: the reader asks again after a while (:mod:`.retries`).

A stream may have opened a run of its own: :func:`discard` undoes the opening of a run that is not
going to start, and :func:`stop_ephemeral` stops a run that dies with its client.
"""

from __future__ import annotations

import logging
from typing import Any

from .. import sse
from ..config import RuntimeConfig
from ..endpoints import LogStream, Pieces
from ..errors import StoreUnavailable
from ..http.messages import WITHOUT_CONTENT, Response
from ..limits import Limits
from ..runs.orphans import adopt
from ..stores import calls
from ..stores.calls import StoreCall
from ..stores.protocol import Batch
from .actions import ContentSteps, ExchangeSteps, SendBytes, SendHead, WaitForFrames
from .retries import Retries, ask_again

logger = logging.getLogger(__name__)


_BROKEN_OFF = "%s %s was broken off: what was to be sent has been evicted or deleted"


def head_of(response: Response, length: int | None, method: str) -> tuple[SendHead, bool]:
    """Return the head of a response, and whether content follows it (RFC 9110 section 6.4.1).

    :param length: the length of the content in bytes; None if it is not known beforehand.
    :param method: the method of the request on the wire; a response to HEAD has no content.
    """
    fields = [field for field in response.headers.raw if field[0] != "content-length"]
    may_have_content = response.status not in WITHOUT_CONTENT
    if may_have_content and length is not None:
        fields.append(("content-length", str(length)))
    return SendHead(response.status, tuple(fields)), may_have_content and method != "HEAD"


def whole_of(response: Response, method: str) -> tuple[SendHead, bytes]:
    """Return the head of a response whose content is known, and the content that follows it.

    A binding sends by it the responses that come from no exchange, such as the refusal of bytes
    that are no request; :func:`~sansio_copilot.http.refusals.log_refusal` tells of those.

    :param method: the method of the request.
    """
    head, has_content = head_of(response, len(response.body), method)
    return head, response.body if has_content else b""


def send_whole(head: SendHead, content: bytes) -> ContentSteps:
    """Send a response whose content, which may be empty, is known."""
    yield head
    if content:
        yield SendBytes(content)
    return True


def send_log(
    stream: LogStream,
    head: SendHead,
    reader: object,
    runtime: RuntimeConfig,
    now: float,
    asked_for: tuple[str, str],
    *,
    has_content: bool,
) -> ContentSteps:
    """Send the log until it ends, with a comment whenever it is silent for long.

    :param head: the head of the response.
    :param reader: the member of the stream's audience that leaves it at the end.
    :param now: seconds since the epoch when the request arrived.
    :param asked_for: the method and path of the request, for log lines.
    :param has_content: whether anything is sent behind the head.
    :returns: whether all of it was sent; False if the rest is gone.
    """
    # This is one function, because a generator inside of it would be resumed for each event.
    cursor, limits, store = stream.cursor, runtime.limits, stream.store
    retries: Retries | None = None
    last_bytes = b""
    try:
        yield head
        # The head is dropped, so that an idle stream does not keep what it has sent.
        del head
        if has_content and stream.preface:
            yield SendBytes(stream.preface)
        while has_content:
            # The call is written out, because a constructor of its own would be one more call for
            # each event, and a partial object takes three times as long. Its name, and the types
            # of its outcome, are those of READ.
            reading = StoreCall(
                store.read,
                (cursor, limits.read_bytes),
                name=calls.READ.label,
                blocking=store.blocking,
                method=calls.READ,
            )
            try:
                batch = yield reading
            except StoreUnavailable as error:
                retries = retries or Retries(limits.outage_seconds, limits)
                yield from retries.wait(error)
                if (
                    retries.is_silent_for(limits.heartbeat_seconds)
                    and last_bytes in sse.BETWEEN_FRAMES
                ):
                    yield SendBytes(sse.HEARTBEAT)
                continue
            if not isinstance(batch, Batch):
                # The outcome is LogGone, if it is of a type that the store may return at all.
                reading.checked(batch)
                logger.warning(_BROKEN_OFF, *asked_for)
                return False
            cursor, size = batch.cursor, len(batch.data)
            if size:
                last_bytes = batch.data[-2:] if size > 1 else last_bytes[-1:] + batch.data
                yield SendBytes(batch.data)
            if batch.ended:
                break
            if batch.orphan is not None:
                try:
                    yield from adopt(runtime, batch.orphan, now)
                except StoreUnavailable as error:
                    # The reader waits and reads on, because it is handed the orphan again then.
                    retries = retries or Retries(limits.outage_seconds, limits)
                    yield from retries.wait(error)
                continue
            retries = None
            if size < limits.read_bytes:
                # The batch is dropped, so that an idle stream does not keep the bytes that it has
                # sent.
                del batch, reading
                is_silent = not (yield WaitForFrames(store, cursor, limits.heartbeat_seconds))
                if is_silent and last_bytes in sse.BETWEEN_FRAMES:
                    yield SendBytes(sse.HEARTBEAT)
        return True
    finally:
        if stream.audience is not None:
            stream.audience.leave(reader)


def send_pieces(
    pieces: Pieces, head: SendHead, limits: Limits, asked_for: tuple[str, str], *, has_content: bool
) -> ContentSteps:
    """Send content that is made meanwhile, a piece when the client has taken the one before.

    :param pieces: the steps that make the content.
    :param head: the head of the response.
    :param asked_for: the method and path of the request, for log lines.
    :param has_content: whether anything is sent behind the head.
    :returns: whether all of it was sent; False if the rest is gone.
    """
    yield head
    outcome: Any = None
    while has_content:
        try:
            step = pieces.send(outcome)
        except StopIteration as end:
            if not end.value:
                logger.warning(_BROKEN_OFF, *asked_for)
            return bool(end.value)
        outcome = None
        if isinstance(step, bytes):
            yield SendBytes(step)
            continue
        try:
            outcome = yield step
        except StoreUnavailable as error:
            outcome = yield from ask_again(step, error, Retries(limits.outage_seconds, limits))
    return True


def give_up(stream: LogStream | None) -> ContentSteps:
    """Send nothing more, whether or not the response has begun."""
    yield from stop_ephemeral(stream)
    return False


def discard(stream: LogStream | None) -> ExchangeSteps:
    """Undo the opening of a run that is not going to start."""
    if stream is not None and stream.run is not None:
        run = stream.run
        if run.quota_slot is not None:
            run.quota_slot.leave(None)
        yield from _clean_up(calls.close_run(run.store, run.key, 0, b"", None))


def stop_ephemeral(stream: LogStream | None) -> ExchangeSteps:
    """Stop a run that dies with its client."""
    if stream is not None and stream.ephemeral and stream.run is not None:
        run = stream.run
        yield from _clean_up(calls.request_stop(run.store, run.key.thread_id, None, None))


def _clean_up(action: StoreCall[Any]) -> ExchangeSteps:
    """Perform ``action``, twice if it fails, and log its failure.

    An exception of the action itself would hide the error for which it is performed.
    """
    for _ in range(2):
        try:
            yield action
        except Exception as error:
            what = action.args[0]
            logger.error("%s failed to clean up: %s", action.name, what, exc_info=error)
        else:
            return
