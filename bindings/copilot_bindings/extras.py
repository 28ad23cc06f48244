"""The error of a binding whose packages are not installed."""

from __future__ import annotations

_OURS = ("copilot_bindings", "sansio_copilot")


def missing_extra(extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """Make the error to raise instead of ``error``; its message names the extra to install.

    :param extra: the extra of this distribution whose packages the binding imports.
    :param error: the error of the import.
    :returns: the new error; ``error`` itself, if a module of this distribution is missing.
    """
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return error
    return ModuleNotFoundError(
        f"copilot_bindings.{extra} needs {package}: pip install 'sansio-copilot[{extra}]'",
        name=package,
        path=error.path,
    )
