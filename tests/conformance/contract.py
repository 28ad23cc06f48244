"""The contract of a server file, and what it may declare.

A server file is a Python file with one function::

    def serve(runtime: CopilotRuntime, host: str, port: int) -> None:
        '''Serve ``runtime`` at that address until SIGTERM or SIGINT, then return.'''

It is loaded by its path, in a process of its own; the suite knows that it is ready when it answers
a request. All the state of the tests is in that process, so one that starts workers starts one.
It should serve 130 streams at once, and end what still runs within a second or so of a signal.

These constants may stand at the top level, as literals, since the suite reads them without running
the file:

``OWNS_SOCKETS = True``
    The binding itself reads and writes HTTP, rather than a server that it is plugged in. Then what
    is asked of a server applies to it as well: what it does with things that are not HTTP, with a
    client that does not read, and so on.
``BASE_PATH = "/some/prefix"``
    Where clients find the runtime, and the ``base_path`` that it is made with; "/api/copilotkit"
    if not declared.
``CANNOT = {"keep-alive": "why"}``
    What this server cannot do whatever the binding does; the keys are those of
    :data:`CAPABILITIES`. The tests that need it are not made for this server, and the suite says
    so at its end.
``ANSWERS_ITSELF = {("GET", "/info"): "why"}``
    Requests of tests/vectors/http.json, by method and path, that the server answers before the
    binding sees them.
``PYTHON_OPTIONS = ["-X", "dev"]``
    For a server that does not stand the strictness that the suite starts it with otherwise.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

SERVERS = Path(__file__).parent / "servers"
STRICT = ("-X", "dev", "-W", "error::ResourceWarning")

CAPABILITIES = {
    "keep-alive": "answers several requests on one connection",
    "http/1.0": "answers a client that speaks HTTP/1.0",
    "http/1.1": "frames a stream so that its end tells from a broken connection",
    "chunked-body": "takes a request body without content-length",
    "escaped-slash": "tells %2F in a path from a slash",
    "half-close": "answers a client that has closed its side of the connection",
    "blocking-hooks": "calls plain hooks where they may block, a thread for each request",
    "a-thousand-streams": "serves a thousand streams at once",
    "notices-leaving": "notices a client that breaks its connection while a hook or a run waits",
    "graceful-shutdown": "ends streams well formed when it is told to end",
    "gives-up-bodies": "ends some time after it was told to, whoever goes on sending",
    "clean-exit": "exits with status 0 at a signal",
}
"""The abilities that a server may lack, and some tests need."""


@attrs.frozen
class ServerFile:
    """A server to test, and what it declares."""

    name: str
    path: Path
    owns_sockets: bool = False
    base_path: str = "/api/copilotkit"
    cannot: dict[str, str] = attrs.field(factory=dict)
    answers_itself: dict[tuple[str, str], str] = attrs.field(factory=dict)
    python_options: tuple[str, ...] = attrs.field(default=STRICT, converter=tuple)

    def __attrs_post_init__(self) -> None:
        if unknown := set(self.cannot) - set(CAPABILITIES):
            raise ValueError(f"{self.path}: CANNOT has {unknown}, expected of {set(CAPABILITIES)}")

    def load(self) -> ModuleType:
        """Run the file. By its path, so that its name may be that of what it serves with."""
        spec = importlib.util.spec_from_file_location(f"server_{self.name}", self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@functools.cache
def find_server(name_or_path: str) -> ServerFile:
    """The server file of that name among the built-in ones, or at that path."""
    path = Path(name_or_path)
    if path.suffix != ".py":
        path = SERVERS / f"{name_or_path}.py"
    declared = {name.lower(): value for name, value in _literals(path).items()}
    known = {field.name for field in attrs.fields(ServerFile)} - {"name", "path"}
    options: dict[str, Any] = {name: declared[name] for name in known & declared.keys()}
    return ServerFile(path.stem, path.resolve(), **options)


@functools.cache
def built_in_servers() -> list[str]:
    return sorted(path.stem for path in SERVERS.glob("*.py") if not path.stem.startswith("_"))


def _literals(path: Path) -> dict[str, Any]:
    """The constants that the file declares."""
    found = {}
    for statement in ast.parse(path.read_text("utf-8")).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name.isupper():
                try:
                    found[name] = ast.literal_eval(value)
                except ValueError:
                    continue
    return found
