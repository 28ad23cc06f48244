"""Requests that are odd, malformed or hostile, and what has to become of each.

A specification as a table: what is sent, the statuses that it is answered with, whether the
connection is closed then, and why. ``{base}`` stands for the runtime's base path. Numbers alone are
sections of RFC 9112; "9110" before one is RFC 9110.
"""

from __future__ import annotations

import attrs
import h11

GET = b"GET {base}/info HTTP/1.1\r\nhost: x\r\n"
POST = b"POST {base}/agent/default/stop/t HTTP/1.1\r\nhost: x\r\n"
NEXT = GET + b"\r\n"
"""A good request. What stands behind a bad one is smuggled, and must not be answered."""

BODY = b"{     }"
CHUNKS = b"7\r\n" + BODY + b"\r\n0\r\n\r\n"


@attrs.frozen
class Case:
    """A conversation of a client with a server.

    :param answers: the statuses of the responses, in order.
    :param closes: whether the server closes the connection behind the last one.
    :param why: the rule, and where we do more or less than it says the reason.
    :param is_rude: the client sends on although it has said that it would not (9.6). What arrives
        when the connection has been closed resets it.
    """

    name: str
    sent: bytes
    answers: tuple[int, ...]
    why: str
    closes: bool = True
    is_rude: bool = False

    def bytes_to(self, base_path: str) -> bytes:
        return self.sent.replace(b"{base}", base_path.encode())


def refused(name: str, sent: bytes, status: int, why: str) -> Case:
    """A request that is answered with an error, and nothing behind it is."""
    return Case(name, sent + NEXT, (status,), why)


def taken(name: str, sent: bytes, why: str, status: int = 200) -> Case:
    """A request that is answered, and so is the next one."""
    return Case(name, sent + NEXT, (status, 200), why, closes=False)


def rude(name: str, sent: bytes, why: str) -> Case:
    """A request that is answered, and nothing behind it is."""
    return Case(name, sent + NEXT, (200,), why, is_rude=True)


def with_length(value: bytes) -> bytes:
    return POST + b"content-length:" + value + b"\r\n\r\n" + BODY


def with_coding(value: bytes) -> bytes:
    return POST + b"transfer-encoding:" + value + b"\r\n\r\n" + CHUNKS


def with_chunks(chunks: bytes) -> bytes:
    return POST + b"transfer-encoding: chunked\r\n\r\n" + chunks


def with_field(line: bytes) -> bytes:
    return GET + line + b"\r\n\r\n"


def with_host(value: bytes) -> bytes:
    return b"GET {base}/info HTTP/1.1\r\nhost: " + value + b"\r\n\r\n"


