"""Whether an address is one of this machine alone."""

from __future__ import annotations

import ipaddress


def is_elsewhere(address: object) -> bool:
    """Whether other machines reach ``address``, or are what has it.

    :param address: what ``getsockname()`` and ``getpeername()`` return, or an IP address as text.
        A Unix socket is of this machine. What cannot be told, such as the name that a test client
        gives itself, counts as such too.
    """
    host = address[0] if isinstance(address, tuple | list) and address else address
    if not isinstance(host, str):
        return False
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    # An IPv4 client of a socket that is for both is shown as an IPv6 address (RFC 4291 section
    # 2.5.5.2).
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return not (mapped or parsed).is_loopback
