"""What a job runs, as one number: the digest of the syntax trees of its script and of everything that it imports here.

Snakemake follows the modification time of a script and nothing that the script imports. Here the script and its import
closure within this package are parsed, and what is left without comments, formatting, docstrings and exports is hashed;
the digest is a param of the rule. A checkout, a touch or a reformatting reruns nothing; a change in a helper reruns its
users, and only them.

What is in the closure:

* The driver that a script calls, name by name: this definition and what it uses in its module. So rules that share a
  module do not share a digest.
* Every module that these import, also inside functions, as a whole, and the ``__init__`` of the packages it is in.
  Classes that a study names (``module:Class``) are loaded dynamically, so they are given as further roots.
* The catalogue (``pullback.study``) name by name. Its registries are not followed, for the kinds in the job say which
  entries matter. The declaration of an option (type, default, description, validator) is left out, because its value
  stands in the text of the job. So a new method reruns nothing, and a changed property of one kind's options reruns the
  jobs of this kind.
* Not the log and the check for optional packages, which change no result, nor other packages: they are the environment.

The trees are written without empty fields, so that the digest is the same under Python 3.11, 3.12 and 3.13.
"""

import ast
import copy
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = "pullback"
SOURCE = Path(__file__).resolve().parents[2]
CATALOGUE = f"{PACKAGE}.study"
NO_RESULT = frozenset({f"{PACKAGE}.joblog", f"{PACKAGE}.extras"})
REGISTRIES = frozenset(
    {
        (f"{CATALOGUE}.problems", "BUILT_IN_PROBLEMS"),
        (f"{CATALOGUE}.methods", "Method"),
        (f"{CATALOGUE}.methods", "Prior"),
        (f"{CATALOGUE}.config", "Problem"),
    }
)
_SAID_ONLY = frozenset({"__all__", "__version__"})
_VALIDATORS = frozenset({"model_validator", "field_validator"})


class Node(NamedTuple):
    """A module of the package, or one definition in it."""

    module: str
    name: str | None = None


