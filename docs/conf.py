"""Settings of the documentation site: `make docs` builds it into docs/_build/html."""

import itertools
import pkgutil
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import kinds

import metrics
import pullback

project = "pullback"
author = "The pullback authors"
copyright = author
version = release = version_of("pullback")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]
# ref.python: two classes of different modules may have the same name, and a docstring says it unqualified.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "pullback"
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2, "navbar_align": "left"}
html_show_sourcelink = False


LITERAL = re.compile(r"(``.+?``|`[^`]+`)")
BULLET = re.compile(r" *\* ")
MARKUP = re.compile(r"([*|\\])|(?<=\w)(_)(?!\w)")


def plain(line: str) -> str:
    """A line of a docstring as reStructuredText: `code` is a literal, a star begins an item, nothing else is markup."""
    bullet = BULLET.match(line)
    if bullet:
        return bullet[0] + plain(line[bullet.end() :])
    parts = LITERAL.split(line)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"``{part.strip('`')}``"
        else:
            parts[i] = MARKUP.sub(r"\\\g<0>", part)
    return "".join(parts)


def list_table(rows: list[str]) -> list[str]:
    """A Markdown table of a docstring as reStructuredText."""
    indent = " " * (len(rows[0]) - len(rows[0].lstrip()))
    found = ["", f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
    for row in (rows[0], *rows[2:]):
        cells = [plain(cell.strip()) for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]
        found += [f"{indent}   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(cells)]
    return [*found, ""]


def escape(app: Any, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with Google sections and Markdown tables: formulas and shapes in them are no markup."""
    found: list[str] = []
    for is_row, group in itertools.groupby(lines, lambda line: line.lstrip().startswith("| ")):
        block = list(group)
        is_table = is_row and len(block) > 2 and set(block[1]) <= set("| -")
        found += list_table(block) if is_table else [plain(line) for line in block]
    lines[:] = found


def separate(app: Any, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Lines that are indented after a paragraph are a block of their own, as formulas are."""

    def indent(text: str) -> int:
        return len(text) - len(text.lstrip())

    found: list[str] = []
    block: int | None = None
    for line in lines:
        before, two_before = ["", "", *found][-1], ["", "", *found][-2]
        adjacent = bool(before.strip() and line.strip())
        if adjacent and block is not None and indent(line) <= block:
            found.append("")
        # A single line before deeper ones is the term of a definition; a field or an item goes on by indentation.
        paragraph = two_before.strip() and indent(two_before) == indent(before)
        if (
            adjacent
            and paragraph
            and indent(line) > indent(before)
            and not before.lstrip().startswith((":", "*", "-", ".."))
        ):
            block = indent(before)
            found.append("")
        elif line.strip() and block is not None and indent(line) <= block:
            block = None
        found.append(line)
    lines[:] = found


def modules() -> str:
    """The page that lists every module of the package; autosummary makes a page of each."""
    names = [f"   pullback.{found.name}" for found in pkgutil.iter_modules(pullback.__path__) if found.name[0] != "_"]
    title = "Python modules"
    return "\n".join(
        [title, "=" * len(title), "", ".. autosummary::", "   :toctree: generated", "   :recursive:", "", *names]
    )


def setup(app: Any) -> None:
    """Write the pages that follow from the code; treat docstrings before and after napoleon, whose priority is 500."""
    (HERE / "reference" / "kinds.md").write_text(kinds.page())
    (HERE / "reference" / "metrics.md").write_text(metrics.page(HERE / "reference" / "metrics"))
    (HERE / "reference" / "api.rst").write_text(modules() + "\n")
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-process-docstring", separate, priority=600)
