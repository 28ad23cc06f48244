"""Which headers of an inbound request reach the agent that it starts.

A browser's request passes a CDN, a load balancer and a hosting platform, and each adds headers
that say where the client is or carry the platform's own credentials. Agents get what was meant
for them: ``authorization`` and the application's own ``x-`` headers. What the server itself
configured for an agent is never replaced by what a client sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from .http import Headers

#: Stripped by default: what proxies and platforms add (https://github.com/CopilotKit/CopilotKit
#: issue 5712).
DEFAULT_DENY = frozenset(
    {
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-real-ip",
        "x-amzn-trace-id",
        "x-amz-cf-id",
        "x-cloud-trace-context",
        "x-cache",
        "x-served-by",
        "x-request-id",
        "x-copilotcloud-public-api-key",
    }
)
#: Stripped by default: families of them, so that a new member needs no release of this library.
DEFAULT_DENY_PREFIXES = (
    "x-amz-",
    "x-azure-",
    "x-fastly-",
    "x-vercel-",
    "x-middleware-",
    "x-copilotcloud-",
)


def _names(value: Iterable[str] | None, field: str) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)):
        # It is iterable too, and would deny the headers "x", "-", "a", ...
        raise TypeError(f"{field} must be a sequence of str, not one {type(value).__name__}")
    names = tuple(value or ())
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{field} must be a sequence of str")
    # A blank entry is a slip in a configuration file; as a prefix it would deny everything, and
    # as the only allowed name it would switch the list of allowed names on.
    return tuple(stripped.lower() for name in names if (stripped := name.strip()))


# One function a field, and named: a type checker learns from it what the constructor takes.
def _deny(value: Iterable[str] | None) -> tuple[str, ...]:
    return _names(value, "deny")


def _deny_prefixes(value: Iterable[str] | None) -> tuple[str, ...]:
    return _names(value, "deny_prefixes")


def _allow(value: Iterable[str] | None) -> tuple[str, ...]:
    return _names(value, "allow")


@attrs.frozen
class ForwardHeaders:
    """The policy; the default is what the reference runtime does.

    Names and prefixes match without regard to case; blank ones are ignored.

    :param use_default_denylist: strip :data:`DEFAULT_DENY` and :data:`DEFAULT_DENY_PREFIXES`.
    :param deny: more names to strip. It always wins, over ``allow`` too.
    :param deny_prefixes: more prefixes to strip, likewise.
    :param allow: if given, the only names that are forwarded, of whatever kind; naming one here
        outweighs the default denylist.
    :raises TypeError: if a list of names is not one.
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

        :param agent_headers: what the server configured for the agent. It wins; its names keep
            their case, and of two that differ only in case the first counts, since a client
            library would join them to one value that is neither.
        :param request_headers: what the client sent; forwarded names are in lower case.
        """
        merged: dict[str, str] = {}
        taken: set[str] = set()
        for name, value in (agent_headers or {}).items():
            if name.lower() not in taken:
                taken.add(name.lower())
                merged[name] = value
        for name, value in request_headers.items():
            if name not in taken and self.forwards(name):
                merged[name] = value
        return merged
