"""Limits on the memory, time and work that one client, or one request, may cost."""

from __future__ import annotations

import math
from typing import Any

import attrs

from .events.patch import DEFAULT_PATCH_BYTES


def check_positive(name: str, value: object) -> None:
    """Check that the argument ``name`` is a number above 0.

    :raises ValueError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{name} must be a number above 0, got {value!r}")


def positive(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check that a field is a number above 0.

    :raises ValueError: if it is not.
    """
    check_positive(attribute.name, value)


def count_or_infinity(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check that a field is a whole number from 0 on, or infinite.

    :raises ValueError: if it is not.
    """
    if value != math.inf and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{attribute.name} must be a non-negative int or math.inf, got {value!r}")


def _whole(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    positive(instance, attribute, value)
    if not isinstance(value, int):
        raise ValueError(f"{attribute.name} must be a whole number, got {value!r}")


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of a runtime, each with a default that suits a chat behind a proxy.

    The first group holds everywhere; the second in every binding; the last in the bindings that
    own their sockets, because elsewhere the server in front of the application has such limits.

    :param body_bytes: largest request body in bytes; a larger one is answered 413. 32 MiB holds a
        long conversation with a few pictures in it as base64, and a browser sends all of it with
        each run.
    :param body_values: JSON values that a request body may have, each string, number, literal,
        array and object being one; a body with more is answered 413 before they are made, because
        small ones take fifty times their size. 250,000 are some 40,000 messages with their tool
        calls, or a state with a table of 25,000 rows.
    :param heartbeat_seconds: seconds of silence after which a stream carries a comment. 15 is well
        under the 55-60 s after which common proxies cut an idle response.
    :param cleanup_seconds: seconds for which a stream stays open for an agent that is silent after
        its terminal event. AG-UI lets an agent go on after RUN_FINISHED with another RUN_STARTED,
        so the end of the stream cannot come at once; 0.1 is enough for an agent that goes on, and
        the front end waits for the end of the stream before it sends the result of a tool call.
    :param read_bytes: bytes of the log that a reader takes, and so sends, at a time. 256 KiB keeps
        a long replay from building up in memory for each slow client.
    :param patch_bytes: bytes of JSON that the patches of one run (STATE_DELTA and ACTIVITY_DELTA)
        may make beyond their own text: those that ``copy`` copies, where an array or object counts
        for 16 beside its content, and one for each 32 elements of lists that an insertion or
        removal moves. 1 MiB is a tenth of a second of work or two. A patch that makes more is
        passed on to clients and logged, and is otherwise treated as one that does not apply.

    :param runs: runs that may be live at once; one more is answered 503 with Retry-After. 10,000
        runs are far more than a server is meant for, and still fit into the memory of a small one.
    :param user_runs: runs that one user may have live at once, where ``identify_user`` knows users,
        suggestions included; one more is answered 429 with Retry-After. This and the next are
        counted in each process by itself. None are set by default, here and in the next two,
        because what is much for a person is little for a service.
    :param user_runs_per_minute: runs that one user may begin in any 60 seconds.
    :param user_bytes: bytes of one user's threads that the store may keep, before the next run is
        answered 429. The store is asked at most once in 10 seconds for each user, and what it
        counts are the frames of runs, and in memory all the rest as well.
    :param bodies_bytes: bytes of request bodies that may be held at once, from their arrival until
        their requests have been understood; a body beyond them is answered 503 with Retry-After.
        One body may be of ``body_bytes`` even if that is more. 256 MiB are eight of the largest
        bodies, and hundreds of the usual ones.
    :param answers_bytes: bytes that answers of more than 1 MiB may hold together while their
        clients take them; one more is answered 503 with Retry-After. A single one may be longer.
        The messages and the states of long threads are such answers, because a store hands out the
        whole text, which is sent in pieces; events are read as they are taken, and hold a page. A
        transport may hold a second copy of what its client has not taken of a response that is
        whole. 256 MiB are eight texts of the size of the largest body.
    :param hook_seconds: seconds that a hook may take, a function that picks agents, or one that
        tells capabilities. A call that takes longer fails, as if it had raised an exception. 30 s
        is more than a call to an identity provider takes that is going to succeed.
    :param store_seconds: the same for a call of a store that is async or ``blocking``. A call that
        takes longer counts as one of a store that is unavailable. 30 s outlives a failover of most
        databases.
    :param outage_seconds: seconds for which a run, and each stream, goes on while the store is
        unavailable (:class:`~sansio_copilot.StoreUnavailable`), with pauses of at most a second
        between two tries. 30 s outlives a restart or a failover of most databases.
    :param unavailable_seconds: seconds for which a request waits for such a store before its
        response has begun; it is answered 503 then, with Retry-After. 10 s are more than a restart
        takes, and less than a proxy waits.
    :param outage_bytes: bytes of frames that a run holds meanwhile; an agent that has yielded more
        waits for the store. 1 MiB is far more than a model writes in that time.
    :param service_seconds: the same for a transcription service. It is 120 s because a long
        recording takes its time.
    :param call_threads: calls of plain functions that may be in threads at once, for each kind of
        function: each hook, ``identify_user``, ``authorize``, the functions that pick agents and
        tell capabilities, the transcription service, ``title``, ``on_start`` and ``on_close``, and
        the store with all of its methods. So functions of one kind that hang hold up no other.
        Further calls wait for their turn. There are up to twice as many threads if calls do not
        return in time. 128 threads that only wait cost little.

    :param connections: connections that may be open; one more is answered 503 with Retry-After and
        closed.
        10,000 idle streams fit into the memory of a small server. Mind the process's own limit on
        file descriptors.
    :param header_bytes: largest request head in bytes; a larger one is answered 431, or 414 if its
        first line alone is larger. 64 KiB is four times as much as Node takes, because a request
        may come with many cookies.
    :param header_seconds: seconds that a client may take for a request's head, from its first byte;
        after them it is answered 408. 20 s is far more than any client needs, and short for one
        that holds connections open by sending a byte now and then.
    :param body_seconds: the same for a request's body. 300 s, as Node has it, lets a phone on a
        slow network upload the largest body.
    :param idle_seconds: seconds that a connection may stay open between two requests. 75 s is more
        than the 60 s for which proxies keep theirs, so that no connection is closed under a
        request.
    :param write_seconds: seconds for which a client may take none of the bytes that are ready for
        it. Its connection is then dropped, and it may resume. 60 s outlives a change of networks.
    :raises ValueError: for a limit that is not a number above 0; ``read_bytes``, ``header_bytes``
        and ``call_threads`` must be whole numbers, the others may be ``math.inf``.
    """

    body_bytes: int = attrs.field(default=32 * 1024**2, validator=positive)
    body_values: int = attrs.field(default=250_000, validator=positive)
    heartbeat_seconds: float = attrs.field(default=15.0, validator=positive)
    cleanup_seconds: float = attrs.field(default=0.1, validator=positive)
    read_bytes: int = attrs.field(default=256 * 1024, validator=_whole)
    patch_bytes: float = attrs.field(default=DEFAULT_PATCH_BYTES, validator=positive)

    runs: int = attrs.field(default=10_000, validator=positive)
    user_runs: float = attrs.field(default=math.inf, validator=positive)
    user_runs_per_minute: float = attrs.field(default=math.inf, validator=positive)
    user_bytes: float = attrs.field(default=math.inf, validator=positive)
    bodies_bytes: int = attrs.field(default=256 * 1024**2, validator=positive)
    answers_bytes: int = attrs.field(default=256 * 1024**2, validator=positive)
    hook_seconds: float = attrs.field(default=30.0, validator=positive)
    store_seconds: float = attrs.field(default=30.0, validator=positive)
    outage_seconds: float = attrs.field(default=30.0, validator=positive)
    unavailable_seconds: float = attrs.field(default=10.0, validator=positive)
    outage_bytes: int = attrs.field(default=1024**2, validator=positive)
    service_seconds: float = attrs.field(default=120.0, validator=positive)
    call_threads: int = attrs.field(default=128, validator=_whole)

    connections: int = attrs.field(default=10_000, validator=positive)
    header_bytes: int = attrs.field(default=64 * 1024, validator=_whole)
    header_seconds: float = attrs.field(default=20.0, validator=positive)
    body_seconds: float = attrs.field(default=300.0, validator=positive)
    idle_seconds: float = attrs.field(default=75.0, validator=positive)
    write_seconds: float = attrs.field(default=60.0, validator=positive)


DEFAULT_LIMITS = Limits()
