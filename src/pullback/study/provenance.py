"""What a job runs, piece by piece: digests of the syntax trees of its script and of everything that it imports here.

Snakemake follows the modification time of a script and nothing that the script imports. Here the script and its import
closure within this package are parsed, and what is left without comments, formatting, docstrings and exports is hashed;
the list of names and digests is a param of the rule. A checkout, a touch or a reformatting reruns nothing; a change in
a helper reruns its users, and only them; and two recorded lists tell which piece changed.

What is in the closure:

* The driver that a script calls, name by name: this definition and what it uses in its module. So rules that share a
  module do not share a digest.
* Every module that these import, also inside functions, as a whole, and the ``__init__`` of the packages it is in, with
  the other files of such a package (templates). Classes that a study names (``module:Class``) are loaded dynamically,
  so they are given as further roots.
* The catalogue (``pullback.study``) name by name. Its registries are not followed, for the kinds in the job say which
  entries matter. The declaration of an option (type, default, description, validator) is left out, because its value
  stands in the text of the job. So a new method reruns nothing, and a changed property of one kind's options reruns the
  jobs of this kind.
* Not the log, the check for optional packages, nor what starts and stops processes: they change no result. Nor other
  packages: they are the environment.

The trees are written without empty fields, so that the digest is the same under Python 3.11, 3.12 and 3.13.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pullback.study.base import canonical

PACKAGE = "pullback"
SCRIPTS = "workflow/scripts"
# Of a SHA-256 in a manifest: 48 bits tell the few versions of one file apart.
DIGITS = 12
SOURCE = Path(__file__).resolve().parents[2]
CATALOGUE = f"{PACKAGE}.study"
NO_RESULT = frozenset(
    f"{PACKAGE}.{module}"
    for module in (
        "core.joblog",
        "core.optional",
        "core.stopping",
        "diffusion.devices",
        "methods.launch",
        "methods.worker",
    )
)
REGISTRIES = frozenset(
    {
        (f"{CATALOGUE}.config", "Problem"),
    }
)
_SAID_ONLY = frozenset({"__all__", "__version__"})
_VALIDATORS = frozenset({"model_validator", "field_validator"})
# A context follows from where a name stands; the others say how something was written.
_UNSAID_FIELDS = frozenset({"ctx", "kind", "type_comment"})


class Node(NamedTuple):
    """A module of the package, or one definition in it."""

    module: str
    name: str | None = None


class Statement(NamedTuple):
    """A statement at the top of a module: what it defines, what it says, what it uses.

    Attributes:
        defines: names that it gives a meaning to.
        text: its syntax tree.
        names: names that stand in it; where an attribute follows, with it: ``study.Mlp``.
        imports: what it imports from this package, by the name it gets.
    """

    defines: frozenset[str]
    text: str
    names: frozenset[str]
    imports: dict[str, ast.Import | ast.ImportFrom]


@cache
def manifest(
    script: Path,
    roots: tuple[Node, ...] = (),
    own: tuple[tuple[str, str], ...] = (),
    source: Path = SOURCE,
) -> str:
    """What a job runs, as canonical JSON: the script, pieces of the package and the user's files, with their digests.

    A whole module goes by its name, a definition as ``module:name``, a script and a user's file by its path. Jobs that
    run the same code hold the same string.

    Args:
        script: a Python file of the workflow's scripts.
        roots: what else is loaded, by names that are not in the script's imports.
        own: path and digest of the user's own files.
        source: the folder that holds the package.
    """
    found = {f"{SCRIPTS}/{script.name}": _sha(_text(_statements(script, False)))}
    found |= {node_name(node): _read(node, source)[0] for node in closure(script, roots, source)}
    found |= dict(own)
    return canonical({name: digest[:DIGITS] for name, digest in found.items()})


def node_name(node: Node) -> str:
    """The name of a node in a manifest."""
    return f"{node.module}:{node.name}" if node.name else node.module


def file_of(name: str, source: Path = SOURCE) -> Path | None:
    """The file that a piece of a manifest stands in, or None where there is none in the package."""
    return _file(name.partition(":")[0], source)


def closure(script: Path, roots: Iterable[Node] = (), source: Path = SOURCE) -> list[Node]:
    """Everything of the package that a script runs."""
    found: set[Node] = set()
    waiting = [*_targets(_statements(script, False), "", script, source, by_name=True).values(), *roots]
    while waiting:
        node = waiting.pop()
        if node not in found and node.module not in NO_RESULT and node not in REGISTRIES:
            found.add(node)
            waiting += _read(node, source)[1]
    return sorted(found, key=str)


def forget() -> None:
    """Forget what was parsed, for a process that outlives an edit of the code."""
    for cached in (manifest, _file, _read, _statements):
        cached.cache_clear()


def class_node(target: str) -> Node:
    """The module of a class that is named as ``module:Class``."""
    return Node(target.partition(":")[0])


def file_digest(path: Path) -> str:
    """The digest of a user's own file: of its syntax tree when it is Python, else of its bytes."""
    if path.suffix == ".py":
        return _sha(_text(_parse(path.read_bytes(), False)))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(statements: Iterable[Statement]) -> str:
    return "\n".join(statement.text for statement in statements)


