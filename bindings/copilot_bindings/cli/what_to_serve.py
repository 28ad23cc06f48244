"""The runtime that the command serves: the demo, remote agents, or an imported one."""

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

from sansio_copilot import CopilotRuntime, MemoryStore, ThreadStore, User
from sansio_copilot.agents import Agent
from sansio_copilot.stores import ThreadRecord

from .options import shortened
from .stores import demo_store, store_of

logger = logging.getLogger(__name__)

Sleep: TypeAlias = Callable[[float], Any]
Make: TypeAlias = Callable[[Sleep], CopilotRuntime]
"""Makes the runtime; its argument is the function by which the demo's agent waits."""
_AGENT_ID = re.compile("[A-Za-z0-9_.-]+")
_MOST_CHARACTERS = 240
"""The most characters that a line has of an exception's text."""


class Unusable(Exception):
    """The command cannot be performed as it was given; the message is for the user."""


def what_to_serve(options: argparse.Namespace) -> tuple[Make, str]:
    """The function that makes the runtime, and a line that says where its threads are kept."""
    store = None if options.store is None else store_of(options.store)
    if options.command == "demo":
        kept = ""
        if store is None:
            store, kept = demo_store()
        model = None if options.model is None else _model_agent(options.model)
        return functools.partial(_demo, store=store, model=model), kept
    make = _remote(options.agent) if options.agent else _imported(options.runtime)
    return make if store is None else lambda sleep: make(sleep).with_store(store), ""


def _remote(agents: Sequence[str]) -> Make:
    """The runtime of remote agents, each given by its URL, and an id if it is not the only one."""
    try:
        from ..agents import HttpAgent
    except ModuleNotFoundError as error:
        raise Unusable(str(error)) from None
    remote: dict[str, HttpAgent] = {}
    for given in agents:
        agent_id, equals, url = given.partition("=")
        if not equals or not _AGENT_ID.fullmatch(agent_id):
            agent_id, url = "default", given
        if agent_id in remote:
            raise Unusable(f"two agents have the id {agent_id!r}: give --agent ID=URL")
        try:
            remote[agent_id] = HttpAgent(url)
        except ValueError as error:
            raise Unusable(str(error)) from None
    runtime = CopilotRuntime(remote)
    return lambda sleep: runtime


def _imported(where: str) -> Make:
    runtime = _found(where, "runtime")
    if not isinstance(runtime, CopilotRuntime):
        raise Unusable(f"{where!r} is a {type(runtime).__name__}, expected a CopilotRuntime")
    return lambda sleep: runtime


def owner_function(where: str) -> Callable[[ThreadRecord], str | None]:
    """Import the function that says whose a thread is.

    What it raises, and what is no id of a user, is told as Unusable, which names the thread.
    """
    function = _found(where, "owner_of")
    if not callable(function):
        raise Unusable(f"{where!r} is a {type(function).__name__}, expected a function")

    def owner_of(record: ThreadRecord) -> str | None:
        try:
            owner = function(record)
            return None if owner is None else User(owner).id
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            thread = shortened(record.thread_id)
            raise Unusable(f"{where!r} fails for thread {thread}: {_line_of(error)}") from error

    return owner_of


def _found(where: str, default: str) -> Any:
    """Import the object that ``module:attribute`` names; the attribute may be left out.

    :raises Unusable: if there is no such thing.
    """
    module_name, _, attribute = where.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise Unusable(
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
            raise Unusable(f"{where} is a file, expected a module: {name}") from error
        raise Unusable(f"cannot find {where!r}: {_line_of(error)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Unusable(f"{module_name!r} fails when it is imported: {_line_of(error)}") from error
    try:
        return getattr(module, attribute or default)
    except AttributeError as error:
        raise Unusable(f"cannot find {shortened(where)}: {_line_of(error)}") from error
    except Exception as error:
        # A module may have a __getattr__ of its own (PEP 562).
        raise Unusable(f"{where!r} fails: {_line_of(error)}") from error


def _line_of(error: BaseException) -> str:
    """The error with its file and line, in one line instead of a traceback."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_CHARACTERS]
    found = traceback.extract_tb(error.__traceback__)
    # The frames of the import system are left out, because the mistake is in what is imported.
    own = ("<frozen", importlib.__file__)
    frames = [frame for frame in found if not frame.filename.startswith(own)]
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
        raise Unusable(str(error)) from None


def for_workers(make: Make) -> Make:
    """Return ``make`` for one of several processes."""

    def checked(sleep: Sleep) -> CopilotRuntime:
        runtime = make(sleep)
        if isinstance(runtime.store, MemoryStore):
            raise Unusable(
                "--workers needs a store that processes share: each would have threads of its own "
                "in a MemoryStore; give --store sqlite:PATH, for one"
            )
        return runtime

    return checked
