"""Paths and envelopes to routes: the reference's vectors, then what they leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.http import Request
from sansio_copilot.http.envelope import (
    ENVELOPE_CODE,
    ENVELOPE_MESSAGE,
    METHOD_NAMES,
    Envelope,
    EnvelopeRefusal,
    detect_envelope,
    envelope_route,
    may_be_envelope,
    parse_envelope,
    require_body,
    resolve_envelope,
    resource_request,
)
from sansio_copilot.http.paths import (
    from_base_path,
    normalize_base_path,
    normalize_path,
    under_base_path,
)
from sansio_copilot.http.routing import METHODS, Route, match_path

VECTORS = Path(__file__).parents[2] / "vectors"
BASE = "/api/copilotkit"


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text("utf-8"))["cases"]
    return cases


def post(body: bytes | str | None, path: str = BASE, **headers: str) -> Request:
    fields = {"content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", path, "", fields, body.encode() if isinstance(body, str) else body)


def call(path: str, http_method: str = "GET", **members: Any) -> Envelope:
    params = {"path": path, "httpMethod": http_method}
    return Envelope("resource/request", params, members.get("body"), "body" in members)


def wire_form(route: Route | None) -> dict[str, str] | None:
    if route is None:
        return None
    members = {
        "method": route.name,
        "agentId": route.agent_id,
        "threadId": route.thread_id,
        "memoryId": route.memory_id,
    }
    return {name: value for name, value in members.items() if value is not None}


class TestPaths:
    def test_every_vector_is_routed_as_recorded(self) -> None:
        for case in load("routes.json"):
            route = match_path(case["path"], case["base_path"])
            assert wire_form(route) == case["route"], case

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/info", Route("info")),
            ("/inspector-metadata", Route("inspector/metadata")),
            ("/inspector-learning", Route("inspector/learning")),
            ("/transcribe", Route("transcribe")),
            ("/cpk-debug-events", Route("cpk-debug-events")),
            ("/agent/a/run", Route("agent/run", "a")),
            ("/agent/a/suggest", Route("agent/suggest", "a")),
            ("/agent/a/connect", Route("agent/connect", "a")),
            ("/agent/a/stop/t", Route("agent/stop", "a", "t")),
            ("/threads", Route("threads/list")),
            ("/threads/clear", Route("threads/clear")),
            ("/threads/subscribe", Route("threads/subscribe")),
            ("/threads/t", Route("threads/update", thread_id="t")),
            ("/threads/t/archive", Route("threads/archive", thread_id="t")),
            ("/threads/t/messages", Route("threads/messages", thread_id="t")),
            ("/threads/t/events", Route("threads/events", thread_id="t")),
            ("/threads/t/state", Route("threads/state", thread_id="t")),
            ("/memories", Route("memories/list")),
            ("/memories/recall", Route("memories/recall")),
            ("/memories/subscribe", Route("memories/subscribe")),
            ("/memories/m", Route("memories/mutate", memory_id="m")),
            ("/annotate", Route("annotate")),
        ],
    )
    def test_each_endpoint_has_a_path(self, path: str, route: Route) -> None:
        assert match_path(BASE + path, BASE) == route
        assert METHODS[route.name]

    @pytest.mark.parametrize("path", ["/", "", "*", "/agent/a", "/agent/a/fly", "/agents/a/run"])
    def test_other_paths_match_nothing(self, path: str) -> None:
        assert match_path(path, None) is None

    @pytest.mark.parametrize(
        ("segment", "agent_id"),
        [
            ("caf%C3%A9", "café"),
            ("caf\xe9%41", "caféA"),
            ("a%2Fb", "a/b"),
            ("a%252Fb", "a%2Fb"),
            ("a+b", "a+b"),
            ("%F0%9F%98%80", "😀"),
            ("\ud800%41", "\ud800A"),
        ],
    )
    def test_ids_are_decoded_once_and_after_splitting(self, segment: str, agent_id: str) -> None:
        assert match_path(f"/agent/{segment}/run", None) == Route("agent/run", agent_id)

    @pytest.mark.parametrize(
        "segment",
        ["%", "%4", "%zz", "%41%", "%E0%A4%A", "%C0%80", "%ED%A0%80", "%F4%90%80%80", "%FF"],
    )
    def test_a_malformed_id_is_no_match(self, segment: str) -> None:
        assert match_path(f"/agent/{segment}/run", None) is None

    def test_a_malformed_id_is_not_tried_on_a_later_pattern(self) -> None:
        assert match_path("/agent/x/stop/threads", None) == Route("agent/stop", "x", "threads")
        assert match_path("/agent/%/stop/threads", None) is None

    def test_a_base_path_ends_at_a_segment(self) -> None:
        assert match_path("/api/copilotkitchen/info", BASE) is None
        assert match_path("/api/copilotkit/deeper/info", BASE) == Route("info")
        assert match_path("/elsewhere/info", BASE) is None

    @given(st.text(st.characters(codec="utf-8"), min_size=1))
    def test_an_id_of_any_text_comes_back(self, agent_id: str) -> None:
        encoded = "".join(f"%{byte:02x}" for byte in agent_id.encode())
        assert match_path(f"/agent/{encoded}/run", None) == Route("agent/run", agent_id)

    @pytest.mark.parametrize(
        ("name", "methods"),
        [
            ("info", ("GET",)),
            ("agent/run", ("POST",)),
            ("threads/update", ("PATCH", "DELETE")),
            ("memories/list", ("GET", "POST")),
        ],
    )
    def test_each_endpoint_has_its_methods(self, name: str, methods: tuple[str, ...]) -> None:
        assert METHODS[name] == methods

    def test_an_unknown_endpoint_has_no_methods(self) -> None:
        with pytest.raises(KeyError):
            METHODS["nope"]

    def test_methods_agree_with_the_405_of_the_vectors(self) -> None:
        seen = 0
        for case in load("http.json"):
            if case["config"] == "single" or case["expect"]["status"] != 405:
                continue
            route = match_path(BASE + case["request"]["path"].partition("?")[0], BASE)
            assert route is not None
            assert ", ".join(METHODS[route.name]) == case["expect"]["headers"]["allow"]
            seen += 1
        assert seen > 0


class TestBasePath:
    @pytest.mark.parametrize(
        ("given", "normal"),
        [
            (None, None),
            ("", None),
            ("/", "/"),
            ("//", "/"),
            ("/api/", "/api"),
            ("/api", "/api"),
            ("/my app", "/my%20app"),
            ("/café", "/caf%C3%A9"),
            ("/a/../b/", "/b"),
        ],
    )
    def test_a_base_path_has_a_normal_form(self, given: str | None, normal: str | None) -> None:
        assert normalize_base_path(given) == normal
        assert normalize_base_path(normal) == normal

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            ("api/copilotkit", "must start with '/'.*'api/copilotkit'"),
            ("http://host/api", "must start with '/'"),
            ("/api?x=1", "must not have a query"),
            ("/api#top", "must not have a fragment"),
        ],
    )
    def test_a_mistake_in_a_base_path_is_named(self, bad: str, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            normalize_base_path(bad)

    def test_a_base_path_of_another_type_is_refused(self) -> None:
        with pytest.raises(TypeError, match="must be a str or None, not bytes"):
            normalize_base_path(b"/api")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("path", "base", "under"),
        [
            (BASE, BASE, True),
            (BASE + "/", BASE, True),
            (BASE + "/x", BASE + "/", True),
            (BASE + "x", BASE, False),
            ("/other", BASE, False),
            ("/other", "/", True),
            ("/other", None, True),
        ],
    )
    def test_single_route_mode_answers_below_its_base_path(
        self, path: str, base: str | None, under: bool
    ) -> None:
        assert under_base_path(path, base) is under


class TestNormalPath:
    @pytest.mark.parametrize(
        ("path", "normal"),
        [
            ("/a/b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/.%2e/b", "/b"),
            ("/../../b", "/b"),
            ("/./a/%2e/b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/b/%2E", "/a/b/"),
            ("/a//b/", "/a//b/"),
            ("/a\\..\\b", "/b"),
            ("/", "/"),
            ("/café/x y", "/caf%C3%A9/x%20y"),
            ("/th`r{e}\"<>|'", "/th%60r%7Be%7D%22%3C%3E|'"),
            ("/%zz/%2F", "/%zz/%2F"),
            ("/a\ud800", "/a%EF%BF%BD"),
            ("/[]@:;=&$+,!*()~_-.", "/[]@:;=&$+,!*()~_-."),
            ("/\x00\x7f", "/%00%7F"),
        ],
    )
    def test_a_normal_path_is_what_a_browser_sends(self, path: str, normal: str) -> None:
        assert normalize_path(path) == normal

    @given(st.text(alphabet="./\\%2eEaé"))
    def test_a_normal_path_is_stable(self, path: str) -> None:
        once = normalize_path("/" + path)
        assert normalize_path(once) == once
        assert not {".", "..", "%2e"} & {segment.lower() for segment in once.split("/")}


class TestEnvelope:
    @staticmethod
    def follow(request: Request) -> tuple[int, Any] | Route:
        """A single-route request as far as its route, or the answer that refuses it."""
        try:
            envelope = parse_envelope(request)
            resolved = resolve_envelope(envelope, request)
            if resolved is None:
                return 404, {"error": "Not found"}
            route, inner = resolved
            if inner.method not in METHODS[route.name]:
                return 405, {"error": "Method not allowed"}
            require_body(envelope, inner)
        except EnvelopeRefusal as refusal:
            return refusal.response.status, {"error": "invalid_request", "message": refusal.message}
        return route

    def test_the_vectors_of_single_route_mode_are_read(self) -> None:
        routes = []
        for case in load("http.json"):
            sent, expect = case["request"], case["expect"]
            if case["config"] != "single" or sent["method"] != "POST":
                continue
            path, body = BASE + sent["path"], sent["body"].encode()
            outcome = self.follow(Request("POST", path, "", sent["headers"], body))
            if isinstance(outcome, Route):
                # The answer of the endpoint is not a matter of routing.
                assert expect["status"] != 405, case
                assert "invalid_request" not in expect["body"], case
                assert expect["body"] != {"error": "Not found"}, case
                routes.append(outcome.name)
            # The expected answer is written here, because the reference crashes at this body.
            elif sent["body"] == "null":
                assert outcome == (
                    400,
                    {"error": "invalid_request", "message": "Missing method field"},
                )
            else:
                assert outcome == (expect["status"], expect["body"]), case
        assert set(routes) > {"info", "agent/run", "agent/stop", "threads/list", "threads/events"}

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            (b"", 400, "Invalid JSON payload"),
            (None, 400, "Invalid JSON payload"),
            (b"{", 400, "Invalid JSON payload"),
            (b"[" * 100_000, 400, "Invalid JSON payload"),
            (b"null", 400, "Missing method field"),
            (b"[]", 400, "Missing method field"),
            (b'"info"', 400, "Missing method field"),
            (b'{"method":null}', 400, "Missing method field"),
            (b'{"method":""}', 400, "Missing method field"),
            (b'{"method":0}', 400, "Missing method field"),
            (b'{"method":false}', 400, "Missing method field"),
            (b'{"method":true}', 400, "Unsupported method 'true'"),
            (b'{"method":5}', 400, "Unsupported method '5'"),
            (b'{"method":["info"]}', 400, "Unsupported method '[...]'"),
            (b'{"method":{}}', 400, "Unsupported method '{...}'"),
            (b'{"method":"threads/list"}', 400, "Unsupported method 'threads/list'"),
        ],
    )
    def test_a_body_that_is_no_envelope_is_refused(
        self, body: bytes | None, status: int, message: str
    ) -> None:
        with pytest.raises(EnvelopeRefusal) as caught:
            parse_envelope(post(body))
        assert (caught.value.response.status, caught.value.message) == (status, message)
        assert str(caught.value) == message

    @pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", ""])
    def test_an_envelope_must_be_declared_as_json(self, content_type: str) -> None:
        with pytest.raises(EnvelopeRefusal, match="expects JSON payloads") as caught:
            parse_envelope(post('{"method":"info"}', content_type=content_type))
        assert caught.value.response.status == 415
        with pytest.raises(EnvelopeRefusal):
            parse_envelope(Request("POST", BASE, body=b'{"method":"info"}'))

    @pytest.mark.parametrize(
        "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
    )
    def test_json_may_have_parameters_and_any_case(self, content_type: str) -> None:
        envelope = parse_envelope(post('{"method":"info"}', content_type=content_type))
        assert envelope == Envelope("info")

    def test_a_missing_body_is_not_a_null_body(self) -> None:
        assert not parse_envelope(post('{"method":"info"}')).has_body
        assert parse_envelope(post('{"method":"info","body":null}')).has_body

    def test_a_byte_order_mark_is_skipped(self) -> None:
        assert parse_envelope(post(b'\xef\xbb\xbf{"method":"info"}')).method == "info"

    def test_content_is_not_in_the_repr_of_an_envelope(self) -> None:
        assert "secret" not in repr(Envelope("info", {"k": "secret"}, "secret", True))


class TestDetection:
    @pytest.mark.parametrize("method", METHOD_NAMES)
    def test_an_envelope_is_recognised(self, method: str) -> None:
        assert detect_envelope(post(json.dumps({"method": method}))) == method

    @pytest.mark.parametrize(
        "request_",
        [
            Request("GET", "/", "", {"content-type": "application/json"}, b'{"method":"info"}'),
            post('{"method":"info"}', content_type="text/plain"),
            post('{"method":"nope"}'),
            post('{"method":5}'),
            post('{"method":["info"]}'),
            post('["info"]'),
            post("null"),
            post("{"),
            post(None),
        ],
    )
    def test_any_other_body_is_an_ordinary_404(self, request_: Request) -> None:
        assert detect_envelope(request_) is None

    def test_the_head_tells_whether_the_body_is_worth_reading(self) -> None:
        assert may_be_envelope(post(None))
        assert not may_be_envelope(post(None, content_type="audio/webm"))
        assert not may_be_envelope(Request("PUT", "/", "", {"content-type": "application/json"}))

    def test_the_vectors_of_multi_route_mode_are_recognised(self) -> None:
        seen = 0
        for case in load("http.json"):
            sent, body = case["request"], case["expect"]["body"]
            path = BASE + sent["path"].partition("?")[0]
            if case["config"] == "single" or match_path(path, BASE) is not None:
                continue
            content = sent.get("body", "").encode()
            request = Request(sent["method"], path, "", sent.get("headers", {}), content)
            named = isinstance(body, dict) and "code" in body
            assert (detect_envelope(request) is not None) is named, case
            if named:
                assert body["code"] == ENVELOPE_CODE
                assert body["message"].split("Either")[0] == ENVELOPE_MESSAGE.split("Either")[0]
                seen += 1
        assert seen > 0


class TestRouteOfAnEnvelope:
    @pytest.mark.parametrize(
        ("envelope", "route"),
        [
            (Envelope("info"), Route("info")),
            (Envelope("inspector/metadata"), Route("inspector/metadata")),
            (Envelope("inspector/learning"), Route("inspector/learning")),
            (Envelope("transcribe"), Route("transcribe")),
            (Envelope("agent/run", {"agentId": "a b"}), Route("agent/run", "a b")),
            (Envelope("agent/connect", {"agentId": "a"}), Route("agent/connect", "a")),
            (Envelope("agent/suggest", {"agentId": "a"}), Route("agent/suggest", "a")),
            (
                Envelope("agent/stop", {"agentId": "%41", "threadId": "t/1"}),
                Route("agent/stop", "%41", "t/1"),
            ),
        ],
    )
    def test_ids_come_from_the_parameters_of_an_envelope_as_they_are(
        self, envelope: Envelope, route: Route
    ) -> None:
        assert envelope_route(envelope) == route
        resolved = resolve_envelope(envelope, post(""))
        assert resolved is not None
        assert resolved[0] == route

    @pytest.mark.parametrize(
        "params",
        [None, [], "agentId", 5, {}, {"agentId": 5}, {"agentId": ""}, {"agentId": " \ufeff"}],
    )
    def test_a_needed_parameter_is_a_string_that_is_not_blank(self, params: Any) -> None:
        with pytest.raises(EnvelopeRefusal, match=r"^Missing or invalid parameter 'agentId'$"):
            envelope_route(Envelope("agent/run", params))

    def test_a_resource_is_not_named_by_its_method(self) -> None:
        with pytest.raises(ValueError, match="by a path"):
            envelope_route(call("/threads"))


class TestResources:
    def test_an_envelope_of_a_resource_has_an_inner_request(self) -> None:
        outer = post("...", authorization="Bearer x", content_length="3")
        inner = resource_request(
            call("/threads/t%201?limit=2&q=é#top", "patch", body={"a": 1}), outer
        )
        assert inner == Request(
            "PATCH",
            BASE + "/threads/t%201",
            "limit=2&q=%C3%A9",
            {"content-type": "application/json", "authorization": "Bearer x"},
            b'{"a":1}',
        )

    @pytest.mark.parametrize(
        ("method", "members", "body"),
        [
            ("GET", {"body": {"a": 1}}, None),
            ("head", {"body": {"a": 1}}, None),
            ("DELETE", {"body": {"a": 1}}, None),
            ("POST", {}, b""),
            ("POST", {"body": None}, b""),
            ("POST", {"body": '{"a":\ud800 1}'}, '{"a":\ufffd 1}'.encode()),
            ("POST", {"body": [1]}, b"[1]"),
        ],
    )
    def test_the_body_of_an_inner_request_is_json(
        self, method: str, members: dict[str, Any], body: bytes | None
    ) -> None:
        assert resource_request(call("/threads", method, **members), post("")).body == body

    @pytest.mark.parametrize(
        ("outer", "path", "inner"),
        [
            ("/api/copilotkit/", "/threads", "/api/copilotkit/threads"),
            ("/", "/threads", "/threads"),
            (BASE, "/../../threads", BASE + "/threads"),
            (BASE, "/%2e%2e/threads", BASE + "/threads"),
            (BASE, "/a\\..\\threads", BASE + "/threads"),
            (BASE, "/thr\teads\r\n ", BASE + "/threads"),
            (BASE, "/a/..//evil.example", BASE + "//evil.example"),
        ],
    )
    def test_the_path_of_an_inner_request_stays_below_the_runtime(
        self, outer: str, path: str, inner: str
    ) -> None:
        assert resource_request(call(path), post("", outer)).path == inner

    @pytest.mark.parametrize(
        "path",
        [
            "threads",
            " /threads",
            "\t/threads",
            "?/threads",
            "//evil.example/threads",
            "/\\evil.example/threads",
            "\\\\evil.example/threads",
            "/\t/evil.example/threads",
            "//",
            "/\\",
            "http://evil.example/threads",
        ],
    )
    def test_a_path_to_elsewhere_is_refused(self, path: str) -> None:
        with pytest.raises(EnvelopeRefusal, match=r"^Resource path must be Runtime-relative$"):
            resource_request(call(path), post(""))

    @pytest.mark.parametrize(
        ("params", "missing"),
        [({}, "path"), ({"path": "/threads"}, "httpMethod"), ({"httpMethod": "GET"}, "path")],
    )
    def test_an_inner_request_needs_its_parameters(
        self, params: dict[str, str], missing: str
    ) -> None:
        with pytest.raises(EnvelopeRefusal, match=f"'{missing}'"):
            resource_request(Envelope("resource/request", params), post(""))

    @pytest.mark.parametrize("method", ["GET\n", "GE T", "get /", "G\0", "GÉT", "A\nlog line"])
    def test_a_method_that_is_no_token_is_refused(self, method: str) -> None:
        """A log line has the method, and another one would begin in the middle of it."""
        with pytest.raises(EnvelopeRefusal, match=r"^Parameter 'httpMethod' is no method of HTTP$"):
            resource_request(call("/threads", method), post(""))

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/threads", Route("threads/list")),
            ("/threads/a%20b/state", Route("threads/state", thread_id="a b")),
            ("/threads/clear", Route("threads/clear")),
            ("/memories/m", Route("memories/mutate", memory_id="m")),
            ("/annotate", Route("annotate")),
        ],
    )
    def test_an_inner_request_may_reach_resources(self, path: str, route: Route) -> None:
        for outer in (BASE, BASE + "/", "/"):
            resolved = resolve_envelope(call(path), post("", outer))
            assert resolved is not None
            assert resolved[0] == route
            assert resolved[1].path == outer.rstrip("/") + path

    @pytest.mark.parametrize(
        "path",
        [
            "/info",
            "/agent/default/run",
            "/transcribe",
            "/cpk-debug-events",
            "/nope",
            "/",
            "/threads/%",
        ],
    )
    def test_an_inner_request_may_reach_nothing_else(self, path: str) -> None:
        assert resolve_envelope(call(path), post("")) is None


class TestTheRequestOfAnEndpoint:
    """Hooks and the endpoint are given the request of multi-route mode."""

    @staticmethod
    def inner(envelope: Envelope, outer: Request | None = None) -> Request:
        resolved = resolve_envelope(envelope, outer or post(""))
        assert resolved is not None
        return resolved[1]

    @pytest.mark.parametrize(
        ("body", "content"),
        [
            ({"threadId": "t"}, b'{"threadId":"t"}'),
            ('{"threadId": "t"}', b'{"threadId": "t"}'),
            ("", b""),
            (False, b"false"),
            ([], b"[]"),
            (msgspec.Raw(b'{"a" : 1e2}'), b'{"a" : 1e2}'),
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("agent/run", "/agent/a%2Fb%20%C3%BC/run"),
            ("agent/connect", "/agent/a%2Fb%20%C3%BC/connect"),
            ("agent/suggest", "/agent/a%2Fb%20%C3%BC/suggest"),
            ("agent/stop", "/agent/a%2Fb%20%C3%BC/stop/%3F%EF%BF%BD"),
            ("transcribe", "/transcribe"),
        ],
    )
    @pytest.mark.parametrize("base", [BASE, BASE + "/", "/"])
    def test_the_request_has_the_path_and_body_of_the_endpoint(
        self, method: str, path: str, body: Any, content: bytes, base: str
    ) -> None:
        params = {"agentId": "a/b ü", "threadId": "?\ud800"}
        outer = post(
            "...", base, content_type="application/json; charset=utf-8", content_length="3"
        )
        assert self.inner(Envelope(method, params, body, True), outer) == Request(
            "POST", base.rstrip("/") + path, "", {"content-type": "application/json"}, content
        )

    def test_the_body_is_as_it_was_sent(self) -> None:
        """The body is the same to the byte, however it is written."""
        for body in (b'{ "a":[1.0 ,"\xc3\xa9\\u00e9"] }', b'{"a":"\xff"}', b"[ ]", b"1e2"):
            sent = b'{"method": "agent/run", "params": {"agentId": "a"}, "body": ' + body + b" }"
            assert self.inner(parse_envelope(post(sent))).body == body

    def test_a_lone_surrogate_may_stand_anywhere(self) -> None:
        sent = (
            b'{"method":"agent/run","params":{"agentId":"a","x":"\\ud800"},"body":{"b":"\\udc00"}}'
        )
        assert self.inner(parse_envelope(post(sent))).body == b'{"b":"\\udc00"}'

    @pytest.mark.parametrize(
        ("method", "has_body"),
        [
            ("agent/run", False),
            ("agent/run", True),
            ("agent/connect", False),
            ("agent/suggest", False),
            ("transcribe", False),
            ("agent/stop", True),
        ],
    )
    def test_an_envelope_without_a_body_that_is_needed_is_refused(
        self, method: str, has_body: bool
    ) -> None:
        envelope = Envelope(method, {"agentId": "a", "threadId": "t"}, None, has_body)
        inner = self.inner(envelope)
        assert inner.body is None
        with pytest.raises(EnvelopeRefusal, match=r"^Missing request body for JSON handler$"):
            require_body(envelope, inner)
        # A hook may give it one.
        require_body(envelope, inner.with_body(b""))

    def test_a_stop_needs_no_body(self) -> None:
        envelope = Envelope("agent/stop", {"agentId": "a", "threadId": "t"})
        assert self.inner(envelope).body == b"{}"

    @pytest.mark.parametrize(
        ("method", "path"),
        [("info", "/info"), ("inspector/metadata", "/inspector-metadata")],
    )
    def test_the_request_of_a_get_endpoint_takes_nothing_of_the_envelope(
        self, method: str, path: str
    ) -> None:
        envelope = Envelope(method, {}, {"a": 1}, True)
        inner = self.inner(envelope, attrs.evolve(post("..."), query="a=1"))
        assert (inner.method, inner.path, inner.query) == ("GET", BASE + path, "a=1")
        assert inner.body is None
        require_body(envelope, attrs.evolve(inner, body=None))

    def test_a_body_too_deep_to_write_is_refused(self) -> None:
        body: list[Any] = []
        body.append(body)
        with pytest.raises(EnvelopeRefusal, match=r"^Invalid JSON payload$"):
            self.inner(Envelope("agent/run", {"agentId": "a"}, body, True))

    @pytest.mark.parametrize("params", [{"agentId": "."}, {"agentId": "a", "threadId": ".."}])
    def test_an_id_that_no_path_can_have(self, params: dict[str, str]) -> None:
        method = "agent/stop" if "threadId" in params else "agent/run"
        with pytest.raises(EnvelopeRefusal, match=r"^An id must not be '.' or '..'$"):
            self.inner(Envelope(method, params, {}, True))

    @pytest.mark.parametrize("key", ["path", "httpMethod", "agentId", "threadId"])
    def test_a_parameter_is_no_longer_than_a_path_may_be(self, key: str) -> None:
        params = {"path": "/threads", "httpMethod": "GET", "agentId": "a", "threadId": "t"}
        method = "resource/request" if key in ("path", "httpMethod") else "agent/stop"
        envelope = Envelope(method, {**params, key: "/" + "x" * 16 * 1024})
        with pytest.raises(EnvelopeRefusal, match=f"^Parameter '{key}' is longer than 16384 "):
            resolve_envelope(envelope, post(""))

    @pytest.mark.parametrize(
        ("params", "query"),
        [
            (None, "a=&agentId=old"),
            ({"agentId": "n w\ud800", "skillsPage": 2}, "a=&agentId=n+w%EF%BF%BD&skillsPage=2"),
            ({"agentId": None, "skillsPage": True, "other": "x"}, "a=&agentId=old"),
            ({"insightsPage": 1.5}, "a=&agentId=old&insightsPage=1.5"),
        ],
    )
    def test_learning_is_read_by_query(self, params: Any, query: str) -> None:
        outer = attrs.evolve(post(""), query="a=&agentId=old")
        inner = self.inner(Envelope("inspector/learning", params), outer)
        assert (inner.method, inner.query) == ("GET", query)
        assert inner.path == f"{BASE}/inspector-learning"


class TestPrefix:
    """The prefix of a path is known to the deployment alone."""

    @pytest.mark.parametrize(
        ("path", "root", "found"),
        [
            ("/api/copilotkit/info", "", "/api/copilotkit/info"),
            ("/api/copilotkit/info", "/proxy", "/api/copilotkit/info"),
            ("/proxy/api/copilotkit/info", "/proxy", "/api/copilotkit/info"),
            ("/proxy/api/copilotkit/info", "/proxy/", "/api/copilotkit/info"),
            ("/a/b/api/copilotkit/info", "/a/b/api/copilotkit", "/api/copilotkit/info"),
            ("/a%20b/api/copilotkit/x%2Fy", "/a b", "/api/copilotkit/x%2Fy"),
            ("/info", "/api/copilotkit", "/api/copilotkit/info"),
            ("/info", "/elsewhere", "/info"),
            ("/proxy/info", "/proxy", "/proxy/info"),
            ("/proxy/api/copilotkit/info", "/other", "/proxy/api/copilotkit/info"),
        ],
    )
    def test_the_prefix_is_left_out_or_put_back(self, path: str, root: str, found: str) -> None:
        assert from_base_path(path, root, "/api/copilotkit") == found
        assert from_base_path(path, root, None) == path
