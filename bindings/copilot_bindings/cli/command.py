"""What the command does, and how it tells what went wrong."""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sansio_copilot import CopilotRuntime, MemoryStore, StoreUnavailable, ThreadStore
from sansio_copilot.agents import Agent
from sansio_copilot.stores import ThreadRecord

from ..net.listeners import Listeners, url_of
from . import logs
from .options import parser, shortened
from .stores import UnknownStore, claim_threads, copy_threads, demo_store, store_of
from .supervisor import Duty, Supervisor

logger = logging.getLogger(__name__)

Sleep: TypeAlias = Callable[[float], Any]
Ready: TypeAlias = Callable[[Any], None]
_AGENT_ID = re.compile("[A-Za-z0-9_.-]+")
Place: TypeAlias = dict[str, Any]
Make: TypeAlias = Callable[[Sleep], CopilotRuntime]
"""Makes the runtime; its argument is the function by which the demo's agent waits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    :param arguments: the command's arguments; None for those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser(_BINDINGS.keys() - {"uvloop"}).parse_args(given)
    try:
        if options.command == "copy-threads":
            logs.begin("info", as_json=False, access=False)
            source = store_of(options.source, existing=True)
            return copy_threads(source, store_of(options.target), options.owner)
        if options.command == "claim-threads":
            logs.begin("info", as_json=False, access=False)
            return claim_threads(
                store_of(options.store, existing=True), _function(options.owner_of)
            )
        logs.begin(options.log_level, as_json=options.json_logs, access=options.access_log)
        if options.command == "dashboard":
            return _show(options)
        if options.uvloop and options.binding != "asyncio":
            raise _Unusable("--uvloop goes with --binding asyncio")
        duty = Duty.taken()
        if duty is None and (options.workers > 1 or options.reload):
            return _supervise(options, given)
        make, kept = _what_to_serve(options)
        if options.workers > 1:
            make = _shared(make)
        make = _announced(make)
        binding = "uvloop" if options.uvloop else options.binding
        ready = _ready(options.host, kept, duty, as_json=options.json_logs)
        _serve(binding, make, _place(options, duty), ready)
    except ModuleNotFoundError as error:
        extras = f"{options.binding},uvloop" if error.name == "uvloop" else options.binding
        extra = f"pip install 'sansio-copilot[{extras}]'"
        _complain(options, f"the {options.binding} binding needs {error.name}: {extra}")
        return 1
    except (OSError, StoreUnavailable, UnknownStore, _Unusable) as error:
        _complain(options, str(error))
        return 1
    except KeyboardInterrupt:
        _complain(options, "interrupted")
        return 130
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
        raise _Unusable(str(error)) from None
    try:
        source.read()
    except NotMetrics as error:
        raise _Unusable(f"{options.url} {error}") from None
    except Away as error:
        logger.warning("%s is away, and waited for: %s", options.url, error)
    runtime = build_dashboard(source)
    host = "127.0.0.1"
    place: Place = {"host": host, "port": options.port}
    _serve(
        "asyncio", lambda sleep: runtime, place, _ready(host, "", None, as_json=options.json_logs)
    )
    return 0


def _what_to_serve(options: argparse.Namespace) -> tuple[Make, str]:
    """The function that makes the runtime, and a line that says where its threads are kept."""
    try:
        store = None if options.store is None else store_of(options.store)
    except UnknownStore as error:
        raise _Unusable(str(error)) from None
    if options.command == "demo":
        kept = ""
        if store is None:
            store, kept = demo_store()
        model = None if options.model is None else _model_agent(options.model)
        return functools.partial(_demo, store=store, model=model), kept
    make = _remote(options.agent) if options.agent else _imported(options.runtime)
    return make if store is None else lambda sleep: make(sleep).with_store(store), ""


def _serve(binding: str, make: Make, place: Place, ready: Ready) -> None:
    from ..serving.shutdown import LoopEnded
    from ..serving.store_life import NotStarted

    try:
        _BINDINGS[binding](make, place, ready)
    except NotStarted as error:
        raise _Unusable(str(error)) from error
    except UnicodeError:
        raise _no_host(place["host"]) from None
    except SystemExit as error:
        raise _Unusable(f"an agent has ended the server: {error!r}") from error
    except LoopEnded as error:
        raise _Unusable(f"an agent has ended the server: {error.__cause__!r}") from error
    except BaseExceptionGroup as group:
        # trio wraps what ends one of its tasks.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from group


def _place(options: argparse.Namespace, duty: Duty | None) -> Place:
    """Where to listen, as the arguments of each binding's ``serve``."""
    if duty is not None:
        duty.watch(functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    sock = duty.sock if duty is not None else _handed_over(options.fd)
    place: Place = {"host": options.host, "port": options.port}
    if sock is not None:
        return place | {"sock": sock}
    if options.unix_mode is not None and options.unix is None:
        raise _Unusable("--unix-mode goes with --unix")
    return place | {"unix": options.unix, "unix_mode": options.unix_mode}


def _handed_over(descriptor: int | None) -> socket.socket | None:
    """The socket that another process has bound for this one; None if there is none.

    systemd says so by two variables (sd_listen_fds(3)), and its first descriptor is 3.
    """
    if descriptor is None:
        if os.environ.get("LISTEN_PID") != str(os.getpid()):
            return None
        count = os.environ.get("LISTEN_FDS", "0")
        if count != "1":
            raise _Unusable(f"systemd hands over {shortened(count)} sockets, expected one")
        descriptor = 3
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise _Unusable(f"descriptor {descriptor} is no socket: {error}") from None


def _supervise(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Have other processes serve, and look after them; returns the exit status."""
    if sys.platform == "win32":
        raise _Unusable("--workers and --reload need an operating system with descriptors to pass")
    place = _place(options, None)
    try:
        listeners = Listeners(**place)
    except UnicodeError:
        raise _no_host(options.host) from None
    try:
        if len(listeners.sockets) > 1:
            raise _Unusable(
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


def _announced(make: Make) -> Make:
    """``make``, which tells the log what it has made."""

    def told(sleep: Sleep) -> CopilotRuntime:
        runtime = make(sleep)
        agents = runtime.agents
        logger.info(
            "the agents are %s, at %s, with threads in a %s",
            ", ".join(map(repr, agents)) if isinstance(agents, Mapping) else "picked by a function",
            "any path" if runtime.base_path is None else runtime.base_path or "/",
            type(runtime.store).__name__,
        )
        return runtime

    return told


def _shared(make: Make) -> Make:
    """``make``, for one of several processes."""

    def checked(sleep: Sleep) -> CopilotRuntime:
        runtime = make(sleep)
        if isinstance(runtime.store, MemoryStore):
            raise _Unusable(
                "--workers needs a store that processes share: each would have threads of its own "
                "in a MemoryStore; give --store sqlite:PATH, for one"
            )
        return runtime

    return checked


def _no_host(host: str) -> _Unusable:
    # The codec of host names has failed, because no host can have such a name: for example a label
    # has at most 63 octets (RFC 1035 section 2.3.4).
    return _Unusable(f"{shortened(host)} is no name of a host")


class _Unusable(Exception):
    """The command cannot be done as it was given; the message is for the user."""


def _remote(agents: Sequence[str]) -> Make:
    """The runtime of remote agents, each given by its URL, and an id if it is not the only one."""
    try:
        from ..agents import HttpAgent
    except ModuleNotFoundError as error:
        raise _Unusable(str(error)) from None
    remote: dict[str, HttpAgent] = {}
    for given in agents:
        agent_id, equals, url = given.partition("=")
        if not equals or not _AGENT_ID.fullmatch(agent_id):
            agent_id, url = "default", given
        if agent_id in remote:
            raise _Unusable(f"two agents have the id {agent_id!r}: give --agent ID=URL")
        try:
            remote[agent_id] = HttpAgent(url)
        except ValueError as error:
            raise _Unusable(str(error)) from None
    runtime = CopilotRuntime(remote)
    return lambda sleep: runtime


def _imported(where: str) -> Make:
    runtime = _found(where, "runtime")
    if not isinstance(runtime, CopilotRuntime):
        raise _Unusable(f"{where!r} is a {type(runtime).__name__}, expected a CopilotRuntime")
    return lambda sleep: runtime


def _function(where: str) -> Callable[[ThreadRecord], str | None]:
    function: Callable[[ThreadRecord], str | None] = _found(where, "owner_of")
    if not callable(function):
        raise _Unusable(f"{where!r} is a {type(function).__name__}, expected a function")
    return function


def _found(where: str, default: str) -> Any:
    """What ``module:attribute`` names; the attribute may be left out.

    :raises _Unusable: if there is no such thing.
    """
    module_name, _, attribute = where.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise _Unusable(
            f"{shortened(where)} names no module, expected module:attribute,"
            " as my_package.my_module:runtime"
        )
    # The current directory is put in front of the path, as `python -m` does, so that the module is
    # found where the command is run.
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if module_name.endswith(".py"):
            name = where.replace(".py", "")
            raise _Unusable(f"{where} is a file, expected a module: {name}") from error
        raise _Unusable(f"cannot find {where!r}: {_line_of(error)}") from error
    except (Exception, SystemExit) as error:
        raise _Unusable(f"{module_name!r} fails when it is imported: {_line_of(error)}") from error
    try:
        return getattr(module, attribute or default)
    except AttributeError as error:
        raise _Unusable(f"cannot find {where!r}: {error}") from error


def _line_of(error: BaseException) -> str:
    """The error with its file and line, in one line instead of a traceback."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    found = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in found if not frame.filename.startswith("<frozen")]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames[1:] else text


def _demo(sleep: Sleep, store: ThreadStore, model: Agent | None) -> CopilotRuntime:
    from ..demo import build_runtime

    return build_runtime(sleep, store, model)


def _model_agent(model: str) -> Agent:
    """The agent that talks to a model, whose key is in the environment."""
    try:
        from ..demo.model import model_agent

        return model_agent(model)
    except (ModuleNotFoundError, ValueError) as error:
        raise _Unusable(str(error)) from None


def _serve_asyncio(make: Make, place: Place, ready: Ready) -> None:
    import asyncio

    from ..asyncio.server import serve

    asyncio.run(serve(make(asyncio.sleep), **place, ready=ready))


def _serve_uvloop(make: Make, place: Place, ready: Ready) -> None:
    import asyncio

    import uvloop

    from ..asyncio.server import serve

    uvloop.run(serve(make(asyncio.sleep), **place, ready=ready))


def _serve_trio(make: Make, place: Place, ready: Ready) -> None:
    import trio

    from ..trio.server import serve

    trio.run(functools.partial(serve, make(trio.sleep), **place, ready=ready))


def _serve_sockets(make: Make, place: Place, ready: Ready) -> None:
    import asyncio

    from ..sockets.server import serve

    # The demo's agent waits by asyncio, because this binding runs async agents on an asyncio loop.
    serve(make(asyncio.sleep), **place, ready=ready)


def _ready(host: str, kept: str, duty: Duty | None, *, as_json: bool = False) -> Ready:
    """A function that says where a server is, once it is."""

    def ready(server: Any) -> None:
        if duty is not None:
            duty.say_ready()
            return
        for text in filter(None, (_where(host, server.port), kept)):
            print(logs.line(text, as_json=as_json), flush=True)

    return ready


def _where(host: str, port: int) -> str:
    return f"serving on {url_of(host or '0.0.0.0', port)}/" if port else "serving on a Unix socket"


_BINDINGS: dict[str, Callable[[Make, Place, Ready], None]] = {
    "asyncio": _serve_asyncio,
    "uvloop": _serve_uvloop,
    "trio": _serve_trio,
    "sockets": _serve_sockets,
}
