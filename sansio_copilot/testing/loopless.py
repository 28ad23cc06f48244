"""Awaiting without an event loop: a function that only gives way goes on, and a function that needs
a loop is ended.

A function of asyncio asks which loop runs, and calls the loop; anyio and httpx first ask asyncio or
trio for the task. Without a loop each library fails in words of its own, and the application's code
may take this for an error of a service and go on. So while something is awaited here, stand-ins are
in the places of loop and task. Every call of a stand-in is noted, and ends the function that made
the call.

No event loop is imported for this, because code cannot call a library that is not loaded.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Coroutine, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from ..calls import Call, is_deferred
from ..errors import text_of


class NeedsEventLoop(Exception):
    """An async function awaited something that only an event loop can finish.

    Test it through a binding (``copilot_bindings.testing.AsyncClient``), or hand it what it waits
    for (a ``sleep`` of the test's own, say).
    It is raised in the test, by the call that let the function go on. No hook sees it, and it does
    not count as an agent's error, even if the function has caught the exception inside.
    """


class _Missed(BaseException):
    """Ends the function that needs a loop, which would go on in an ``except Exception``."""


# The list has the calls of stand-ins during one wait, so that nested waits have lists of their own.
_ASKED: Final = ContextVar[list[_Missed]]("_ASKED")

_NO_LOOP: Final = (
    "no running event loop",
    "no current event loop",
    "bound to a different event loop",
    "must be called from async context",
    "not in async context",
    "not currently running on any asynchronous event loop",
)
"""The texts of the RuntimeErrors that libraries raise when they find no loop.

They are, in this order: asyncio's, that of ``asyncio.get_event_loop``, that of a lock or queue of
asyncio's which another loop has used, trio's, sniffio's, and anyio's.
"""


class _StandIn:
    """Stands in the place of a loop or a task of one; see the module's description.

    There is one for each place, because asyncio's queues and locks remember the loop that they were
    used in.

    :param place: the name of that place, in words.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def get_name(self) -> str:
        """Log records have the name of the task (``logging.LogRecord.taskName``)."""
        return self._place

    def create_task(self, coroutine: Coroutine[Any, Any, Any], **options: object) -> NoReturn:
        """Close ``coroutine``, because nobody will await it, and Python would warn."""
        coroutine.close()
        self._miss("create_task")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            # These names are simply missing, because Python and its libraries look for them on any
            # object.
            raise AttributeError(name)
        self._miss(name)

    def _miss(self, name: str) -> NoReturn:
        missed = _Missed(f"asks {self._place} for {name}, with no running event loop")
        if (asked := _ASKED.get(None)) is not None:
            asked.append(missed)
        raise missed


_LOOP: Final = _StandIn("asyncio")
_TASK: Final = _StandIn("asyncio's current task")
_RUNNER: Final = _StandIn("trio")
_TRIO_TASK: Final = _StandIn("trio's current task")


def run_awaitable(awaitable: Awaitable[Any]) -> Any:
    """Return the result of an awaitable that gives way (``asyncio.sleep(0)``) but never waits.

    :raises NeedsEventLoop: if it waits, or a function that it called has asked for a loop.
    """
    coroutine = _awaiting(awaitable)
    with _stand_ins() as asked:
        try:
            while (waits_for := coroutine.send(None)) is None and not asked:
                pass
        except StopIteration as stop:
            if not asked:
                return stop.value
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if not asked:
                if (words := _words_for_no_loop(error)) is None:
                    raise
                asked.append(_Missed(words))
                asked[0].__cause__ = error
        else:
            asked.append(_Missed(f"waits for {waits_for!r}, which needs an event loop"))
            # The error is thrown where the coroutine waits, so that it cleans up and the traceback
            # names the line.
            with suppress(Exception, _Missed):
                coroutine.throw(asked[0])
            coroutine.close()
    advice = "use a binding to test this, such as copilot_bindings.testing.AsyncClient"
    raise NeedsEventLoop(f"{asked[0]}: {advice}") from asked[0]


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _words_for_no_loop(error: BaseException) -> str | None:
    """Return the words in which a library misses an event loop, if that led to ``error``."""
    pending, seen = [error], {id(error)}
    while pending:
        one = pending.pop()
        text = text_of(one) if isinstance(one, RuntimeError | _Missed) else ""
        if any(words in text.lower() for words in _NO_LOOP):
            return text
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for other in (one.__cause__, one.__context__, *members):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                pending.append(other)
    return None


@contextmanager
def _stand_ins() -> Iterator[list[_Missed]]:
    """Have stand-ins in the places of all loops that are loaded and do not run.

    The context is the list of the calls that were made of them.
    """
    asked: list[_Missed] = []
    with ExitStack() as stack:
        stack.callback(_ASKED.reset, _ASKED.set(asked))
        # asyncio has these functions for authors of event loops.
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None and asyncio._get_running_loop() is None:
            asyncio._set_running_loop(_LOOP)
            stack.callback(asyncio._set_running_loop, None)
            asyncio._enter_task(_LOOP, _TASK)
            stack.callback(asyncio._leave_task, _LOOP, _TASK)
        # The context is looked up by getattr(), because trio has no public function for it, and
        # another release may lack the private name.
        trio = getattr(sys.modules.get("trio._core._run"), "GLOBAL_RUN_CONTEXT", None)
        if trio is not None and not hasattr(trio, "runner"):
            trio.runner, trio.task = _RUNNER, _TRIO_TASK
            stack.callback(vars(trio).clear)
        yield asked


def perform(call: Call) -> Any:
    """Make a call of the core, and wait for its result if that is awaitable.

    :raises NeedsEventLoop: if it waits for something that only an event loop has.
    """
    outcome = call.function(*call.args)
    if is_deferred(outcome):
        return outcome.result()
    return run_awaitable(outcome) if inspect.isawaitable(outcome) else outcome


def perform_steps(steps: Generator[Call, Any, None]) -> None:
    """Perform each call of ``steps``, and tell them its outcome.

    :raises NeedsEventLoop: see there; the steps are not told of it.
    """
    try:
        action = next(steps)
        while True:
            try:
                outcome = perform(action)
            except NeedsEventLoop:
                raise
            except Exception as error:
                action = steps.throw(error)
            else:
                action = steps.send(outcome)
    except StopIteration:
        pass
