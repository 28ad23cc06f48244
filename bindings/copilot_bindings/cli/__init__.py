"""The ``sansio-copilot`` command: ``demo``, ``serve module:runtime`` and two for threads.

=============== ===================================================================================
``command``     what is done for each command, and how its failures are told
``options``     the arguments, and the environment variables that stand for them
``logs``        the lines of the log: which ones, and in which form
``stores``      ``--store``, and copying from one store to another
``supervisor``  several processes, new ones when they are asked for, and their end
=============== ===================================================================================
"""

from __future__ import annotations

from .command import main

__all__ = ["main"]
