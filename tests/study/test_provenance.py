"""The manifest of what a job runs, on a small package made for it."""

import json
import os
from pathlib import Path

import pytest

from pullback.study.provenance import Node, closure, file_digest, file_of, forget, manifest, node_name

FILES = {
    "pullback/__init__.py": '"""Top."""\n__version__ = "1"\n',
    "pullback/joblog.py": "LEVEL = 1\n",
    "pullback/tools/__init__.py": "",
    "pullback/tools/run.py": (
        "from pullback.tools.helper import add\n"
        "from pullback.tools.other import take\n\n\n"
        "def first(x):\n    return add(x, ONE)\n\n\n"
        "def second(x):\n    from .lazy import slow\n    return slow(take(x))\n\n\n"
        "ONE = 1\n"
    ),
    "pullback/tools/helper.py": "def add(a, b):\n    return a + b\n",
    "pullback/tools/other.py": "def take(a):\n    return a\n",
    "pullback/tools/lazy.py": "def slow(a):\n    return a\n",
    "pullback/tools/named.py": "from pullback.tools import other\n\n\nclass Named:\n    pass\n",
    "pullback/pages/__init__.py": "",
    "pullback/pages/page.html": "<p>",
    "pullback/pages/make.py": "def make():\n    return 1\n",
    "pullback/study/__init__.py": "from pullback.study.kinds import A, B\n",
    "pullback/study/kinds.py": (
        "from pydantic import BaseModel, model_validator\n\nLIMIT = 3\n\n\n"
        "class Base(BaseModel):\n    name: str = 'a'\n\n\n"
        "class A(Base):\n    size: int = 1\n\n"
        "    @property\n    def double(self):\n        return 2 * self.size + LIMIT\n\n"
        "    @model_validator(mode='after')\n    def _check(self):\n        return self\n\n\n"
        "class B(Base):\n    size: int = 2\n"
    ),
}
REPOSITORY = Path(__file__).resolve().parents[2]
FIRST = "from pullback.core.joblog import LEVEL\nfrom pullback.tools.run import first\n\nfirst(LEVEL)\n"


@pytest.fixture
def source(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def fresh(source: Path, script: str = FIRST) -> str:
    path = source / "script.py"
    path.write_text(script)
    forget()
    return manifest(path, source=source)


def edit(source: Path, name: str, old: str, new: str) -> None:
    path = source / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def names(nodes: list[Node]) -> set[str]:
    return {node.module.removeprefix("pullback.") + (f":{node.name}" if node.name else "") for node in nodes}


def test_a_driver_is_followed_by_name(source):
    script = source / "script.py"
    script.write_text(FIRST)
    assert names(closure(script, source=source)) == {
        "pullback",
        "tools",
        "tools.run:first",
        "tools.run:ONE",
        "tools.helper",
    }


def test_lazy_and_relative_imports_are_followed(source):
    script = source / "script.py"
    script.write_text("from pullback.tools.run import second\n")
    assert {"tools.lazy", "tools.other"} <= names(closure(script, source=source))
    assert "tools.helper" not in names(closure(script, source=source))


def test_what_a_study_names_is_a_root(source):
    script = source / "script.py"
    script.write_text("x = 1\n")
    found = names(closure(script, [Node("pullback.tools.named")], source))
    assert found == {"pullback", "tools", "tools.named", "tools.other"}


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("pullback/tools/helper.py", "return a + b", "return (a\n            + b)  # the sum", False),
        ("pullback/tools/helper.py", "    return", '    """Add."""\n    return', False),
        ("pullback/__init__.py", '"1"', '"2"', False),
        ("pullback/joblog.py", "1", "2", False),
        ("pullback/tools/other.py", "return a", "return 2 * a", False),
        ("pullback/tools/run.py", "return slow(take(x))", "return None", False),
        ("pullback/tools/helper.py", "a + b", "a - b", True),
        ("pullback/tools/helper.py", "(a, b)", "(a, b=1)", True),
        ("pullback/tools/run.py", "ONE = 1", "ONE = 2", True),
        ("pullback/tools/run.py", "ONE = 1", "ONE = 1.0", True),
        ("pullback/tools/__init__.py", "", "import os\n", True),
    ],
)
def test_what_an_edit_changes(source, name, old, new, changes):
    before = fresh(source)
    edit(source, name, old, new)
    assert (fresh(source) != before) is changes


