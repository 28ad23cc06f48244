"""Ordinary requests go past h11, and nobody can tell: neither the core, nor who reads the bytes."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias
from unittest import mock

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.driver import CONVERSATIONS, INFO, STOP, Clock, Driver, bytes_of, run_bytes
from support.hostile_requests import CASES, Case

from copilot_bindings.http1 import fast_path
from copilot_bindings.http1.fast_path import FastResponse, recognise
from copilot_bindings.http1.request_parser import RequestParser
from copilot_bindings.http1.response_framing import H11Response
from sansio_copilot import CopilotRuntime, HookContext, Hooks, Request, Response, text_agent

LIMIT = 10_000
HOST = "host: x"


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock().install(monkeypatch)


@contextmanager
def h11_only() -> Iterator[None]:
    """No request is ordinary."""
    with mock.patch.object(fast_path, "recognise", return_value=None):
        yield


def head(*fields: str, line: str = "GET /a HTTP/1.1") -> bytes:
    return "".join(f"{row}\r\n" for row in (line, *fields, "")).encode("latin-1")


def read(data: bytes) -> tuple[Request | None, int | None, bool]:
    """The request, the length of its body, and whether it was ordinary."""
    parser = RequestParser(LIMIT)
    parser.feed(data)
    return parser.read_head(), parser.body.left, isinstance(parser.response, FastResponse)


def is_ordinary(data: bytes, limit: int = LIMIT) -> bool:
    return recognise(bytearray(data), 0, limit) is not None


def ordinary(data: bytes) -> Request:
    found = recognise(bytearray(data), 0, LIMIT)
    assert found is not None
    return found[0]


TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)
VALUES = st.text('!~az:,;="\xe9\xff\x80\xa0 \t', max_size=12)
SPACE = st.text(" \t", max_size=2)
METHODS = st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "PATCH", "DELETE"])
TARGETS = st.text('/?#%.;:@!~azAZ[]\\"', max_size=20).map("/{}".format)
HOSTS = st.sampled_from(["x", "", "localhost:80", "[::1]:8", "a_b.example:"])
KEEP_ALIVE = st.sampled_from(["keep-alive", "Keep-Alive"])


@st.composite
def ordinary_heads(draw: Any) -> bytes:
    special = {
        "host": HOSTS,
        "content-length": st.integers(0, 10**18 - 1).map(str) | st.just("007"),
        "connection": KEEP_ALIVE,
    }
    ours = {*special, "transfer-encoding", "expect", "upgrade"}
    names = draw(st.lists(TOKENS, max_size=5, unique_by=str.lower))
    fields = {name: VALUES for name in names if name.lower() not in ours}
    fields["Host"] = HOSTS
    for name in draw(st.sets(st.sampled_from(["Content-Length", "CONNECTION"]))):
        fields[name] = special[name.lower()]
    rows = [
        f"{name}:{draw(SPACE)}{draw(fields[name])}{draw(SPACE)}"
        for name in draw(st.permutations([*fields]))
    ]
    return head(*rows, line=f"{draw(METHODS)} {draw(TARGETS)} HTTP/1.1")


class TestRequests:
    @given(data=ordinary_heads())
    def test_the_core_gets_the_request_that_h11_reads(self, data: bytes) -> None:
        request, length, is_ordinary = read(data)
        assert is_ordinary
        with h11_only():
            assert read(data) == (request, length, False)

    @pytest.mark.parametrize("name", ["info", "stop", "run"])
    def test_the_usual_ones_take_the_fast_path(self, name: str) -> None:
        assert is_ordinary(CONVERSATIONS[name])

    def test_requests_that_are_open_share_the_fields_that_many_clients_have(self) -> None:
        fields = ("Accept: text/event-stream", "User-Agent: Mozilla/5.0", "Cookie: session=1")
        one, other = (ordinary(head(HOST, *fields)) for _ in range(2))
        assert one.method is other.method
        for name, value in one.headers.raw:
            shared = next(field for field in other.headers.raw if field[0] == name)
            assert shared[0] is name
            assert (shared[1] is value) is (name != "cookie")

    @pytest.mark.parametrize("field", ["X-{}: 1", "Accept: {}", "User-Agent: {}", "Cookie: {}"])
    def test_the_fields_that_clients_make_up_are_not_kept(self, field: str) -> None:
        def ask(begin: int, end: int) -> int:
            for number in range(begin, end):
                ordinary(head(HOST, field.format(f"made-up-{number:050}")))
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = ask(0, 2_500)
            assert ask(2_500, 12_500) - before < 512 * 1024
        finally:
            tracemalloc.stop()

    def test_a_request_is_read_the_same_however_it_arrives(self) -> None:
        for end in range(1, len(STOP)):
            parser = RequestParser(LIMIT)
            parser.feed(STOP[:end])
            request = parser.read_head()
            parser.feed(STOP[end:])
            assert request or parser.read_head()
            assert isinstance(parser.response, FastResponse)

    @pytest.mark.parametrize(
        "data",
        [
            head(HOST, line="GET /a HTTP/1.0"),
            head(HOST, line="GET /a HTTP/1.2"),
            head(HOST, line="GET * HTTP/1.1"),
            head(HOST, line="GET http://x/a HTTP/1.1"),
            head(HOST, line="GET  /a HTTP/1.1"),
            head(HOST, line="GET /\xe9 HTTP/1.1"),
            head(HOST, line="CONNECT /a HTTP/1.1"),
            head(HOST, line="BREW /a HTTP/1.1"),
            head(HOST, line="get /a HTTP/1.1"),
            head(),
            head("a: b"),
            head(HOST, HOST),
            head("host: x/y"),
            head(HOST, "a: b", "A: c"),
            head(HOST, "a : b"),
            head(HOST, " a: b"),
            head(HOST, "a: b", "\tc"),
            head(HOST, "a"),
            head(HOST, ": b"),
            head(HOST, "a: b\0"),
            head(HOST, "a: b\x7f"),
            head(HOST, "a: b\rc"),
            head(HOST, "a: b\nc: d"),
            head(HOST).replace(b"\r\n", b"\n"),
            b"\r\n" + head(HOST),
            head(HOST, "transfer-encoding: chunked"),
            head(HOST, "Transfer-Encoding: chunked"),
            head(HOST, "expect: 100-continue"),
            head(HOST, "upgrade: h2c"),
            head(HOST, "connection: close"),
            head(HOST, "connection: keep-alive, a"),
            head(HOST, "content-length: "),
            head(HOST, "content-length: +7"),
            head(HOST, "content-length: 7, 7"),
            head(HOST, "content-length: 7", "content-length: 7"),
            head(HOST, "content-length: " + "1" * 19),
            head(HOST, "content-length: \xb2"),
        ],
    )
    def test_everything_else_is_left_to_h11(self, data: bytes) -> None:
        assert not is_ordinary(data)

    def test_a_request_longer_than_the_limit_is_left_to_h11(self) -> None:
        data = head(HOST)
        assert is_ordinary(data, len(data))
        assert not is_ordinary(data, len(data) - 1)


MUTATIONS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"\0\t\n\v\r !/:,azAZ09\x7f\x80\xff"),
        *(b"\r\n", b"\r\n\r\n", b"\n\n", b"HTTP/1.0", b" HTTP/1.1", b"#", b"HEAD", b"host: y\r\n"),
        *(b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n"),
        *(b"connection: keep-alive\r\n", b"expect: 100-continue\r\n", b"upgrade: h2c\r\n"),
    ]
)


@st.composite
def mutated(draw: Any) -> bytes:
    """Requests, of which a few bytes were replaced by others."""
    names = st.sampled_from([*CONVERSATIONS.values(), run_bytes("t", "accept: */*")])
    data = b"".join(draw(st.lists(names, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(MUTATIONS) + data[at + draw(st.integers(0, 8)) :]
    return data


def conversation(*pieces: bytes, runtime: CopilotRuntime | None = None) -> bytes:
    """All that is sent to a client that closes its side when it has sent that."""
    return bytes(Driver(runtime).feed(*filter(None, pieces)).end().sent)


class TestConnections:
    """Each byte of the answers is the same with the fast path and without it."""

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_both_paths_agree_on_requests_that_are_odd_or_hostile(self, case: Case) -> None:
        answer = conversation(bytes_of(case))
        with h11_only():
            assert conversation(bytes_of(case)) == answer

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_both_paths_agree_on_conversations(self, name: str) -> None:
        answer = conversation(CONVERSATIONS[name])
        with h11_only():
            assert conversation(CONVERSATIONS[name]) == answer

    @given(data=mutated(), cuts=st.lists(st.integers(0, 2000), max_size=4).map(sorted))
    def test_both_paths_agree_on_requests_that_are_broken_anywhere(
        self, data: bytes, cuts: list[int]
    ) -> None:
        answer = conversation(data)
        bounds = [0, *cuts, len(data)]
        pieces = [data[begin:end] for begin, end in itertools.pairwise(bounds)]
        assert conversation(*pieces) == answer
        with h11_only():
            assert conversation(data) == answer

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_both_paths_agree_on_a_request_without_a_body(self, method: str) -> None:
        data = INFO.replace(b"GET", method.encode()) + INFO
        answer = conversation(data)
        with h11_only():
            assert conversation(data) == answer

    @pytest.mark.parametrize("method", ["POST", "HEAD"])
    def test_both_paths_agree_on_a_body_that_breaks_off(self, method: str) -> None:
        for data in (STOP[:-1], STOP[:-7], STOP[:-1].replace(b"/agent", b"/nope")):
            data = data.replace(b"POST", method.encode())
            answer = conversation(data)
            with h11_only():
                assert conversation(data) == answer

    def test_both_paths_agree_on_a_stream_for_head(self) -> None:
        hooks = Hooks(on_request=lambda context: Request("POST", context.path, "", {}, RUN))
        data = run_bytes().replace(b"POST", b"HEAD") + INFO
        answer = conversation(data, runtime=runtime_with(hooks))
        assert b"\r\nTransfer-Encoding: chunked\r\n" in answer
        with h11_only():
            assert conversation(data, runtime=runtime_with(hooks)) == answer


RUN = run_bytes().partition(b"\r\n\r\n")[2]


def runtime_with(hooks: Hooks) -> CopilotRuntime:
    @text_agent
    def hello(input: Any, context: Any) -> Any:
        yield "Hello"

    return CopilotRuntime({"default": hello}, hooks=hooks)


ODD_FIELDS = [
    ("a", "b"),
    ("a", ""),
    ("a", "b\tc"),
    ("a", "\xe9"),
    ("a", "\x1f"),
    ("a", " b"),
    ("a", "b "),
    ("a", "b\t"),
    ("a", "b\0"),
    ("a", "b\r\nc: d"),
    ("a", "b\r"),
    ("a", "\u2028"),
    ("", "b"),
    ("a ", "b"),
    ("a:", "b"),
    ("a: b\r\nc", "d"),
    ("\xe9", "b"),
    ("date", "now"),
    ("host", "x"),
    ("set-cookie", "a=b"),
    ("connection", "close"),
    ("connection", "keep-alive"),
    ("connection", "a, Close"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "Chunked"),
    ("transfer-encoding", "gzip"),
]
Fields: TypeAlias = tuple[tuple[str, str], ...]


def framed(
    framing: FastResponse | H11Response,
    status: int,
    fields: Fields,
    close: bool,
    pieces: list[bytes],
) -> tuple[bytes, bool, bool] | None:
    """Return the bytes to send, and what may follow them; None if there is no such response."""
    assert not framing.has_begun
    try:
        sent = [*framing.head(status, fields, close=close)]
    except (h11.LocalProtocolError, ValueError):
        return None
    for piece in pieces:
        sent += framing.data(piece)
    sent += framing.end()
    return b"".join(sent), framing.may_be_followed, framing.has_begun


def assert_framed_as_by_h11(
    method: str, status: int, fields: Fields, pieces: list[bytes], close: bool
) -> None:
    if method == "HEAD" or status in (204, 304):
        pieces = []
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head(HOST, line=f"{method} / HTTP/1.1"))
    while connection.their_state is not h11.DONE:
        connection.next_event()
    expected = framed(H11Response(connection), status, fields, close, pieces)
    for _ in range(2):
        # The second time it is remembered.
        fast = FastResponse(method == "HEAD")
        assert framed(fast, status, fields, close, pieces) == expected


class TestResponses:
    """The fast path frames as h11 does, which refuses the same."""

    @pytest.mark.parametrize("field", ODD_FIELDS)
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_response_with_an_odd_field_is_framed_as_by_h11(
        self, method: str, field: tuple[str, str]
    ) -> None:
        for status, close in itertools.product((200, 204), (False, True)):
            for fields in ((field,), (("x", "1"), field, ("content-length", "4"))):
                assert_framed_as_by_h11(method, status, fields, [b"body"], close)

    @given(
        method=st.sampled_from(["GET", "HEAD"]),
        status=st.sampled_from([200, 204, 304, 404, 418, 499, 599]),
        fields=st.lists(st.sampled_from(ODD_FIELDS), max_size=3).map(tuple),
        pieces=st.lists(st.binary(max_size=20), max_size=3),
        has_length=st.booleans(),
        close=st.booleans(),
    )
    def test_a_response_with_several_fields_is_framed_as_by_h11(
        self,
        method: str,
        status: int,
        fields: Fields,
        pieces: list[bytes],
        has_length: bool,
        close: bool,
    ) -> None:
        if has_length:
            fields = (*fields, ("content-length", str(sum(map(len, pieces)))))
        assert_framed_as_by_h11(method, status, fields, pieces, close)

    def test_a_hook_may_chunk_or_close(self) -> None:
        for field in (("transfer-encoding", "chunked"), ("connection", "close")):
            hooks = Hooks(on_response=partial(_answers, Response(200, [field], b"body")))
            answer = conversation(INFO, INFO, runtime=runtime_with(hooks))
            assert ": ".join(field).encode() in answer.lower()
            with h11_only():
                runtime = runtime_with(hooks)
                assert conversation(INFO, INFO, runtime=runtime) == answer


def _answers(response: Response, context: HookContext) -> Response:
    return response
