"""The ``sansio-copilot`` command: ``demo``, and ``serve module:runtime``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Sequence

from sansio_copilot import CopilotRuntime, __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    :param arguments: instead of the process's own.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        make = _demo if options.command == "demo" else _imported(options.runtime)
        _BINDINGS[options.binding](make, options.host, options.port)
    except (OSError, _Unusable) as error:
        print(f"sansio-copilot: {error}", file=sys.stderr)
        return 1
    return 0


class _Unusable(Exception):
    """What was asked for is not there."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sansio-copilot", description="Serve CopilotKit's runtime protocol from Python."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="serve a demo agent and a page to try it with")
    serve = commands.add_parser("serve", help="serve a runtime of your own")
    serve.add_argument("runtime", help="where it is: module:attribute")
    for command in (demo, serve):
        command.add_argument("--binding", choices=sorted(_BINDINGS), default="asyncio")
        command.add_argument("--host", default="127.0.0.1")
        command.add_argument("--port", type=_port, default=4000)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, from 0 to 65535")
    return port


def _imported(where: str) -> Callable[[object], CopilotRuntime]:
    module_name, _, attribute = where.partition(":")
    if not module_name:
        raise _Unusable(f"{where!r} names no module, expected module:attribute")
    # As `python -m` does: the application's module is found where the command is run.
    sys.path.insert(0, "")
    try:
        runtime = getattr(importlib.import_module(module_name), attribute or "runtime")
    except (ImportError, AttributeError) as error:
        raise _Unusable(f"cannot find {where!r}: {error}") from error
    if not isinstance(runtime, CopilotRuntime):
        raise _Unusable(f"{where!r} is a {type(runtime).__name__}, expected a CopilotRuntime")
    return lambda sleep: runtime


def _demo(sleep: object) -> CopilotRuntime:
    from .demo import build_runtime

    return build_runtime(sleep)  # type: ignore[arg-type]


def _serve_asyncio(make: Callable[[object], CopilotRuntime], host: str, port: int) -> None:
    import asyncio

    try:
        from .asyncio import serve
    except ModuleNotFoundError as error:
        raise _Unusable(
            f"the asyncio binding needs {error.name}: pip install 'sansio-copilot[asyncio]'"
        ) from error

    def ready(server: object) -> None:
        print(f"serving on http://{host}:{getattr(server, 'port', port)}/", flush=True)

    asyncio.run(serve(make(asyncio.sleep), host, port, ready=ready))


_BINDINGS: dict[str, Callable[[Callable[[object], CopilotRuntime], str, int], None]] = {
    "asyncio": _serve_asyncio,
}


if __name__ == "__main__":
    sys.exit(main())
