"""The manifest of what a job runs, on a small package made for it."""

import json
import os
from pathlib import Path

import pytest

from pullback import registry
from pullback.study.provenance import NO_RESULT, closure, file_digest, file_of, forget, manifest

FILES = {
    "pullback/__init__.py": '"""Top."""\n__version__ = "1"\n',
    "pullback/core/__init__.py": "",
    "pullback/core/joblog.py": "LEVEL = 1\n",
    "pullback/registry.py": "KINDS = {}\n",
    "pullback/tools/__init__.py": '"""Tools."""\n',
    "pullback/tools/run.py": (
        "import pullback.registry\n"
        "from typing import TYPE_CHECKING\n"
        "from pullback.tools.helper import add\n"
        "from pullback.tools import other\n\n"
        "if TYPE_CHECKING:\n    from pullback.tools.named import Named\n\n\n"
        "def first(x):\n    return add(x, ONE)\n\n\n"
        "def second(x):\n    from pullback.tools.lazy import slow\n    return slow(other.take(x))\n\n\n"
        "ONE = 1\n"
    ),
    "pullback/tools/helper.py": "def add(a, b):\n    return a + b\n",
    "pullback/tools/other.py": "def take(a):\n    return a\n",
    "pullback/tools/lazy.py": "def slow(a):\n    return a\n",
    "pullback/tools/named.py": "from pullback.tools import other\n\n\nclass Named:\n    pass\n",
    "pullback/pages/__init__.py": "from pullback.pages.make import page\n",
    "pullback/pages/page.html": "<p>",
    "pullback/pages/make.py": "def page():\n    return 1\n",
    "pullback/kinds/__init__.py": "",
    "pullback/kinds/one.py": (
        "from pydantic import BaseModel, Field, model_validator\n\nLIMIT = 3\n\n\n"
        "class Spec(BaseModel):\n"
        "    trains = True\n"
        "    size: int = Field(default=1, description='how large')\n\n"
        "    @property\n    def double(self):\n        return 2 * self.size + LIMIT\n\n"
        "    @model_validator(mode='after')\n    def _check(self):\n        return self\n\n"
        "    def check(self, problem):\n        from pullback.tools import other\n        yield 'a message'\n\n\n"
        "class Params(Parameters):\n    mass: int = Field(default=2)\n\n\n"
        "class Shape(Protocol):\n    def area(self): ...\n\n\n"
        "class File:\n    def check(self):\n        return self.error\n"
    ),
}
REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = "from pullback.core.joblog import LEVEL\nfrom pullback.tools.run import first\n\nfirst(LEVEL)\n"
DATA_RULES = ("simulate", "derive", "collide", "read", "preflight", "index_ensemble")


