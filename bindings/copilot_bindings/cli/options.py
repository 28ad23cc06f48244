"""The arguments of the command, and the environment variables that may stand for them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from sansio_copilot import __version__

from . import logs
from .stores import HELP

PREFIX: Final = "SANSIO_COPILOT_"
"""``SANSIO_COPILOT_LOG_LEVEL=debug`` stands for ``--log-level debug``, and so on."""

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


def _number(least: int, most: int, kind: str) -> Callable[[str], int]:
    """The converter of an argument that is a whole number.

    :param kind: the words of the error for another text, such as "no descriptor".
    """

    def convert(text: str) -> int:
        # The digits are checked first, because int() also accepts text such as " 1_0".
        is_short = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not (is_short and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(
                f"a whole number from {least} to {most}; {shortened(text)} is {kind}"
            )
        return int(text)

    return convert


_port = _number(0, 65535, "not a port")
# A descriptor has at most six digits here, because systems give a process far fewer descriptors,
# and a much larger number would not fit into the C int of the system call.
_descriptor = _number(0, 999_999, "no descriptor")
_count = _number(1, 999, "no number of processes")


class _CommandParser(argparse.ArgumentParser):
    """The parser of one command; only this parser looks at the command's environment variables."""

    environ: Mapping[str, str] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments behind the command's name."""
        _take_environment(self, self.environ)
        return super().parse_known_args(args, namespace)


def parser(
    bindings: Collection[str], environ: Mapping[str, str] = os.environ
) -> argparse.ArgumentParser:
    """The parser of the command's arguments.

    An argument counts more than an environment variable.

    :param bindings: the names that ``--binding`` takes.
    """
    whole = argparse.ArgumentParser(
        prog="sansio-copilot", description="Serve CopilotKit's runtime protocol from Python."
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
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
    demo.add_argument(
        "--model",
        metavar="PROVIDER/MODEL",
        help="a model to talk to, as openai/gpt-4o-mini, whose key is in the environment",
    )
    _add_threads(commands)
    dashboard = commands.add_parser(
        "dashboard", help="serve a page that shows what a runtime's metrics tell, as charts"
    )
    dashboard.add_argument(
        "url",
        nargs="?",
        default="http://127.0.0.1:4000/metrics",
        help="where they are (default: http://127.0.0.1:4000/metrics)",
    )
    dashboard.add_argument("--port", type=_port, default=4001, help="of the page (default: 4001)")
    _add_logs(dashboard)
    dashboard.environ = environ
    for command in (demo, serve):
        default = "a file of the user's" if command is demo else "the runtime's own"
        command.add_argument("--store", help=HELP.format(default=default))
        _add_server(command, bindings)
        _add_logs(command)
        command.environ = environ
    return whole


def _add_threads(commands: Any) -> None:
    """The commands that concern the threads of a store.

    :param commands: the commands of the whole parser, in argparse's own type, which has no public
        name.
    """
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
        help="a function of a thread's record that returns the id of its user, or None to leave "
        "the thread as it is: module:function",
    )


def _add_server(command: argparse.ArgumentParser, bindings: Collection[str]) -> None:
    command.add_argument(
        "--binding",
        choices=sorted(bindings),
        default="asyncio",
        help="what moves the bytes (default: asyncio)",
    )
    command.add_argument(
        "--uvloop", action="store_true", help="run the asyncio binding on uvloop's event loop"
    )
    command.add_argument("--host", type=_host, default="127.0.0.1")
    command.add_argument("--port", type=_port, default=4000)
    command.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    command.add_argument(
        "--unix-mode", type=_mode, metavar="MODE", help="its permissions, such as 660"
    )
    command.add_argument(
        "--fd",
        type=_descriptor,
        metavar="N",
        help="listen on the socket with this descriptor, which another process has bound "
        "(default: the one that systemd hands over, if it does)",
    )
    command.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="so many processes, over a store that they share (default: 1); SIGHUP replaces them",
    )
    command.add_argument(
        "--reload", action="store_true", help="begin anew whenever a Python file here changes"
    )


def _add_logs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-level",
        type=str.lower,
        choices=logs.LEVELS,
        default="info",
        help="the least that is logged",
    )
    command.add_argument("--access-log", action="store_true", help="log each response")
    command.add_argument("--json-logs", action="store_true", help="log in JSON, an object a line")


def _take_environment(command: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    """Have environment variables set the defaults."""
    # argparse has no public list of what was added to a parser, and this one is in all versions.
    for action in command._actions:  # noqa: SLF001
        name = PREFIX + action.dest.upper()
        text = environ.get(name)
        if text is None or not action.option_strings or action.dest in ("help", "agent"):
            continue
        if action.nargs == 0:
            if text.lower() not in _TRUE | _FALSE:
                command.error(f"{name} is 1 or 0, not {shortened(text)}")
            action.default = text.lower() in _TRUE
        elif not text:
            # A variable is often empty because another one, of which it was made, is not set.
            command.error(f"{name} is empty, expected a value; without it the default counts")
        elif action.choices is not None:
            if text.lower() not in action.choices:
                choices = ", ".join(action.choices)
                command.error(f"{name} is one of {choices}, not {shortened(text)}")
            action.default = text.lower()
        else:
            # A default that is a string is converted as an argument is.
            action.default = text


def _host(text: str) -> str:
    if not text:
        # An empty host would be every address of the machine, which is asked for by name.
        raise argparse.ArgumentTypeError("it is empty; all addresses are 0.0.0.0, or :: with IPv6")
    return text


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"permissions as 660; {shortened(text)} is none")
    return mode


def shortened(text: str) -> str:
    """Shorten ``text`` for an error message of one line."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 80 else f"{text[:80]}..."
