"""Header forwarding: the vectors of the reference runtime, then what they leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sansio_copilot.forwarding import DEFAULT_DENY, DEFAULT_DENY_PREFIXES, ForwardHeaders
from sansio_copilot.http import Headers

VECTORS = Path(__file__).parents[1] / "vectors"


def policy_of(config: dict[str, Any] | None) -> ForwardHeaders:
    names = {"useDefaultDenylist": "use_default_denylist", "denyPrefixes": "deny_prefixes"}
    return ForwardHeaders(**{names.get(key, key): value for key, value in (config or {}).items()})


def test_every_vector() -> None:
    for case in json.loads((VECTORS / "forward_headers.json").read_text("utf-8"))["cases"]:
        merged = policy_of(case["config"]).merge(case["server"], Headers(case["inbound"]))
        assert merged == case["expect"], case


class TestWhatIsForwarded:
    @pytest.mark.parametrize("name", ["authorization", "Authorization", "x-tenant", "X-Tenant"])
    def test_credentials_and_what_the_application_adds(self, name: str) -> None:
        assert ForwardHeaders().forwards(name)

    @pytest.mark.parametrize("name", ["cookie", "host", "content-type", "origin", "xtenant"])
    def test_nothing_else(self, name: str) -> None:
        assert not ForwardHeaders().forwards(name)
        assert not ForwardHeaders(use_default_denylist=False).forwards(name)

    @pytest.mark.parametrize("name", [*DEFAULT_DENY, *(p + "any" for p in DEFAULT_DENY_PREFIXES)])
    def test_nothing_of_the_infrastructure_by_default(self, name: str) -> None:
        assert not ForwardHeaders().forwards(name.upper())
        assert ForwardHeaders(use_default_denylist=False).forwards(name)
        assert ForwardHeaders(allow=[name]).forwards(name)

    def test_deny_adds_to_the_default(self) -> None:
        policy = ForwardHeaders(deny=[" X-Secret "], deny_prefixes=["X-Internal-"])
        assert not policy.forwards("x-secret")
        assert not policy.forwards("x-internal-user")
        assert not policy.forwards("x-real-ip")
        assert policy.forwards("x-secret-2")

    def test_allow_is_the_whole_list(self) -> None:
        policy = ForwardHeaders(allow=["Cookie", "x-a"])
        assert policy.forwards("cookie")
        assert policy.forwards("x-a")
        assert not policy.forwards("authorization")
        assert not policy.forwards("x-b")

    def test_deny_outweighs_allow(self) -> None:
        assert not ForwardHeaders(allow=["x-a"], deny=["x-a"]).forwards("x-a")
        assert not ForwardHeaders(allow=["x-a"], deny_prefixes=["x-"]).forwards("x-a")

    def test_blank_entries_are_ignored(self) -> None:
        assert ForwardHeaders(deny=[""], deny_prefixes=["", " "], allow=[" "]) == ForwardHeaders()

    def test_none_is_an_empty_list(self) -> None:
        assert ForwardHeaders(deny=None, allow=None) == ForwardHeaders()  # type: ignore[arg-type]


class TestMerging:
    def test_the_server_wins_in_its_own_spelling(self) -> None:
        inbound = Headers({"authorization": "Bearer client", "x-a": "1"})
        merged = ForwardHeaders().merge({"Authorization": "Bearer server"}, inbound)
        assert merged == {"Authorization": "Bearer server", "x-a": "1"}

    def test_the_first_of_two_spellings_counts(self) -> None:
        merged = ForwardHeaders().merge({"X-A": "1", "x-a": "2"}, Headers())
        assert merged == {"X-A": "1"}

    def test_the_servers_own_headers_pass_no_list(self) -> None:
        merged = ForwardHeaders(deny=["x-real-ip"]).merge({"x-real-ip": "1"}, Headers())
        assert merged == {"x-real-ip": "1"}

    def test_repeated_fields_are_joined(self) -> None:
        inbound = Headers([("X-A", "1"), ("x-a", "2")])
        assert ForwardHeaders().merge(None, inbound) == {"x-a": "1, 2"}


class TestMistakes:
    @pytest.mark.parametrize("field", ["deny", "deny_prefixes", "allow"])
    def test_one_name_is_not_a_list(self, field: str) -> None:
        with pytest.raises(TypeError, match=f"{field} must be a sequence of str, not one str"):
            ForwardHeaders(**{field: "x-a"})

    @pytest.mark.parametrize("field", ["deny", "deny_prefixes", "allow"])
    def test_names_are_str(self, field: str) -> None:
        with pytest.raises(TypeError, match=f"{field} must be a sequence of str"):
            ForwardHeaders(**{field: [b"x-a"]})
