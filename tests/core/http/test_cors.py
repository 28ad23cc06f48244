"""CORS: the vectors of the reference runtime, then what they leave open."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from support.vectors import with_vary_of_the_origin

from sansio_copilot.http import Headers, Request, Response
from sansio_copilot.http.cors import CorsPolicy, policy_from

VECTORS = Path(__file__).parents[2] / "vectors"
APP, LOCAL, EVIL = "https://app.example.com", "http://localhost:3000", "https://evil.example"
PREFLIGHT_VARY = "Access-Control-Request-Headers, Access-Control-Request-Method"


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text("utf-8"))["cases"]
    return cases


def policy_of(config: dict[str, Any]) -> CorsPolicy:
    names = {
        "allowMethods": "allow_methods",
        "allowHeaders": "allow_headers",
        "exposeHeaders": "expose_headers",
        "maxAge": "max_age",
    }
    return CorsPolicy(**{names.get(name, name): value for name, value in config.items()})


def cors_headers(response: Response) -> dict[str, str]:
    headers = response.headers
    # Each field stands once: a client that does not join repeated fields reads the same.
    assert len(headers.raw) == len(headers)
    return {
        name: value
        for name, value in headers.items()
        if name.startswith("access-control-") or name == "vary"
    }


def options(origin: str | None = None, **asked: str) -> Request:
    headers = {f"access-control-request-{name.replace('_', '-')}": v for name, v in asked.items()}
    if origin is not None:
        headers["origin"] = origin
    return Request("OPTIONS", "/api/copilotkit/info", headers=headers)


def preflight(policy: CorsPolicy, origin: str | None = APP, **asked: str) -> dict[str, str]:
    response = policy.preflight(options(origin, **asked))
    assert response is not None
    assert (response.status, response.body) == (204, b"")
    return cors_headers(response)


def actual(policy: CorsPolicy, origin: str | None = APP, **headers: str) -> dict[str, str]:
    return cors_headers(policy.apply(Response(200, headers), origin))


class TestVectors:
    def test_headers_are_those_of_each_vector(self) -> None:
        for case in load("cors.json"):
            policy, origin = policy_of(case["config"]), case["origin"]
            response: Response | None
            if case["preflight"]:
                response = policy.preflight(options(origin))
            else:
                response = policy.apply(Response(200, case["response_headers"]), origin)
            assert response is not None
            assert response.status == case["expect"]["status"]
            assert cors_headers(response) == with_vary_of_the_origin(
                case["expect"]["headers"], policy, case.get("response_headers", {}).get("vary", "")
            ), case

    def test_vary_is_sent_where_the_reference_forgets_it(self) -> None:
        """The one difference that is accepted occurs among the vectors, refused and preflights."""
        forgotten = [
            case
            for case in load("cors.json")
            if with_vary_of_the_origin(case["expect"]["headers"], policy_of(case["config"]))
            != case["expect"]["headers"]
        ]
        for case in forgotten:
            assert "access-control-allow-origin" not in case["expect"]["headers"]
        assert {case["preflight"] for case in forgotten} == {True, False}

    def test_each_vector_of_http_is_answered_as_by_the_reference(self) -> None:
        """Every request of http.json under the policies that its `about` names."""
        policies = {
            "plain": policy_from(False),
            "cors": policy_from(True),
            "single": policy_from(True),
            "credentials": policy_from(
                CorsPolicy([APP], True, expose_headers=["x-request-id"], max_age=600)
            ),
        }
        for case in load("http.json"):
            sent, expect, policy = case["request"], case["expect"], policies[case["config"]]
            request = Request(sent["method"], "/", headers=sent.get("headers", {}))
            response = policy.preflight(request) if policy else None
            if response is not None:
                assert response.status == expect["status"] == 204
                assert not response.body
            else:
                response = Response(expect["status"])
                if policy:
                    response = policy.apply(response, request.headers.get("origin"))
            recorded = {
                name: value
                for name, value in expect["headers"].items()
                if name.startswith("access-control-") or name == "vary"
            }
            assert cors_headers(response) == with_vary_of_the_origin(recorded, policy), case


class TestPolicyFrom:
    def test_true_is_permissive_and_false_is_off(self) -> None:
        assert policy_from(True) == CorsPolicy()
        assert policy_from(False) is None
        assert policy_from(None) is None

    def test_a_policy_is_itself(self) -> None:
        policy = CorsPolicy(APP)
        assert policy_from(policy) is policy

    def test_any_other_policy_is_a_mistake(self) -> None:
        with pytest.raises(TypeError, match="a bool or a CorsPolicy, not str"):
            policy_from("*")  # type: ignore[arg-type]


class TestOrigin:
    def test_any_origin_is_allowed(self) -> None:
        for policy in (CorsPolicy(), CorsPolicy("*")):
            assert actual(policy) == {"access-control-allow-origin": "*"}
            assert actual(policy, None) == {"access-control-allow-origin": "*"}

    def test_one_origin_is_allowed(self) -> None:
        for origin in (APP, EVIL, None):
            assert actual(CorsPolicy(APP), origin) == {
                "access-control-allow-origin": APP,
                "vary": "Origin",
            }

    def test_several_origins_are_allowed(self) -> None:
        policy = CorsPolicy([APP, LOCAL])
        assert actual(policy, LOCAL) == {"access-control-allow-origin": LOCAL, "vary": "Origin"}
        assert actual(policy, EVIL) == {"vary": "Origin"}
        assert actual(policy, None) == {"vary": "Origin"}
        assert actual(policy, f"{APP}, {EVIL}") == {"vary": "Origin"}

    def test_no_origin_is_allowed(self) -> None:
        assert actual(CorsPolicy([])) == {"vary": "Origin"}

    @pytest.mark.parametrize("answer", [True, APP])
    def test_a_function_may_allow_an_origin(self, answer: str | bool) -> None:
        policy = CorsPolicy(lambda origin: answer)
        assert actual(policy) == {"access-control-allow-origin": APP, "vary": "Origin"}

    def test_a_function_may_answer_with_another_origin(self) -> None:
        assert actual(CorsPolicy(lambda origin: LOCAL))["access-control-allow-origin"] == LOCAL

    def test_a_function_may_answer_any(self) -> None:
        any_origin = {"access-control-allow-origin": "*", "vary": "Origin"}
        assert actual(CorsPolicy(lambda origin: "*")) == any_origin
        with_cookies = actual(CorsPolicy(lambda origin: "*", credentials=True))
        assert with_cookies["access-control-allow-origin"] == APP

    @pytest.mark.parametrize("answer", [False, None, ""])
    def test_a_function_that_refuses_still_varies(self, answer: str | bool | None) -> None:
        assert actual(CorsPolicy(lambda origin: answer)) == {"vary": "Origin"}

    def test_a_function_is_not_asked_about_nothing(self) -> None:
        policy = CorsPolicy(lambda origin: pytest.fail("called"))
        assert actual(policy, None) == {"vary": "Origin"}
        assert actual(policy, "") == {"vary": "Origin"}

    def test_a_set_as_a_function_varies_whoever_asks(self) -> None:
        policy = CorsPolicy(frozenset({APP}).__contains__)
        assert actual(policy, APP) == {"access-control-allow-origin": APP, "vary": "Origin"}
        assert actual(policy, EVIL) == {"vary": "Origin"}

    @pytest.mark.parametrize("answer", ["app.example.com", f"{APP}/", "a\r\nset-cookie: b"])
    def test_the_origin_that_a_function_returns_is_checked(self, answer: str) -> None:
        with pytest.raises(ValueError, match="is not an origin"):
            actual(CorsPolicy(lambda origin: answer))

    def test_the_error_of_a_wrong_origin_is_short(self) -> None:
        """A function may return what a client says, and the log has a bound."""
        with pytest.raises(ValueError, match="is not an origin") as raised:
            actual(CorsPolicy(lambda origin: "x" * 60_000))
        assert len(str(raised.value)) < 500

    def test_a_function_returns_a_str_or_a_bool(self) -> None:
        with pytest.raises(TypeError, match="what the origin function returns must be str"):
            actual(CorsPolicy(lambda origin: 5))

    @pytest.mark.parametrize("raised", [SystemExit, GeneratorExit, KeyboardInterrupt])
    def test_a_function_that_exits_fails_and_ends_nothing(
        self, raised: type[BaseException]
    ) -> None:
        def exits(origin: str) -> bool:
            raise raised

        expected = raised if raised is KeyboardInterrupt else RuntimeError
        with pytest.raises(expected):
            actual(CorsPolicy(exits))

    def test_the_null_origin_is_allowed_only_where_it_or_everything_is_named(self) -> None:
        assert actual(CorsPolicy([APP]), "null") == {"vary": "Origin"}
        assert actual(CorsPolicy([APP, "null"]), "null")["access-control-allow-origin"] == "null"
        assert actual(CorsPolicy(), "null") == {"access-control-allow-origin": "*"}


class TestCredentials:
    def test_any_origin_becomes_that_of_the_request(self) -> None:
        assert actual(CorsPolicy(credentials=True), EVIL) == {
            "access-control-allow-origin": EVIL,
            "access-control-allow-credentials": "true",
            "vary": "Origin",
        }

    @pytest.mark.parametrize(
        "origin", ["\x01", "https://a\x7f", "https://\xfc", "", f"https://{'a' * 1017}"]
    )
    def test_text_that_cannot_be_an_origin_is_not_sent_back(self, origin: str) -> None:
        """A response could not have the text in a field, and no policy fails because of it."""
        for policy in (CorsPolicy(credentials=True), CorsPolicy(lambda origin: True)):
            assert "access-control-allow-origin" not in actual(policy, origin)
            assert "access-control-allow-origin" not in preflight(policy, origin)

    def test_a_request_without_an_origin_is_told_that_one_would_matter(self) -> None:
        assert actual(CorsPolicy(credentials=True), None) == {"vary": "Origin"}

    def test_a_refused_origin_gets_no_credentials(self) -> None:
        assert actual(CorsPolicy([APP], credentials=True), EVIL) == {"vary": "Origin"}


class TestVary:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("", "Origin"),
            ("Accept-Encoding", "Accept-Encoding, Origin"),
            ("Origin", "Origin"),
            ("Accept, ORIGIN", "Accept, ORIGIN"),
            ("*", "*"),
            ("a, ,b", "a, b, Origin"),
        ],
    )
    def test_each_member_of_vary_stands_once(self, before: str, after: str) -> None:
        assert actual(CorsPolicy(APP), vary=before)["vary"] == after

    def test_several_fields_of_vary_become_one(self) -> None:
        response = Response(200, [("vary", "Accept"), ("Vary", "Cookie")])
        assert CorsPolicy(APP).apply(response, APP).headers.get_all("vary") == [
            "Accept, Cookie, Origin"
        ]

    @pytest.mark.parametrize("origin", [APP, EVIL, "null", "\x01", "", None])
    @pytest.mark.parametrize(
        "policy",
        [
            CorsPolicy(),
            CorsPolicy(credentials=True),
            CorsPolicy([APP, LOCAL]),
            CorsPolicy([APP], True, allow_private_network=True),
            CorsPolicy(APP),
            CorsPolicy(lambda origin: origin == APP, allow_private_network=True),
            CorsPolicy(lambda origin: None),
        ],
        ids=["any", "credentials", "list", "list-credentials", "one", "function", "nobody"],
    )
    def test_vary_names_the_origin_whatever_the_answer_is(
        self, policy: CorsPolicy, origin: str | None
    ) -> None:
        """A cache that goes by Vary never gives one request the answer to another."""
        said = {
            response.headers.get("vary")
            for other in (origin, APP, EVIL, None)
            for response in [policy.apply(Response(), other)]
        }
        answers = {
            tuple(sorted(policy.apply(Response(), other).headers.items()))
            for other in (origin, APP, LOCAL, EVIL, None)
        }
        [vary] = said
        assert vary == "Origin" or (vary is None and len(answers) == 1)
        members = preflight(policy, origin)["vary"].split(", ")
        assert ("Origin" in members) == (vary == "Origin")
        assert members[-2 - policy.allow_private_network :][:2] == PREFLIGHT_VARY.split(", ")
        asked = "Access-Control-Request-Private-Network"
        assert (asked in members) == policy.allow_private_network

    def test_a_policy_applied_twice_is_applied_once(self) -> None:
        policy = CorsPolicy([APP], True, expose_headers=["x-request-id"])
        once = policy.apply(Response(), APP)
        assert cors_headers(policy.apply(once, APP)) == cors_headers(once)


class TestPreflight:
    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
    def test_only_an_options_request_is_a_preflight(self, method: str) -> None:
        assert CorsPolicy().preflight(Request(method, "/")) is None

    def test_any_options_request_is_a_preflight(self) -> None:
        assert preflight(CorsPolicy(), None) == {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "GET, HEAD, PUT, POST, DELETE, PATCH, OPTIONS",
            "access-control-allow-headers": "*",
            "vary": PREFLIGHT_VARY,
        }

    def test_a_refused_origin_gets_an_answer_without_the_permission(self) -> None:
        assert "access-control-allow-origin" not in preflight(CorsPolicy([APP]), EVIL)

    def test_a_preflight_is_answered_as_configured(self) -> None:
        policy = CorsPolicy(
            allow_methods=["GET"], allow_headers=["x-a", "x-b"], expose_headers=["x-c"], max_age=0
        )
        assert preflight(policy, method="PUT", headers="x-z, authorization") == {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "GET",
            "access-control-allow-headers": "x-a, x-b",
            "access-control-expose-headers": "x-c",
            "access-control-max-age": "0",
            "vary": PREFLIGHT_VARY,
        }

    @pytest.mark.parametrize(
        ("credentials", "asked", "allowed"),
        [
            (False, "content-type,x-a", "*"),
            (False, "authorization,content-type", "*, authorization"),
            (False, "x-a, Authorization", "*, authorization"),
            (True, "content-type,x-a", "content-type, x-a"),
            (True, "authorization", "authorization"),
            (True, "", "*"),
            (True, "no good", "*"),
            (True, "a" * 1024, "a" * 1024),
            (True, "a" * 1025, "*"),
            (False, f"authorization,{'a' * 1024}", "*"),
        ],
    )
    def test_header_names_are_sent_where_a_wildcard_means_nothing_to_a_browser(
        self, credentials: bool, asked: str, allowed: str
    ) -> None:
        for allow_headers in (None, ["*"]):
            policy = CorsPolicy(credentials=credentials, allow_headers=allow_headers)
            answer = preflight(policy, headers=asked)
            assert answer["access-control-allow-headers"] == allowed

    def test_methods_are_sent_where_a_wildcard_means_nothing_to_a_browser(self) -> None:
        policy = CorsPolicy(credentials=True, allow_methods=["*"])
        assert preflight(policy, method="PUT")["access-control-allow-methods"] == "PUT"


class TestPrivateNetwork:
    GRANT = "access-control-allow-private-network"

    def test_a_private_network_is_not_granted_by_default(self) -> None:
        assert self.GRANT not in preflight(CorsPolicy(), private_network="true")

    def test_a_private_network_can_be_granted(self) -> None:
        policy = CorsPolicy([APP], allow_private_network=True)
        answer = preflight(policy, private_network="true")
        assert answer[self.GRANT] == "true"
        assert answer["vary"] == (
            f"Origin, {PREFLIGHT_VARY}, Access-Control-Request-Private-Network"
        )

    def test_a_private_network_is_granted_only_to_an_allowed_origin_that_asks(self) -> None:
        policy = CorsPolicy([APP], allow_private_network=True)
        for answer in (preflight(policy), preflight(policy, EVIL, private_network="true")):
            assert self.GRANT not in answer
            assert "Access-Control-Request-Private-Network" in answer["vary"]


class TestApply:
    def test_the_rest_of_the_response_stays(self) -> None:
        response = Response(201, {"x-a": "1"}, b"body", stream=True)
        applied = CorsPolicy().apply(response, APP)
        assert (applied.status, applied.body, applied.stream) == (201, b"body", True)
        assert applied.headers["x-a"] == "1"
        assert response.headers == Headers({"x-a": "1"})

    def test_the_policy_outweighs_what_a_hook_set(self) -> None:
        applied = actual(CorsPolicy(APP), **{"access-control-allow-origin": "*"})
        assert applied["access-control-allow-origin"] == APP


class TestMistakes:
    @pytest.mark.parametrize(
        "origin",
        [
            "",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://App.example.com",
            "https://*.example.com",
            "https://a.example, https://b.example",
            "https://münchen.example",
            "https://user@host",
            "https://host\r\nx: y",
        ],
    )
    def test_text_that_no_browser_sends_is_no_origin(self, origin: str) -> None:
        for value in (origin, [APP, origin]):
            with pytest.raises(ValueError, match="is not an origin"):
                CorsPolicy(value)

    def test_a_wildcard_in_a_list_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="is not an origin"):
            CorsPolicy(["*"])

    @pytest.mark.parametrize(
        "origin", ["null", "http://[::1]:3000", "chrome-extension://abc", "file://"]
    )
    def test_unusual_origins_may_be_allowed(self, origin: str) -> None:
        assert CorsPolicy({origin}).origin == (origin,)

    @pytest.mark.parametrize("origin", [5, True, b"https://app.example.com", [5], [b"x"]])
    def test_an_origin_of_another_type_is_a_mistake(self, origin: Any) -> None:
        with pytest.raises(TypeError, match="origin must be"):
            CorsPolicy(origin)

    def test_an_async_function_is_a_mistake(self) -> None:
        async def allow(origin: str) -> bool:
            raise AssertionError

        class Allow:
            async def __call__(self, origin: str) -> bool:
                raise AssertionError

        for function in (allow, functools.partial(allow), Allow()):
            with pytest.raises(TypeError, match="cannot be an async function"):
                CorsPolicy(function)

    @pytest.mark.parametrize("field", ["allow_methods", "allow_headers", "expose_headers"])
    def test_a_list_has_names_and_nothing_else(self, field: str) -> None:
        with pytest.raises(TypeError, match=f"{field} must be a sequence of str, not one str"):
            CorsPolicy(**{field: "GET"})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"{field} must be a sequence of str"):
            CorsPolicy(**{field: [5]})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{field} has 'a b', which is not a name"):
            CorsPolicy(**{field: ["x", "a b"]})  # type: ignore[arg-type]

    def test_an_empty_list_exposes_no_header(self) -> None:
        assert actual(CorsPolicy(expose_headers=None)) == {"access-control-allow-origin": "*"}

    @pytest.mark.parametrize("max_age", ["600", 1.5, True])
    def test_a_max_age_of_another_type_is_a_mistake(self, max_age: Any) -> None:
        with pytest.raises(TypeError, match="max_age must be an int"):
            CorsPolicy(max_age=max_age)

    def test_a_negative_max_age_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="max_age must not be negative"):
            CorsPolicy(max_age=-1)

    def test_flags_are_booleans(self) -> None:
        with pytest.raises(TypeError, match="credentials"):
            CorsPolicy(credentials="yes")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="allow_private_network"):
            CorsPolicy(allow_private_network=1)  # type: ignore[arg-type]

    def test_a_wildcard_to_expose_with_credentials_is_a_mistake(self) -> None:
        assert CorsPolicy(expose_headers=["*"]).expose_headers == ("*",)
        with pytest.raises(ValueError, match="expose_headers must be listed by name"):
            CorsPolicy(credentials=True, expose_headers=["*"])