def with_target(target: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n"


def with_version(version: bytes) -> bytes:
    return b"GET {base}/info " + version + b"\r\nhost: x\r\n\r\n"


_UNKNOWN_CODING = "6.1 wants 501 for a coding that is not known"
_NOT_CHUNKED_LAST = "6.3 wants 400 where chunked is not the last; h11 says 501, which is as safe"

FRAMING = [
    # Bodies whose end a proxy and we could see differently are refused.
    refused(
        "length and coding",
        POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "6.1: may be refused, and the connection must be closed",
    ),
    refused(
        "coding and length",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        400,
        "6.1",
    ),
    refused(
        "two lengths",
        POST + b"content-length: 7\r\ncontent-length: 6\r\n\r\n" + BODY,
        400,
        "6.3: an unrecoverable error",
    ),
    taken(
        "the same length twice",
        POST + b"content-length: 7\r\ncontent-length: 7\r\n\r\n" + BODY,
        "6.3: as good as a list of it",
    ),
    taken("a list of one length", with_length(b" 7, 7"), "6.3: processed with that value"),
    refused("a list of lengths", with_length(b" 7, 8"), 400, "6.3"),
    refused("an empty length in a list", with_length(b" 7,"), 400, "9110 5.6.1.2 allows, rare"),
    refused("no length", with_length(b""), 400, "6.3"),
    refused("a length with a sign", with_length(b" +7"), 400, "9110 8.6: digits"),
    refused("a negative length", with_length(b" -7"), 400, "9110 8.6"),
    refused("a hexadecimal length", with_length(b" 0x7"), 400, "9110 8.6"),
    refused("a length with a fraction", with_length(b" 7.0"), 400, "9110 8.6"),
    refused("a length with an underscore", with_length(b" 1_0"), 400, "9110 8.6; int() takes it"),
    refused("two numbers as a length", with_length(b" 7 7"), 400, "9110 8.6"),
    refused("a length in other digits", with_length(b" \xd9\xa7"), 400, "9110 8.6; int() takes"),
    refused("a length behind a vertical tab", with_length(b" \x0b7"), 400, "9110 5.6.3: no space"),
    refused(
        "a wrong length of GET",
        with_field(b"content-length: abc"),
        400,
        "9110 8.6, though the method takes no body",
    ),
    refused(
        "a wrong length of HEAD",
        b"HEAD {base}/info HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        400,
        "9110 9.3.2: without content",
    ),
    refused("a length of 20 digits", with_length(b" " + b"9" * 20), 413, "9110 8.6, 15.5.14"),
    refused("a length of 21 digits", with_length(b" " + b"9" * 21), 413, "9110 8.6, 15.5.14"),
    refused("a length of 5000 digits", with_length(b" " + b"9" * 5000), 413, "9110 8.6: overflow"),
    refused(
        "a length of 5000 digits, of a client that waits",
        with_length(b" " + b"9" * 5000 + b"\r\nexpect: 100-continue"),
        413,
        "9110 8.6: overflow",
    ),
    taken("a length of 5000 zeros and a digit", with_length(b" " + b"0" * 5000 + b"7"), "9110 8.6"),
    refused("a length of 5000 digits and a letter", with_length(b"9" * 5000 + b"x"), 400, "6.3"),
    taken("a length with zeros", with_length(b" 0007"), "9110 8.6: 1*DIGIT"),
    taken("white space around a length", with_length(b"\t 7 \t"), "5: optional white space"),
    taken("a coding in capitals", with_coding(b" CHUNKED"), "7: case does not matter"),
    taken("white space around a coding", with_coding(b"\t chunked \t"), "5"),
    taken("a folded coding", with_coding(b"\r\n chunked"), "5.2: refused or unfolded"),
    refused("an unknown coding", with_coding(b" xchunked"), 501, _UNKNOWN_CODING),
    refused("a coding before chunked", with_coding(b" gzip, chunked"), 501, _UNKNOWN_CODING),
    refused(
        "identity", with_coding(b" identity"), 501, _UNKNOWN_CODING + "; it is gone since 2014"
    ),
    refused("a quoted coding", with_coding(b' "chunked"'), 501, _UNKNOWN_CODING),
    refused("a coding with a parameter", with_coding(b" chunked;q=1"), 501, _UNKNOWN_CODING),
    refused("no coding", with_coding(b""), 501, _NOT_CHUNKED_LAST),
    refused("a coding after chunked", with_coding(b" chunked, gzip"), 501, _NOT_CHUNKED_LAST),
    refused("chunked twice", with_coding(b" chunked, chunked"), 501, "7.1 forbids it to senders"),
    refused(
        "two fields of codings",
        with_coding(b" chunked\r\ntransfer-encoding: chunked"),
        501,
        "the same in two lines",
    ),
    refused("a coding behind a vertical tab", with_coding(b" \x0bchunked"), 400, "9110 5.6.3"),
    refused("a coding behind a NUL", with_coding(b" \x00chunked"), 400, "9110 5.5"),
    refused(
        "a coding in HTTP/1.0",
        with_coding(b" chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
        400,
        "6.1: faulty framing",
    ),
    refused(
        "space before the colon of a coding",
        POST + b"transfer-encoding : chunked\r\n\r\n" + CHUNKS,
        400,
        "5.1: must be refused",
    ),
    Case(
        "a coding in a folded line",
        POST + b"a: b\r\n\ttransfer-encoding: chunked\r\n\r\n" + CHUNKS,
        (200, 400),
        "5.2: part of the field before, so the chunks are no body, and no request either",
    ),
    Case(
        "another field with almost the name",
        POST + b"transfer_encoding: chunked\r\n\r\n" + CHUNKS,
        (200, 400),
        "5.1: not this name, so the chunks are no body, and no request either",
    ),
    Case(
        "a body longer than its length",
        POST + b"content-length: 7\r\n\r\n" + BODY + b"more\r\n\r\n" + NEXT,
        (200, 400),
        "6.3: the rest is another request",
    ),
    taken("a body that GET does not want", GET + b"content-length: 7\r\n\r\n" + BODY, "9110 9.3.1"),
    Case(
        "chunks that GET does not want",
        GET + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS + NEXT,
        (200,),
        "9.3: to be read or closed; how long they are nobody knows",
    ),
]

CHUNKED = [
    taken("chunks", with_chunks(CHUNKS), "7.1"),
    taken(
        "chunk sizes in capitals, with zeros", with_chunks(b"0A\r\n{        }\r\n00\r\n\r\n"), "7.1"
    ),
    taken("a chunk extension", with_chunks(b'7;a="b";c\r\n' + CHUNKS[3:]), "7.1.1: to be ignored"),
    taken("space behind a chunk size", with_chunks(b"7 \r\n" + CHUNKS[3:]), "h11 allows; harmless"),
    refused("a long chunk extension", with_chunks(b"7;" + b"a" * 5000), 431, "7.1.1: a limit"),
    refused(
        "a bare LF far behind white space",
        with_chunks(b"7;" + b" " * 60_000 + b"\n\r\n"),
        431,
        "7.1.1: a limit",
    ),
    refused(
        "a NUL far behind white space in a trailer",
        with_chunks(b"0\r\na:" + b" " * 60_000 + b"\0\r\n\r\n"),
        431,
        "7.1.2",
    ),
    refused("no chunk size", with_chunks(b"\r\n" + CHUNKS[3:]), 400, "7.1"),
    refused("a hexadecimal prefix", with_chunks(b"0x7\r\n" + CHUNKS[3:]), 400, "7.1: HEXDIG"),
    refused("a chunk size with a sign", with_chunks(b"+7\r\n" + CHUNKS[3:]), 400, "7.1"),
    refused("a negative chunk size", with_chunks(b"-7\r\n" + CHUNKS[3:]), 400, "7.1"),
    refused("space before a chunk size", with_chunks(b" 7\r\n" + CHUNKS[3:]), 400, "7.1"),
    refused("an underscore in a chunk size", with_chunks(b"0_7\r\n" + CHUNKS[3:]), 400, "7.1"),
    refused("a chunk size of 16 digits", with_chunks(b"f" * 16 + b"\r\n"), 413, "7.1: overflow"),
    refused("a chunk size of 17 digits", with_chunks(b"1" + b"0" * 16 + b"\r\n"), 413, "7.1"),
    refused("a chunk size of 21 digits", with_chunks(b"f" * 21 + b"\r\n"), 413, "7.1"),
    refused("a chunk size of 1000 digits", with_chunks(b"f" * 1000 + b"\r\n"), 413, "7.1"),
    refused("a chunk size of 5000 digits", with_chunks(b"f" * 5000 + b"\r\n"), 431, "a limit"),
    taken("a chunk size behind zeros", with_chunks(b"0" * 900 + CHUNKS), "7.1: 1*HEXDIG"),
    taken("a last chunk of many zeros", with_chunks(CHUNKS[:-5] + b"0" * 900 + CHUNKS[-4:]), "7.1"),
    refused(
        "a second chunk of 17 digits",
        with_chunks(CHUNKS[:-5] + b"f" * 17 + b"\r\n"),
        413,
        "9110 15.5.14: before it has arrived",
    ),
    refused(
        "a chunk size of 17 digits with an extension",
        with_chunks(b"f" * 17 + b';a="b"\r\n'),
        413,
        "7.1.1",
    ),
    refused("a bare CR in an extension", with_chunks(b"7;a\rb\r\n" + CHUNKS[3:]), 400, "2.2"),
    refused("a NUL in an extension", with_chunks(b"7;a\0\r\n" + CHUNKS[3:]), 400, "7.1.1"),
    refused(
        "extensions that are more than the body",
        with_chunks((b"1;" + b"a" * 900 + b"\r\n \r\n") * 30),
        400,
        "7.1.1: a limit",
    ),
    taken(
        "a body of chunks of one byte",
        with_chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in b"{" + b" " * 5000 + b"}"))
        + b"0\r\n\r\n",
        "7.1",
    ),
    refused("a bare LF behind a chunk size", with_chunks(b"7\n" + CHUNKS[3:]), 400, "7.1: CRLF"),
    refused("a bare LF in an extension", with_chunks(b"7;a\n\r\n" + CHUNKS[3:]), 400, "7.1.1"),
    refused(
        "nothing behind a chunk", with_chunks(b"7\r\n" + BODY + b"0\r\n\r\n"), 400, "7.1: CRLF"
    ),
    refused("a bare LF behind a chunk", with_chunks(b"7\r\n" + BODY + b"\n0\r\n\r\n"), 400, "7.1"),
    refused("a chunk longer than its size", with_chunks(b"6\r\n" + CHUNKS[3:]), 400, "7.1"),
    taken("a trailer", with_chunks(CHUNKS[:-2] + b"a: b\r\n\r\n"), "7.1.2: may be discarded"),
    taken(
        "trailers that are forbidden",
        with_chunks(CHUNKS[:-2] + b"host: y\r\ncontent-length: 99\r\n\r\n"),
        "9110 6.5.1: not merged into the fields, so they do nothing",
    ),
    refused("a folded trailer", with_chunks(CHUNKS[:-2] + b"a: b\r\n c\r\n\r\n"), 400, "5.2"),
    refused("a bare LF behind trailers", with_chunks(CHUNKS[:-2] + b"a: b\n\r\n"), 400, "2.2"),
    refused("a trailer without a colon", with_chunks(CHUNKS[:-2] + b"a\r\n\r\n"), 400, "7.1.2"),
    refused("long trailers", with_chunks(CHUNKS[:-2] + b"a: b\r\n" * 1000), 431, "7.1.2"),
]

