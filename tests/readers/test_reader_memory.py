"""Two million jets of one ROOT file are read in at most 1 GB, also where one basket holds them all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
pytestmark = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: two million jets")

READ = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from root_files import job
from pullback.problems.read import read
read(job(), [sys.argv[2]], [], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(("kind", "step"), [("TTree", 500_000), ("TTree", 20_000), ("RNTuple", 500_000)])
def test_memory(tmp_path, monkeypatch, kind, step):
    folder = str(Path(__file__).parents[2] / "benchmarks")
    monkeypatch.syspath_prepend(folder)
    import uproot
    from root_files import write

    write(tmp_path / "a.root", kind, uproot.ZLIB(1), 500_000, step)
    done = subprocess.run(
        [sys.executable, "-c", READ, folder, str(tmp_path / "a.root"), str(tmp_path / "a.h5")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kilobytes = int(done.stdout)
    print(f"{kind}, {step} entries in a basket: {kilobytes / 1e3:.0f} MB")
    assert kilobytes < 1e6
