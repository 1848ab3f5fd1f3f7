"""What a full disk, a kill, a damaged file, a read-only folder and a lock do to real runs, and what heals them.

docs/faults.md says to users what is tested here.
"""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
from dag import REPOSITORY, STUDIES, _arguments, _environment, ask, snakemake

pytestmark = pytest.mark.xdist_group("faults")

HELD = str(Path(__file__).parent / "held")
LINE = Path("results/faults/ensembles/line")
PLUS = LINE / "plus"
MODEL = Path("results/faults/models/line/cfm/seed-0.pt")
# All events of so small a family are one piece of work, which is the last part.
PART = Path("results/faults/posteriors/line/cfm/two/seed-0/plus/part-001.h5")
METRICS = Path("results/faults/metrics/line/cfm.csv")
PAGE = Path("results/faults/report/index.html")
TABLES = [PAGE.with_name(f"{name}.csv") for name in ("metrics", "seeds", "figures")]


def run(folder, *targets, options=(), study="faults.yaml", **environment):
    """Snakemake's exit status and all its words; a traceback among them is a failure whatever happened."""
    ran = snakemake(*options, "--configfile", study, "--", *targets, folder=folder, **environment)
    words = ran.stdout + ran.stderr
    assert "Traceback" not in words, words
    return ran.returncode, words


def line(words, name):
    """The one line in which pullback says what is wrong with a file; nothing else stands in it."""
    said = [text for text in words.splitlines() if text.startswith("pullback: ")]
    assert len(said) == 1, words
    assert str(name) in said[0], words
    return said[0]


def remove(folder, *paths):
    for path in paths:
        (folder / path).unlink()


def leftovers(folder):
    return list((folder / "results").rglob(".*.tmp"))


