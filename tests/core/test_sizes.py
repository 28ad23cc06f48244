"""Modules and functions stay short, so that a reader holds each of them in mind as a whole."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.untraced

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for package in (ROOT / "sansio_copilot", ROOT / "bindings" / "copilot_bindings")
    for path in package.rglob("*.py")
)

LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 50
REASON = "# This is one function, because "
"""The beginning of the comment by which a longer function gives its reason."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(function: Function) -> range:
    """The lines of a function's statements.

    Its signature and its docstring are not among them, because they are what its caller reads.
    """
    body = function.body if ast.get_docstring(function) is None else function.body[1:]
    end = function.end_lineno
    assert end is not None
    return range(body[0].lineno, end + 1) if body else range(0)


def long_functions(source: str) -> Iterator[str]:
    """The names of functions that are longer than allowed, and give no reason."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
    long = [node for node in functions if len(lines_of(node)) > LINES_OF_A_FUNCTION]
    if not long:
        return
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    reasons = {token.start[0] for token in tokens if token.string.startswith(REASON)}
    for node in long:
        if reasons.isdisjoint(range(node.lineno, lines_of(node).stop)):
            yield node.name


def function(statements: int, *before: str) -> str:
    lines = ["def f(", "    a,", ") -> None:", '    """Text."""', *before, *["    a"] * statements]
    return "\n".join(lines) + "\n"


def test_a_long_function_is_found() -> None:
    assert list(long_functions(function(50))) == []
    assert list(long_functions(function(51))) == ["f"]
    assert list(long_functions(function(51, f"    {REASON}it is a table."))) == []
    assert list(long_functions(function(51, f"    a = '{REASON}'"))) == ["f"]
    assert list(long_functions(f"{REASON}of another.\n{function(51)}")) == ["f"]


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_module_is_short(module: Path) -> None:
    assert len(module.read_text("utf-8").splitlines()) <= LINES_OF_A_MODULE


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_function_is_short_or_gives_its_reason(module: Path) -> None:
    assert list(long_functions(module.read_text("utf-8"))) == []
