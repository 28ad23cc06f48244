"""The ``sansio-copilot`` command: ``demo``, ``serve module:runtime`` and ``copy-threads``."""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sansio_copilot import CopilotRuntime, StoreUnavailable, ThreadStore, __version__
from sansio_copilot.stores import ThreadRecord

from .cli_stores import HELP, UnknownStore, claim_threads, copy_threads, demo_store, store_of
from .net.listeners import url_of

Sleep: TypeAlias = Callable[[float], Any]
Ready: TypeAlias = Callable[[Any], None]
_AGENT_ID = re.compile("[A-Za-z0-9_.-]+")
Make: TypeAlias = Callable[[Sleep], CopilotRuntime]
"""Makes the runtime; its argument is the function by which the demo's agent waits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    :param arguments: the command's arguments; None for those of the process.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        if options.command == "copy-threads":
            return copy_threads(store_of(options.source), store_of(options.target), options.owner)
        if options.command == "claim-threads":
            return claim_threads(store_of(options.store), _function(options.owner_of))
        make, kept = _what_to_serve(options)
        if options.uvloop and options.binding != "asyncio":
            raise _Unusable("--uvloop goes with --binding asyncio")
        binding = "uvloop" if options.uvloop else options.binding
        _serve(binding, make, options.host, options.port, kept)
    except ModuleNotFoundError as error:
        extras = f"{options.binding},uvloop" if error.name == "uvloop" else options.binding
        extra = f"pip install 'sansio-copilot[{extras}]'"
        print(
            f"sansio-copilot: the {options.binding} binding needs {error.name}: {extra}",
            file=sys.stderr,
        )
        return 1
    except (OSError, StoreUnavailable, UnknownStore, _Unusable) as error:
        print(f"sansio-copilot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sansio-copilot: interrupted", file=sys.stderr)
        return 130
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
        return functools.partial(_demo, store=store), kept
    make = _remote(options.agent) if options.agent else _imported(options.runtime)
    return make if store is None else lambda sleep: make(sleep).with_store(store), ""


def _serve(binding: str, make: Make, host: str, port: int, kept: str) -> None:
    from .serving.life import NotStarted
    from .serving.service import LoopEnded

    try:
        _BINDINGS[binding](make, host, port, _say_where(host, kept))
    except NotStarted as error:
        raise _Unusable(str(error)) from error
    except UnicodeError:
        # The codec of host names has failed, because no host can have such a name: for example a
        # label has at most 63 octets (RFC 1035 section 2.3.4).
        raise _Unusable(f"{_shortened(host)} is no name of a host") from None
    except SystemExit as error:
        raise _Unusable(f"an agent has ended the server: {error!r}") from error
    except LoopEnded as error:
        raise _Unusable(f"an agent has ended the server: {error.__cause__!r}") from error


class _Unusable(Exception):
    """The command cannot be done as it was given; the message is for the user."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sansio-copilot", description="Serve CopilotKit's runtime protocol from Python."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="serve a demo agent and a page to try it with")
    serve = commands.add_parser("serve", help="serve a runtime of your own")
    what = serve.add_mutually_exclusive_group(required=True)
    what.add_argument("runtime", nargs="?", help="where it is: module:attribute")
    what.add_argument(
        "--agent",
        action="append",
        metavar="[ID=]URL",
        help="a remote AG-UI agent, in place of a runtime; may be given again with another ID",
    )
    copy = commands.add_parser("copy-threads", help="copy all threads from one store to another")
    copy.add_argument("source", help="a store, as --store takes it")
    copy.add_argument("target", help="the other one")
    copy.add_argument("--owner", help="whose threads (default: everybody's)")
    claim = commands.add_parser(
        "claim-threads", help="give threads of before there were users to their users"
    )
    claim.add_argument("store", help="a store, as --store takes it")
    claim.add_argument(
        "owner_of",
        help="a function of a thread's record that returns the id of its user, or None to leave"
        " the thread as it is: module:function",
    )
    for command in (demo, serve):
        command.add_argument(
            "--binding",
            choices=sorted(_BINDINGS.keys() - {"uvloop"}),
            default="asyncio",
            help="what moves the bytes (default: asyncio)",
        )
        command.add_argument(
            "--uvloop", action="store_true", help="run the asyncio binding on uvloop's event loop"
        )
        default = "a file of the user's" if command is demo else "the runtime's own"
        command.add_argument("--store", help=HELP.format(default=default))
        command.add_argument("--host", default="127.0.0.1")
        command.add_argument("--port", type=_port, default=4000)
    return parser


def _port(text: str) -> int:
    # The digits are checked first, because int() also accepts text such as " 1_0".
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(
            f"a whole number from 0 to 65535; {_shortened(text)} is not a port"
        )
    return int(text)


def _shortened(text: str) -> str:
    """Shorten ``text`` for an error message of one line."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _remote(agents: Sequence[str]) -> Make:
    """The runtime of remote agents, each given by its URL, and an id if it is not the only one."""
    try:
        from .agents import HttpAgent
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
            f"{_shortened(where)} names no module, expected module:attribute,"
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


def _demo(sleep: Sleep, store: ThreadStore) -> CopilotRuntime:
    from .demo import build_runtime

    return build_runtime(sleep, store)


def _serve_asyncio(make: Make, host: str, port: int, ready: Ready) -> None:
    import asyncio

    from .asyncio.server import serve

    asyncio.run(serve(make(asyncio.sleep), host, port, ready=ready))


def _serve_uvloop(make: Make, host: str, port: int, ready: Ready) -> None:
    import asyncio

    import uvloop

    from .asyncio.server import serve

    uvloop.run(serve(make(asyncio.sleep), host, port, ready=ready))


def _serve_trio(make: Make, host: str, port: int, ready: Ready) -> None:
    import trio

    from .trio.server import serve

    trio.run(functools.partial(serve, make(trio.sleep), host, port, ready=ready))


def _serve_sockets(make: Make, host: str, port: int, ready: Ready) -> None:
    import asyncio

    from .sockets.server import serve

    # The demo's agent waits by asyncio, because this binding runs async agents on an asyncio loop.
    serve(make(asyncio.sleep), host, port, ready=ready)


def _say_where(host: str, kept: str = "") -> Ready:
    def ready(server: Any) -> None:
        print(f"serving on {url_of(host or '0.0.0.0', server.port)}/", flush=True)
        if kept:
            print(kept, flush=True)

    return ready


_BINDINGS: dict[str, Callable[[Make, str, int, Ready], None]] = {
    "asyncio": _serve_asyncio,
    "uvloop": _serve_uvloop,
    "trio": _serve_trio,
    "sockets": _serve_sockets,
}


if __name__ == "__main__":
    sys.exit(main())