def content(folder):
    """Digests of everything that a study is about: events, models, draws, metrics."""
    found = {}
    for path in sorted((folder / "results/faults").rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".h5" and "examples" not in name:
            with h5py.File(path) as file:
                found[name] = file.attrs["content_digest"]
        elif path.suffix == ".pt" or (path.suffix == ".csv" and "cost" not in name):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the study has run."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(STUDIES / "faults.yaml", folder)
    status, words = run(folder)
    assert status == 0, words
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it, for one fault."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@contextmanager
def mounted(target, *arguments):
    """A mount for as long as the block."""
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount a disk ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


@contextmanager
def small_disk(target, size):
    with mounted(target, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield


@contextmanager
def read_only(target):
    """Root writes anywhere, but not here."""
    with mounted(target, "--bind", str(target)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(target)], check=True)
        yield


def leave(disk, free):
    """Fill a disk but for some bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    state = os.statvfs(disk)
    with ballast.open("wb", buffering=0) as file:
        left = state.f_bavail * state.f_frsize - free
        while left > 0:
            left -= file.write(bytes(min(left, 1 << 20)))


def test_a_full_disk_costs_only_the_file_that_did_not_fit(finished, tmp_path):
    """The results are on a disk of their own, which is full when one job after another writes."""
    with small_disk(tmp_path / "results/faults", "20m"):
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        fill_and_heal(finished, tmp_path, tmp_path / "results/faults")


def fill_and_heal(finished, folder, disk):

    def fails(target, free, *removed, named=None):
        remove(folder, *removed)
        leave(disk, free)
        status, words = run(folder, target)
        assert status != 0
        assert not (folder / target).exists()
        assert leftovers(folder) == []
        said = line(words, named or target)
        assert re.search(r"No space left on device\): \S+ (bytes|kB|MB) are free on the file system of", said)
        assert "Make room there" in said

    def restore(*names):
        (disk / "ballast").unlink()
        for name in names:
            # Snakemake removes the folder of a failed output when it is empty.
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(finished / name, folder / name)

    shard = PLUS / "validation/shard-000.h5"
    fails(shard, 100_000, shard, PLUS / "validation.h5")
    restore(shard, PLUS / "validation.h5")

    fails(PART, 300_000, PART)
    restore(PART)

    fails(METRICS, 0, METRICS, named="cfm.examples.h5")
    restore(METRICS)

    # Room for one checkpoint and a half: each holds the weights, their average and two moments.
    size = 4 * (folder / MODEL).stat().st_size
    remove(folder, MODEL)
    with small_disk(folder / "results/.checkpoints", size + size // 2):
        status, words = run(folder, MODEL)
        assert status != 0
        said = line(words, "step-000000040.pt cannot be written (No space left on device)")
        assert "step-000000020.pt is kept, and the training goes on from it" in said
        assert leftovers(folder) == []

        remove(folder, shard, PLUS / "validation.h5", PLUS / "reference.h5", PART, METRICS)
        subprocess.run(["mount", "-o", "remount,size=20m", folder / "results/.checkpoints"], check=True)
        status, words = run(folder, PLUS / "validation.h5", MODEL, PART, METRICS)
    assert status == 0, words
    assert content(folder) == content(finished)
    assert "resumed after step 20 of 80" in (disk / "logs/models/line/cfm/seed-0.log").read_text()


def test_a_folder_that_cannot_take_a_run_is_one_line(finished, folder, tmp_path):
    """Said before Snakemake finds out in its own words."""

    def refused(where, pattern):
        status, words = run(where)
        assert status != 0
        assert re.search(pattern, words, flags=re.M), words

    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(STUDIES / "faults.yaml", bare)
    (bare / "results").touch()
    refused(bare, "^results is a file, wanted a folder: move it away and run again")
    (bare / "results").unlink()
    (bare / "results").symlink_to("/scratch/that/is/gone")
    refused(bare, "^results is a link to /scratch/that/is/gone, which does not exist")
    (bare / "results").unlink()

    with small_disk(bare / "full", "1m"):
        shutil.copy(STUDIES / "faults.yaml", bare / "full")
        leave(bare / "full", 0)
        refused(bare / "full", r"^the disk is full: 0 bytes are free on the file system of \S+/full. Make room there")
    with read_only(bare):
        refused(
            bare,
            r"^\S+/bare/.snakemake cannot be written \(its file system is read-only\): make it writable, or run in",
        )

    remove(folder, PAGE, *TABLES)
    with read_only(folder / "results"):
        refused(folder, r"^\S+/results/faults cannot be written \(its file system is read-only\)")
    logs = folder / "results/faults/logs"
    with read_only(logs):
        refused(folder, r"^\S+/results/faults/logs cannot be written \(its file system is read-only\)")
    removed = [str(path) for path in TABLES]
    assert content(folder) == {name: found for name, found in content(finished).items() if name not in removed}


def test_a_file_of_the_future_is_refused_before_any_job(finished, folder):
    index = PLUS / "test.h5"
    remove(folder, PART)
    os.utime(folder / index, (2e9, 2e9))
    status, words = run(folder, PART)
    assert status != 0
    said = re.search(rf"{index} is dated in the future \(2033-.*what is made from it: (touch \S+), or correct", words)
    assert "Execute" not in words
    subprocess.run(shlex.split(said[1]), cwd=folder, check=True)
    status, words = run(folder, PART)
    assert status == 0, words
    assert content(folder) == content(finished)


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as a job that outlives a killed main process")
def test_a_killed_job_loses_only_itself(finished, folder):
    """SIGKILL at the worst moment: the file is written and not yet renamed."""
    shard = PLUS / "train/shard-001.h5"

    def killed(target, at):
        status, words = run(
            folder, target, HELD="kill", HELD_AT=at, PYTHONPATH=f"{REPOSITORY / 'src'}{os.pathsep}{HELD}"
        )
        assert status != 0
        assert "died with <Signals.SIGKILL: 9>" in words
        assert not (folder / target).exists()
        assert [path.name.startswith(f".{at}.") for path in leftovers(folder)] == [True]

    remove(folder, PART)
    killed(PART, "part-001.h5")
    status, words = run(folder, PART)
    assert status == 0, words
    assert leftovers(folder) == []

    remove(folder, shard, PLUS / "train.h5", MODEL)
    killed(shard, "shard-001.h5")
    killed(MODEL, "step-000000060.pt")

    # The newest checkpoint is damaged as well: the one before it serves.
    newest, before = sorted((folder / "results/.checkpoints").rglob("step-*.pt"), reverse=True)
    assert (before.name, newest.name) == ("step-000000020.pt", "step-000000040.pt")
    flip(newest, newest.stat().st_size // 2)
    remove(folder, METRICS)
    status, words = run(folder, MODEL, METRICS)
    assert status == 0, words
    assert leftovers(folder) == []
    assert content(folder) == content(finished)
    log = (folder / "results/faults/logs/models/line/cfm/seed-0.log").read_text()
    assert "step-000000040.pt is damaged" in log
    assert "resumed after step 20 of 80" in log


@contextmanager
def unnoticed(path):
    """Damage as disks and copies do it: the time of the last change stays, and Snakemake sees none."""
    times = path.stat()
    yield
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip(path, place):
    with unnoticed(path), path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 255]))


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as damaged files that are read alone")
def test_damaged_files_are_named_with_the_command_that_heals(finished, folder):
    """Each consumer refuses; the commands that the lines give, and one more run, heal everything."""
    commands = []

    def refused(target, damaged, what):
        status, words = run(folder, target)
        assert status != 0
        assert not (folder / target).exists()
        said = line(words, damaged)
        assert what in said
        commands.append(re.search(r"(rm \S+( \S+)?), and run again", said)[1])

    # A shard of other events with the name of the right one: the inference refuses it.
    test, reference = PLUS / "test/shard-000.h5", PLUS / "reference/shard-000.h5"
    remove(folder, PART)
    with unnoticed(folder / test):
        shutil.copyfile(folder / reference, folder / test)
    refused(PART, test, "its content changed since test.h5 was made")
    shutil.copy2(finished / test, folder / test)
    commands.pop()

    # A bit of the model.
    flip(folder / MODEL, (folder / MODEL).stat().st_size // 2)
    refused(PART, MODEL, "cannot be read as a model")
    # A bit of the events, behind an index: the inference reads them, and the model is the right one again.
    shutil.copy2(finished / MODEL, folder / MODEL)
    with h5py.File(folder / test) as file:
        place = file["y"].id.get_chunk_info(0).byte_offset
    flip(folder / test, place + 100)
    refused(PART, test, "the file is damaged")
    assert commands[-1] == f"rm {test} {PLUS / 'test.h5'}"

    # A shard that is gone behind its index: the training refuses.
    validation = PLUS / "validation/shard-000.h5"
    remove(folder, MODEL, validation)
    refused(MODEL, validation, "there is no such file")

    # A shard that was cut short: the index over it is refused.
    remove(folder, PLUS / "reference.h5")
    os.truncate(folder / reference, 5000)
    refused(PLUS / "reference.h5", reference, "truncated or damaged")

    commands.remove(f"rm {MODEL}")
    remove(folder, METRICS)
    for command in commands:
        subprocess.run(shlex.split(command), cwd=folder, check=True)
    status, words = run(folder, METRICS)
    assert status == 0, words
    assert content(folder) == content(finished)


def test_two_runs_in_one_folder_and_a_lock_that_was_left(finished, folder, tmp_path):
    shutil.copy(STUDIES / "tiny.yaml", folder)
    here = tmp_path / "held"
    test = PLUS / "test.h5"
    remove(folder, test)
    holding = {"HELD": "wait", "HELD_AT": "test.h5", "HELD_HERE": str(here)}
    first = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *_arguments(REPOSITORY), "--configfile", "faults.yaml", "--", str(test)],
        cwd=folder,
        env={**_environment(REPOSITORY), **holding, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{HELD}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not here.exists():
        assert first.poll() is None
        time.sleep(0.05)

    # The same study is refused; another one is not, for it makes other files.
    words = ask("-n", "--configfile", "tiny.yaml", folder=folder)[1]
    assert "simulate" in words
    assert "cannot be locked" not in words
    status, words = run(folder, test)
    assert status != 0
    assert "Directory cannot be locked" in words

    # Snakemake is killed and its job is not: the lock stays, and the job ends by itself.
    first.send_signal(signal.SIGKILL)
    first.wait()
    status, words = run(folder, test)
    assert status != 0
    assert "It can be removed with the --unlock argument" in words
    here.unlink()
    while not (folder / test).exists():
        time.sleep(0.05)
    assert run(folder, options=["--unlock"])[0] == 0
    # The file is whole, but Snakemake was not there to see it end: it asks.
    status, words = run(folder, test)
    assert status != 0
    assert "--rerun-incomplete" in words
    status, words = run(folder, test, options=["--rerun-incomplete"])
    assert status == 0, words
    assert leftovers(folder) == []
    assert content(folder) == content(finished)
