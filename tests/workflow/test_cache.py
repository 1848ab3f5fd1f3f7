"""Shards from a cache that studies share, with real simulations."""

import hashlib
import shutil

import pytest
from dag import STUDIES, copy_repository, snakemake

pytestmark = pytest.mark.xdist_group("cache")


def shards(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("results/tiny/ensembles/line/*/*/shard-*.h5"))
    }


def test_the_cache_holds_each_shard_and_the_code_that_made_it(tmp_path):
    code = copy_repository(tmp_path / "code")
    store = tmp_path / "store"
    store.mkdir()

    def run(name):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(STUDIES / "tiny.yaml", folder)
        done = snakemake(
            "--cache",
            "--configfile",
            "tiny.yaml",
            "--",
            "ensembles",
            folder=folder,
            repository=code,
            SNAKEMAKE_OUTPUT_CACHE=str(store),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        logs = (folder / "results/tiny/logs/ensembles/line").rglob("shard-*.log")
        return shards(folder), sum(log.stat().st_size > 0 for log in logs)

    first, simulated = run("first")
    assert len(first) == 5
    assert len(set(first.values())) == 5, "two shards got one content"
    assert simulated == 5

    again, simulated = run("again")
    assert again == first
    assert simulated == 0, "everything comes from the cache"

    helper = code / "src/pullback/problems/gaussian.py"
    helper.write_text(helper.read_text() + "\n\nCHANGED = 1\n")
    changed, simulated = run("changed")
    assert simulated == 5, "a changed helper is another simulation"
    assert len(list(store.iterdir())) == 10
    assert changed.keys() == first.keys()
