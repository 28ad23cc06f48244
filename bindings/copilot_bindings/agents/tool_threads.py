"""The threads in which an agent's plain tools run.

Pydantic AI runs a plain function in a thread of anyio's, of which a loop has forty. A process waits
for these at its end, and the loop's other users for a free one. So a tool that hangs would keep its
server from ending, and forty of them would hold up all plain functions of the application.

Here each call has a thread of its own, which is a daemon. Their number has no bound here, because
the number of runs has one; and none is kept for the next call, so that a fork, which has no thread
of its parent, waits for none. A tool that nobody waits for any more is left to itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from pydantic_ai.capabilities import CapabilityOrdering, UseThreadExecutor


class ToolThreads(Executor):
    """An executor whose threads keep no process from ending."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a thread call ``fn``.

        :raises RuntimeError: if the system has no room for another thread.
        """
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except StopIteration as error:
                # The error is wrapped, because a future of asyncio refuses a StopIteration, and
                # would never be done.
                future.set_exception(RuntimeError(f"a tool raised {error!r}"))
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="copilot-tool", daemon=True).start()
        return future


class _InThreads(UseThreadExecutor):
    """Has a run use an executor, unless its agent has one of its own."""

    def get_ordering(self) -> CapabilityOrdering:
        """Outside of the agent's own capabilities, of which the innermost executor counts."""
        return CapabilityOrdering(position="outermost")


IN_THREADS = _InThreads(ToolThreads(), id="copilot_tool_threads")
"""The capability that has an agent's plain functions run in these threads, for one of its runs."""