def _is_catalogue(module: str) -> bool:
    return module == CATALOGUE or module.startswith(CATALOGUE + ".")


@cache
def _file(module: str, source: Path) -> Path | None:
    base = source.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


@cache
def _read(node: Node, source: Path) -> tuple[str, list[Node]]:
    """The digest of one node, and the nodes that it uses."""
    path = _file(node.module, source)
    if path is None:
        return "absent", []
    statements = _statements(path, _is_catalogue(node.module))
    imports = _targets(statements, node.module, path, source)
    if node.name is None:
        chosen, uses = list(statements), _used(statements, imports)
    else:
        chosen, uses = _definition(node.name, node.module, statements, imports)
        uses += _used(chosen, _targets(chosen, node.module, path, source))
    parts = node.module.split(".")
    packages = [Node(".".join(parts[:depth])) for depth in range(1, len(parts))]
    return _sha(_text(chosen) + _data(path)), uses + [
        package for package in packages if not _is_catalogue(package.module)
    ]


def _data(path: Path) -> str:
    """Templates and tables in the folder of a package, with their digests."""
    if path.name != "__init__.py":
        return ""
    files = [file for file in sorted(path.parent.iterdir()) if file.is_file() and file.suffix not in (".py", ".pyc")]
    return "\n".join(f"{file.name} {file_digest(file)}" for file in files)


def _definition(
    name: str, module: str, statements: Iterable[Statement], imports: dict[str, Node]
) -> tuple[list[Statement], list[Node]]:
    """One name of a module: what defines it, the statements that work on it, and the names these use."""
    own = {defined for statement in statements for defined in statement.defines}
    if name not in own:
        return [], [imports.get(name, Node(module))]
    chosen = [
        statement
        for statement in statements
        if name in statement.defines or (not statement.defines and _mentions(statement, name))
    ]
    names = {used.partition(".")[0] for statement in chosen for used in statement.names} - {name}
    uses = _used(chosen, {used: imports[used] for used in names & imports.keys()})
    return chosen, uses + [Node(module, used) for used in names & own]


def _mentions(statement: Statement, name: str) -> bool:
    return any(used.partition(".")[0] == name for used in statement.names)


def _used(statements: Iterable[Statement], imports: dict[str, Node]) -> list[Node]:
    """What is used of some imports: of a module of the catalogue only the names that are taken from it."""
    names = {name for statement in statements for name in statement.names}
    uses: list[Node] = []
    for name, node in imports.items():
        taken = [used.partition(".")[2] for used in names if used.startswith(f"{name}.")]
        if node.name is None and _is_catalogue(node.module) and taken and name not in names:
            uses += [Node(node.module, attribute) for attribute in taken]
        else:
            uses.append(node)
    return uses


