"""Hooks: the application's own functions around every request, and around every run.

Order (the same as the reference runtime's): ``on_request`` before routing, ``on_before_handler``
once the route is known and the body read, ``on_response`` for every response but a CORS preflight
and an internal error's, ``on_error`` for an exception that is not a :class:`Reject`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import attrs

from .agents.protocols import Agent, AgentsFunction
from .functions import check_function
from .http.messages import Headers, Request, Response
from .http.routing import Route
from .limits import Limits
from .runs.parameters import RunEnd
from .runs.report import RunStart
from .stores.protocol import ThreadStore
from .users import User


class RuntimeSettings(Protocol):
    """The attributes of a :class:`~sansio_copilot.CopilotRuntime` that a hook may read."""

    @property
    def agents(self) -> Mapping[str, Agent] | AgentsFunction:
        """The agents as they were given to the runtime."""
        ...

    @property
    def base_path(self) -> str | None:
        """The path at which the runtime is mounted; None for any."""
        ...

    @property
    def mode(self) -> str:
        """The transports that the runtime takes: "multi-route", "single-route" or "both"."""
        ...

    @property
    def store(self) -> ThreadStore:
        """The store that has its threads."""
        ...

    @property
    def limits(self) -> Limits:
        """Its limits."""
        ...


class Reject(Exception):
    """Raised by a hook, or by a function that picks agents, to answer the request at once.

    The ``HTTPException`` of Starlette, FastAPI and Werkzeug does the same: it is answered with its
    status and headers, and ``{"error": ..., "detail": ...}``.

    The response still passes ``on_response`` and gets CORS headers. Raised in a task group or a
    nursery it counts as well, if nothing else failed there.

    :param response: the response to send.
    :raises TypeError: for anything but a :class:`Response`.
    """

    def __init__(self, response: Response) -> None:
        if not isinstance(response, Response):
            raise TypeError(f"Reject takes a Response, not {type(response).__name__}")
        super().__init__(f"rejected with {response.status}")
        self.response = response


def rejection_in(error: Exception) -> Exception:
    """The first :class:`Reject` in a group of nothing else, however deep; otherwise ``error``.

    A hook that does several things at once in a task group, or in a nursery, rejects by such a
    group. A rejection together with any other exception does not count, because the hook failed.
    The exceptions by which web frameworks answer a request count as a :class:`Reject`.
    """
    if not isinstance(error, ExceptionGroup):
        return _rejection_of(error) or error
    rejections, others = error.split(lambda each: _rejection_of(each) is not None)
    first: BaseException | None = rejections if others is None else None
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return error if first is None else _rejection_of(first) or error


def _rejection_of(error: BaseException) -> Reject | None:
    """The :class:`Reject` that ``error`` is, or stands for; None if it is an ordinary exception.

    An application's own dependencies raise the exception of its framework. It is recognised by its
    attributes, so that no framework is imported: that of Starlette, FastAPI and Django REST
    framework has ``status_code`` and ``detail``, that of Werkzeug (Flask) ``code`` and
    ``description``.
    """
    if isinstance(error, Reject):
        return error
    for status_name, detail_name in _ANSWERS:
        status, detail = getattr(error, status_name, None), getattr(error, detail_name, _MISSING)
        # HTTPStatus is an int too. An error of a client's library may have the same attributes,
        # and a status below 300 would be no refusal.
        if isinstance(status, int) and 300 <= status <= 599 and detail is not _MISSING:
            try:
                return Reject(_answer(error, int(status), detail))
            except Exception:
                # The exception is logged as a failure, because it cannot be sent as it is.
                return None
    return None


_ANSWERS = (("status_code", "detail"), ("code", "description"))
_MISSING = object()


def _answer(error: BaseException, status: int, detail: object) -> Response:
    fields: Any = getattr(error, "headers", None)
    if fields is None and callable(get_headers := getattr(error, "get_headers", None)):
        fields = get_headers()
    headers = Headers(fields).remove("content-type").remove("content-length")
    message = detail if isinstance(detail, str) else "The request was refused"
    return Response.json({"error": message, "detail": detail}, status, headers)


@attrs.frozen
class HookContext:
    """The argument of a hook.

    :param request: the request as the hooks before this one left it.
    :param path: the path that is routed, percent-encoded.
    :param runtime: the runtime that answers.
    :param route: the matched route; None before routing, and when nothing matched.
    :param response: the response that would be sent, for ``on_response``. A streaming response has
        ``stream`` set and no body; its head may be replaced.
    :param error: the exception, for ``on_error``.
    :param user: the user who sends the request, as ``identify_user`` has said; None in
        ``on_request``, which comes before that, and where the application knows no users.
    """

    request: Request
    path: str
    runtime: RuntimeSettings
    route: Route | None = None
    response: Response | None = None
    error: BaseException | None = None
    user: User | None = None


RunStartHook: TypeAlias = Callable[[RunStart], "Awaitable[None] | None"]
RequestHook: TypeAlias = Callable[[HookContext], "Request | Awaitable[Request | None] | None"]
ResponseHook: TypeAlias = Callable[[HookContext], "Response | Awaitable[Response | None] | None"]


@attrs.frozen
class Hooks:
    """Plain or async functions of one :class:`HookContext`; None means no hook.

    A plain hook is called in a thread, and may block; an async one must not. Each has
    :attr:`~sansio_copilot.limits.Limits.hook_seconds`.

    :param on_request: may return a replacement request. The body has not been read yet
        (``request.body`` is None), so a request that is rejected here costs no upload.
    :param on_before_handler: may return a replacement request, which is not routed again.
    :param on_response: may return a replacement response.
    :param on_error: may return the response for an exception; without it the response is a bare 500
        that says nothing of the cause.
    :param on_run_start: called with a :class:`.RunStart` when a run was opened and before its agent
        is called. It may raise :class:`Reject`, and the run is as if it had never been opened. The
        agent sees a ``ContextVar`` that the hook has set.
    :param on_run_end: called with a :class:`.RunReport` when a run is over, after its readers have
        its end and its agent has ended, too. It is called by the process that has called the agent.
        If this process dies, the process that ends the run in its place calls it once, with the
        outcome "lost". See docs/hooks.md.
    :raises TypeError: for a hook that cannot be called.
    """

    on_request: RequestHook | None = None
    on_before_handler: RequestHook | None = None
    on_response: ResponseHook | None = None
    on_error: ResponseHook | None = None
    on_run_start: RunStartHook | None = None
    on_run_end: RunEnd | None = None

    def __attrs_post_init__(self) -> None:
        for name, argument in _ARGUMENTS.items():
            check_function(name, getattr(self, name), f"a function of a {argument}")


_ARGUMENTS: Final = {
    **dict.fromkeys(("on_request", "on_before_handler", "on_response", "on_error"), "HookContext"),
    "on_run_start": "RunStart",
    "on_run_end": "RunReport",
}
