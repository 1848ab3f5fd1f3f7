"""The page of kinds of the documentation."""

import importlib.util
import re
from itertools import takewhile
from pathlib import Path

import pytest

from pullback import registry

PAGE = Path(__file__).parents[2] / "docs" / "kinds.py"


@pytest.fixture(scope="module")
def text():
    spec = importlib.util.spec_from_file_location("kinds_page", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


@pytest.mark.parametrize("group", registry.BUILT_IN)
def test_every_kind_has_one_row_that_says_what_it_is(text, group):
    section = text.partition(f"\n## {group.capitalize()}\n")[2].partition("\n## ")[0]
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(registry.kinds(group))
    assert all(row[1] for row in rows)


def test_what_a_method_needs_and_returns(text):
    assert "| asymptotic | exact-posterior or likelihood |" in text
    assert "| approximate | forward, a diffusion prior |" in text


def manual(heads):
    """Rows of the manual's table with these heads: cells as text, by kind."""
    lines = (PAGE.parents[1] / "config/README.md").read_text().splitlines()
    first = lines.index(heads) + 2
    rows = {}
    for line in takewhile(lambda line: line.startswith("|"), lines[first:]):
        kinds, *cells = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        rows |= {kind.strip("` "): cells for kind in kinds.split(",")}
    return rows


def test_the_manual_has_a_row_for_every_built_in_method_with_its_label():
    rows = manual("| kind | what | needs | returns |")
    assert rows.keys() == registry.BUILT_IN["methods"].keys()
    for name, cells in rows.items():
        assert registry.load("methods", name).returns in cells[-1], name


def test_the_manual_has_a_row_for_every_built_in_problem():
    assert manual("| kind | `params` |").keys() - {"own class"} == registry.BUILT_IN["problems"].keys()
