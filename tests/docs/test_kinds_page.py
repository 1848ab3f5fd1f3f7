"""The page of kinds of the documentation."""

import importlib.util
import re
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
