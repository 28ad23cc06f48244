"""The part of a URL that errors and logs may show."""

from __future__ import annotations

_MOST_CHARACTERS = 80


def without_secrets(url: str) -> str:
    """Return ``url`` without its user, password and query, any of which may be secret.

    The text need not be a URL. It is not parsed, because a mistake in a password, as a "/" or "?"
    that is not percent-encoded, makes a parser take a part of the password for something else (RFC
    3986 section 3.2).
    """
    place, _, query = url.partition("?")
    if "@" in query:
        # Nothing of the URL is shown, because the "?" may belong to a password, and the "@" may end
        # it.
        return "..."
    return place.rpartition("@")[2].partition("#")[0][:_MOST_CHARACTERS]
