"""Asking a runtime for its metrics, over one connection.

The connection is kept, so that the same process answers if several processes share a port.
"""

from __future__ import annotations

import http.client
import time
from typing import Final
from urllib.parse import urlsplit

from sansio_copilot.errors import shorten

from ..net.shown_url import without_secrets
from .exposition import NotMetrics, parse
from .readings import Reading

TIMEOUT_SECONDS: Final = 5.0
"""The seconds for which the server may send nothing."""
MOST_SECONDS: Final = 5.0
"""The seconds that the content of one answer may take."""
MOST_BYTES: Final = 8 * 1024 * 1024
"""The most bytes of an answer; a runtime's metrics are shorter, because its labels have limits."""


class Away(Exception):
    """The runtime does not answer; the message says why, for an operator."""


class Source:
    """The place where the metrics of a runtime are read.

    :param url: an absolute http or https URL.
    :ivar shown: the URL without the parts that may be secret, for the page and the log.
    :raises ValueError: if it is no such URL; the message is for a user.
    """

    def __init__(self, url: str) -> None:
        self.shown = shown = without_secrets(url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            # The parser's error is left out, because it may quote a part of a password.
            raise ValueError(f"the URL of metrics {shown!r} is none") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError(
                "the URL of metrics is an absolute http or https one without a user's name, "
                f"as http://127.0.0.1:4000/metrics, not {shown!r}"
            )
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError(f"no URL has characters as those of {shown!r}")
        secure = parts.scheme == "https"
        make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = make(parts.hostname, port, timeout=TIMEOUT_SECONDS)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def read(self) -> Reading:
        """Read the metrics of the runtime.

        :raises Away: if the runtime does not answer.
        :raises NotMetrics: if the answer is not that of a runtime.
        """
        try:
            # A connection that was kept may have been closed meanwhile, and tells so when used.
            return self._read_once() if self._connection.sock is None else self._read_again()
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            self._connection.close()
            # An error may quote a whole line of the answer. Its text is shortened, because each
            # page is told of it every two seconds, and escaped, because it goes to a log as well.
            text = str(error).strip()
            is_clear = text and text.isprintable()
            told = f"{type(error).__name__}: {text}" if is_clear else repr(error)
            raise Away(shorten(told)) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read_again(self) -> Reading:
        try:
            return self._read_once()
        except (ConnectionError, http.client.HTTPException):
            self._connection.close()
            return self._read_once()

    def _read_once(self) -> Reading:
        self._connection.request("GET", self._target, headers={"accept": "text/plain"})
        response = self._connection.getresponse()
        if response.status >= 500:
            raise Away(f"it answers {response.status}")
        if response.status != http.client.OK:
            raise NotMetrics(_answered(response))
        until = time.monotonic() + MOST_SECONDS
        content = bytearray()
        while part := response.read1(65536):
            content += part
            if len(content) > MOST_BYTES:
                raise NotMetrics(f"has more than {MOST_BYTES} bytes")
            if time.monotonic() > until:
                raise Away(f"its answer takes longer than {MOST_SECONDS:g} s")
        if response.length:
            raise Away("its answer breaks off")
        # Only a connection whose response is closed can be used again.
        response.close()
        return Reading.of(parse(bytes(content)))


def _answered(response: http.client.HTTPResponse) -> str:
    place = response.getheader("location")
    if place is not None:
        return f"answers {response.status}, and points to {place[:200]!r}"
    if response.status == http.client.NOT_FOUND:
        return "answers 404: has the runtime a metrics_path, and is it this one?"
    return f"answers {response.status}"
