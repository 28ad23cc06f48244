"""The command: it serves a runtime, and tells a user what went wrong."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sansio_copilot import StoreUnavailable

from ..net.listeners import Listeners, url_of
from ..stores import StoreError
from . import logs
from .interrupts import INTERRUPTED
from .options import parser, shortened
from .stores import UnknownStore, claim_threads, copy_threads, store_of
from .supervisor import Duty, Supervisor
from .what_to_serve import Make, Unusable, for_workers, owner_function, what_to_serve

logger = logging.getLogger(__name__)

Ready: TypeAlias = Callable[[Any], None]
ListenOptions: TypeAlias = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    :param arguments: the command's arguments; None for those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = argparse.Namespace()
    try:
        options = parser(_BINDINGS.keys() - {"uvloop"}).parse_args(given)
        if options.command == "copy-threads":
            logs.begin("info", as_json=False, access=False)
            source = store_of(options.source, existing=True)
            return copy_threads(source, store_of(options.target), options.owner)
        if options.command == "claim-threads":
            logs.begin("info", as_json=False, access=False)
            return claim_threads(
                store_of(options.store, existing=True), owner_function(options.owner_of)
            )
        logs.begin(options.log_level, as_json=options.json_logs, access=options.access_log)
        if options.command == "dashboard":
            return _show(options)
        if options.uvloop and options.binding != "asyncio":
            raise Unusable("--uvloop goes with --binding asyncio")
        duty = Duty.taken()
        if duty is None and (options.workers > 1 or options.reload):
            return _supervise(options, given)
        make, kept = what_to_serve(options)
        if options.workers > 1:
            make = for_workers(make)
        binding = "uvloop" if options.uvloop else options.binding
        ready = _ready(options.host, kept, duty, as_json=options.json_logs)
        _serve(binding, make, _listen_options(options, duty), ready)
    except ModuleNotFoundError as error:
        extras = f"{options.binding},uvloop" if error.name == "uvloop" else options.binding
        extra = f"pip install 'sansio-copilot[{extras}]'"
        _complain(options, f"the {options.binding} binding needs {error.name}: {extra}")
        return 1
    except (OSError, StoreError, StoreUnavailable, UnknownStore, Unusable) as error:
        _complain(options, str(error))
        return 1
    except KeyboardInterrupt:
        _complain(options, "interrupted")
        return INTERRUPTED
    return 0


def _complain(options: argparse.Namespace, text: str) -> None:
    """Say on standard error why the command has failed."""
    as_json = getattr(options, "json_logs", False)
    print(logs.line(text, as_json=as_json, failed=True), file=sys.stderr)


def _show(options: argparse.Namespace) -> int:
    """Serve the dashboard; returns the exit status."""
    options.binding = "asyncio"
    from ..dashboard import Away, NotMetrics, Source, build_dashboard

    try:
        source = Source(options.url)
    except ValueError as error:
        raise Unusable(str(error)) from None
    try:
        source.read()
    except NotMetrics as error:
        raise Unusable(f"{source.shown} {error}") from None
    except Away as error:
        logger.warning("%s is away, and waited for: %s", source.shown, error)
    runtime = build_dashboard(source)
    host = "127.0.0.1"
    listen: ListenOptions = {"host": host, "port": options.port}
    _serve(
        "asyncio", lambda sleep: runtime, listen, _ready(host, "", None, as_json=options.json_logs)
    )
    return 0


def _serve(binding: str, make: Make, listen: ListenOptions, ready: Ready) -> None:
    from ..serving.shutdown import LoopEnded
    from ..serving.store_life import NotStarted

    try:
        _BINDINGS[binding](make, listen, ready)
    except NotStarted as error:
        raise Unusable(str(error)) from error
    except UnicodeError:
        raise _no_host(listen["host"]) from None
    except SystemExit as error:
        raise Unusable(f"an agent has ended the server: {error!r}") from error
    except LoopEnded as error:
        raise Unusable(f"an agent has ended the server: {error.__cause__!r}") from error
    except BaseExceptionGroup as group:
        # trio wraps an exception that ends one of its tasks in a group.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from group


def _listen_options(options: argparse.Namespace, duty: Duty | None) -> ListenOptions:
    """Return where to listen, as the arguments of each binding's ``serve``."""
    if duty is not None:
        duty.watch(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    sock = duty.sock if duty is not None else _handed_over(options.fd)
    listen: ListenOptions = {"host": options.host, "port": options.port}
    if sock is not None:
        if sock.type != socket.SOCK_STREAM:
            sock.close()
            raise Unusable(f"the socket that was handed over is no stream socket: {sock.type!r}")
        return listen | {"sock": sock}
    if options.unix == "":
        raise Unusable("--unix needs a path, and is empty")
    if options.unix_mode is not None and options.unix is None:
        raise Unusable("--unix-mode goes with --unix")
    return listen | {"unix": options.unix, "unix_mode": options.unix_mode}


def _handed_over(descriptor: int | None) -> socket.socket | None:
    """The socket that another process has bound for this one; None if there is none.

    systemd tells of it by two variables (sd_listen_fds(3)), and its first descriptor is 3.
    """
    if descriptor is None:
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            return None
        count = os.environ.get("LISTEN_FDS", "0")
        if count != "1":
            raise Unusable(f"systemd hands over {shortened(count)} sockets, expected one")
        descriptor = 3
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise Unusable(f"descriptor {descriptor} is no socket: {error}") from None


def _supervise(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Have other processes serve, and look after them; returns the exit status."""
    if sys.platform == "win32":
        raise Unusable("--workers and --reload need an operating system with descriptors to pass")
    listen = _listen_options(options, None)
    try:
        listeners = Listeners(**listen)
    except UnicodeError:
        raise _no_host(options.host) from None
    try:
        if len(listeners.sockets) > 1:
            raise Unusable(
                f"{shortened(options.host)!r} has several addresses, and workers share one: give "
                "one of them with --host"
            )
        (listener,) = listeners.sockets
        where = _where(options.host, listeners.port)
        print(logs.line(where, as_json=options.json_logs), flush=True)
        watched = Path.cwd() if options.reload else None
        return Supervisor(arguments, options.workers, listener, watched).run()
    finally:
        listeners.close()


def _no_host(host: str) -> Unusable:
    # The codec of host names has failed, because no host can have such a name: for example a label
    # has at most 63 octets (RFC 1035 section 2.3.4).
    return Unusable(f"{shortened(host)} is no name of a host")


def _serve_asyncio(make: Make, listen: ListenOptions, ready: Ready, run: Any = None) -> None:
    import asyncio

    from ..asyncio.server import serve

    (run or asyncio.run)(serve(make(asyncio.sleep), **listen, ready=ready))


def _serve_uvloop(make: Make, listen: ListenOptions, ready: Ready) -> None:
    import uvloop

    _serve_asyncio(make, listen, ready, uvloop.run)


def _serve_trio(make: Make, listen: ListenOptions, ready: Ready) -> None:
    import trio

    from ..trio.server import serve

    trio.run(functools.partial(serve, make(trio.sleep), **listen, ready=ready))


def _serve_sockets(make: Make, listen: ListenOptions, ready: Ready) -> None:
    import asyncio

    from ..sockets.server import serve

    # The demo's agent waits by asyncio, because this binding runs async agents on an asyncio loop.
    serve(make(asyncio.sleep), **listen, ready=ready)


def _ready(host: str, kept: str, duty: Duty | None, *, as_json: bool = False) -> Ready:
    """Return a function that says where a server listens, once it does."""

    def ready(server: Any) -> None:
        if duty is not None:
            duty.say_ready()
            return
        for text in filter(None, (_where(host, server.port), kept)):
            print(logs.line(text, as_json=as_json), flush=True)

    return ready


def _where(host: str, port: int) -> str:
    return f"serving on {url_of(host, port)}/" if port else "serving on a Unix socket"


_BINDINGS: dict[str, Callable[[Make, ListenOptions, Ready], None]] = {
    "asyncio": _serve_asyncio,
    "uvloop": _serve_uvloop,
    "trio": _serve_trio,
    "sockets": _serve_sockets,
}
