"""Opens a store before the first server uses it, and closes it when the last one has ended.

Several servers, apps and loops of one process may share a store. They are counted, so that each
calls :meth:`StoreLife.open` and :meth:`StoreLife.close` for itself, and the store is told once. A
forked process counts anew, because it has none of its parent's threads and connections.

A store need not have ``open`` or ``close``, and then there is nothing to do.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

from sansio_copilot.calls import Call
from sansio_copilot.http import refusals
from sansio_copilot.stores.calls import close_store, open_store
from sansio_copilot.stores.optional_methods import is_closable, is_openable
from sansio_copilot.stores.protocol import ThreadStore

from .backend import Backend
from .calls import Calls
from .steps_outside_requests import make

logger = logging.getLogger(__name__)


class NotStarted(RuntimeError):
    """The server cannot serve; the text says why.

    :cvar refusal: the response to a request, where a server can only answer its requests.
    """

    refusal = refusals.NOT_STARTED


class StoreNotOpened(NotStarted):
    """A store cannot be opened, so that nothing can be served."""

    refusal = refusals.STORE_UNAVAILABLE

    def __init__(self, store: object, error: BaseException) -> None:
        super().__init__(f"the store {type(store).__name__} cannot be opened: {error}")


class _Shared:
    """A store that is open, or about to be, with the number of its users."""

    def __init__(self, store: ThreadStore) -> None:
        # The store is kept, so that no other object can get its identity.
        self.store = store
        self.users = 0
        self.opened: Future[None] = Future()


_shared: dict[tuple[int, int], _Shared] = {}
_lock = threading.Lock()


class StoreLife:
    """The part of one server in the life of its store.

    :param store: the store, which other servers may use too.
    :param calls: makes the calls.
    :param backend: the async library in which to wait.
    """

    def __init__(self, store: ThreadStore, calls: Calls, backend: Backend) -> None:
        self._store = store
        self._calls = calls
        self._backend = backend
        self._shared: _Shared | None = None

    async def open(self) -> None:
        """Open the store, or wait until another server has; called once before each ``close``.

        :raises StoreNotOpened: if that fails.
        """
        if has_life(self._store):
            self._shared = await self._open()

    async def _open(self) -> _Shared:
        key = (os.getpid(), id(self._store))
        with _lock:
            shared = _shared.setdefault(key, _Shared(self._store))
            shared.users += 1
            is_first = shared.users == 1
        try:
            if is_first:
                await self._make(open_store(self._store))
                logger.info("the store %s is open", _shown(self._store))
                shared.opened.set_result(None)
            else:
                await wait_for(shared.opened, self._backend)
        except BaseException as error:
            with _lock:
                shared.users -= 1
                if _shared.get(key) is shared and (is_first or not shared.users):
                    # The entry is removed, so that the next server opens the store again.
                    del _shared[key]
            if is_first:
                shared.opened.set_exception(StoreNotOpened(self._store, error))
            if isinstance(error, Exception) and not isinstance(error, StoreNotOpened):
                raise StoreNotOpened(self._store, error) from error
            raise
        return shared

    async def close(self) -> None:
        """Close the store, if no other server uses it; a failure is logged."""
        if self._leave():
            try:
                await self._make(close_store(self._store))
            except Exception:
                logger.exception("the store %s could not be closed", type(self._store).__name__)
            else:
                logger.info("the store %s is closed", _shown(self._store))

    def drop(self) -> None:
        """Stop using the store at the end of a dropped loop, on which nothing can wait."""
        store = self._store
        if self._leave() and is_closable(store) and not inspect.iscoroutinefunction(store.close):
            call_without_loop(store.close, "a store could not be closed")

    def _leave(self) -> bool:
        """Stop using the store; returns whether no server uses it any more."""
        shared, self._shared = self._shared, None
        if shared is None:
            return False
        with _lock:
            shared.users -= 1
            if shared.users:
                return False
            _shared.pop((os.getpid(), id(self._store)), None)
        return True

    async def _make(self, call: Call | None) -> None:
        if call is not None:
            await make(call, self._calls, self._backend)


async def wait_for(future: Future[None], backend: Backend) -> None:
    """Wait for the result of another task or thread.

    :raises Exception: its error.
    """
    flag = backend.flag()
    future.add_done_callback(lambda _: backend.soon(flag.set))
    await flag.wait()
    future.result()


def _shown(store: object) -> str:
    """The store as log lines name it: as it names itself without a secret, or by its class."""
    shown = getattr(store, "shown", None)
    return shown if isinstance(shown, str) else type(store).__name__


def has_life(store: ThreadStore) -> bool:
    """Whether ``store`` wants to be opened or closed."""
    return is_openable(store) or is_closable(store)


def call_without_loop(function: Callable[[], object], failed: str) -> None:
    """Call a plain function in a thread, at the end of a loop that was dropped.

    :param failed: what the log says if it fails.
    """

    def call() -> None:
        try:
            function()
        except Exception:
            logger.exception(failed)

    # The interpreter starts no thread at its own end.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=call, daemon=True).start()
