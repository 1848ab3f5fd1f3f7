"""The layers of docs/architecture.md, read from the syntax trees: who imports whom, and who knows which kind."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pullback import registry

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src"
LAYERS = (
    ("registry",),
    ("core",),
    ("study",),
    ("simulators",),
    ("ensembles",),
    ("readers",),
    ("networks",),
    ("diffusion",),
    ("problems",),
    ("methods",),
    ("metrics",),
    ("report",),
    ("waves", "api"),
    ("cli",),
    ("__main__",),
)
"""From the ground up. A package imports from those before it and from itself."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

GENERIC = ("pullback.study", "pullback.cli", "pullback.report", "pullback.metrics.evaluate")
"""What works for every kind and knows none."""


def _modules() -> dict[str, Path]:
    paths = sorted((SOURCE / "pullback").rglob("*.py"))
    names = (".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return dict(zip(names, paths, strict=True))


MODULES = _modules()
KINDS = {
    kind: target.partition(":")[0]
    for group, kinds in registry.BUILT_IN.items()
    for kind, target in kinds.items()
    if group != "metrics"
}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def _nodes(node: ast.AST, in_functions: bool) -> Iterator[ast.AST]:
    """The nodes below a node, without what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if in_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _nodes(child, in_functions)


def imports(path: Path, in_functions: bool = True) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()
    for node in _nodes(_tree(path), in_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import, which the digests of code do not follow"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in below}
    return found & MODULES.keys()


def _level(module: str) -> int | None:
    return LEVEL[module.split(".")[1]] if "." in module else None


def _is_generic(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in GENERIC)


def test_imports_go_down():
    up = {
        (module, other)
        for module, path in MODULES.items()
        for other in imports(path)
        if (here := _level(module)) is not None and (there := _level(other)) is not None and there > here
    }
    assert not up


def test_no_circle_of_imports():
    """Of imports at the top of modules; the package itself only gathers what is offered by name."""
    graph = {module: imports(path, in_functions=False) - {module, "pullback"} for module, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())


def test_generic_packages_import_no_kind():
    kinds = set(KINDS.values())
    known = {(module, other) for module in MODULES if _is_generic(module) for other in imports(MODULES[module]) & kinds}
    assert not known


def compared(tree: ast.AST) -> set[str]:
    """The texts that a file compares with, also as members of a tuple or set, and in `match`."""
    found = set()
    for node in ast.walk(tree):
        parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if isinstance(node, ast.MatchValue):
            parts = [node.value]
        for part in parts:
            values = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            found |= {
                value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return found


def test_generic_packages_compare_no_name_of_a_kind():
    found = {
        (module, kind)
        for module, path in MODULES.items()
        if _is_generic(module)
        for kind in compared(_tree(path)) & KINDS.keys()
    }
    assert found == set()


def test_what_is_found_as_a_comparison():
    code = "a == 'x'\n'y' in b\nc not in ('z', 1)\nmatch d:\n    case 'v' | 'w':\n        e = 'no'\n"
    assert compared(ast.parse(code)) == {"x", "y", "z", "v", "w"}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "workflow/scripts").glob("*.py")), ids=lambda path: path.name)
def test_scripts_import_no_kind(path):
    assert not imports(path) & set(KINDS.values())


@pytest.mark.parametrize(
    "path", [REPOSITORY / "workflow/Snakefile", *sorted((REPOSITORY / "workflow").rglob("*.smk"))], ids=lambda p: p.name
)
def test_rules_name_no_kind(path):
    text = path.read_text()
    assert [kind for kind in KINDS if f'"{kind}"' in text or f"'{kind}'" in text] == []
