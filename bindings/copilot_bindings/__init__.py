"""The bindings: what moves bytes for the core, and what applications choose to have beside it.

Each package that an application imports names its public objects in its ``__all__``:

=================================================  =================================================
``asyncio``, ``trio``, ``sockets``                 servers that own their sockets
``asgi``, ``wsgi``                                 applications for other servers
``embedding``                                      a runtime within a server of one's own
``stores``                                         threads that outlive the process
``agents``                                         agents that do I/O
``telemetry``, ``dashboard``, ``cli``, ``demo``    what is told, shown and served by the command
``testing``                                        a client for agents that really wait
=================================================  =================================================

The packages ``serving``, ``http1`` and ``net`` are the parts that these share, and no application
imports them; so their ``__init__`` modules name no object.
"""

from __future__ import annotations
