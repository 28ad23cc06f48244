"""Serve a runtime from a server of one's own, which moves HTTP messages and nothing else.

    async with open_host(runtime) as host:
        ...
        complete = await host.answer(request, peer)

The host gives runs a home, and performs whatever an exchange asks for: it calls hooks, agents and
stores, waits for frames, and ends everything in its order. It runs under asyncio and under trio.

A binding that keeps runs by itself, without this package, is shown by
``docs/examples/toy_binding.py``.
"""

from __future__ import annotations

from ..serving.store_life import NotStarted
from .host import Host, Peer, open_host

__all__ = ["Host", "NotStarted", "Peer", "open_host"]
