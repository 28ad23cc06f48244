"""Changes to an input that a format of lines and words is likely to survive.

Bytes that a fuzzer flips blindly are almost never JSON any more, or HTTP. These changes move whole
lines and words about, and bring in what the target knows; now and then they flip bytes as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

_WORD = re.compile(rb"[\w.%+-]+|.", re.DOTALL)
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def mutate(data: bytes, words: Sequence[bytes], random: Random, max_size: int) -> bytes:
    """``data`` with one to four changes.

    :param words: what may be put in, besides what is there already.
    """
    for _ in range(random.randint(1, 4)):
        change = random.choice((_lines, _lines, _words, _words, _insert, _bytes))
        data = change(data, words, random)
    return data[:max_size]


def _lines(data: bytes, words: Sequence[bytes], random: Random) -> bytes:
    return b"".join(_shuffle(_LINE.findall(data), random))


def _words(data: bytes, words: Sequence[bytes], random: Random) -> bytes:
    return b"".join(_shuffle(_WORD.findall(data), random))


def _shuffle(parts: list[bytes], random: Random) -> list[bytes]:
    """Return ``parts`` with one left out, doubled, or put in the place of another."""
    if not parts:
        return parts
    at, other = random.randrange(len(parts)), random.randrange(len(parts))
    match random.randrange(5):
        case 0:
            del parts[at]
        case 1:
            parts.insert(other, parts[at])
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] = parts[other]
        case _:
            del parts[min(at, other) : max(at, other)]
    return parts


def _insert(data: bytes, words: Sequence[bytes], random: Random) -> bytes:
    if not words:
        return data
    starts = [match.start() for match in _WORD.finditer(data)] + [len(data)]
    at = random.choice(starts)
    return data[:at] + random.choice(words) + data[at:]


def _bytes(data: bytes, words: Sequence[bytes], random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    some = bytes(random.randrange(256) for _ in range(random.randint(1, 3)))
    return data[:at] + some + data[at + random.randint(0, 3) :]


def minimized(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A smaller input that fails as well: without what it fails without."""
    for pattern in (_LINE, _WORD):
        parts = pattern.findall(data)
        size = len(parts) // 2
        while size:
            at = 0
            while at < len(parts):
                fewer = parts[:at] + parts[at + size :]
                if fails(b"".join(fewer)):
                    parts = fewer
                else:
                    at += size
            size //= 2
        data = b"".join(parts)
    return data
