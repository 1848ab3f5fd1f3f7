"""Loading classes that a study names: `file.py:Class` beside the study, an installed entry point, or `module:Class`."""

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pullback.study.problems import PROBLEM_PLUGINS


def load_class(target: str) -> Any:
    """The class of the package at ``module:Class``; the module is imported now, so that heavy parts stay lazy."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def plugin_file(kind: str, folder: Path) -> Path | None:
    """The file of a class given by path, or None where the kind is an entry point."""
    file, separator, _ = kind.rpartition(":")
    return (folder / file).resolve() if separator and file.endswith(".py") else None


def problem_class(kind: str, folder: Path) -> Any:
    """The user's class for a problem kind.

    Raises:
        ImportError, OSError, AttributeError, SyntaxError: the file, entry point or class is not there or not loadable.
    """
    file = plugin_file(kind, folder)
    if file is None:
        matches = [entry for entry in entry_points(group=PROBLEM_PLUGINS) if entry.name == kind]
        if not matches:
            raise ImportError(f"no built-in kind, no file and no entry point of group {PROBLEM_PLUGINS} has this name")
        found = matches[0].load()
    else:
        if not file.exists():
            raise FileNotFoundError(f"there is no file {file.name} in the folder of the study")
        name = f"pullback_user_{file.stem}_{abs(hash(str(file)))}"
        module = sys.modules.get(name)
        if module is None:
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        found = getattr(module, kind.rpartition(":")[2])
    if not hasattr(found, "gives"):
        raise AttributeError("the class lacks `gives`")
    return found
