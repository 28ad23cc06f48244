"""The measurement of the core's coverage sees imports, and what the tests call.

The measurement takes twice the time of all that it watches, pytest's own work and Hypothesis's
included. So it sees nothing of how tests are collected, nothing of what Hypothesis tries, because
chance would decide whether a line counts as tested, and nothing of tests that are marked
``untraced``, which take hundreds of times the same ways.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Generator
from typing import Any

import pytest
import support.profile  # noqa: F401

import sansio_copilot

TRACING = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "untraced: covers no line of the core that others do not")
    config.stash[TRACING] = sys.gettrace()
    if config.stash[TRACING] is not None:
        for module in pkgutil.walk_packages(sansio_copilot.__path__, "sansio_copilot."):
            importlib.import_module(module.name)
    sys.settrace(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if not any(item.iter_markers("hypothesis")) and not any(item.iter_markers("untraced")):
        sys.settrace(item.config.stash[TRACING])
    try:
        return (yield)
    finally:
        sys.settrace(None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # The measurement warns of another trace function in its place when it ends.
    sys.settrace(session.config.stash[TRACING])