def test_two_manifests_tell_which_piece_changed(source):
    script = "from pullback.tools.run import second\n"
    before = json.loads(fresh(source, script))
    assert set(before) == {"workflow/scripts/script.py", "pullback", "pullback.tools"} | {
        "pullback.tools.run:second",
        "pullback.tools.lazy",
        "pullback.tools.other",
    }
    assert all(len(digest) == 12 for digest in before.values())
    edit(source, "pullback/tools/other.py", "return a", "return 2 * a")
    after = json.loads(fresh(source, script))
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"pullback.tools.other"}
    assert file_of("pullback.tools.run:second", source) == source / "pullback/tools/run.py"
    assert file_of("workflow/scripts/script.py", source) is None


def test_the_users_files_are_in_the_manifest_and_equal_code_is_one_string(source):
    script = source / "script.py"
    script.write_text("x = 1\n")
    own = (("studies/own.py", "0" * 64),)
    found = manifest(script, own=own, source=source)
    assert json.loads(found)["studies/own.py"] == "0" * 12
    assert manifest(script, own=own, source=source) is found


def test_a_touch_or_another_place_changes_nothing(source, tmp_path_factory):
    before = fresh(source)
    for path in source.rglob("*.py"):
        os.utime(path, (1, 1))
    assert fresh(source) == before
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "src"
    source.rename(elsewhere)
    assert fresh(elsewhere) == before


def test_templates_of_a_package_count(source):
    script = "from pullback.pages.make import make\n"
    before = fresh(source, script)
    (source / "pullback/pages/page.html").write_text("<b>")
    assert fresh(source, script) != before


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("class B(Base)", "class New(Base):\n    other: int = 1\n\n\nclass B(Base)", False),
        ("size: int = 2", "size: int = 3", False),
        ("size: int = 1", "size: int = 5", False),
        ("        return self\n", "        assert self.size\n        return self\n", False),
        ("2 * self.size", "3 * self.size", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("class A(Base):", "class A(Base):\n    limit = 2\n", True),
    ],
)
def test_options_are_in_the_job_and_behaviour_is_in_the_code(source, old, new, changes):
    script = "from pullback.study import A\n"
    by_module = "from pullback.tools.kind import f\n"
    (source / "pullback/tools/kind.py").write_text(
        "from pullback.tools import kinder\n\n\ndef f():\n    return kinder.g()\n"
    )
    (source / "pullback/tools/kinder.py").write_text(
        "from pullback.study import kinds as study\n\n\ndef g():\n    return study.A()\n"
    )
    before = fresh(source, script), fresh(source, by_module)
    edit(source, "pullback/study/kinds.py", old, new)
    assert (fresh(source, script) != before[0]) is changes
    assert (fresh(source, by_module) != before[1]) is changes


def test_a_users_python_file_by_its_tree_and_others_by_bytes(tmp_path):
    python, data = tmp_path / "sim.py", tmp_path / "table.txt"
    python.write_text("x = 1\n")
    data.write_text("1\n")
    before = file_digest(python), file_digest(data)
    python.write_text("x  =  1  # one\n")
    data.write_text("1 \n")
    assert file_digest(python) == before[0]
    assert file_digest(data) != before[1]
    python.write_text("x = 2\n")
    assert file_digest(python) != before[0]


def test_every_script_of_the_workflow_has_a_closure():
    """The real scripts: no simulation depends on a method, on training or on evaluation."""
    scripts = sorted((REPOSITORY / "workflow/scripts").glob("*.py"))
    assert len(scripts) == 15
    for script in scripts:
        found = json.loads(manifest(script))
        assert set(found) == {f"workflow/scripts/{script.name}", *map(node_name, closure(script))}
        found = {node.module for node in closure(script)}
        assert len(found) > 3, script
        if script.stem in ("simulate", "derive", "collide", "read", "preflight", "index_ensemble"):
            wrong = [m for m in found if m.startswith(("pullback.methods", "pullback.metrics", "pullback.report"))]
            assert wrong == [], script
            assert "pullback.study.methods" not in found
            assert "pullback.study.config" not in found
