"""Simulations from a cache that studies and users share, made for real."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from dag import REPOSITORY, STUDIES, copy_repository, snakemake

from pullback.ensembles.store import EnsembleReader

pytestmark = pytest.mark.xdist_group("cache")

JETS = """
  jets:
    kind: unfolding
    simulator: {multi_parton_interactions: false}
    size: {train: 20, validation: 20, test: 20, reference: 20}
    families:
      zjets: {role: seen, params: {process: zjets, pt_hat_min: 40}}
    methods:
      random: {kind: random-truth}
"""


def contents(folder: Path) -> dict[str, str]:
    """What each shard says that it holds."""
    found = {}
    for path in sorted(folder.glob("results/*/ensembles/line/*/*/shard-*.h5")):
        with EnsembleReader(path) as reader:
            found["/".join(path.parts[-3:])] = reader.digest
    return found


def made(folder: Path) -> set[str]:
    """The simulations and collisions that ran here: a job whose output came from the cache has an empty log."""
    logs = [*folder.glob("results/*/logs/ensembles/*/*/*/*.log")]
    return {"/".join(log.parts[-3:]) for log in logs if log.stat().st_size and log.stem[:5] in ("shard", "colli")}


def run(folder: Path, study: str, store: Path, text: str = "", repository: Path = REPOSITORY):
    """Make the ensembles of a study in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / study).write_text(text or (STUDIES / "tiny.yaml").read_text())
    arguments = ("--cache", "--configfile", study, "--", "ensembles")
    return snakemake(*arguments, folder=folder, repository=repository, SNAKEMAKE_OUTPUT_CACHE=str(store))


def test_the_cache_holds_each_shard_and_the_code_that_made_it(tmp_path):
    """Another study simulates only what is new in it; changed code is another simulation."""
    code = copy_repository(tmp_path / "code")
    store = tmp_path / "store"
    store.mkdir()
    tiny = (STUDIES / "tiny.yaml").read_text()
    done = run(tmp_path / "first", "tiny.yaml", store, repository=code)
    assert done.returncode == 0, done.stdout + done.stderr
    first = contents(tmp_path / "first")
    assert len(first) == len(made(tmp_path / "first")) == 5
    assert len(set(first.values())) == 5, "two shards got one content"

    # Another name, another method, one more family; the simulator, the seed and the names of the rest are the same.
    other = tiny.replace("study: tiny", "study: other").replace("{kind: random-truth}", "{kind: oracle}")
    other = other.replace("    methods:", "      minus: {role: unseen, params: {gamma: -0.5}}\n    methods:")
    done = run(tmp_path / "second", "other.yaml", store, other, code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert made(tmp_path / "second") == {"minus/test/shard-000.log", "minus/reference/shard-000.log"}
    second = contents(tmp_path / "second")
    assert {name: second[name] for name in first} == first

    helper = code / "src/pullback/problems/gaussian.py"
    helper.write_text(helper.read_text() + "\n\nCHANGED = 1\n")
    done = run(tmp_path / "changed", "tiny.yaml", store, repository=code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(made(tmp_path / "changed")) == 5


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as shards of simulations")
def test_collisions_come_from_the_cache_too(tmp_path):
    pytest.importorskip("pythia8mc")
    store = tmp_path / "store"
    store.mkdir()
    for name in ("first", "second"):
        text = f"config_version: 2\nstudy: {name}\nproblems:{JETS}"
        done = run(tmp_path / name, f"{name}.yaml", store, text)
        assert done.returncode == 0, done.stdout + done.stderr
    collisions = {f"zjets/{split}/collisions-000.log" for split in ("train", "validation", "test", "reference")}
    assert made(tmp_path / "first") & collisions == collisions
    assert made(tmp_path / "second") & collisions == set()


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as damaged files")
def test_a_damaged_shard_in_the_cache_is_named_and_made_anew(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    assert run(tmp_path / "first", "tiny.yaml", store).returncode == 0
    before = contents(tmp_path / "first")
    shard = tmp_path / "first/results/tiny/ensembles/line/plus/train/shard-001.h5"
    cached = shard.resolve()
    assert cached.parent == store.resolve()
    cached.write_bytes(cached.read_bytes()[:1000])
    refused = run(tmp_path / "second", "tiny.yaml", store)
    assert refused.returncode != 0
    link = "results/tiny/ensembles/line/plus/train/shard-001.h5"
    assert f"to have it made anew: rm {link} {cached}, and run again" in refused.stderr
    (tmp_path / "second" / link).unlink()
    cached.unlink()
    done = run(tmp_path / "second", "tiny.yaml", store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "second") == before


def another_user() -> list[str]:
    """What makes a command run as nobody; nothing where that cannot be: not root, or a Python for root alone."""
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return []
    # Through a shell, as Snakemake starts its jobs.
    asks = [*prefix, "bash", "-c", f"{sys.executable} -c 'import snakemake, pullback'"]
    path = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return prefix if subprocess.run(asks, env=path, capture_output=True, check=False).returncode == 0 else []


def test_two_runs_share_a_cache_at_the_same_time():
    """Both make and take the same shards at once: as two users, where this machine lets us be two."""
    # A folder of pytest's own is closed to other users.
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        share(Path(shared), another_user())


def share(tmp_path: Path, nobody: list[str]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    if nobody:
        os.chown(store, 0, 65534)
    store.chmod(0o2770)
    runs = []
    for name, prefix in (("root", []), ("nobody", nobody)):
        folder = tmp_path / name
        (folder / "home").mkdir(parents=True)
        shutil.copy(STUDIES / "tiny.yaml", folder)
        if prefix:
            for path in (folder, folder / "home"):
                os.chown(path, 65534, 65534)
        command = [*prefix, sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--cores", "1"]
        command += ["--workflow-profile", str(REPOSITORY / "profiles/default")]
        command += ["--cache", "--configfile", "tiny.yaml", "--", "ensembles"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "home"),
            "SNAKEMAKE_OUTPUT_CACHE": str(store),
        }
        pipe = subprocess.PIPE
        runs.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True))
    said = [process.communicate(timeout=300) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], "".join(said[0] + said[1])
    mine, theirs = contents(tmp_path / "root"), contents(tmp_path / "nobody")
    assert mine == theirs
    assert len(mine) == 5
    files = list(store.iterdir())
    assert len(files) == 5, "one file for each shard, and nothing half made"
    for file in files:
        with EnsembleReader(file) as reader:
            assert reader.digest in mine.values()
