"""The one rule: the core does no I/O, and the bindings know nothing of the protocol."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sansio_copilot

pytestmark = pytest.mark.untraced

ROOT = Path(__file__).parents[2]
CORE = ROOT / "sansio_copilot"
BINDINGS = ROOT / "bindings" / "copilot_bindings"

NEVER_LOADED = {"asyncio", "trio", "anyio", "h11", "ssl", "sqlite3", "subprocess"}
NEVER_IMPORTED = {
    "anyio",
    "asyncio",
    "h11",
    "logging.handlers",
    "random",
    "select",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "trio",
}


def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh process has loaded once it has executed ``statement``."""
    program = f"import sys\n{statement}\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded_by_dependencies() -> set[str]:
    return modules_after("import ag_ui.core")


@pytest.mark.parametrize(
    "module", ["sansio_copilot", "sansio_copilot.testing", "sansio_copilot.events"]
)
def test_importing_the_core_loads_no_event_loop_and_no_io(
    module: str, loaded_by_dependencies: set[str]
) -> None:
    loaded = modules_after(f"import {module}")
    assert module in loaded
    assert (loaded - loaded_by_dependencies) & NEVER_LOADED == set()


def sources(folder: Path, *without: str) -> list[Path]:
    """Every module below ``folder``, but for those in its folders ``without``."""
    return sorted(
        path for path in folder.rglob("*.py") if path.relative_to(folder).parts[0] not in without
    )


@functools.cache
def tree_of(source: Path) -> ast.Module:
    """Return the tree of ``source``, parsed once for all that look at it."""
    return ast.parse(source.read_text("utf-8"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported absolutely, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("__import__", "open", "print", "input", "exec", "eval")


def is_or_is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("source", sources(CORE), ids=relative)
def test_no_source_of_the_core_imports_what_could_wait_or_do_io(source: Path) -> None:
    imported = set(imports(tree_of(source)))
    offending = {
        module for module in imported for banned in NEVER_IMPORTED if is_or_is_in(module, banned)
    }
    assert offending == set()


@pytest.mark.parametrize("source", sources(CORE), ids=relative)
def test_the_core_awaits_nothing(source: Path) -> None:
    # Functions of an application are awaited by text agents and by the test client.
    if source == CORE / "agents" / "text.py" or source.parent == CORE / "testing":
        return
    tree = tree_of(source)
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, waiting)] == []


def test_the_bindings_are_not_part_of_the_core() -> None:
    for source in sources(CORE):
        imported = imports(tree_of(source))
        assert not any(is_or_is_in(module, "copilot_bindings") for module in imported)


def test_every_exported_name_is_there() -> None:
    assert sorted(sansio_copilot.__all__) == sansio_copilot.__all__
    assert all(hasattr(sansio_copilot, name) for name in sansio_copilot.__all__)


# --- No circles --------------------------------------------------------------------------------


def module_of(path: Path) -> str:
    """The dotted name of the module in ``path``."""
    names = path.with_suffix("").relative_to(ROOT).parts
    names = names[1:] if names[0] == "bindings" else names
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported_by(source: Path, ours: dict[str, Path]) -> set[str]:
    """The modules of ours that ``source`` imports, for their types only or not.

    An import of ``a.b.c`` runs ``a`` and ``a.b`` too, but those in which ``source`` lies itself
    have begun to run before it.
    """
    name = module_of(source)
    package = name if source.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join(base if node.level else []) + (f".{node.module or ''}")
            origin = origin.strip(".")
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner in ours else origin)
    with_packages = {
        ".".join(module.split(".")[:length])
        for module in found
        for length in range(1, module.count(".") + 2)
    }
    return {
        module for module in with_packages if module in ours and not is_or_is_in(package, module)
    } | ((found & ours.keys()) - {name})


def reached(module: str, imports: dict[str, set[str]]) -> set[str]:
    """Return the modules that ``module`` imports, with those that they import, and so on."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        new = imports[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def circles(imports: dict[str, set[str]]) -> list[str]:
    """The modules that import themselves by way of others."""
    return sorted(module for module in imports if module in reached(module, imports))


def test_a_circle_of_imports_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Code that needs less than the whole runtime is given less: types count like all else."""
    ours = {module_of(path): path for path in [*sources(CORE), *sources(BINDINGS)]}
    assert circles({name: imported_by(path, ours) for name, path in ours.items()}) == []


# --- The bindings -----------------------------------------------------------------------------

# These parts of routes, CORS headers, server-sent events and event types are looked for anywhere in
# a string, because a longer string may contain them.
PROTOCOL_FRAGMENTS = (
    "/api/copilotkit",
    "/info",
    "/transcribe",
    "/threads",
    "/annotate",
    "/memories",
    "agent/",
    "threads/",
    "inspector-metadata",
    "cpk-debug-events",
    "access-control-",
    "text/event-stream",
    "application/json",
    "x-accel-buffering",
    "last-event-id",
    "data: ",
    "keep-alive\n",
    "run_started",
    "run_finished",
    "run_error",
    "text_message_",
    "tool_call_",
    "state_snapshot",
    "state_delta",
)
# JSON keys, and names of headers that CORS decides by, are looked for as whole strings.
PROTOCOL_WORDS = {
    "origin",
    "vary",
    "threadid",
    "runid",
    "parentrunid",
    "agentid",
    "messageid",
    "toolcallid",
    "toolcalls",
    "messages",
    "forwardedprops",
    "lastseeneventid",
    "delta",
    "snapshot",
    "capabilities",
    "classname",
    "stopped",
    "interrupt",
    "error",
    "message",
    "retryable",
    "nextcursor",
}


def strings(tree: ast.AST) -> Iterator[str]:
    """The string and bytes constants of a module that are not documentation, in lower case."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            value = node.value
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            if isinstance(value, str):
                yield value.lower()


@pytest.mark.parametrize("source", sources(BINDINGS, "demo", "dashboard"), ids=relative)
def test_no_binding_knows_the_protocol(source: Path) -> None:
    found = [
        text
        for text in strings(tree_of(source))
        if text in PROTOCOL_WORDS or any(fragment in text for fragment in PROTOCOL_FRAGMENTS)
    ]
    assert found == []


@pytest.mark.parametrize("source", sources(BINDINGS, "demo", "dashboard"), ids=relative)
def test_no_binding_picks_a_status_code(source: Path) -> None:
    tree = tree_of(source)
    statuses = {200, 204, 400, 404, 405, 409, 413, 415, 422, 500, 502, 503}
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert [n for n in numbers if isinstance(n, int) and n in statuses] == []


def test_frames_are_written_by_one_module() -> None:
    found = {
        relative(source): text
        for source in sources(CORE)
        for text in strings(tree_of(source))
        if text.startswith(("id: ", "data: ", "\ndata: ", ": ")) and "\n" in text
    }
    del found["sansio_copilot/sse.py"]
    assert found == {}
