"""A plugin of mypy's, for compiling only: what ``attrs.field`` returns may be anything.

To a type checker it returns what the attribute will hold, and mypyc, which believes that, would
check it when the class is made. (It makes the same exception for ``attr.ib`` by itself.)
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import FunctionContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny


def _anything(context: FunctionContext) -> Type:
    return AnyType(TypeOfAny.special_form)


class _AttrsField(Plugin):
    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return _anything if fullname in ("attr.field", "attrs.field") else None


def plugin(version: str) -> type[Plugin]:
    """The entry point that mypy looks for."""
    return _AttrsField
