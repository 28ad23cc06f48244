"""The ``sansio-copilot`` command: ``demo``, ``serve module:runtime`` and two for threads.

=============== ===================================================================================
``command``     what is done for each command, and how its failures are told
``options``     the arguments, and the environment variables that stand for them
``interrupts``  Ctrl-C while the packages are imported
``logs``        the lines of the log: which ones, and in which form
``stores``      ``--store``, and copying from one store to another
``supervisor``  several processes, new ones when they are asked for, and their end
=============== ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from .interrupts import ended_by_interrupts

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    :param arguments: the command's arguments; None for those of the process.
    """
    # The packages are imported here, because that takes most of the time until the server listens.
    with ended_by_interrupts():
        from .command import main as command
    return command(arguments)
