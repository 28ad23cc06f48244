"""The number in a Content-Length field, of however many digits."""

from __future__ import annotations


def length_of(field: str) -> int | None:
    """The number in a Content-Length field (RFC 9110 section 8.6); None if it is not a number."""
    return number_of(field) if field.isascii() and field.isdigit() else None


def number_of(digits: str) -> int:
    """The value of ``digits``, of any number of digits.

    Only the first 20 digits count, because int() takes at most 4,300, and a number of 20 digits is
    far above every limit already.
    """
    return int(digits.lstrip("0")[:20] or "0")
