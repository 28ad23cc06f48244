"""The threads endpoints: list, messages, events, state, clear, and, if allowed, mutations."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import attrs

from .. import json_codec
from ..access import ThreadAction
from ..calls import Call
from ..errors import shorten
from ..http.messages import Response
from ..http.refusals import Refusal, forbidden, invalid_body
from ..stores import calls
from ..stores.calls import StoreCall, perform
from ..stores.protocol import Batch, Kind, LogGone, ThreadQuery, ThreadRecord, UnknownCursor
from . import histories, hosted_platform
from .request_and_reply import EndpointInput, EndpointSteps, Reply

# An answer lists at most this many threads, because it is made as a whole; the rest is on
# further pages.
_MOST_THREADS = 1000
# A thread's name has at most this many characters, because an answer has the names of many threads.
# A list of threads shows fewer.
_LONGEST_NAME = 1024
# A history that changes while it is read is read from its beginning at most this many times.
_TRIES = 3
# A text is read in one page, because a page of a text that a store has whole is no copy.
_WHOLE = 2**31 - 1


def list_threads(given: EndpointInput) -> EndpointSteps:
    """GET /threads: the threads that have history, the last updated first.

    Query: ``agentId`` filters, ``includeArchived=true`` shows archived ones as well,
    ``waiting=true`` those only that wait for somebody, ``limit`` and ``cursor`` page.
    """
    _check_shared(given)
    query = _Query.of(given)
    wanted = ThreadQuery(
        (yield from given.owner("list")),
        query.get("agentId") or None,
        None if query.get("includeArchived") == "true" else False,
        query.limit(_MOST_THREADS),
        query.get("cursor") or None,
        True if query.get("waiting") == "true" else None,
    )
    try:
        page = yield from perform(calls.list_threads(given.store, wanted))
    except UnknownCursor:
        raise query.refusal("cursor") from None
    threads = [_thread(record) for record in page.threads]
    return Reply(Response.json({"threads": threads, "nextCursor": page.next_cursor}))


def messages(given: EndpointInput) -> EndpointSteps:
    """GET /threads/:threadId/messages, in the reference's own shape; paged on request."""
    window = _Query.of(given).window()
    text = yield from _text(given, "messages")
    found = histories.Messages(text, window, _message, given.runtime.limits.read_bytes)
    return _unchanged((yield from histories.answer(found.pieces, found.text, found.own)))


def events(given: EndpointInput) -> EndpointSteps:
    """GET /threads/:threadId/events: the compacted events of a replay; paged on request."""
    window, limits = _Query.of(given).window(), given.runtime.limits
    thread_id, owner = yield from _asked(given)

    def read(cursor: Any) -> StoreCall[Batch | LogGone]:
        size = limits.read_bytes
        return calls.read_history(given.store, thread_id, "frames", cursor, size, owner)

    for _ in range(_TRIES):
        reply = yield from histories.answer(lambda: histories.events(read, window))
        if reply is not None:
            return reply
    raise _changes_too_fast(thread_id)


def state(given: EndpointInput) -> EndpointSteps:
    """GET /threads/:threadId/state: the state after the last run; null if it has left none."""
    text = yield from _text(given, "state")
    size = given.runtime.limits.read_bytes
    return _unchanged((yield from histories.answer(lambda: histories.state(text, size), text)))


def clear(given: EndpointInput) -> EndpointSteps:
    """POST /threads/clear: forget all threads of the user; a live run goes on."""
    _check_shared(given)
    owner = yield from given.owner("clear")
    yield from perform(calls.clear(given.store, owner))
    return Reply(Response(204))


def update(given: EndpointInput) -> EndpointSteps:
    """PATCH and DELETE /threads/:threadId, if the runtime allows it; else the reference's 422."""
    if not given.runtime.thread_mutations:
        return (yield from hosted_platform.thread_operation(given))
    if given.request.method == "DELETE":
        thread_id = _thread_id(given)
        owner = yield from given.owner("delete", thread_id)
        if not (yield from perform(calls.delete_thread(given.store, thread_id, owner))):
            raise given.no_such_thread(thread_id)
        return Reply(Response.json({"threadId": given.route.thread_id, "deleted": True}))
    changes = _changes(given)
    return Reply(Response.json((yield from _update(given, "update", changes))))


def archive(given: EndpointInput) -> EndpointSteps:
    """POST /threads/:threadId/archive, if the runtime allows it; else the reference's 422."""
    if not given.runtime.thread_mutations:
        return (yield from hosted_platform.thread_operation(given))
    yield from _update(given, "archive", {"archived": True})
    return Reply(Response.json({"threadId": given.route.thread_id, "archived": True}))


def _update(
    given: EndpointInput, action: ThreadAction, changes: dict[str, Any]
) -> Generator[Call, Any, dict[str, Any]]:
    thread_id = _thread_id(given)
    owner = yield from given.owner(action, thread_id)
    record = yield from perform(calls.update_thread(given.store, thread_id, changes, owner))
    if record is None:
        raise given.no_such_thread(thread_id)
    return _thread(record)


def _check_shared(given: EndpointInput) -> None:
    """Check that the threads are those of the user who asks, or of people who share them.

    :raises Refusal: with 403, if they belong to everybody who can reach a server without users.
    """
    if not given.may_list:
        raise Refusal(forbidden("This server knows no users, and keeps the list of threads closed"))


