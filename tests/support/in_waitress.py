"""An application under waitress, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import waitress
from waitress import wasyncore


@contextlib.contextmanager
def serving_by_waitress(app: Any) -> Iterator[int]:
    """Serve ``app``; yields the port."""
    channels: dict[int, Any] = {}
    server = waitress.create_server(app, host="127.0.0.1", port=0, map=channels)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield int(server.effective_port)
    finally:
        server.task_dispatcher.shutdown()
        # The thread that selects over the sockets closes them. Closed by another one, they fail its
        # select(), or are somebody else's by the time that it writes to the trigger's descriptor.
        server.trigger.pull_trigger(partial(wasyncore.close_all, channels))
        thread.join(30)
    assert not thread.is_alive()
    assert not channels
