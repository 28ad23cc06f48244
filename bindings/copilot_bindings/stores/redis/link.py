"""The connection to the server, and the meaning of its errors."""

from __future__ import annotations

import logging
from hashlib import sha1
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from sansio_copilot import StoreAnswerLost, StoreUnavailable

from ...net.shown_url import without_secrets
from ..errors import StoreError, newer
from ..round_trips import Command
from .lua_functions import NEWER, TAKE_VERSION, VERSION, LuaScript

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 3.0
_REPLY_SECONDS = 8.0
_DEMOTED = "READONLY"
"""The word with which the error of a server begins that takes no writes any more; the error of a
script on such a server contains it."""
_PASSING = (
    _DEMOTED,
    "OOM",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "LOADING",
    "UNBLOCKED",
)
"""Parts of error replies whose cause passes: no memory, no disk, no replica, a failover."""


def connect(url: str, *, reconnects: bool = False) -> redis.Redis:
    """A client of the server; it connects when it is used.

    :param reconnects: whether commands that a broken connection has cut off are sent again, once
        and at once. Only the store knows whether commands that change something may be.
    :raises ValueError: for a text that is no URL, or has an option that redis-py does not have.
    """
    # A Unix socket has no keepalive, because its other end cannot vanish silently.
    options = {} if url.startswith("unix:") else {"socket_keepalive": True}
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=_REPLY_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
            retry=Retry(NoBackoff(), int(reconnects)),
            decode_responses=False,
            **options,
        )
        # The pool makes its connections later, and so would refuse an option only when it is used.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, RedisError):
        # The error itself is left out, because it may quote a part of the password.
        raise ValueError(
            "RedisStore needs the URL of a server, as redis://user:password@host:6379/0 with "
            f"percent-encoded parts, or rediss:// or unix://, not {without_secrets(url)!r}"
        ) from None
    return client


def _is_demoted(error: RedisError) -> bool:
    return isinstance(error, ReadOnlyError) or _DEMOTED in str(error)


def translated(name: str, error: RedisError, *, was_sent: bool = False) -> Exception:
    """Return the error of a store for an error of its server or connection.

    :param was_sent: whether something was sent, and no answer came.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, (MovedError, AskError)):
        return StoreError(
            name,
            "it is one of several servers of a Redis Cluster, and a store needs a server that has "
            "all keys: one without a cluster, or a cluster of one shard",
        )
    if isinstance(error, ResponseError) and text.startswith(NEWER):
        found = int(text.split()[1])
        return StoreError(name, newer("what the thread has is of", found, VERSION))
    passing = (redis.ConnectionError, redis.TimeoutError, BusyLoadingError, ReadOnlyError)
    if isinstance(error, (*passing, ClusterDownError)) or (
        isinstance(error, ResponseError) and any(word in text for word in _PASSING)
    ):
        kind = StoreAnswerLost if was_sent else StoreUnavailable
        return kind(f"{name}: {text}")
    return StoreError(name, text)


class Link:
    """Sends commands, and knows which scripts the server has.

    :param name: the name of the store in errors.
    :param version: the key of the version of the store's keys.
    """

    def __init__(self, client: redis.Redis, name: str, version: str) -> None:
        self._client = client
        self._name = name
        self._version = version
        self._is_of_version = False
        self._hashes: dict[LuaScript, str] = {}

    def send(self, commands: list[Command]) -> list[Any]:
        """Return the replies to ``commands``; any reply may be an exception.

        :raises StoreUnavailable: if no reply came, for now.
        :raises StoreError: if no reply came for another reason, or a newer release has written the
            keys.
        """
        pool = self._client.connection_pool
        try:
            # The connection is made anew unless it is alive, so that no command is sent in vain.
            connection: Any = pool.get_connection()
        except RedisError as error:
            raise translated(self._name, error) from error
        was_sent = False
        try:
            if not self._is_of_version:
                self._take_version(connection)
            was_sent = True
            replies = self._answers(connection, commands)
        except BaseException as error:
            # The connection is closed, because a reply that was not read would be taken for that to
            # the next command.
            connection.disconnect()
            if isinstance(error, RedisError):
                raise translated(self._name, error, was_sent=was_sent) from error
            raise
        finally:
            pool.release(connection)
        if any(isinstance(one, RedisError) and _is_demoted(one) for one in replies):
            # A server that takes no writes any more has a successor, which a new connection may
            # reach.
            pool.disconnect()
        return [
            translated(self._name, one) if isinstance(one, RedisError) else one for one in replies
        ]

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _take_version(self, connection: Any) -> None:
        """Find out which version the keys have, before any other command."""
        (version,) = self._execute(connection, [("EVAL", TAKE_VERSION, 1, self._version)])
        if isinstance(version, RedisError):
            raise version
        if version > VERSION:
            raise StoreError(self._name, newer("its keys have", version, VERSION))
        if version < VERSION:
            logger.info("%s: brought from version %d to %d", self._name, version, VERSION)
        self._is_of_version = True

    def _answers(self, connection: Any, commands: list[Command]) -> list[Any]:
        """Return the replies to commands, and load the scripts that the server does not have."""
        replies = self._execute(connection, commands)
        missing = [at for at, one in enumerate(replies) if isinstance(one, NoScriptError)]
        if missing:
            # The server does not know the script, because it is a new one or was told to forget its
            # scripts.
            scripts = {commands[at][0] for at in missing}
            self._execute(connection, [("SCRIPT LOAD", script.text) for script in scripts])
            again = self._execute(connection, [commands[at] for at in missing])
            for at, reply in zip(missing, again, strict=True):
                replies[at] = reply
        return replies

    def _execute(self, connection: Any, commands: list[Command]) -> list[Any]:
        """Return the replies to commands, without the client's own pipeline, which does more for
        each command."""
        wanted = [self._as_sent(command) for command in commands]
        connection.send_packed_command(connection.pack_commands(wanted))
        return [self._reply(connection, command[0]) for command in commands]

    def _as_sent(self, command: Command) -> Command:
        name = command[0]
        if isinstance(name, LuaScript):
            return "EVALSHA", self._hash(name), 1, *command[1:]
        return command

    def _reply(self, connection: Any, name: str | LuaScript) -> Any:
        try:
            reply = connection.read_response()
        except ResponseError as error:
            return error
        callbacks = self._client.response_callbacks
        return callbacks[name](reply) if isinstance(name, str) and name in callbacks else reply

    def _hash(self, script: LuaScript) -> str:
        found = self._hashes.get(script)
        if found is None:
            # SHA-1 is not used for security here: the server names a script by the SHA-1 of its
            # text.
            digest = sha1(script.text.encode(), usedforsecurity=False)
            found = self._hashes[script] = digest.hexdigest()
        return found
