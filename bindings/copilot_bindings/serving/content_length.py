"""The length that a request announces for its body, by one rule for every binding."""

from __future__ import annotations

from sansio_copilot import RemoteProtocolError


def announced_length(field: str | None) -> int | None:
    """Return the length in bytes that a request announces for its body.

    RFC 9110 section 8.6 makes a Content-Length of anything but digits invalid, and allows to take a
    list of equal lengths as one of them, because a proxy may have joined the fields of a request.

    :param field: the value of Content-Length, or all values joined by commas if the request has
        several; None if it has none.
    :returns: the length; None if the request announces none.
    :raises RemoteProtocolError: if the value is no length.
    """
    if field is None:
        return None
    lengths = {length.strip(" \t") for length in field.split(",")}
    digits = lengths.pop()
    if lengths or not (digits.isascii() and digits.isdigit()):
        raise RemoteProtocolError("The Content-Length is no number")
    # Only the first 20 digits count, because int() takes at most 4,300, and a number of 20 digits
    # is far above every limit already.
    return int(digits.lstrip("0")[:20] or "0")