def _changes(given: EndpointInput) -> dict[str, Any]:
    """The members that a PATCH body changes; others, such as the client's ``agentId``, are ignored.

    :raises Refusal: with 400, if it changes nothing, or has a value of the wrong type.
    """
    try:
        value = given.json()
    except ValueError as error:
        raise Refusal(invalid_body(f"not JSON: {error}")) from None
    if not isinstance(value, dict):
        raise Refusal(invalid_body("expected an object"))
    changes = {key: value[key] for key in ("name", "archived") if key in value}
    if not changes:
        raise Refusal(invalid_body("expected name or archived"))
    if not isinstance(changes.get("name"), str | None):
        raise Refusal(invalid_body("name: expected a string or null"))
    if len(changes.get("name") or "") > _LONGEST_NAME:
        raise Refusal(invalid_body(f"name: expected at most {_LONGEST_NAME} characters"))
    if not isinstance(changes.get("archived", False), bool):
        raise Refusal(invalid_body("archived: expected a boolean"))
    return changes


@attrs.frozen
class _Query:
    """The query of a request. If a parameter is repeated, its first value counts."""

    values: dict[str, list[str]]

    @classmethod
    def of(cls, given: EndpointInput) -> _Query:
        return cls(parse_qs(given.request.query, keep_blank_values=True))

    def get(self, name: str) -> str:
        return self.values.get(name, [""])[0]

    def window(self) -> histories.Window:
        """The items that ``limit`` and ``cursor`` ask for; all items without them.

        A cursor is the number of items that come before it. So items that change place between two
        requests may be seen twice, or not at all, but nothing is kept for a reader.

        :raises Refusal: with 400, for a limit or cursor that is not valid.
        """
        requested = "limit" in self.values or "cursor" in self.values
        return histories.Window(self._number("cursor") or 0, self._number("limit"), requested)

    def limit(self, most: int) -> int:
        """Return the number of items that the query asks for, at most ``most``.

        :raises Refusal: with 400, if the query's limit is no such number.
        """
        limit = self._number("limit")
        return most if limit is None else min(max(limit, 1), most)

    def refusal(self, name: str) -> Refusal:
        """The refusal (400) of a parameter with a value that makes no sense."""
        message = f"{name}: expected one that this server gave out, or a number for a limit"
        return Refusal(Response.json({"error": "Invalid query", "details": message}, 400))

    def _number(self, name: str) -> int | None:
        text = self.get(name)
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise self.refusal(name)
        return int(text)


def _asked(given: EndpointInput) -> Generator[Call, Any, tuple[str, str | None]]:
    """Return the thread whose history is to be read, and the user in whose name it is read."""
    thread_id = _thread_id(given)
    return thread_id, (yield from given.owner("read", thread_id))


def _text(given: EndpointInput, kind: Kind) -> Generator[Call, Any, bytes]:
    """The messages or the state that a thread's ended runs have left.

    :raises RuntimeError: if it changes faster than it can be read.
    """
    thread_id, owner = yield from _asked(given)
    for _ in range(_TRIES):
        pages: list[bytes] = []
        page: Batch | LogGone | None = None
        while not isinstance(page, LogGone):
            cursor = None if page is None else page.cursor
            page = yield from perform(
                calls.read_history(given.store, thread_id, kind, cursor, _WHOLE, owner)
            )
            if isinstance(page, Batch):
                pages.append(page.data)
                if page.ended:
                    return pages[0] if len(pages) == 1 else b"".join(pages)
    raise _changes_too_fast(thread_id)


def _changes_too_fast(thread_id: str) -> RuntimeError:
    return RuntimeError(f"the history of thread {shorten(thread_id)!r} changes too fast to be read")


def _unchanged(reply: Reply | None) -> Reply:
    assert reply is not None, "a text that has been read does not change"
    return reply


def _thread_id(given: EndpointInput) -> str:
    thread_id = given.route.thread_id
    assert thread_id is not None, "the route has one"
    return thread_id


def _thread(record: ThreadRecord) -> dict[str, Any]:
    thread = {
        "id": record.thread_id,
        "name": record.name,
        "agentId": record.agent_id,
        # These members are empty, because only the hosted platform has such ids.
        "organizationId": "",
        "createdById": "",
        "archived": record.archived,
        "createdAt": _iso(record.created_at),
        "updatedAt": _iso(record.updated_at),
    }
    if record.waits_for is not None:
        thread["waitsFor"] = json_codec.decode(record.waits_for)
    return thread


def _iso(seconds: float) -> str:
    """A time as JavaScript's ``toISOString`` writes it."""
    time = datetime.fromtimestamp(seconds, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(message: dict[str, Any]) -> dict[str, Any]:
    mapped = {"id": message.get("id"), "role": message.get("role")}
    if "content" in message:
        mapped["content"] = message["content"]
    if message.get("role") == "assistant" and message.get("toolCalls"):
        mapped["toolCalls"] = list(_tool_calls(message["toolCalls"]))
    if message.get("role") == "tool":
        mapped["toolCallId"] = message.get("toolCallId")
    return mapped


def _tool_calls(calls: object) -> Iterator[dict[str, Any]]:
    """The items that are tool calls. History that older releases have stored may have others."""
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, arguments = function.get("name"), function.get("arguments")
            yield {"id": call.get("id"), "name": name, "args": arguments}
