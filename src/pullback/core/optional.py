"""Optional packages, with a one-line error when one is missing."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional package that this job needs and that is not installed."""


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtraError: with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name and not package.startswith(error.name):
            raise
        raise MissingExtraError(
            f"this step needs the package '{package}', which is not installed here; "
            f"install it with: pip install 'pullback[{extra}]'"
        ) from None
