"""Requests, responses and header fields as values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.errors import RemoteProtocolError
from sansio_copilot.http import Headers, Request, Response, messages

PAIRS = st.lists(st.tuples(st.sampled_from(["a", "A", "b", "B", "c"]), st.text()))


@pytest.fixture(scope="class", params=["by a search", "in an index"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The two ways to find a name: among few fields, and among many."""
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "in an index":
            patched.setattr(messages, "FEW_FIELDS", 0)
        yield


@pytest.mark.usefixtures("way")
class TestHeaders:
    def test_names_have_no_case(self) -> None:
        headers = Headers({"Content-Type": "text/plain"})
        assert headers["CONTENT-TYPE"] == "text/plain"
        assert headers.get("content-type") == "text/plain"
        assert "Content-type" in headers
        assert list(headers) == ["content-type"]

    def test_a_field_that_is_not_there_is_a_missing_key(self) -> None:
        headers = Headers({"a": "1"})
        assert headers.get("b") is None
        assert "b" not in headers
        assert 5 not in headers  # type: ignore[comparison-overlap]
        assert headers.get_all("b") == []
        with pytest.raises(KeyError, match="b"):
            headers["b"]

    def test_fields_of_one_name_read_as_one(self) -> None:
        headers = Headers([("Vary", "a"), ("x", "1"), ("vary", "b")])
        assert headers["vary"] == "a, b"
        assert headers.get_all("VARY") == ["a", "b"]
        assert dict(headers) == {"vary": "a, b", "x": "1"}
        assert len(headers) == 2
        assert headers.raw == (("vary", "a"), ("x", "1"), ("vary", "b"))

    def test_changes_are_copies(self) -> None:
        headers = Headers([("a", "1"), ("b", "2"), ("A", "3")])
        assert headers.set("A", "4").raw == (("b", "2"), ("a", "4"))
        assert headers.add("B", "5").raw == (*headers.raw, ("b", "5"))
        assert headers.remove("A").raw == (("b", "2"),)
        assert headers.remove("z") == headers
        assert headers == Headers([("a", "1"), ("b", "2"), ("a", "3")])

    def test_headers_are_made_of_raw_fields(self) -> None:
        fields = (("a", "1"), ("b", "2"))
        assert Headers.from_raw(fields) == Headers(fields)

    def test_headers_are_values(self) -> None:
        assert Headers({"A": "1"}) == Headers([("a", "1")])
        assert hash(Headers({"A": "1"})) == hash(Headers([("a", "1")]))
        assert Headers({"a": "1"}) != Headers({"a": "2"})
        assert Headers({"a": "1"}) != {"a": "1"}
        assert Headers(Headers({"a": "1"})) == Headers({"a": "1"})

    def test_the_repr_of_headers_has_no_value(self) -> None:
        assert repr(Headers({"Authorization": "secret", "x": "y"})) == "<Headers authorization, x>"

    @given(PAIRS)
    def test_headers_are_a_mapping(self, pairs: list[tuple[str, str]]) -> None:
        headers = Headers(pairs)
        assert len(headers) == len(list(headers)) == len(dict(headers))
        for name, value in headers.items():
            assert name == name.lower()
            assert value == ", ".join(v for n, v in pairs if n.lower() == name)


