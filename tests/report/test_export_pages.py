"""The commands and the code of docs/export.md and docs/publishing.md, run from top to bottom on a made-up study."""

import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from pullback.cli import cli

pytest.importorskip("hepdata_lib")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["export.md", "publishing.md"])
def test_the_page_runs(jets, tmp_path, monkeypatch, page):
    shutil.copytree(jets / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    ran = 0
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", (DOCS / page).read_text(), re.S | re.M):
        if language == "python":
            exec(compile(textwrap.dedent(block), page, "exec"), names)
        for line in block.splitlines() if not language else ():
            program, *arguments = shlex.split(line)
            assert program == "pullback"
            done = CliRunner().invoke(cli, arguments)
            assert done.exit_code == 0, done.output
            ran += 1
    assert ran == {"export.md": 9, "publishing.md": 3}[page]