def _targets(
    statements: Iterable[Statement], module: str, path: Path, source: Path, by_name: bool = False
) -> dict[str, Node]:
    """What some statements import from this package, by the name it gets here; as whole modules unless ``by_name``."""
    found: dict[str, Node] = {}
    for statement in statements:
        for name, node in statement.imports.items():
            if isinstance(node, ast.Import):
                if node.names[0].name.split(".")[0] == PACKAGE:
                    found[name] = Node(node.names[0].name)
                continue
            origin = _origin(node, module, path)
            if origin.split(".")[0] != PACKAGE:
                continue
            below = f"{origin}.{node.names[0].name}"
            if _file(below, source):
                found[name] = Node(below)
            elif (by_name or _is_catalogue(origin)) and node.names[0].name != "*":
                found[name] = Node(origin, node.names[0].name)
            else:
                found[name] = Node(origin)
    return found


def _origin(statement: ast.ImportFrom, module: str, path: Path) -> str:
    """The absolute name of the module of a ``from ... import``."""
    if not statement.level:
        return statement.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - statement.level + (path.name == "__init__.py")]
    return ".".join([*base, statement.module] if statement.module else base)


@cache
def _statements(path: Path, is_catalogue: bool) -> tuple[Statement, ...]:
    return _parse(path.read_bytes(), is_catalogue)


def _parse(code: bytes, is_catalogue: bool) -> tuple[Statement, ...]:
    return tuple(
        _statement(statement, is_catalogue) for statement in ast.parse(code).body if not _says_nothing(statement)
    )


def _statement(statement: ast.stmt, is_catalogue: bool) -> Statement:
    names: set[str] = set()
    imports: dict[str, ast.Import | ast.ImportFrom] = {}
    if is_catalogue and isinstance(statement, ast.ClassDef):
        options = [part for part in statement.body if _is_option(part) or _is_validator(part)]
        _write(options, [], names, imports)
        statement.body = [part for part in statement.body if part not in options]
    text: list[str] = []
    _write(statement, text, names, imports)
    return Statement(frozenset(_defines(statement)), "".join(text), frozenset(names), imports)


def _write(value: object, text: list[str], names: set[str], imports: dict[str, ast.Import | ast.ImportFrom]) -> None:
    """Write a tree as one text, whatever the layout of its source, and note its names and imports."""
    if isinstance(value, list):
        text.append("[")
        for item in value:
            if not (isinstance(item, ast.stmt) and _says_nothing(item)):
                _write(item, text, names, imports)
                text.append(",")
        text.append("]")
        return
    if not isinstance(value, ast.AST):
        text.append(f"{type(value).__name__}:{value!r}")
        return
    if isinstance(value, ast.Name):
        names.add(value.id)
        text.append(f"Name({value.id})")
        return
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        names.add(f"{value.value.id}.{value.attr}")
        text.append(f"Name({value.value.id}).{value.attr}")
        return
    if isinstance(value, ast.Import | ast.ImportFrom):
        for alias in value.names:
            name = alias.asname or alias.name
            if isinstance(value, ast.Import):
                imports[name] = ast.Import([alias])
            else:
                imports[name] = ast.ImportFrom(value.module, [alias], value.level)
    text.append(type(value).__name__)
    text.append("(")
    is_constant = isinstance(value, ast.Constant)
    for field in value._fields:
        part = getattr(value, field, None)
        # Empty fields are left out: Python versions differ in which ones there are.
        if field in _UNSAID_FIELDS or part == [] or (part is None and not is_constant):
            continue
        text.append(field + "=")
        _write(part, text, names, imports)
        text.append(",")
    text.append(")")


def _defines(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {statement.name}
        case ast.Assign():
            return {target.id for target in statement.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _is_option(statement: ast.stmt) -> bool:
    """A declaration of an option: a name with a type that is no class variable."""
    return isinstance(statement, ast.AnnAssign) and not any(
        isinstance(part, ast.Name) and part.id == "ClassVar" for part in ast.walk(statement.annotation)
    )


def _is_validator(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef) and any(
        isinstance(part, ast.Name) and part.id in _VALIDATORS
        for decorator in statement.decorator_list
        for part in ast.walk(decorator)
    )


def _says_nothing(statement: ast.AST) -> bool:
    """What changes no result: docstrings, exports, the version, imports for type checkers."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in _SAID_ONLY
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=[]):
            return True
    return False
