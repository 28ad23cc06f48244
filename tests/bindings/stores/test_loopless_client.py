"""The client of tests without a loop, over stores that signal in threads of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from sansio_copilot import CopilotRuntime
from sansio_copilot.testing import Client, run_input

from .places import Place

STOP = "/api/copilotkit/agent/default/stop/t"


class Endless:
    """An agent that goes on until it is stopped."""

    def run(self, input: Any, context: Any) -> Iterator[dict[str, Any]]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        for number in itertools.count():
            yield {"type": "CUSTOM", "name": "number", "value": number}


def test_a_run_is_stopped(place: Place) -> None:
    client = Client(CopilotRuntime({"default": Endless()}, store=place.new().store))
    for number in range(3):
        stream = client.begin_run(run_input("t", f"r{number}"))
        stream.next()
        assert client.post(STOP).json()["stopped"] is True
        assert stream.finish().events()[-1]["type"] == "RUN_FINISHED"
    client.close()