class TestRequest:
    def test_a_mapping_of_headers_is_converted(self) -> None:
        request = Request("GET", "/", headers={"Origin": "https://a.example"})
        assert request.headers["origin"] == "https://a.example"
        assert Request("GET", "/").headers == Headers()

    def test_a_request_is_frozen(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            Request("GET", "/").path = "/x"  # type: ignore[misc]

    def test_the_body_of_a_request_is_unread_at_first_and_never_in_the_repr(self) -> None:
        assert Request("POST", "/").body is None
        assert "secret" not in repr(Request("POST", "/", body=b"secret"))

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/a/b?c=d?e", "/a/b", "c=d?e"),
            ("/a%20b?%3F", "/a%20b", "%3F"),
            ("/a#top?x", "/a", ""),
            ("/a?x#top", "/a", "x"),
            ("//a/b", "//a/b", ""),
            ("http://host/a?b", "/a", "b"),
            ("HTTPS://host:8443/a", "/a", ""),
            ("http://host", "/", ""),
        ],
    )
    def test_a_target_has_a_path_and_a_query(self, target: str, path: str, query: str) -> None:
        request = Request.from_target("GET", target, {"a": "1"}, b"x")
        assert request == Request("GET", path, query, {"a": "1"}, b"x")

    @pytest.mark.parametrize(("method", "target"), [("OPTIONS", "*"), ("CONNECT", "host:443")])
    def test_targets_that_name_no_resource_are_of_the_path_slash(
        self, method: str, target: str
    ) -> None:
        assert Request.from_target(method, target) == Request(method, "/")

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("GET", "*"),
            ("GET", "host:443"),
            ("GET", "info"),
            ("GET", ""),
            ("OPTIONS", "host:443"),
            ("CONNECT", "*"),
            ("CONNECT", "host"),
        ],
    )
    def test_targets_of_a_wrong_form_are_refused(self, method: str, target: str) -> None:
        with pytest.raises(RemoteProtocolError, match="a path or a URL, not "):
            Request.from_target(method, target)

    @pytest.mark.parametrize("target", ["http://host?b=c", "http://host?b=c/d"])
    def test_an_absolute_target_without_a_path_has_the_root_as_its_path(self, target: str) -> None:
        request = Request.from_target("GET", target)
        assert (request.path, request.query) == ("/", target.partition("?")[2])


def test_a_request_is_the_same_but_for_the_headers_that_replace_its_own() -> None:
    request = Request("POST", "/x", "a=1", {"a": "1"}, b"body")
    changed = request.with_headers(request.headers.set("b", "2"))
    assert changed == Request("POST", "/x", "a=1", {"a": "1", "b": "2"}, b"body")


def test_a_request_whose_body_has_been_read() -> None:
    request = Request("POST", "/x", "a=1", {"a": "1"})
    assert request.with_body(b"body") == Request("POST", "/x", "a=1", {"a": "1"}, b"body")


def test_messages_of_a_class_of_the_application_keep_it() -> None:
    @attrs.frozen
    class Authenticated(Request):
        login: str = ""

    @attrs.frozen
    class Traced(Response):
        trace: str = attrs.field(default="", kw_only=True)

    request = Authenticated("POST", "/x", login="u")
    assert request.with_body(b"body") == Authenticated("POST", "/x", body=b"body", login="u")
    assert request.with_body(b"body").outlived() == request
    response = Traced(trace="t")
    assert response.with_headers(Headers({"a": "1"})) == Traced(200, {"a": "1"}, trace="t")


def test_headers_of_none_are_empty() -> None:
    assert Response(204, None).headers == Headers()


class TestResponse:
    def test_the_default_response_is_an_empty_200(self) -> None:
        assert Response() == Response(200, {}, b"", stream=False)

    def test_text_is_encoded(self) -> None:
        assert Response(400, {}, "né").body == "né".encode()

    def test_a_response_of_json_is_encoded(self) -> None:
        response = Response.json({"a": "é"}, 404, {"Allow": "GET"})
        assert response.status == 404
        assert response.body == '{"a":"é"}'.encode()
        assert response.headers == Headers({"allow": "GET", "content-type": "application/json"})
        assert Response.json(None) == Response(200, {"content-type": "application/json"}, "null")

    def test_a_response_of_json_may_have_another_type(self) -> None:
        response = Response.json({}, headers={"content-type": "application/problem+json"})
        assert response.headers["content-type"] == "application/problem+json"

    def test_a_response_is_the_same_but_for_the_headers_that_replace_its_own(self) -> None:
        response = Response(201, {"a": "1"}, "x", stream=True)
        changed = response.with_headers(response.headers.set("a", "2"))
        assert changed == Response(201, {"a": "2"}, "x", stream=True)
        assert response.headers["a"] == "1"

    def test_the_body_of_a_response_is_not_in_the_repr(self) -> None:
        assert "secret" not in repr(Response(200, {}, "secret"))


@pytest.mark.parametrize("status", ["200", 99, 101, 600, True, None])
def test_a_value_that_is_no_status_is_refused(status: Any) -> None:
    with pytest.raises(ValueError, match="status must be an int from 200 to 599"):
        Response(status)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x u": "a"}, "'x u' is not the name of a header"),
        ({"": "a"}, "'' is not the name of a header"),
        ({"x": "a\nb"}, "the value of header x has a character it cannot have"),
        ({"x": "\u65e5"}, "the value of header x has a character it cannot have"),
    ],
)
def test_a_field_that_is_no_header_of_a_response_is_refused(
    headers: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Response(200, headers)
