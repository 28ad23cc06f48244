"""The error of a binding whose packages are not installed."""

from __future__ import annotations

_OURS = ("copilot_bindings", "sansio_copilot")


def missing_extra(
    extra: str, error: ModuleNotFoundError, module: str | None = None
) -> ModuleNotFoundError:
    """Make the error to raise instead of ``error``; its message names the extra to install.

    :param extra: the extra of this distribution whose packages the binding imports.
    :param error: the error of the import.
    :param module: the module that cannot be imported; if None, the package of bindings with the
        name of the extra.
    :returns: the new error; ``error`` itself, if a module of this distribution is missing.
    """
    package = (error.name or "").partition(".")[0]
    if not package or package in _OURS:
        return error
    module = module or f"copilot_bindings.{extra}"
    return ModuleNotFoundError(
        f"{module} needs {package}: pip install 'sansio-copilot[{extra}]'",
        name=package,
        path=error.path,
    )
