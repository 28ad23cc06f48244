"""The connection to the server: what many runs want at once goes in one round trip.

A call of the store is a generator that yields commands, and is sent their replies; most yield once.
One thread takes whatever waits, sends the commands of all of them in a pipeline, and hands out the
replies. So the busier a store is, the less each call costs, and no call waits for a lock. What a
script has to do alone it does in the server.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from hashlib import sha1
from typing import Any, TypeAlias, TypeVar

import attrs
import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from sansio_copilot import StoreUnavailable

from .scripts import Script

logger = logging.getLogger(__name__)

T = TypeVar("T")
Command: TypeAlias = Sequence[Any]
"""The name of a command, or a script, and its arguments; those of a script begin with its key."""
Steps: TypeAlias = Generator[list[Command], list[Any], T]

_MOST_AT_ONCE = 500
_CONNECT_SECONDS = 3.0
_REPLY_SECONDS = 8.0
_PASSING = ("OOM", "MISCONF", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "LOADING", "UNBLOCKED")
"""How replies begin that say what passes: no memory, no disk, no replica, a failover."""


class StoreError(Exception):
    """The server refuses what the store needs, and waiting will not help."""


def connect(url: str) -> redis.Redis:
    """A client of the server; it connects when it is used.

    :raises ValueError: for a URL that is none.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=_REPLY_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_keepalive=True,
        # A kept connection that was closed meanwhile is made anew once, at once. All that is asked
        # may be asked again.
        retry=Retry(NoBackoff(), 1),
        decode_responses=False,
    )


def translated(name: str, error: RedisError) -> Exception:
    """The error of a store for one of its server or connection."""
    text = f"{name}: {error}" if str(error) else f"{name}: {type(error).__name__}"
    passing = (redis.ConnectionError, redis.TimeoutError, BusyLoadingError, ReadOnlyError)
    if isinstance(error, (*passing, ClusterDownError)) or (
        isinstance(error, ResponseError) and str(error).startswith(_PASSING)
    ):
        return StoreUnavailable(text)
    return StoreError(text)


@attrs.define(eq=False)
class _Job:
    """A call that is being made.

    :ivar replies: what its last commands were answered; None before the first.
    """

    steps: Steps[Any]
    future: Future[Any]
    replies: list[Any] | None = None


class Link:
    """The thread that talks to the server.

    :param name: what errors call the store.
    """

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._client = client
        self._name = name
        self._hashes: dict[Script, str] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="copilot-redis", daemon=True)
        self._thread.start()

    def submit(self, steps: Steps[T]) -> Future[T]:
        """Have the steps made; done when they have returned."""
        future: Future[T] = Future()
        self._jobs.put(_Job(steps, future))
        return future

    def close(self, seconds: float) -> bool:
        """Do what was submitted, then end; returns whether it has ended in time."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _live(self) -> None:
        going: list[_Job] = []
        ended = False
        while going or not ended:
            job: _Job | None = None
            try:
                job = self._jobs.get(block=not going and not ended)
                while job is not None:
                    if job.future.set_running_or_notify_cancel():
                        going.append(job)
                    if len(going) >= _MOST_AT_ONCE:
                        break
                    job = self._jobs.get_nowait()
                else:
                    ended = True
            except queue.Empty:
                pass
            # Nothing of what was done is kept while nothing is to be done.
            del job
            going = self._step(going)
        self._client.close()

    def _step(self, jobs: list[_Job]) -> list[_Job]:
        """Let each call have its replies, and send what all of them want next."""
        asking: list[tuple[_Job, list[Command]]] = []
        for job in jobs:
            try:
                wanted = next(job.steps) if job.replies is None else job.steps.send(job.replies)
            except StopIteration as done:
                job.future.set_result(done.value)
            except BaseException as error:
                job.future.set_exception(error)
            else:
                asking.append((job, wanted))
        if not asking:
            return []
        try:
            replies = iter(self._send([command for _, wanted in asking for command in wanted]))
        except RedisError as error:
            for job, _ in asking:
                job.steps.close()
                job.future.set_exception(translated(self._name, error))
            return []
        going = []
        for job, wanted in asking:
            job.replies = [next(replies) for _ in wanted]
            failed = next((one for one in job.replies if isinstance(one, RedisError)), None)
            if failed is None:
                going.append(job)
            else:
                job.steps.close()
                job.future.set_exception(translated(self._name, failed))
        return going

    def _send(self, commands: list[Command]) -> list[Any]:
        replies = self._execute(commands)
        missing = [index for index, one in enumerate(replies) if isinstance(one, NoScriptError)]
        if missing:
            # The server is a new one, or was told to forget its scripts.
            scripts = {commands[index][0] for index in missing}
            self._execute([("SCRIPT LOAD", script.text) for script in scripts])
            again = self._execute([commands[index] for index in missing])
            for index, reply in zip(missing, again, strict=True):
                replies[index] = reply
        return replies

    def _execute(self, commands: list[Command]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            # The client is typed for each command, and not for those that a store makes up.
            send: Any = pipeline.execute_command
            for command in commands:
                if isinstance(command[0], Script):
                    send("EVALSHA", self._hash(command[0]), 1, *command[1:])
                else:
                    send(*command)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    def _hash(self, script: Script) -> str:
        found = self._hashes.get(script)
        if found is None:
            # The server knows a script by the SHA-1 of its text, which protects nothing.
            digest = sha1(script.text.encode(), usedforsecurity=False)
            found = self._hashes[script] = digest.hexdigest()
        return found