FIELDS = [
    taken("10,000 fields", GET + b"a:b\r\n" * 10_000 + b"\r\n", "5.4: the limit is the head's"),
    taken("a field without a value", with_field(b"a:"), "5: field-value may be empty"),
    taken("other bytes in a value", with_field("a: ü".encode()), "9110 5.5: obs-text"),
    taken("a control character in a value", with_field(b"a: \x01"), "9110 5.5: may be retained"),
    taken("a folded value", with_field(b"a: b\r\n\tc"), "5.2: refused or unfolded"),
    taken("bare LF line endings", NEXT.replace(b"\r\n", b"\n"), "2.2: may be taken for CRLF"),
    refused("a fold before the first field", with_version(b"HTTP/1.1\r\n a: b"), 400, "2.2"),
    refused("a head of 70 KB", with_field(b"a: " + b"x" * 70_000), 431, "5.4, RFC 6585 5"),
    refused("a NUL in a value", with_field(b"a: b\x00c"), 400, "9110 5.5: must be refused"),
    refused("a bare CR in a value", with_field(b"a: b\rc"), 400, "2.2, 9110 5.5"),
    refused("a CR before CRLF", with_field(b"a: b\r"), 400, "2.2"),
    refused("a vertical tab in a value", with_field(b"a: b\x0bc"), 400, "9110 5.5; h11 refuses"),
    refused("a form feed in a value", with_field(b"a: b\x0cc"), 400, "9110 5.5; h11 refuses"),
    refused(
        "a NUL far behind white space", with_field(b"a:" + b" " * 60_000 + b"\0"), 400, "9110 5.5"
    ),
    refused("a NUL in a name", with_field(b"a\x00: b"), 400, "5.1: token"),
    refused("a bare CR in a name", with_field(b"a\rb: c"), 400, "5.1, 2.2"),
    refused("other bytes in a name", with_field("ä: b".encode()), 400, "5.1: token"),
    refused("a space in a name", with_field(b"a b: c"), 400, "5.1: token"),
    refused("a field without a name", with_field(b": b"), 400, "5.1: token"),
    refused("a field without a colon", with_field(b"a"), 400, "5.1"),
    refused("no Host", b"GET {base}/info HTTP/1.1\r\n\r\n", 400, "3.2"),
    refused("two of Host", with_field(b"host: x"), 400, "3.2"),
    refused("Host with a path", with_host(b"x/y"), 400, "3.2: no valid value"),
    refused("Host with a user", with_host(b"y@x"), 400, "3.2, 9110 7.2: no userinfo"),
    refused("Host with two hosts", with_host(b"x, y"), 400, "3.2"),
    refused("Host with a port that is none", with_host(b"x:8y"), 400, "3.2"),
    refused("Host with other bytes", with_host("ä".encode()), 400, "3.2, RFC 3986 3.2.2"),
    taken("Host with nothing", with_host(b""), "3.2: where the target has no authority"),
    taken("Host with an address and a port", with_host(b"[::1]:80"), "9110 7.2"),
    taken("Host with an underscore", with_host(b"a_b.example:"), "RFC 3986 3.2.2, 3.2.3"),
]

