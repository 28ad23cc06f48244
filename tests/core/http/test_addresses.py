"""Some addresses are those of other machines."""

from __future__ import annotations

import pytest

from sansio_copilot.http.addresses import is_elsewhere


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 1), False),
        (("127.8.8.8", 1), False),
        (("::1", 1, 0, 0), False),
        (("::ffff:127.0.0.1", 1, 0, 0), False),
        (["127.0.0.1", 1], False),
        (("testclient", 50000), False),
        ("/run/copilot.sock", False),
        (b"\0abstract", False),
        ("", False),
        ((), False),
        (None, False),
        (("0.0.0.0", 1), True),
        (("::", 1, 0, 0), True),
        (("fe80::1%eth0", 1, 0, 0), True),
        (("::ffff:192.0.2.7", 1, 0, 0), True),
        (("192.0.2.7", 1), True),
        ("192.0.2.7", True),
    ],
)
def test_each_address_is_of_this_machine_or_elsewhere(address: object, expected: bool) -> None:
    assert is_elsewhere(address) is expected


def test_a_text_longer_than_an_address_counts_as_of_this_machine() -> None:
    """A text that is too long cannot be told, and no client's claim of any length is kept."""
    assert is_elsewhere("fe80::1%" + "z" * 56) is True
    assert is_elsewhere("fe80::1%" + "z" * 57) is False
