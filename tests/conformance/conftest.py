"""Makes a test of each pair of a behaviour and a server that it applies to.

pytest tests/conformance                                 # every built-in server
pytest tests/conformance --server asyncio_server         # one of them
pytest tests/conformance --server path/to/your_server.py # yours; see contract.py
pytest tests/conformance --everywhere                    # what takes long, for each binding
"""

from __future__ import annotations

import itertools
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from conformance.contract import ServerFile, built_in_servers, find_server
from conformance.process import Server, Servers

ONE_A_BINDING = ("asyncio_server", "trio", "sockets", "gunicorn", "uvicorn")
"""The servers that stand for their bindings: beside the server a binding does the same on each."""

ONE_A_LOOP = (*ONE_A_BINDING, "hypercorn_trio", "toy_server")
"""The servers that stand for the event loops: calls and awaits are the same on each such loop."""

FURTHER = (
    *("granian", "hypercorn_asyncio", "starlette_mount", "fastapi_mount"),
    *("waitress", "wsgiref", "flask", "django"),
)
"""Further servers and frameworks that the ASGI and the WSGI binding are plugged in.

What they decide is tried on each of them as well: how requests and responses are framed and cut,
what becomes of a client that leaves, contexts, signals and the end. What the binding decides
whoever calls it (hooks, users, stores, stops, the endpoints beside runs) is not made for them.
"""

WAITING = ("test_hangs", "test_shutdown", "test_abandoned", "test_streams")
"""Modules whose tests wait for time to pass, rather than for the processor."""

_left_out: Counter[str] = Counter()
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        action="append",
        metavar="NAME_OR_PATH",
        help="run the conformance suite against this server file only (may be repeated)",
    )
    parser.addoption(
        "--everywhere",
        action="store_true",
        help="have the conformance suite make for each binding what takes long, and not for one, "
        "and for each server what the binding decides",
    )


def pytest_configure(config: pytest.Config) -> None:
    # The limit on descriptors is raised, because tests connect a thousand clients, and the server,
    # which inherits the limit, has as many connections.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for line in (
        "needs(*capabilities): what a server has to be able to do for this to apply",
        "owns_sockets: applies to a binding that reads and writes HTTP itself",
        "of_the_binding: not made for the further servers that a binding is plugged in",
        "one_a_binding: made for one of the servers that a binding is plugged in",
        "one_a_loop: made for one of them with each event loop that the binding runs in",
        "once: takes long, and is made for one server only; for each binding with --everywhere",
        "ends_the_server: comes after all the others of its server",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server_file" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("--server", None) or built_in_servers()
    needs = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
    owners_only = metafunc.definition.get_closest_marker("owns_sockets") is not None
    files = [file for file in map(find_server, names) if file.owns_sockets or not owners_only]
    once = metafunc.definition.get_closest_marker("once") is not None
    others = _others(metafunc.definition)
    files = [file for file in files if file.name not in others]
    if once and not metafunc.config.getoption("--everywhere"):
        files = [file for file in files if file.name == "asyncio_server"]
    for file in files:
        _left_out.update(f"{file.name}: {file.cannot[need]}" for need in needs & set(file.cannot))
    files = [file for file in files if not needs & set(file.cannot)]
    metafunc.parametrize("server_file", files, ids=[file.name for file in files])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of a server, which share its process, to one worker of pytest-xdist.

    Those that wait most have a process of their own, so that others go on meanwhile.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            path, _, test = nodeid.partition("::")
            server = test.partition("[")[2].rstrip("]").partition("-")[0]
            module = Path(path).stem
            # The test of a server's end stays with the other tests of its server, because a fault
            # is most likely to show where most was asked of the server.
            waits = module in WAITING and "test_after_all_of_that" not in test
            return f"{server} {module if waits else 'others'}"

    return ByServer(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in the order of their servers, so that each server is started once."""
    ours = [index for index, item in enumerate(items) if "server_file" in _params(item)]
    ordered = [items[index] for index in ours if _server(items[index]) is not None]
    names = list(dict.fromkeys(_server(item) for item in ordered))
    ordered.sort(
        key=lambda item: (
            names.index(_server(item)),
            item.get_closest_marker("ends_the_server") is not None,
        )
    )
    # pytest makes an item of a test that applies to no server, to skip it.
    inapplicable = [items[index] for index in ours if _server(items[index]) is None]
    config.hook.pytest_deselected(items=inapplicable)
    for index, item in zip(ours, ordered + inapplicable, strict=True):
        items[index] = item
    items[:] = [item for item in items if item not in inapplicable]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist has left out; each of them has seen all of the tests."""
    _left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}) if not _left_out else {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = dict(_left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.section("conformance: what does not apply")
    for reason, count in sorted(_left_out.items()):
        terminalreporter.line(f"{count} tests not made for {reason}")


def _params(item: pytest.Item) -> dict[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _server(item: pytest.Item) -> str | None:
    """The server that the test is made for; None if it does not apply."""
    file = _params(item)["server_file"]
    if not isinstance(file, ServerFile) or file.name in _others(item):
        return None
    # The capabilities of the item are read from all its marks, because a parameter may have a mark
    # of its own.
    needs = {name for mark in item.iter_markers("needs") for name in mark.args}
    return None if needs & set(file.cannot) else file.name


def _others(test: pytest.Item) -> set[str]:
    """The built-in servers that the test is not made for, because it is for one of their kind."""
    if any(test.iter_markers("one_a_binding")) or any(test.iter_markers("once")):
        return set(built_in_servers()) - set(ONE_A_BINDING)
    if any(test.iter_markers("one_a_loop")):
        return set(built_in_servers()) - set(ONE_A_LOOP)
    everywhere = test.config.getoption("--everywhere")
    return set(FURTHER) if any(test.iter_markers("of_the_binding")) and not everywhere else set()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    problems = servers.end()
    assert not problems, "\n".join(problems)


@pytest.fixture
def server(server_file: ServerFile, servers: Servers) -> Server:
    """The server under test, in a process of its own that goes on with the next test."""
    return servers.get(server_file)


@pytest.fixture
def own_server(request: pytest.FixtureRequest, server_file: ServerFile) -> Iterator[Server]:
    """A server that the test may end."""
    if request.node.get_closest_marker("once") is not None:
        # The server runs without strict options, because they would double the time of tests that
        # take long already.
        server_file = attrs.evolve(server_file, python_options=())
    server = Server(server_file)
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()
        server.close_log()


@pytest.fixture
def thread(request: pytest.FixtureRequest) -> str:
    """The id of a thread that no other test has."""
    return f"{request.node.originalname}-{next(_numbers)}"
