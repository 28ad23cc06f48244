"""The messages of HTTP: a request, a response, and their header fields.

All three are immutable values with the semantics of RFC 9110, and know no transport. A hook that
wants another header returns another object, so that an object that a hook has kept cannot change
under a stream that is being sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, overload

import attrs

from .. import json_codec
from ..errors import RemoteProtocolError
from ..users import User

_AUTHORITY = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*://[^/?]*")
# The asterisk-form and the authority-form of a target name no resource.
_OTHER_FORMS = {"OPTIONS": re.compile(r"\*"), "CONNECT": re.compile("[^/?@]+:[0-9]+")}

TOKEN: Final = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token (RFC 9110 section 5.6.2), such as a method and the name of a field; "*" is one."""
_FIELD_VALUE = re.compile("[\t\x20-\x7e\x80-\xff]*")

FEW_FIELDS: Final = 64
"""If there are more fields than this, names are looked up in an index, because a client may send
ten thousand fields, and each name is looked up. Among fewer fields a search is as quick."""

T = TypeVar("T")
HeaderItems = Mapping[str, str] | Iterable[tuple[str, str]]


class Headers(Mapping[str, str]):
    """Header fields in the order received; names compare without regard to case.

    As a mapping they behave like the ``Headers`` of the Fetch Standard: a name that occurs more
    than once reads as one value, joined with ``", "`` (RFC 9110 section 5.3). ``raw`` keeps the
    single fields, for ``Set-Cookie`` and for sending.
    """

    __slots__ = ("_by_name", "raw")

    raw: tuple[tuple[str, str], ...]

    def __init__(self, items: HeaderItems | None = None) -> None:
        self._by_name: dict[str, list[str]] | None = None
        if isinstance(items, Headers):
            self.raw = items.raw
            return
        items = () if items is None else items
        pairs = items.items() if isinstance(items, Mapping) else items
        self.raw = tuple([(name.lower(), value) for name, value in pairs])

    @classmethod
    def from_raw(cls, raw: tuple[tuple[str, str], ...]) -> Headers:
        """Headers of fields whose names are in lower case already, which is not checked."""
        headers = cls.__new__(cls)
        headers._by_name = None
        headers.raw = raw
        return headers

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        name = name.lower()
        if len(self.raw) > FEW_FIELDS:
            return name in self._index
        for key, _ in self.raw:  # noqa: SIM110 (any() takes three times as long)
            if key == name:
                return True
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.raw))

    def __len__(self) -> int:
        return len(dict(self.raw))

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        # Values are left out: a repr ends up in logs, and a log holds no header value.
        return f"<Headers {', '.join(self)}>"

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str | T) -> str | T: ...

    def get(self, name: str, default: Any = None) -> Any:
        """The value under ``name``, or ``default``; no exception is raised inside."""
        name = name.lower()
        # The loop of get_all() is repeated, because an exchange asks for several and calls cost.
        if len(self.raw) > FEW_FIELDS:
            values = self._index.get(name, [])
        else:
            values = [value for key, value in self.raw if key == name]
        return ", ".join(values) if values else default

    def get_all(self, name: str) -> list[str]:
        """Every value sent under ``name``, in order; an empty list if there is none."""
        name = name.lower()
        if len(self.raw) > FEW_FIELDS:
            return [*self._index.get(name, ())]
        return [value for key, value in self.raw if key == name]

    @property
    def _index(self) -> dict[str, list[str]]:
        """The values by name, each in order."""
        index = self._by_name
        if index is None:
            index = {}
            for name, value in self.raw:
                index.setdefault(name, []).append(value)
            # The index is kept when it is whole, because another operating system thread may look a
            # name up.
            self._by_name = index
        return index

    def set(self, name: str, value: str) -> Headers:
        """A copy in which ``name`` has the one value ``value``."""
        name = name.lower()
        others = [field for field in self.raw if field[0] != name]
        return Headers.from_raw((*others, (name, value)))

    def add(self, name: str, value: str) -> Headers:
        """A copy with one more field, beside those that ``name`` has already."""
        return Headers.from_raw((*self.raw, (name.lower(), value)))

    def remove(self, name: str) -> Headers:
        """A copy without ``name``; the same fields if it was not there."""
        name = name.lower()
        others = tuple([field for field in self.raw if field[0] != name])
        return self if len(others) == len(self.raw) else Headers.from_raw(others)


def _headers(items: HeaderItems | None) -> Headers:
    return items if type(items) is Headers else Headers(items)


