"""What test_workers.py serves with several workers."""

import logging

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, MemoryStore, text_agent

logging.basicConfig()


class Shared:
    """Stands for a store that is not in this process's memory: it only is none of the core's."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@text_agent
def hello(input: object, context: object) -> object:
    yield "Hello"


alone = CopilotRuntime({"default": hello})
asgi, wsgi = CopilotASGI(alone), CopilotWSGI(alone)
together = CopilotRuntime({"default": hello}, store=Shared())  # type: ignore[arg-type]
shared_asgi, shared_wsgi = CopilotASGI(together), CopilotWSGI(together)
