"""The plugin for pytest, which every installation has (entry point ``pytest11``).

A run of pytest that does not use the plugin only has to import this file: the modules that a
fixture needs are imported by the first test that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sansio_copilot.testing import Client


@pytest.fixture
def copilot_client() -> Iterator[Callable[..., Client]]:
    """A function that makes a client: of a runtime, of a mapping of agents, or of one agent.

    ``copilot_client(agent)`` tests an agent as the runtime's "default". Further arguments are those
    of :class:`~sansio_copilot.CopilotRuntime`. The clients are closed when the test ends.
    """
    from sansio_copilot import CopilotRuntime
    from sansio_copilot.testing import Client

    clients = ExitStack()

    def make(tested: Any, **options: Any) -> Client:
        if not isinstance(tested, CopilotRuntime):
            agents = tested if isinstance(tested, Mapping) else {"default": tested}
            tested = CopilotRuntime(agents, **options)
        elif options:
            raise TypeError(f"a runtime is given as it is, without {', '.join(options)}")
        client = Client(tested)
        clients.callback(client.close)
        return client

    # The clients are closed by a stack, so that all of them are closed even if one raises an error.
    with clients:
        yield make


@pytest.fixture
def run_input() -> Callable[..., dict[str, Any]]:
    """``sansio_copilot.testing.run_input``, which counts the runs of the test.

    Each input has a run id of its own, ``run-1`` and so on, and all have the same thread, unless
    the test says otherwise.
    """
    from sansio_copilot.testing import run_input

    numbers = count(1)

    def make(
        thread_id: str = "thread-1", run_id: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        return run_input(thread_id, run_id or f"run-{next(numbers)}", **fields)

    return make


@pytest.fixture
def assert_valid_stream() -> Callable[[Any], None]:
    """``sansio_copilot.testing.assert_valid_stream``: of a response, or of events."""
    from sansio_copilot.testing import assert_valid_stream

    return assert_valid_stream
