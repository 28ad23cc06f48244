"""Whether an address is one of this machine alone, and whether a request has come from one."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from .messages import Headers

# The forms of a node are those of RFC 7239 section 6, whose port and brackets do not matter here.
_FORWARDED_FOR = re.compile(r'for="?\[?([^;,"\]]*)', re.IGNORECASE)
# An IPv6 address has 45 characters at most, and its zone some more (RFC 4007 section 11).
_LONGEST = 64
_PORT = re.compile(r"^([0-9.]+):[0-9]+$")


def is_elsewhere(address: object) -> bool:
    """Whether ``address`` can be reached from other machines, or belongs to another machine.

    :param address: the result of ``getsockname()`` or ``getpeername()``, or an IP address as text.
        A Unix socket belongs to this machine. A text that is no address, such as the name that a
        test client gives itself, counts as this machine too.
    """
    host = address[0] if isinstance(address, tuple | list) and address else address
    # A longer text is no address, and is not kept in the cache, because a client may claim any.
    return isinstance(host, str) and len(host) <= _LONGEST and _is_address_elsewhere(host)


# The answers are kept, because most requests have the same few addresses as requests before them.
@lru_cache(maxsize=1024)
def _is_address_elsewhere(host: str) -> bool:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    # An IPv4 client of a socket that is for both is shown as an IPv6 address (RFC 4291 section
    # 2.5.5.2).
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return not (mapped or parsed).is_loopback


def is_for_another(headers: Headers) -> bool:
    """Whether a proxy says that it has been asked by another machine.

    Other machines can reach a server that listens only to its own machine through a proxy there. A
    client may claim anything in these fields, so that they may be a reason to refuse a request, but
    never to grant one.
    """
    named = [
        *headers.get("x-forwarded-for", "").split(","),
        *_FORWARDED_FOR.findall(headers.get("forwarded", "")),
        headers.get("x-real-ip", ""),
    ]
    return any(is_elsewhere(_PORT.sub(r"\1", address.strip(' "[]'))) for address in named)