@pytest.fixture
def source(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def fresh(source: Path, script: str = SCRIPT, roots: tuple[str, ...] = ()) -> str:
    path = source / "script.py"
    path.write_text(script)
    forget()
    return manifest(path, roots, source=source)


def edit(source: Path, name: str, old: str, new: str) -> None:
    path = source / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_imports_are_followed_also_inside_functions_and_not_for_types(source):
    (source / "script.py").write_text(SCRIPT)
    found = closure(source / "script.py", source=source)
    assert found == [f"pullback.tools.{name}" for name in ("helper", "lazy", "other", "run")]


def test_a_name_that_a_package_exports_is_followed_through_its_init(source):
    (source / "script.py").write_text("from pullback.pages.make import page\n")
    assert closure(source / "script.py", source=source) == ["pullback.pages.make"]
    forget()
    (source / "script.py").write_text("from pullback.pages import page\n")
    assert closure(source / "script.py", source=source) == ["pullback.pages", "pullback.pages.make"]


def test_what_a_study_names_is_a_root(source):
    (source / "script.py").write_text("x = 1\n")
    found = closure(source / "script.py", ["pullback.tools.named:Named"], source)
    assert found == ["pullback.tools.named", "pullback.tools.other"]


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("pullback/tools/helper.py", "return a + b", "return (a\n            + b)  # the sum", False),
        ("pullback/tools/helper.py", "    return", '    """Add."""\n    return', False),
        ("pullback/tools/helper.py", "def add", "__all__ = ['add']\n\n\ndef add", False),
        ("pullback/__init__.py", '"1"', "get()", False),
        ("pullback/core/joblog.py", "1", "2", False),
        ("pullback/registry.py", "{}", "{'new': 'pullback.tools.new:New'}", False),
        ("pullback/tools/named.py", "pass", "x = 1", False),
        ("pullback/tools/helper.py", "a + b", "a - b", True),
        ("pullback/tools/helper.py", "(a, b)", "(a, b=1)", True),
        ("pullback/tools/lazy.py", "return a", "return 2 * a", True),
        ("pullback/tools/run.py", "ONE = 1", "ONE = 2", True),
        ("pullback/tools/run.py", "ONE = 1", "ONE = 1.0", True),
    ],
)
def test_what_an_edit_changes(source, name, old, new, changes):
    before = fresh(source)
    edit(source, name, old, new)
    assert (fresh(source) != before) is changes


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("how large", "how big", False),
        ("default=1, ", "default=5, ge=0, ", False),
        ("    size: int", "    other: int = Field(default=1)\n    size: int", False),
        (
            "        return self\n\n    def check",
            "        assert self.size\n        return self\n\n    def check",
            False,
        ),
        ("a message", "another message", False),
        ("def area(self)", "def area(self, unit)", False),
        ("2 * self.size", "3 * self.size", True),
        ("trains = True", "trains = False", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("default=2", "default=3", True),
        ("self.error", "None", True),
    ],
)
def test_options_are_in_the_job_and_behaviour_is_in_the_code(source, old, new, changes):
    before = fresh(source, "x = 1\n", ("pullback.kinds.one:Spec",))
    assert "pullback.tools.other" not in json.loads(before)
    edit(source, "pullback/kinds/one.py", old, new)
    assert (fresh(source, "x = 1\n", ("pullback.kinds.one:Spec",)) != before) is changes


def test_a_new_module_beside_others_changes_nothing(source):
    before = fresh(source)
    (source / "pullback/tools/new.py").write_text("class New:\n    pass\n")
    assert fresh(source) == before


def test_two_manifests_tell_which_module_changed(source):
    before = json.loads(fresh(source))
    assert set(before) == {
        "workflow/scripts/script.py",
        *(f"pullback.tools.{name}" for name in ("helper", "lazy", "other", "run")),
    }
    assert all(len(digest) == 12 for digest in before.values())
    edit(source, "pullback/tools/other.py", "return a", "return 2 * a")
    after = json.loads(fresh(source))
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"pullback.tools.other"}
    assert file_of("pullback.tools.run", source) == source / "pullback/tools/run.py"
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
    script = "from pullback.pages.make import page\n"
    before = fresh(source, script)
    (source / "pullback/pages/page.html").write_text("<b>")
    assert fresh(source, script) != before


def test_a_users_python_file_by_its_tree_and_others_by_bytes(tmp_path):
    python, data = tmp_path / "sim.py", tmp_path / "table.txt"
    python.write_text("x = 1\n")
    data.write_text("1\n")

    def digests() -> tuple[str, str]:
        forget()
        return file_digest(python), file_digest(data)

    before = digests()
    python.write_text("x  =  1  # one\n")
    data.write_text("1 \n")
    after = digests()
    assert after[0] == before[0]
    assert after[1] != before[1]
    python.write_text("x = 2\n")
    assert digests()[0] != before[0]


def test_what_is_left_out_is_there():
    assert all(file_of(module) for module in NO_RESULT)


@pytest.mark.parametrize("script", sorted((REPOSITORY / "workflow/scripts").glob("*.py")), ids=lambda path: path.stem)
def test_no_script_runs_what_its_rule_does_without(script):
    """Data depend on no method, metric or page; jobs on no command, and on no kind but those that they are given."""
    found = closure(script)
    assert found
    rooms = {module.split(".")[1] for module in found}
    assert "cli" not in rooms
    assert not set(found) & {f"pullback.study.{name}" for name in ("config", "job_params", "workflow_inputs", "schema")}
    if script.stem in DATA_RULES:
        assert not rooms & {"methods", "metrics", "report"}
    groups = (kinds for group, kinds in registry.BUILT_IN.items() if group != "metrics")
    assert not {target.partition(":")[0] for kinds in groups for target in kinds.values()} & set(found)
