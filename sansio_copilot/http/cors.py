"""Cross-origin resource sharing: which web pages may call the runtime.

The protocol is that of the Fetch Standard, section 3.3 "CORS protocol"
(https://fetch.spec.whatwg.org/#http-cors-protocol). A policy makes two decisions: what a
preflight is answered, and which headers any other response gets.

Four things are worth knowing before an origin is allowed:

``null``
    is the origin of every page that has no better one: a sandboxed frame on any site, a file, a
    page after some redirects. It identifies no site, so that allowing it allows anybody. So it is
    allowed where every origin is, or where a list or function names it, and never by accident.
Credentials
    ``*`` does not allow a request with cookies, so with ``credentials`` the origin of the
    request is sent back instead. A policy with credentials and without a list of origins trusts
    every page on the web, and ``null``, with the user's cookies; give a list.
Private networks
    A browser may ask (``Access-Control-Request-Private-Network: true``, the Private Network
    Access draft) before a public page calls a server in the user's own network. A runtime on a
    developer's machine is exactly what that protects, so it is not granted unless
    ``allow_private_network`` says so, and then only to an origin that is allowed. Browsers that
    ask the user instead (Local Network Access) send no such header.
``Vary``
    names ``Origin`` whenever the response may be another one for another origin: if it is allowed,
    if it is refused, and if the request had no origin. Otherwise a shared cache would give one
    origin the response that was meant for another (RFC 9110 section 12.5.5). The response to a
    preflight also names the ``Access-Control-Request-*`` headers that it depends on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from ..errors import contained, shorten
from ..functions import is_async
from .messages import TOKEN, Headers, Request, Response
from .refusals import INTERNAL_ERROR

logger = logging.getLogger(__name__)

OriginFunction = Callable[[str], str | bool | None]

_DEFAULT_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
_ANY = ("*",)
# An origin has the form of RFC 6454 section 6.2, as browsers write it: in lower case, in punycode,
# and with nothing behind the port.
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[!-~]*")
# A request may name one origin or, by the RFC, several. Any other text, or a longer one, is not
# sent back in a header, because the size of a response to an error has a bound. The longest host
# has 253 characters.
_ORIGINS = re.compile(r"[ -~]{1,1024}")
# The response to a preflight has a list of header names of at most this many characters.
_LONGEST_LIST = 1024
_NEVER_IN_ORIGIN = re.compile(r"[A-Z,*?#@\\]|://.*/")


def _check_origin(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{field} must be str, not {type(value).__name__}")
    if not _ORIGIN.fullmatch(value) or _NEVER_IN_ORIGIN.search(value):
        raise ValueError(
            f"{shorten(value)!r} is not an origin: a browser sends scheme://host or "
            "scheme://host:port, in lower case and without a path or trailing slash; for a pattern "
            "pass a function"
        )
    return value


def _origin(value: Any) -> str | tuple[str, ...] | OriginFunction | None:
    if value is None or value == "*":
        return None
    if isinstance(value, str):
        return _check_origin(value, "origin")
    if callable(value):
        if is_async(value):
            raise TypeError("origin cannot be an async function: CORS is decided without waiting")
        return value  # type: ignore[no-any-return]
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return tuple(_check_origin(item, "each origin") for item in value)
    raise TypeError(
        f"origin must be None, a str, a sequence of str or a function, not {type(value).__name__}"
    )


def _tokens(value: Iterable[str] | None, field: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{field} must be a sequence of str, not one {type(value).__name__}")
    names = tuple(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{field} must be a sequence of str")
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{field} has {name!r}, which is not a name")
    return names


# Each field has a converter with a name, because a type checker learns from it what the constructor
# takes.
def _allow_methods(value: Iterable[str] | None) -> tuple[str, ...] | None:
    return _tokens(value, "allow_methods")


def _allow_headers(value: Iterable[str] | None) -> tuple[str, ...] | None:
    return _tokens(value, "allow_headers")


def _expose_headers(value: Iterable[str] | None) -> tuple[str, ...] | None:
    return _tokens(value, "expose_headers")


def _check_max_age(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field.name} must be an int of seconds or None")
    if value < 0:
        raise ValueError(f"{field.name} must not be negative; 0 turns caching off")


@attrs.frozen
class CorsPolicy:
    """The policy that says which web pages may call the runtime, and how. By default all may,
    without cookies.

    :param origin: None or ``"*"`` for every origin; a str for that origin, whatever the request
        says; a sequence of str for one of these; or a plain function of the request's origin
        that returns True or the origin to allow, and False or None to refuse. It is not called
        for a request without an origin. It cannot be async.
    :param credentials: whether requests may carry cookies and client certificates.
    :param allow_methods: the methods that a preflight allows; None for all the protocol uses.
    :param allow_headers: the request headers that a preflight allows; None or ``["*"]`` for all.
    :param expose_headers: the response headers that a page may read.
    :param max_age: seconds for which a browser may keep the response to a preflight.
    :param allow_private_network: whether public pages may call a runtime in a private network.
    :raises TypeError: for an argument of another type, or an async function.
    :raises ValueError: for a value that is not an origin, a name of a header or method, or a
        duration; and for ``"*"`` in ``expose_headers`` with ``credentials``, where it is no
        wildcard.
    """

    origin: str | tuple[str, ...] | OriginFunction | None = attrs.field(
        default=None, converter=_origin
    )
    credentials: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    allow_methods: tuple[str, ...] | None = attrs.field(default=None, converter=_allow_methods)
    allow_headers: tuple[str, ...] | None = attrs.field(default=None, converter=_allow_headers)
    expose_headers: tuple[str, ...] | None = attrs.field(default=(), converter=_expose_headers)
    max_age: int | None = attrs.field(default=None, validator=_check_max_age)
    allow_private_network: bool = attrs.field(
        default=False, validator=attrs.validators.instance_of(bool), kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self.credentials and "*" in (self.expose_headers or ()):
            raise ValueError("expose_headers must be listed by name when credentials are allowed")

    def preflight(self, request: Request) -> Response | None:
        """The response to a preflight; None if the request is no preflight.

        As in the reference runtime every OPTIONS request is one, because no endpoint takes OPTIONS,
        and the response gives nothing away. An origin that is refused gets a 204 too, without the
        header that would let the browser go on.

        :raises TypeError: as :meth:`apply`.
        :raises ValueError: as :meth:`apply`.
        """
        if request.method != "OPTIONS":
            return None
        asked = request.headers
        headers = self._headers(Headers(), asked.get("origin"))
        allowed = "access-control-allow-origin" in headers
        headers = headers.set(
            "access-control-allow-methods",
            self._wildcard(
                _DEFAULT_METHODS if self.allow_methods is None else self.allow_methods,
                asked.get("access-control-request-method", ""),
            ),
        ).set(
            "access-control-allow-headers",
            self._wildcard(
                _ANY if self.allow_headers is None else self.allow_headers,
                asked.get("access-control-request-headers", ""),
            ),
        )
        if self.max_age is not None:
            headers = headers.set("access-control-max-age", str(self.max_age))
        headers = self._vary_preflight(headers)
        if (
            self.allow_private_network
            and allowed
            and asked.get("access-control-request-private-network") == "true"
        ):
            headers = headers.set("access-control-allow-private-network", "true")
        return Response(204, headers)

    def apply(self, response: Response, request_origin: str | None) -> Response:
        """``response`` with the CORS headers that it needs.

        :param request_origin: the ``Origin`` header of the request; None if there is no such
            header.
        :raises TypeError: if the origin function returns a value of a wrong type.
        :raises ValueError: if it returns a str that is no origin, or allows an origin that cannot
            be the value of a header. An exception of the function itself is raised as it is.
        """
        return response.with_headers(self._headers(response.headers, request_origin))

    def lock_out(self, response: Response, *, preflight: bool = False) -> Response:
        """Return ``response`` so that no page may read it, because the policy failed.

        :param preflight: whether :meth:`preflight` failed, rather than :meth:`apply`.
        """
        headers = self._vary_origin(response.headers)
        return response.with_headers(self._vary_preflight(headers) if preflight else headers)

    def _vary_origin(self, headers: Headers) -> Headers:
        everybody_gets_the_same = self.origin is None and not self.credentials
        return headers if everybody_gets_the_same else _vary(headers, "Origin")

    def _vary_preflight(self, headers: Headers) -> Headers:
        names = ["Access-Control-Request-Headers", "Access-Control-Request-Method"]
        if self.allow_private_network:
            names.append("Access-Control-Request-Private-Network")
        return _vary(headers, *names)

    def _headers(self, headers: Headers, request_origin: str | None) -> Headers:
        headers = self._vary_origin(headers)
        if self.origin is None and not self.credentials:
            # The origin need not be looked at, because every one is allowed.
            allowed: str | None = "*"
        else:
            is_one = request_origin is not None and _ORIGINS.fullmatch(request_origin)
            allowed = self._allowed_origin(request_origin if is_one else None)
        if allowed is None:
            if request_origin is not None:
                logger.debug("the CORS policy does not allow origin %r", shorten(request_origin))
            return headers
        headers = headers.set("access-control-allow-origin", allowed)
        if self.credentials:
            headers = headers.set("access-control-allow-credentials", "true")
        if self.expose_headers:
            headers = headers.set("access-control-expose-headers", ", ".join(self.expose_headers))
        return headers

    def _allowed_origin(self, request_origin: str | None) -> str | None:
        """The origin to allow, None to refuse; it is never ``*`` with credentials."""
        allowed: str | bool | None
        if self.origin is None:
            allowed = "*"
        elif isinstance(self.origin, str):
            allowed = self.origin
        elif request_origin is None:
            allowed = None
        elif isinstance(self.origin, tuple):
            allowed = request_origin in self.origin
        else:
            allowed = contained(self.origin, request_origin)
        if allowed is True or (allowed == "*" and self.credentials):
            return request_origin
        if allowed is None or allowed is False or allowed == "":
            return None
        if allowed != "*":
            _check_origin(allowed, "what the origin function returns")
        return allowed

    def _wildcard(self, configured: tuple[str, ...], requested: str) -> str:
        """The list to send, with the names that are asked for where ``*`` would not cover them.

        With credentials ``*`` means a header called "*", and without them it still does not cover
        ``Authorization`` (Fetch Standard, "CORS non-wildcard request-header name").
        """
        if len(requested) > _LONGEST_LIST:
            return ", ".join(configured)
        names = [name.strip(" \t") for name in requested.split(",")]
        if "*" in configured and all(map(TOKEN.fullmatch, names)):
            if self.credentials:
                named = dict.fromkeys([*configured, *names])
                configured = tuple(name for name in named if name != "*")
            elif "authorization" in map(str.lower, names):
                configured = tuple(dict.fromkeys([*configured, "authorization"]))
        return ", ".join(configured)


def policy_from(cors: bool | CorsPolicy | None) -> CorsPolicy | None:
    """The policy that the ``cors`` argument of a runtime stands for; None for no CORS at all.

    :raises TypeError: if it is neither a bool nor a :class:`CorsPolicy`.
    """
    if isinstance(cors, CorsPolicy):
        return cors
    if cors is None or isinstance(cors, bool):
        return CorsPolicy() if cors else None
    raise TypeError(f"cors must be a bool or a CorsPolicy, not {type(cors).__name__}")


def answer_preflight(policy: CorsPolicy, request: Request) -> Response | None:
    """The response to a preflight; None if the request is no preflight. A policy that fails lets
    nobody in."""
    try:
        return policy.preflight(request)
    except Exception as error:
        logger.error("the CORS policy failed", exc_info=error)
        return policy.lock_out(INTERNAL_ERROR, preflight=True)


def with_cors(policy: CorsPolicy, response: Response, origin: str | None) -> Response:
    """``response`` with the CORS headers that it needs. A policy that fails lets nobody in.

    :param origin: the ``Origin`` header of the request; None if there is no such header.
    """
    try:
        return policy.apply(response, origin)
    except Exception as error:
        logger.error("the CORS policy failed", exc_info=error)
        return policy.lock_out(response)


def _vary(headers: Headers, *names: str) -> Headers:
    """``headers`` with ``names`` among the members of Vary, each once."""
    members = [member.strip() for member in headers.get("vary", "").split(",") if member.strip()]
    known = {member.lower() for member in members}
    missing = [name for name in names if name.lower() not in known]
    if "*" in known or not missing:
        return headers
    return headers.set("vary", ", ".join([*members, *missing]))
