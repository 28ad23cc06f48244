"""JSON as JavaScript writes and reads it, because a browser is at the other end.

msgspec does the work (measured: 0.3 us for a text delta, 4 us with the standard library). Only
texts with lone surrogates go to the standard library, because JavaScript strings may hold them,
UTF-8 may not, and msgspec refuses them. A text is searched for lone surrogates before it is read,
because msgspec may find one only at the end, and reading the text twice costs three times as much.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from typing import Any, Final, NoReturn

import msgspec
from pydantic import BaseModel


def _form(value: Any) -> Any:
    """The form of a value of a subclass (an agent library's own str), which msgspec refuses."""
    for kind in (str, float, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, msgspec.Raw):
        return decode(bytes(value))
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


# The next two functions are public, because a run calls both for each of its events, thousands in a
# second, and so avoids a call of Python code for each.

encode_usual: Final = msgspec.json.Encoder(enc_hook=_form).encode
"""The encoder that :func:`encode` tries first, and that is enough for nearly every value.

It raises UnicodeEncodeError for a lone surrogate, and RecursionError for a value that is nested too
deeply.
"""
to_builtins_usual: Final = partial(msgspec.to_builtins, str_keys=True, enc_hook=_form)
"""The conversion that :func:`to_builtins` tries first, and that is enough for nearly every value;
it raises TypeError for any other."""

# String.prototype.trim() removes these characters; str.strip() would remove U+001C and leave
# U+FEFF.
JS_SPACE = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)

# Numbers with a point or an exponent are read by Python, because msgspec takes up to 40 us for a
# number with a very large or small exponent, and all values of a body may be such numbers.
DECODER: Final = msgspec.json.Decoder(float_hook=float)
# This decoder checks the elements of an array, but does not make them.
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_dump_finite = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False
).encode

# The pattern matches up to the next character that begins an array or object or separates two
# values, past strings that have no escaped quotes. It is possessive, so that no character is tried
# twice.
_STRUCTURE = rb'[^"\[{,]*+(?:"[^"]*+(?:"|\Z)[^"\[{,]*+)*+[\[{,]'
_STEP = 1000
_SURROGATE = re.compile(rb"\\u[dD]")
# The pattern matches the escape of a surrogate that has no other half beside it (RFC 8259 section
# 7), in a text without escaped backslashes.
_LONE = re.compile(
    rb"\\u[dD](?:"
    rb"[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|"
    rb"[c-fC-F][0-9a-fA-F]{2}(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}))"
)
# In a text with more escapes of surrogates, looking for a lone one takes longer than reading the
# text, and most texts with so many have pairs only.
_MOST_SURROGATES = 2000
_ONE, _MANY = re.compile(_STRUCTURE), re.compile(b"(?:%b){%d}+" % (_STRUCTURE, _STEP))


def encode(value: Any) -> bytes:
    """``value`` as compact JSON in UTF-8, on one line.

    As ``JSON.stringify`` does, NaN and the infinities become ``null`` and a lone surrogate its
    ``\\udXXX`` escape. Control characters are escaped, so the result has no line break.

    :raises TypeError: for a value that JSON has no form for.
    :raises ValueError: for a value that contains itself, or is nested too deeply.
    """
    try:
        try:
            return encode_usual(value)
        except UnicodeEncodeError:
            # The error handler writes a lone surrogate, which has no UTF-8, as its escape in JSON.
            return _dump(to_builtins(value)).encode(errors="backslashreplace")
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON, or contains itself") from None


def encode_each(values: list[Any]) -> list[bytes]:
    """Each of ``values`` as :func:`encode` writes it.

    :raises TypeError: if one of them has a value that JSON has no form for.
    :raises ValueError: if one of them contains itself, or is nested too deeply.
    """
    try:
        return list(map(encode_usual, values))
    except (UnicodeEncodeError, RecursionError):
        return list(map(encode, values))


def to_builtins(value: Any) -> Any:
    """A copy of ``value`` in dicts with keys of str, lists, tuples, and values of JSON's own types.

    :func:`encode` writes the copy as it writes ``value``. A datetime has become its text, and an
    Enum its value.

    :raises TypeError: for a value that JSON has no form for.
    :raises RecursionError: for a value that contains itself, or is nested too deeply.
    """
    try:
        return to_builtins_usual(value)
    except TypeError:
        # msgspec.json writes a key that is a bool as its number, while this function refuses it.
        return to_builtins_usual(_without_bools(value))


def _without_bools(value: Any) -> Any:
    """``value`` with the keys that are bools as integers."""
    if isinstance(value, dict):
        return {
            int(key) if isinstance(key, bool) else key: _without_bools(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_bools(item) for item in value]
    return value


def decode(data: bytes) -> Any:
    """The value of a JSON text in UTF-8; a byte order mark is skipped.

    :raises ValueError: if it is not JSON (``NaN`` is not), with the reason.
    """
    try:
        if b"\\" not in data or not _has_lone_surrogates(data):
            try:
                return DECODER.decode(data)
            except UnicodeDecodeError:
                data = data.decode("utf-8", "replace").encode()
                return DECODER.decode(data)
    except msgspec.DecodeError:
        pass
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def elements(data: bytes) -> tuple[bytes, list[int]]:
    """The elements of a JSON array, without making any of them if it was written by :func:`encode`.

    :returns: the array with nothing but a comma between two elements, and the length of each.
    :raises ValueError: if it is not JSON, or no array.
    """
    try:
        lengths = [memoryview(raw).nbytes for raw in _decode_array(data)]
    except (msgspec.DecodeError, RecursionError):
        pass
    else:
        if sum(lengths) + max(len(lengths) - 1, 0) + 2 == len(data):
            return data, lengths
    values = decode(data)
    if not isinstance(values, list):
        raise ValueError("expected an array")
    texts = encode_each(values)
    return b"[%s]" % b",".join(texts), list(map(len, texts))


def _has_lone_surrogates(data: bytes) -> bool:
    """Whether a JSON text has escapes of lone surrogates; False also if it has too many escapes."""
    if (first := _SURROGATE.search(data)) is None:
        return False
    place = first.start()
    if data.count(b"\\ud", place) + data.count(b"\\uD", place) > _MOST_SURROGATES:
        return False
    if b"\\\\u" in data:
        # Escaped backslashes are removed, because they do not begin another escape.
        data, place = data.replace(b"\\\\", b""), 0
    return _LONE.search(data, place) is not None


def has_more_values(data: bytes, limit: int) -> bool:
    """Whether a JSON text may have more than ``limit`` values, without making one.

    Every string, number and literal counts, and each array and object beside its content; the names
    of members do not. Each value but the first comes behind a bracket, brace or comma of its own,
    so these are counted; an empty array or object counts for one value too many. The time is
    linear; a text with few commas takes only four searches.
    """
    if 1 + sum(map(data.count, (b",", b"[", b"{"))) <= limit:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    values, position = 1, 0
    for pattern, step in ((_MANY, _STEP), (_ONE, 1)):
        while values <= limit and (match := pattern.match(data, position)) is not None:
            position = match.end()
            values += step
    return values > limit


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _dump(value: Any) -> str:
    """Return a value of :func:`to_builtins` as JSON; Python code walks it only for NaN and
    infinities."""
    try:
        return _dump_finite(value)
    except ValueError:
        return _dump_finite(_finite(value))


def _finite(value: Any) -> Any:
    """``value`` in dicts and lists, with null for every number that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
