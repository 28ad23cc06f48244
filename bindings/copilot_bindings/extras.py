"""What a binding says when the packages of its extra are not installed."""

from __future__ import annotations

_OURS = ("copilot_bindings", "sansio_copilot")


def missing_extra(extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error to raise instead of ``error``, which names what to install.

    :param extra: of this distribution, whose packages the binding imports.
    :returns: ``error`` itself, if it is a module of this distribution that is missing.
    """
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return error
    return ModuleNotFoundError(
        f"copilot_bindings.{extra} needs {package}: pip install 'sansio-copilot[{extra}]'",
        name=package,
        path=error.path,
    )
