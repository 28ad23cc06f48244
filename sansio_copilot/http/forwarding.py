"""The headers of an inbound request that reach the agent which the request starts.

A browser's request passes a CDN, a load balancer and a hosting platform, and each adds headers
that say where the client is or carry the platform's own credentials. Agents get the headers that
were meant for them: ``authorization`` and the application's own ``x-`` headers. Families without
``x-`` (``cf-``, ``cloudfront-``, ``fly-``, ``oidc-``, ``remote-``, ``tailscale-``, ...) never reach
an agent unless they are named. A header that the server itself configured for an agent is never
replaced by one that a client sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from .messages import Headers

# The names are listed by the software or platform that adds such headers.
_DENIED: Mapping[str, str] = {
    "caches and CDNs": "x-cache x-served-by x-timer x-varnish x-cdn",
    "servers in front, to tell when a request began, what it was and where it came from": (
        "x-request-id x-request-start x-request-uri x-queue-start x-matched-path x-scheme x-host"
        " x-country x-ip-token x-msisdn x-proxyuser-ip"
    ),
    "gateways that authenticate users, to tell who the user is": (
        "x-anonymous-consumer x-id-token x-refresh-token x-userinfo"
    ),
}
# The families of names have new members without a release of this library. Headers that proxies and
# platforms add are not meant for agents (https://github.com/CopilotKit/CopilotKit issue 5712), and
# many are credentials of the user or of the platform.
_DENIED_FAMILIES: Mapping[str, str] = {
    "proxies of any make, to tell how the request came to them, and who logged in": (
        "x-forward x-original- x-originating- x-real- x-remote- x-true-client-"
        " x-cluster-client- x-client-cert x-client-city x-client-dn x-client-geo x-client-i-dn"
        " x-client-ip x-client-issuer x-client-port x-client-region x-client-rtt x-client-s-dn"
        " x-client-ssl x-client-subject x-client-tls x-client-verify x-clientcert x-mtls- x-ssl-"
        " x-tls- x-auth-email x-auth-audience x-auth-claim x-auth-expire x-auth-group"
        " x-auth-request- x-auth-role x-auth-sub x-auth-user x-authenticated- x-claim- x-jwt-"
        " x-oidc- x-proxy- x-proxied- x-saml- x-shib- x-sso- x-spiffe- x-token- x-webauth-"
    ),
    "sessions of a browser with the server, which prove nothing to an agent": "x-csrf x-xsrf",
    "proxies, meshes and gateways": (
        "x-3scale- x-ambassador- x-apigateway- x-apigee- x-apigw- x-apisix- x-authelia-"
        " x-authentik- x-bluecoat- x-citrix- x-consul- x-consumer- x-credential- x-envoy- x-f5-"
        " x-ext-authz- x-gateway- x-gravitee- x-haproxy- x-istio- x-jupyterhub- x-k8s-"
        " x-keycloak- x-kong- x-krakend- x-linkerd- x-netscaler- x-nginx- x-nomad- x-okta-"
        " x-ory- x-pomerium- x-rapidapi- x-rh- x-tailscale- x-teleport- x-traefik- x-tyk-"
        " x-vault- x-vouch- x-wso2- x-zscaler-"
    ),
    "clouds, as Amazon, Google, Microsoft, Alibaba, Tencent, Yandex, IBM, SAP, Salesforce": (
        "x-amz x-aws- x-appengine- x-cloud- x-cloudflare- x-cloudfront- x-cloudscheduler"
        " x-cloudtasks- x-endpoint- x-firebase- x-gfe- x-goog x-serverless- x-appservice- x-arr-"
        " x-azure- x-fd- x-functions- x-msedge- x-k8se- x-ms- x-site-deployment- x-waws-"
        " x-tunnel- x-zumo- x-acs- x-ca- x-fc- x-scf- x-tencent- x-wx- x-yacloud- x-yc- x-ibm-"
        " x-approuter- x-sap- x-sfdc- x-cf- x-vcap-"
    ),
    "hosting platforms and CDNs": (
        "x-akamai- x-bb- x-copilotcloud- x-databricks- x-deno- x-edge x-fastly- x-fly-"
        " x-heroku- x-hf- x-iplb- x-github-token x-gitpod- x-ngrok- x-posit- x-rsc- x-rstudio-"
        " x-sigsci- x-supabase- x-invoke- x-koyeb- x-middleware- x-netlify- x-nextjs- x-nf-"
        " x-now- x-railway- x-render- x-replit- x-sucuri- x-vercel- x-waf-"
    ),
    "the middleware of services that log users in": (
        "x-clerk- x-auth0- x-cognito- x-zitadel- x-descope- x-workos-"
    ),
    "tracing": "x-b3- x-datadog- x-dynatrace x-honeycomb- x-instana- x-newrelic- x-ot-",
}
DEFAULT_DENY = frozenset(" ".join(_DENIED.values()).split())
"""The single names that are stripped by default."""
DEFAULT_DENY_PREFIXES = tuple(" ".join(_DENIED_FAMILIES.values()).split())
"""The beginnings of the names that are stripped by default."""


def _names(value: Iterable[str] | None, field: str) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)):
        # A str is iterable too, and would deny the headers "x", "-", "a", ...
        raise TypeError(f"{field} must be a sequence of str, not one {type(value).__name__}")
    names = tuple(value or ())
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{field} must be a sequence of str")
    # A blank entry is a slip in a configuration file; as a prefix it would deny everything, and
    # as the only allowed name it would switch the list of allowed names on.
    return tuple(stripped.lower() for name in names if (stripped := name.strip()))


# Each field has a converter with a name, because a type checker learns from it what the constructor
# takes.
def _deny(value: Iterable[str] | None) -> tuple[str, ...]:
    return _names(value, "deny")


def _deny_prefixes(value: Iterable[str] | None) -> tuple[str, ...]:
    return _names(value, "deny_prefixes")


def _allow(value: Iterable[str] | None) -> tuple[str, ...]:
    return _names(value, "allow")


@attrs.frozen
class ForwardHeaders:
    """The choice of the headers that are forwarded. The default is that of the reference, with a
    longer denylist.

    Names and prefixes match without regard to case; blank ones are ignored.

    :param use_default_denylist: whether to strip :data:`DEFAULT_DENY` and
        :data:`DEFAULT_DENY_PREFIXES`.
    :param deny: more names to strip. They are stripped even if ``allow`` has them.
    :param deny_prefixes: more prefixes to strip, likewise.
    :param allow: if given, the only names that are forwarded, of whatever kind; they are forwarded
        even if the default denylist has them.
    :raises TypeError: if ``deny``, ``deny_prefixes`` or ``allow`` is not a sequence of str.
    """

    use_default_denylist: bool = True
    deny: tuple[str, ...] = attrs.field(default=(), converter=_deny)
    deny_prefixes: tuple[str, ...] = attrs.field(default=(), converter=_deny_prefixes)
    allow: tuple[str, ...] = attrs.field(default=(), converter=_allow)

    def forwards(self, name: str) -> bool:
        """Whether the header ``name`` of a client is given to the agent."""
        name = name.lower()
        if name in self.deny or name.startswith(self.deny_prefixes):
            return False
        if self.allow:
            return name in self.allow
        if self.use_default_denylist and (
            name in DEFAULT_DENY or name.startswith(DEFAULT_DENY_PREFIXES)
        ):
            return False
        return name == "authorization" or name.startswith("x-")

    def merge(
        self, agent_headers: Mapping[str, str] | None, request_headers: Headers
    ) -> dict[str, str]:
        """The headers to call an agent with.

        :param agent_headers: the headers that the server configured for the agent, which outweigh
            those of the client. Their names keep their case, and of two that differ only in case
            the first counts, because a client library would join them to one wrong value.
        :param request_headers: the headers that the client sent; forwarded names are in lower case.
        """
        merged: dict[str, str] = {}
        taken: set[str] = set()
        for name, value in (agent_headers or {}).items():
            if name.lower() not in taken:
                taken.add(name.lower())
                merged[name] = value
        for name, _ in request_headers.raw:
            # Most names are those of HTTP itself, which are forwarded only if ``allow`` has them.
            if not (self.allow or name.startswith("x-") or name == "authorization"):
                continue
            if name not in taken and name not in merged and self.forwards(name):
                merged[name] = request_headers[name]
        return merged