@attrs.frozen(init=False)
class Request:
    """An HTTP request as the core sees it.

    :param method: the method, upper case by convention ("GET").
    :param path: the path of the target, percent-encoded as received ("/api/copilotkit/info").
    :param query: the part behind ``?``, percent-encoded; "" if there is none.
    :param headers: the header fields; a mapping or pairs are converted.
    :param body: the content, or None while it has not been read. An ``on_request`` hook runs before
        a byte of it is read; a hook that returns a request with a body replaces it.
    :param user: the user who sends it; None before ``identify_user`` has returned the user.
    :param scope: the connection scope under ASGI (ASGI specification, HTTP connection scope), in
        which the application's middleware puts values such as ``session``, ``user`` and ``state``.
        None elsewhere, and for an agent, because a run outlives its request.
    :param environ: the environment under WSGI (PEP 3333), likewise.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = attrs.field(factory=Headers, converter=_headers)
    body: bytes | None = attrs.field(default=None, repr=False)
    user: User | None = attrs.field(default=None, kw_only=True)
    scope: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True, eq=False, repr=False)
    environ: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, eq=False, repr=False
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: HeaderItems | None = None,
        body: bytes | None = None,
        *,
        user: User | None = None,
        scope: Mapping[str, Any] | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        # The constructor is written out, because an exchange makes several requests, and the
        # generated method would call the converter for each.
        if type(headers) is not Headers:
            headers = Headers(headers)
        put = object.__setattr__
        put(self, "method", method)
        put(self, "path", path)
        put(self, "query", query)
        put(self, "headers", headers)
        put(self, "body", body)
        put(self, "user", user)
        put(self, "scope", scope)
        put(self, "environ", environ)

    def json(self, max_values: int = 250_000) -> Any:
        """The value of the body, which has been read from ``on_before_handler`` on.

        :param max_values: JSON values that it may have, because small ones take fifty times their
            size; see :attr:`.Limits.body_values`.
        :raises ValueError: if the body is not JSON, has more values, or has not been read.
        """
        if self.body is None:
            raise ValueError("the body has not been read")
        if json_codec.has_more_values(self.body, max_values):
            raise ValueError(f"the body has more than {max_values} JSON values")
        return json_codec.decode(self.body)

    def with_headers(self, headers: Headers) -> Request:
        """This request with other headers, for hooks that add or remove one."""
        return attrs.evolve(self, headers=headers)

    def with_body(self, body: bytes | None) -> Request:
        """This request with its body read; or, if that is None, without it."""
        if type(self) is not Request:
            return attrs.evolve(self, body=body)
        # The copy is that of attrs.evolve(), made in two thirds of the time.
        return Request(
            *(self.method, self.path, self.query, self.headers, body),
            user=self.user,
            scope=self.scope,
            environ=self.environ,
        )

    def in_place_of(self, other: Request, user: User | None) -> Request:
        """This request with the members that only the server knows, as ``other`` has them.

        :param user: the user who sends it; None if the user was not identified.
        """
        known: dict[str, Any] = {} if user is None or self.user is user else {"user": user}
        if self.scope is not other.scope:
            known["scope"] = other.scope
        if self.environ is not other.environ:
            known["environ"] = other.environ
        return attrs.evolve(self, **known) if known else self

    def outlived(self) -> Request:
        """Return the part of this request that may be kept when it is over: not its body, and
        nothing of the server."""
        if type(self) is not Request:
            return attrs.evolve(self, body=None, scope=None, environ=None)
        return Request(self.method, self.path, self.query, self.headers, user=self.user)

    @classmethod
    def from_target(
        cls,
        method: str,
        target: str,
        headers: HeaderItems = (),
        body: bytes | None = None,
        *,
        scope: Mapping[str, Any] | None = None,
    ) -> Request:
        """Build a request from a request target in any of the forms of RFC 9112 section 3.2.

        The authority and a fragment are dropped, because the core does not need them.

        :param scope: see the class.

        :raises RemoteProtocolError: for a target of no form that ``method`` may have.
        """
        target = target.partition("#")[0]
        if not target.startswith("/"):
            if authority := _AUTHORITY.match(target):
                target = target[authority.end() :]
            elif method in _OTHER_FORMS and _OTHER_FORMS[method].fullmatch(target):
                target = "/"
            else:
                raise RemoteProtocolError(
                    f"the request target is a path or a URL, not {target[:100]!r}"
                )
        path, _, query = target.partition("?")
        return cls(method, path or "/", query, headers, body, scope=scope)


WITHOUT_CONTENT: Final = frozenset({204, 304})
"""The status codes of responses that have no content, and so no length (RFC 9110 sections 6.4.1,
15.3.5 and 15.4.5). The response to HEAD is sent without content too, but its header fields are
those of GET (section 9.3.2)."""

_JSON = Headers({"content-type": "application/json"})


def _as_bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


# The fields are checked once, because most responses have the same as one before.
@lru_cache(maxsize=256)
def _check_field(field: tuple[str, str]) -> None:
    name, value = field
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header")
    if not _FIELD_VALUE.fullmatch(value):
        # The text of the error does not quote the value, because it may be a secret.
        raise ValueError(f"the value of header {name} has a character it cannot have")


@attrs.frozen
class Response:
    """An HTTP response with its content whole.

    A streaming response is a :class:`Response` whose ``stream`` is true. Its body is not known yet,
    and hooks see and replace its status and headers before the first byte.

    :param status: the status code, 200 to 599.
    :param headers: the header fields; a mapping or pairs are converted.
    :param body: the content; a ``str`` is encoded as UTF-8.
    :raises ValueError: for a status or a header field that HTTP has no form for (RFC 9110
        sections 5.1, 5.5 and 15), or a body with lone surrogates.
    """

    status: int = 200
    headers: Headers = attrs.field(factory=Headers, converter=_headers)
    body: bytes = attrs.field(default=b"", converter=_as_bytes, repr=False)
    stream: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if type(self.status) is not int or not 200 <= self.status <= 599:
            raise ValueError(f"status must be an int from 200 to 599, not {self.status!r}")
        for field in self.headers.raw:
            _check_field(field)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: HeaderItems = ()) -> Response:
        """A response whose body is ``value`` as compact JSON.

        :raises TypeError: for a value that JSON has no form for.
        :raises ValueError: for a value that contains itself, or is nested too deeply; and as the
            class.
        """
        fields = _headers(headers) if headers else _JSON
        if "content-type" not in fields:
            fields = fields.add("content-type", "application/json")
        return cls(status, fields, json_codec.encode(value))

    def with_headers(self, headers: Headers) -> Response:
        """This response with other headers, for hooks that add one.

        :raises ValueError: as the class.
        """
        if type(self) is not Response:
            return attrs.evolve(self, headers=headers)
        # The copy is that of attrs.evolve(), made in two thirds of the time.
        return Response(self.status, headers, self.body, stream=self.stream)
