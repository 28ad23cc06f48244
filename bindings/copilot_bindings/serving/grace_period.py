"""The grace period of a server, which is checked where it is given.

A wrong one, such as the text of an environment variable, would otherwise be noticed by the
shutdown, which would end no run and leave the store open.
"""

from __future__ import annotations


def check_grace_period(seconds: object, *, is_optional: bool = False) -> None:
    """Check that ``grace_seconds`` is a number of seconds from 0 on, or infinite.

    :param is_optional: whether it may be None.
    :raises ValueError: if it is not.
    """
    if seconds is None and is_optional:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise ValueError(f"grace_seconds must be a number from 0 on, got {seconds!r:.80}")
