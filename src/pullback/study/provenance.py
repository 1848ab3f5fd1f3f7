"""What code a job runs: a digest for its script and for each module of the package that the script imports.

Snakemake follows the modification time of a script and nothing that the script imports. Here the script and its import
closure within this package are parsed, and the syntax trees are hashed; the list of modules and digests is a param of
the rule. A checkout, a touch or a reformatting reruns nothing; a change in a module reruns the jobs that import it;
and two recorded lists tell which module changed.

A module is followed as a whole, also where a function imports it. Classes that a study names are loaded by the registry
and not imported, so they are given as further roots. These are no part of the list:

* Text that no result depends on: comments, docstrings, exports, imports for type checkers, protocols, and in classes
  of settings the options that ``Field(...)`` declares and their validation, because the value of every option stands in
  the text of the job. Parameters of a family stand there as the study gives them, without defaults: those classes
  count in full.
* Modules that change no result (`NO_RESULT`): the log, what starts and stops processes, where files stand, and the
  registry with the frame of kinds, which look up by name what is itself a root. So a new kind reruns no job.
* The ``__init__`` of a package that a module is in, unless it is imported from: here these only document and re-export.
* Other packages: they are the environment.

The trees are written without empty fields, so that the digest is the same under Python 3.11, 3.12 and 3.13.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pullback.study.base import canonical

PACKAGE = "pullback"
SCRIPTS = "workflow/scripts"
# Of a SHA-256 in a manifest: 48 bits tell the few versions of one file apart.
DIGITS = 12
SOURCE = Path(__file__).resolve().parents[2]
NO_RESULT = frozenset(
    f"{PACKAGE}.{module}"
    for module in (
        "core.joblog",
        "core.optional",
        "core.stopping",
        "diffusion.devices",
        "methods.launch",
        "methods.worker",
        "registry",
        "study.kinds",
        "study.paths",
        "study.problem_kind",
        "study.reader_spec",
    )
)
_EXPORTS = frozenset({"__all__", "__version__"})
_VALIDATORS = frozenset({"model_validator", "field_validator"})
# A context follows from where a name stands; the others say how something was written.
_LAYOUT_FIELDS = frozenset({"ctx", "kind", "type_comment"})
_BLOCKS = frozenset({"body", "orelse", "finalbody"})


@cache
def manifest(
    script: Path, roots: tuple[str, ...] = (), own: tuple[tuple[str, str], ...] = (), source: Path = SOURCE
) -> str:
    """What a job runs, as canonical JSON: the script, modules of the package and the user's files -> their digests.

    Jobs that run the same code hold the same string.

    Args:
        script: a Python file of the workflow's scripts.
        roots: modules that are loaded by name, as ``module`` or ``module:Class``.
        own: path and digest of the user's own files.
        source: the folder that holds the package.
    """
    found = {f"{SCRIPTS}/{script.name}": file_digest(script)}
    for module in closure(script, roots, source):
        path = file_of(module, source)
        found[module] = _sha(_read(path)[0] + _data(path.parent)) if path else "absent"
    return canonical({name: digest[:DIGITS] for name, digest in (found | dict(own)).items()})


def closure(script: Path, roots: Iterable[str] = (), source: Path = SOURCE) -> list[str]:
    """Every module of the package that a script runs, sorted by name."""
    found: set[str] = set()
    waiting = [*_modules(_read(script)[1], source), *(root.partition(":")[0] for root in roots)]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in NO_RESULT:
            found.add(module)
            if path := file_of(module, source):
                waiting += _modules(_read(path)[1], source)
    return sorted(found)


@cache
def file_of(module: str, source: Path = SOURCE) -> Path | None:
    """The file of a module of the package, or None where there is none."""
    base = source.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def file_digest(path: Path) -> str:
    """The digest of a file: of its syntax tree when it is Python, else of its bytes."""
    return _sha(_read(path)[0]) if path.suffix == ".py" else hashlib.sha256(path.read_bytes()).hexdigest()


def forget() -> None:
    """Forget what was parsed, for a process that outlives an edit of the code."""
    for cached in (manifest, file_of, _read, _data):
        cached.cache_clear()


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _data(folder: Path) -> str:
    """Templates and tables beside the modules of a package, with their digests."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc"))
    return "".join(f"{file.name} {file_digest(file)}" for file in files)


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """The syntax tree of a file as one text, and the names that it imports, as ``package.module.name``."""
    return parsed(path.read_bytes())


@cache
def parsed(source: bytes) -> tuple[str, tuple[str, ...]]:
    """The same of a file's content: a process that outlives an edit parses only what was edited."""
    text: list[str] = []
    names: list[str] = []
    _write(ast.parse(source), text, names)
    return "".join(text), tuple(names)


def _modules(names: Iterable[str], source: Path) -> list[str]:
    """The modules of the package among imported names; of a name in a module, the module."""
    ours = [name for name in names if name.partition(".")[0] == PACKAGE]
    return [name if file_of(name, source) else name.rpartition(".")[0] for name in ours]


def _write(node: ast.AST, text: list[str], names: list[str]) -> None:
    """Append a tree as text, whatever the layout of its source, and the names that it imports."""
    kind: Any = type(node)
    if isinstance(node, ast.Import):
        names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names += [f"{node.module}.{alias.name}" for alias in node.names]
    text.append(f"{kind.__name__}(")
    for field, opening in _fields(kind):
        part = getattr(node, field, None)
        # Empty fields are left out: Python versions differ in which ones there are.
        if isinstance(part, list):
            if field in _BLOCKS:
                in_settings = _is_settings(node)
                part = [statement for statement in part if not _changes_nothing(statement, in_settings)]
            if not part:
                continue
            text.append(opening)
            for item in part:
                _write_value(item, text, names)
                text.append(",")
            text.append("]")
        elif part is not None or kind is ast.Constant:
            text.append(opening)
            _write_value(part, text, names)
            text.append("]")
    text.append(")")


def _write_value(value: object, text: list[str], names: list[str]) -> None:
    if isinstance(value, ast.AST):
        _write(value, text, names)
    else:
        text.append(f"{type(value).__name__}:{value!r}")


@cache
def _fields(kind: type[ast.AST]) -> tuple[tuple[str, str], ...]:
    """The fields of a kind of node that count, each with what its text begins with."""
    return tuple((field, f"{field}=[") for field in kind._fields if field not in _LAYOUT_FIELDS)


def _is_settings(node: ast.AST) -> bool:
    """Whether a node is a class whose options stand in the text of a job."""
    return isinstance(node, ast.ClassDef) and not any(
        isinstance(base, ast.Name) and base.id == "Parameters" for base in node.bases
    )


def _changes_nothing(statement: ast.stmt, in_settings: bool) -> bool:
    """Whether no result depends on a statement: documentation, exports, imports for types, options and their checks."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in _EXPORTS
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=[]):
            return True
        case ast.AnnAssign(value=ast.Call(func=ast.Name(id="Field"))):
            return in_settings
        case ast.ClassDef(bases=[ast.Name(id="Protocol")]):
            return True
        case ast.FunctionDef(name="check", args=ast.arguments(args=[*_, ast.arg(arg="problem")])):
            return in_settings
        case ast.FunctionDef(decorator_list=decorators):
            names = {part.id for decorator in decorators for part in ast.walk(decorator) if isinstance(part, ast.Name)}
            return in_settings and not names.isdisjoint(_VALIDATORS)
    return False
