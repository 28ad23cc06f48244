"""Header forwarding: the vectors of the reference runtime, then what they leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sansio_copilot.http import Headers
from sansio_copilot.http.forwarding import DEFAULT_DENY, DEFAULT_DENY_PREFIXES, ForwardHeaders

VECTORS = Path(__file__).parents[2] / "vectors"


def policy_of(config: dict[str, Any] | None) -> ForwardHeaders:
    names = {"useDefaultDenylist": "use_default_denylist", "denyPrefixes": "deny_prefixes"}
    return ForwardHeaders(**{names.get(key, key): value for key, value in (config or {}).items()})


def test_every_vector_is_forwarded_as_recorded() -> None:
    for case in json.loads((VECTORS / "forward_headers.json").read_text("utf-8"))["cases"]:
        merged = policy_of(case["config"]).merge(case["server"], Headers(case["inbound"]))
        assert merged == case["expect"], case


# These fields are added by platforms, proxies and gateways, or belong to their families of names,
# so that agents must not get them.
OF_PLATFORMS = """
x-amzn-oidc-data x-amzn-oidc-accesstoken x-amzn-oidc-identity x-amzn-lattice-identity
x-amzn-mtls-clientcert x-amzn-trace-id x-amz-security-token x-amz-cf-id x-amzn-requestid
x-aws-ec2-metadata-token x-apigateway-event x-apigateway-api-userinfo x-endpoint-api-userinfo
x-goog-iap-jwt-assertion x-goog-authenticated-user-email x-goog-authenticated-user-id
x-serverless-authorization x-cloud-trace-context x-appengine-user-ip x-appengine-api-ticket
x-gfe-request-trace x-ms-token-aad-access-token x-ms-token-aad-id-token x-ms-client-principal
x-ms-client-principal-name x-zumo-auth x-arr-ssl x-arr-log-id x-waws-unencoded-url
x-site-deployment-id x-azure-clientip x-azure-ref x-fd-healthprobe x-fc-security-token
x-fc-access-key-secret x-ca-signature x-acs-security-token x-cf-proxy-signature
x-vcap-request-id x-vercel-oidc-token x-vercel-id x-vercel-ip-country x-vercel-proxy-signature
x-now-id x-middleware-subrequest x-nf-client-connection-ip x-nf-account-id x-bb-ip
x-render-origin-server x-replit-user-id x-railway-edge x-heroku-queue-depth x-databricks-org-id
x-fastly-client-ip x-akamai-edgescape x-sucuri-clientip x-forwarded x-forwarded-for
x-forwarded-access-token x-forwarded-client-cert x-forwarded-email x-forwarded-groups
x-forwarded-user x-forwarded-authorization x-forwarded-tls-client-cert x-forwarded-anything-new
x-real-ip x-original-url x-original-uri x-original-forwarded-for x-client-ip x-cluster-client-ip
x-true-client-ip x-remote-user x-remote-group x-remote-extra-scopes x-ip-token
x-auth-request-access-token x-auth-request-user x-auth-request-email x-auth-request-groups
x-authentik-jwt x-authentik-username x-pomerium-jwt-assertion x-pomerium-claim-email
x-webauth-user x-consumer-username x-consumer-custom-id x-credential-identifier
x-authenticated-userid x-authenticated-scope x-anonymous-consumer x-userinfo x-id-token
x-rapidapi-proxy-secret x-3scale-proxy-secret-token x-jwt-payload x-jwt-assertion
x-envoy-external-address x-envoy-peer-metadata x-istio-attributes x-kong-request-id
x-tyk-authorization x-vault-token x-consul-token x-oidc-access-token x-ssl-client-cert
x-ssl-client-s-dn x-client-cert x-client-verify x-client-cert-chain x-client-dn
x-tls-client-verified x-rh-identity x-workos-session x-clerk-auth-token x-csrf-token x-csrftoken
x-xsrf-token x-b3-traceid x-datadog-trace-id x-request-id x-request-start
x-copilotcloud-public-api-key
x-refresh-token x-auth-audience x-auth-claims x-auth-expiresin x-auth-sub x-claim-email x-sso-user
x-token-user-name x-token-user-email x-token-subject x-proxied-host x-ambassador-user x-bluecoat-via
x-citrix-via x-f5-user x-jupyterhub-user x-keycloak-token x-ory-session x-wso2-jwt x-zscaler-user
x-firebase-appcheck x-cloudflare-jwt x-cloudfront-key x-cloudscheduler x-cloudscheduler-jobname
x-cloudtasks-queuename x-functions-key x-msedge-clientid x-tunnel-authorization x-github-token
x-wx-openid x-wx-unionid x-yacloud-request-token x-yc-apigateway-operation-id
x-approuter-authorization x-sap-passport x-sfdc-user x-edgeconnect-midmile-rtt x-hf-token
x-iplb-request-id x-gitpod-token x-ngrok-auth x-posit-session x-rsc-request x-rstudio-session
x-sigsci-tags x-supabase-user x-auth0-sub x-cognito-jwt x-zitadel-user x-honeycomb-trace
x-instana-t x-linkerd-identity x-netscaler-user
"""
OF_PLATFORMS_WITHOUT_X = """
cf-access-jwt-assertion cf-access-authenticated-user-email cf-access-client-secret
cf-connecting-ip cloudfront-viewer-address fly-client-ip fastly-client-ip remote-user
remote-groups tailscale-user-login teleport-jwt-assertion ocp-apim-subscription-key
oidc-access-token sf-context-current-user-token forwarded via traceparent proxy-authorization
"""
# Applications send these names to their agents, and they are near to one of the families.
OF_APPLICATIONS = """
x-api-key x-tenant-id x-user-id x-auth-token x-access-token x-client-version x-client-info
x-session-id x-custom x-organization x-locale x-timezone x-agent-config x-feature-flags
x-correlation-id x-requested-with x-cart x-mode x-requests x-realm x-city x-cloudy x-goal
"""


class TestWhatIsForwarded:
    @pytest.mark.untraced
    @pytest.mark.parametrize("name", [*OF_PLATFORMS.split(), *OF_PLATFORMS_WITHOUT_X.split()])
    def test_headers_that_a_platform_adds_stay_here_unless_they_are_named(self, name: str) -> None:
        assert not ForwardHeaders().forwards(name)
        assert not ForwardHeaders().forwards(name.upper())
        assert ForwardHeaders(allow=[name]).forwards(name)
        inbound = Headers({name: "secret", "authorization": "Bearer user"})
        assert ForwardHeaders().merge(None, inbound) == {"authorization": "Bearer user"}

    @pytest.mark.parametrize("name", OF_APPLICATIONS.split())
    def test_headers_that_an_application_adds_go_on(self, name: str) -> None:
        assert ForwardHeaders().forwards(name)

    @pytest.mark.parametrize("name", ["authorization", "Authorization", "x-tenant", "X-Tenant"])
    def test_credentials_and_headers_of_the_application_go_on(self, name: str) -> None:
        assert ForwardHeaders().forwards(name)

    @pytest.mark.parametrize("name", ["cookie", "host", "content-type", "origin", "xtenant"])
    def test_no_other_header_goes_on(self, name: str) -> None:
        assert not ForwardHeaders().forwards(name)
        assert not ForwardHeaders(use_default_denylist=False).forwards(name)

    @pytest.mark.untraced
    @pytest.mark.parametrize(
        "name", [*sorted(DEFAULT_DENY), *(p + "any" for p in sorted(DEFAULT_DENY_PREFIXES))]
    )
    def test_no_header_of_the_infrastructure_goes_on_by_default(self, name: str) -> None:
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

    def test_lists_of_none_are_the_default(self) -> None:
        assert ForwardHeaders(deny=None, allow=None) == ForwardHeaders()


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
    def test_a_single_name_is_not_a_list(self, field: str) -> None:
        with pytest.raises(TypeError, match=f"{field} must be a sequence of str, not one str"):
            ForwardHeaders(**{field: "x-a"})  # type: ignore[arg-type]

    @pytest.mark.parametrize("field", ["deny", "deny_prefixes", "allow"])
    def test_names_are_str(self, field: str) -> None:
        with pytest.raises(TypeError, match=f"{field} must be a sequence of str"):
            ForwardHeaders(**{field: [b"x-a"]})  # type: ignore[arg-type]
