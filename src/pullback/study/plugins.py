"""Loading classes that a study names: `file.py:Class` beside the study, an installed entry point, or `module:Class`."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pullback.readers.base import CustomFiles, ReaderSpec
from pullback.study.families import READERS, Family
from pullback.study.problems import PROBLEM_PLUGINS

READER_PLUGINS = "pullback.readers"
"""Entry-point group in which an installed package offers a format of outside files."""


def load_class(target: str) -> Any:
    """The class of the package at ``module:Class``; the module is imported now, so that heavy parts stay lazy."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def plugin_file(kind: str, folder: Path) -> Path | None:
    """The file of a class given by path, or None where the kind is an entry point."""
    file, separator, _ = kind.rpartition(":")
    return (folder / file).resolve() if separator and file.endswith(".py") else None


def plugin_class(group: str, kind: str, folder: Path) -> Any:
    """The user's class for a kind: `file.py:Class`, or the name of an entry point of a group.

    Raises:
        ImportError, OSError, AttributeError, SyntaxError: the file, entry point or class is not there or not loadable.
    """
    file = plugin_file(kind, folder)
    if file is None:
        matches = [entry for entry in entry_points(group=group) if entry.name == kind]
        if not matches:
            raise ImportError(f"no built-in kind, no file and no entry point of group {group} has this name")
        return matches[0].load()
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
    return getattr(module, kind.rpartition(":")[2])


def problem_class(kind: str, folder: Path) -> Any:
    """The user's class for a problem kind.

    Raises:
        ImportError, OSError, AttributeError, SyntaxError: it is not there or not loadable.
    """
    found = plugin_class(PROBLEM_PLUGINS, kind, folder)
    if not hasattr(found, "gives"):
        raise AttributeError("the class lacks `gives`")
    return found


def reader_class(kind: str, folder: Path | str = ".") -> type[ReaderSpec]:
    """The class of a reader's kind, built in or the user's own.

    Raises:
        ImportError, OSError, AttributeError, SyntaxError, TypeError: the user's class is not there or not loadable.
    """
    built_in = READERS.get(kind)
    found = load_class(built_in) if built_in else plugin_class(READER_PLUGINS, kind, Path(folder))
    if not (isinstance(found, type) and issubclass(found, ReaderSpec)):
        raise TypeError("wanted a class made from pullback.readers.base.ReaderSpec")
    return found


def reader_of(block: Mapping[str, Any], folder: Path | str = ".") -> ReaderSpec:
    """The reader that a family's block ``read`` asks for; raises as `reader_class`, and a pydantic.ValidationError."""
    return reader_class(block["kind"], folder).model_validate(block)


def with_reader(family: Family, folder: Path | str = ".") -> Family:
    """A family whose block ``read`` is its reader, also where that is the user's own; raises as `reader_of`."""
    if not isinstance(family.read, CustomFiles):
        return family
    return family.model_copy(update={"read": reader_of(family.read.model_dump(mode="json"), folder)})