def digest(script: Path, roots: Iterable[Node] = (), source: Path = SOURCE) -> str:
    """The digest of a script and of what it runs.

    Args:
        script: a Python file outside the package.
        roots: what else is loaded, by names that are not in the script's imports.
        source: the folder that holds the package.
    """
    tree = _tree(script)
    found = {Node("", script.name): _sha(_canonical(tree))}
    waiting = [*_imports(tree, "", script, source, by_name=True).values(), *roots]
    while waiting:
        node = waiting.pop()
        if node in found or node.module in NO_RESULT or node in REGISTRIES:
            continue
        found[node], uses = _read(node, source)
        waiting += uses
    lines = [f"{node.module}:{node.name or ''} {found[node]}" for node in sorted(found, key=str)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def class_node(target: str) -> Node:
    """The module of a class that is named as ``module:Class``."""
    return Node(target.partition(":")[0])


def file_digest(path: Path) -> str:
    """The digest of a user's own file: of its syntax tree when it is Python, else of its bytes."""
    if path.suffix == ".py":
        return _sha(_canonical(_strip(ast.parse(path.read_text()))))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    if node.name is None:
        tree = _tree(path)
        text, uses = _canonical(tree), list(_imports(tree, node.module, path, source).values())
    else:
        text, uses = _definition(node, path, source)
    parts = node.module.split(".")
    packages = [Node(".".join(parts[:depth])) for depth in range(1, len(parts))]
    return _sha(text), uses + [package for package in packages if not _is_catalogue(package.module)]


def _definition(node: Node, path: Path, source: Path) -> tuple[str, list[Node]]:
    """One name of a module: what defines it, the statements that work on it, and the names these use."""
    tree = _tree(path)
    imports = _imports(tree, node.module, path, source)
    own = {name for statement in tree.body for name in _defines(statement)}
    if node.name not in own:
        return "imported", [imports[node.name]] if node.name in imports else [Node(node.module)]
    texts: list[str] = []
    uses: list[Node] = []
    for statement in tree.body:
        defines = _defines(statement)
        named = {part.id for part in ast.walk(statement) if isinstance(part, ast.Name)}
        is_work = not defines and not isinstance(statement, ast.Import | ast.ImportFrom) and node.name in named
        if node.name not in defines and not is_work:
            continue
        texts.append(_canonical(_without_options(statement) if _is_catalogue(node.module) else statement))
        uses += [imports[name] for name in named & imports.keys()]
        uses += [Node(node.module, name) for name in (named & own) - {node.name}]
        uses += _imports(statement, node.module, path, source).values()
    return "\n".join(texts), sorted(set(uses), key=str)


def _defines(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {statement.name}
        case ast.Assign():
            return {target.id for target in statement.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _without_options(statement: ast.stmt) -> ast.stmt:
    """A class of the catalogue without the declarations and validators of its options."""
    if not isinstance(statement, ast.ClassDef):
        return statement
    body = [part for part in statement.body if not (_is_option(part) or _is_validator(part))]
    kept = copy.copy(statement)
    kept.body = body
    return kept


def _is_option(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.AnnAssign) and "ClassVar" not in ast.unparse(statement.annotation)


def _is_validator(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef) and any(
        isinstance(part, ast.Name) and part.id in _VALIDATORS
        for decorator in statement.decorator_list
        for part in ast.walk(decorator)
    )


def _imports(tree: ast.AST, module: str, path: Path, source: Path, by_name: bool = False) -> dict[str, Node]:
    """What is imported from this package, by the name it gets here; as whole modules unless ``by_name``."""
    found: dict[str, Node] = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name.split(".")[0] == PACKAGE:
                    found[alias.asname or alias.name] = Node(alias.name)
        elif isinstance(statement, ast.ImportFrom):
            origin = _origin(statement, module, path)
            if origin.split(".")[0] != PACKAGE:
                continue
            for alias in statement.names:
                below = f"{origin}.{alias.name}"
                if _file(below, source):
                    node = Node(below)
                elif (by_name or _is_catalogue(origin)) and alias.name != "*":
                    node = Node(origin, alias.name)
                else:
                    node = Node(origin)
                found[alias.asname or (f"{origin}.*" if alias.name == "*" else alias.name)] = node
    return found


def _origin(statement: ast.ImportFrom, module: str, path: Path) -> str:
    """The absolute name of the module of a ``from ... import``."""
    if not statement.level:
        return statement.module or ""
    parts = module.split(".")
    drop = statement.level - (path.name == "__init__.py")
    base = parts[: len(parts) - drop]
    return ".".join([*base, statement.module] if statement.module else base)


@cache
def _tree(path: Path) -> ast.Module:
    return _strip(ast.parse(path.read_text(), str(path)))


def _strip(tree: ast.Module) -> ast.Module:
    """The tree without what changes no result: docstrings, exports, version, imports for type checkers."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, [part for part in block if not _says_nothing(part)])
    return tree


def _says_nothing(statement: ast.AST) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in _SAID_ONLY
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=[]):
            return True
    return False


def _canonical(value: object) -> str:
    """One text for one tree, whatever the layout of the source."""
    if isinstance(value, ast.AST):
        return f"{type(value).__name__}({','.join(_fields(value))})"
    if isinstance(value, list):
        return f"[{','.join(map(_canonical, value))}]"
    return f"{type(value).__name__}:{value!r}"


def _fields(node: ast.AST) -> Iterator[str]:
    for name, value in ast.iter_fields(node):
        # Fields that a Python version added (type parameters, kinds of strings) are empty in code of the oldest one.
        if value is None and not isinstance(node, ast.Constant):
            continue
        if value == [] or name in ("kind", "type_comment", "ctx"):
            continue
        yield f"{name}={_canonical(value)}"