REQUEST_LINES = [
    taken("an absolute target", with_target(b"http://y:1{base}/info?a=b"), "3.2.2: must be taken"),
    taken("an absolute target without a path", with_target(b"http://y"), "3.2.2", 404),
    taken("all of the server", with_target(b"*", b"OPTIONS"), "3.2.4; as any preflight", 204),
    refused("all of the server, to GET", with_target(b"*"), 400, "3.2.4: OPTIONS only"),
    refused("an authority to GET", with_target(b"y:1"), 400, "3.2.3: CONNECT only"),
    refused("CONNECT", with_target(b"y:1", b"CONNECT"), 501, "9110 9.1: not implemented"),
    refused("CONNECT to a path", with_target(b"{base}/info", b"CONNECT"), 501, "9110 9.3.6"),
    refused("HEAD of no target", with_target(b"y:1", b"HEAD"), 400, "9110 9.3.2: without content"),
    refused("HEAD of 100 KB", with_target(b"/" + b"a" * 100_000, b"HEAD"), 414, "9110 9.3.2"),
    refused("HEAD with a NUL", with_target(b"{base}/\x00", b"HEAD"), 400, "9110 9.3.2"),
    refused("a target without a slash", with_target(b"info"), 400, "3.2.1"),
    refused("a target with a space", with_target(b"{base}/info a"), 400, "3.2: should be refused"),
    refused("a target in UTF-8", with_target("{base}/ü".encode()), 400, "3.2, RFC 3986 2"),
    refused("a target with a NUL", with_target(b"{base}/\x00"), 400, "3.2"),
    refused("an empty target", with_target(b""), 400, "3.2"),
    refused("a target of 100 KB", with_target(b"/" + b"a" * 100_000), 414, "3: must be 414"),
    taken("a target of 50 KB", with_target(b"/" + b"a" * 50_000), "3: at least 8000", 404),
    taken("a fragment", with_target(b"{base}/info#a"), "3.2 has none; dropped, as Node's are"),
    taken("a target that climbs", with_target(b"{base}/../../info"), "9110 4.2.3", 404),
    taken(
        "a method in small letters", with_target(b"{base}/info", b"get"), "9110 9.1: another", 405
    ),
    taken(
        "an unknown method", with_target(b"{base}/info", b"BREW"), "9110 9.1: 405 says more", 405
    ),
    taken("a method of 10 KB", with_target(b"{base}/info", b"A" * 10_000), "the same", 405),
    refused("a method that is no token", with_target(b"{base}/info", b"G@T"), 400, "3.1"),
    refused("a method of other bytes", with_target(b"{base}/info", b"G\x80T"), 400, "3.1"),
    refused("no method", with_target(b"{base}/info", b""), 400, "3.1, 2.2: no space before it"),
    refused("tabs in the request line", b"GET\t/\tHTTP/1.1\r\nhost: x\r\n\r\n", 400, "3: may"),
    refused("two spaces", with_target(b" {base}/info"), 400, "3: single ones"),
    refused("garbage", b"garbage\r\n\r\n", 400, "3"),
    refused("garbage without an end", b"g" * 70_000, 414, "3"),
    refused("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, 400, "3"),
]

VERSIONS = [
    rude("HTTP/1.0", with_version(b"HTTP/1.0"), "9.3: no keep-alive is offered"),
    Case(
        "HTTP/1.0 without Host", b"GET {base}/info HTTP/1.0\r\n\r\n", (200,), "3.2: optional there"
    ),
    taken("HTTP/1.2", with_version(b"HTTP/1.2"), "9110 2.5: as the highest that is known"),
    refused("HTTP/1.2 without Host", b"GET {base}/info HTTP/1.2\r\n\r\n", 400, "3.2"),
    refused("HTTP/0.9", b"GET {base}/info\r\n\r\n", 400, "3: no request line"),
    refused("HTTP/0.9 that says so", with_version(b"HTTP/0.9"), 505, "9110 15.6.6"),
    refused("HTTP/2.0", with_version(b"HTTP/2.0"), 505, "9110 15.6.6"),
    refused("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "9110 15.6.6"),
    refused("a version in small letters", with_version(b"http/1.1"), 400, "2.3: case matters"),
    refused("a version of three digits", with_version(b"HTTP/1.10"), 400, "2.3"),
    refused("a version without a point", with_version(b"HTTP/2"), 400, "2.3"),
    refused("something behind the version", with_version(b"HTTP/1.1 a"), 400, "3"),
]

CONNECTIONS = [
    taken("empty lines before a request", b"\r\n\r\n\n" + NEXT, "2.2: should be ignored"),
    taken("an empty line behind a body", with_length(b" 7") + b"\r\n", "2.2: old clients send one"),
    taken("an empty line behind chunks", with_chunks(CHUNKS) + b"\r\n", "2.2"),
    refused("a space before a request", b" " + NEXT, 400, "2.2"),
    Case("garbage behind a request", NEXT + b"garbage\r\n\r\n", (200, 400), "9.3.2: in order"),
    Case("a NUL behind a request", NEXT + b"\x00", (200, 400), "9.3.2"),
    rude("close, and more", with_field(b"connection: close"), "9.6: not processed"),
    rude("close, in capitals", with_field(b"Connection: a, CLOSE"), "9110 7.6.1"),
    taken("keep-alive", with_field(b"connection: keep-alive"), "9.3"),
    taken("HTTP/2 for the asking", with_field(b"connection: upgrade\r\nupgrade: h2c"), "9110 7.8"),
    taken("a websocket", with_field(b"connection: upgrade\r\nupgrade: websocket"), "9110 7.8: may"),
    taken(
        "an upgrade with a body",
        POST + b"upgrade: h2c\r\ncontent-length: 7\r\n\r\n" + BODY,
        "9110 7.8: ignored",
    ),
    taken("an unknown expectation", with_field(b"expect: the-worst"), "9110 10.1.1: 417 is a may"),
    taken(
        "an expectation that did not wait",
        POST + b"expect: 100-continue\r\ncontent-length: 7\r\n\r\n" + BODY,
        "9110 10.1.1: 100 may be sent all the same",
    ),
    Case(
        "an expectation in HTTP/1.0",
        POST.replace(b"1.1", b"1.0") + b"expect: 100-continue\r\ncontent-length: 7\r\n\r\n" + BODY,
        (200,),
        "9110 10.1.1: must be ignored",
    ),
    Case(
        "an expectation of what is not wanted",
        POST.replace(b"/agent", b"/nope") + b"expect: 100-continue\r\ncontent-length: 7\r\n\r\n",
        (404,),
        "9110 10.1.1: refused at once; whether the body comes nobody knows",
    ),
    refused(
        "a body that is too large",
        POST + b"content-length: 1000000000\r\n\r\n",
        413,
        "9110 15.5.14: before it has arrived",
    ),
    refused(
        "a body that is too large, and waits",
        POST + b"expect: 100-continue\r\ncontent-length: 1000000000\r\n\r\n",
        413,
        "9110 10.1.1: a final status instead of 100",
    ),
    refused(
        "chunks that are too large",
        with_chunks(b"30000\r\n" + b" " * 0x30000),
        413,
        "9110 15.5.14: as soon as they are",
    ),
]

CASES = [
    *FRAMING,
    *CHUNKED,
    *FIELDS,
    *REQUEST_LINES,
    *VERSIONS,
    *CONNECTIONS,
]


@attrs.frozen
class Response:
    """The parts of one response that is complete."""

    status: int
    closes: bool
    """Whether it says that the connection will be closed."""


def responses(data: bytes, request: bytes = b"") -> list[Response]:
    """The responses that ``data`` is made of; interim ones are left out.

    :param request: what they answer; those to HEAD have no content.
    :raises h11.RemoteProtocolError: if there is anything else in it.
    """
    method = b"HEAD" if request.startswith(b"HEAD") else b"GET"
    found = []
    while data:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"x")]))
        connection.receive_data(data)
        connection.receive_data(b"")
        while isinstance(event := connection.next_event(), h11.InformationalResponse):
            pass
        assert isinstance(event, h11.Response), event
        while isinstance(connection.next_event(), h11.Data):
            pass
        closes = connection.their_state is h11.MUST_CLOSE
        found.append(Response(event.status_code, closes))
        data = connection.trailing_data[0]
    return found
