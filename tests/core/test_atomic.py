"""Every writer on a disk that is really full; temporary files of dead processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from pullback.core.atomic import ABANDONED_SECONDS, MACHINE, StoreError, atomic
from pullback.core.joblog import job_log, log
from pullback.diffusion.checkpoint import Checkpoints, write_atomic
from pullback.ensembles import hdf5
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleReader, EnsembleWriter, index_ensemble
from pullback.metrics.table import COST_COLUMNS, write_table

Y = Field.vector("y", ("pt", "eta"), ("GeV", "1"))
FULL = (
    r"cannot be written \(No space left on device\): \S+ (bytes|kB) are free on the file system of .* Make room there"
)


@pytest.fixture
def disk(tmp_path):
    """A disk of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this user may not mount a disk ({done.stderr.strip()})")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def leave(disk, free):
    """Fill the disk but for some bytes."""
    state = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(state.f_bavail * state.f_frsize - free))


def shard(path, rows, blocks=1, first=0):
    with EnsembleWriter(path, x=None, y=Y, spec="{}") as writer:
        for i in range(blocks):
            writer.append(np.random.default_rng(i).normal(size=(rows, 2)), np.arange(rows) + i * rows + first)


# Where the disk runs full: in the first append, in a chunk of it, after many small ones, between two.
SIZES = [(100_000, 1), (20_000, 1), (1000, 200), (16_000, 2)]


@pytest.mark.parametrize(("rows", "blocks"), SIZES)
def test_a_full_disk_is_one_error_wherever_it_strikes(disk, rows, blocks, capfd):
    with pytest.raises(StoreError, match=FULL):
        shard(disk / "a.h5", rows, blocks)
    assert list(disk.iterdir()) == []
    assert capfd.readouterr().err == "", "HDF5 never hears of it"


def test_every_size_of_disk_gives_a_whole_file_or_an_error(disk, tmp_path):
    """Byte by byte through the places where HDF5 writes: headers, chunks, their index, the end."""
    shard(tmp_path / "good.h5", 2000)
    whole = (tmp_path / "good.h5").stat().st_size
    with EnsembleReader(tmp_path / "good.h5") as good:
        digest = good.digest
    made = 0
    for free in range(0, whole + 16_000, 8_192):
        leave(disk, free)
        try:
            shard(disk / "a.h5", 2000)
        except StoreError:
            assert not (disk / "a.h5").exists()
        else:
            made += 1
            with EnsembleReader(disk / "a.h5") as reader:
                assert reader.digest == digest
                reader.read("y")
            (disk / "a.h5").unlink()
        (disk / "ballast").unlink()
        assert list(disk.iterdir()) == []
    assert 1 <= made <= 3


def fill_with(create, path):
    """A process that writes more than the disk holds and catches the error."""
    code = (
        "import h5py, numpy as np\n"
        "from pullback.ensembles import hdf5\n"
        "try:\n"
        f"    with {create}({str(path)!r}, 'w') as file:\n"
        "        for i in range(200):\n"
        "            file.create_dataset(str(i), data=np.random.default_rng(i).normal(size=5000), chunks=(500,))\n"
        "except (OSError, ValueError) as error:\n"
        "    print(error)\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_process_that_met_a_full_disk_ends_cleanly(disk):
    done = fill_with("(lambda path, mode: hdf5.create(path))", disk / "a.h5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "No space left on device" in done.stdout


def test_h5py_alone_does_not_end_cleanly_on_a_full_disk(disk):
    """What our file object prevents: h5py prints every retry and may crash. If this fails, ours can go."""
    done = fill_with("h5py.File", disk / "a.h5")
    assert done.returncode != 0 or len(done.stderr.splitlines()) > 10


def test_hdf5_written_through_our_file_is_what_hdf5_writes(tmp_path):
    values = np.random.default_rng(0).normal(size=(300, 7))

    def fill(file):
        data = file.create_dataset("a", (0, 7), "f4", maxshape=(None, 7), chunks=(16, 7), fletcher32=True, shuffle=True)
        for start in range(0, 300, 50):
            data.resize(start + 50, axis=0)
            data[start:] = values[start : start + 50]
            assert (data[: start + 50] == values[: start + 50].astype("f4")).all()

    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        fill(file)
    with hdf5.create(tmp_path / "ours.h5") as file:
        fill(file)
    assert (tmp_path / "ours.h5").read_bytes() == (tmp_path / "theirs.h5").read_bytes()


def index(disk):
    parts = [disk.parent / f"shard-{i}.h5" for i in range(3)]
    for number, part in enumerate(parts):
        shard(part, 10, first=10 * number)
    leave(disk, 4096)
    index_ensemble(json.dumps({"study": "s"}), parts, disk / "index.h5")


def collisions(disk):
    uproot = pytest.importorskip("uproot")
    with atomic(disk / "a.root") as temporary, uproot.recreate(temporary) as file:
        tree = file.mktree("events", {"x": "float64"})
        for i in range(20):
            tree.extend({"x": np.random.default_rng(i).normal(size=20_000)})


WRITERS = {
    "index": index,
    "root": collisions,
    "table": lambda disk: write_table(disk / "a.csv", COST_COLUMNS, ({} for _ in range(100_000))),
    "text": lambda disk: write_atomic(disk / "a.html", "a" * 10**6),
    "model": lambda disk: write_atomic(disk / "a.pt", bytes(10**6)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_kind_of_file_says_the_same(disk, writer):
    with pytest.raises(StoreError, match=FULL):
        WRITERS[writer](disk)
    assert {path.name for path in disk.iterdir()} <= {"ballast"}


def test_a_checkpoint_that_does_not_fit_keeps_the_one_before(disk):
    checkpoints = Checkpoints(disk / "abc")
    checkpoints.save(10, {"a": 1})
    leave(disk, 8192)
    with pytest.raises(StoreError, match=r"step-000000010\.pt is kept, and the training goes on from it"):
        checkpoints.save(20, {"a": bytes(50_000)})
    assert checkpoints.newest() == (10, {"a": 1})


def test_a_log_that_does_not_fit_is_one_line_and_the_job_goes_on(disk, capsys):
    leave(disk, 0)
    done = []
    with job_log(str(disk / "log")):
        for i in range(1000):
            log.info("line %d", i)
        done.append(True)
    assert done
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("pullback: the log is cut short: ")


def test_a_log_that_cannot_be_opened_ends_the_job_with_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit), job_log(str(tmp_path / "file/log")):
        pass
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path / 'file'} is a file, wanted a folder; move it away" in said


def dead():
    """The number of a process that was."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_dead_processes_left_of_the_same_file_is_removed(tmp_path):
    path = tmp_path / "a.h5"
    gone = tmp_path / f".a.h5.{MACHINE}.{dead()}.tmp"
    stale = tmp_path / ".a.h5.othermachine.1.tmp"
    kept = [
        tmp_path / f".a.h5.{MACHINE}.{os.getppid()}.tmp",
        tmp_path / ".a.h5.anothermachine.1.tmp",
        tmp_path / f".ab.h5.{MACHINE}.{dead()}.tmp",
        tmp_path / ".a.h5.tmp",
    ]
    for file in (gone, stale, *kept):
        file.touch()
    old = time.time() - ABANDONED_SECONDS - 60
    os.utime(stale, (old, old))
    with atomic(path) as temporary:
        temporary.write_text("whole")
    assert set(tmp_path.iterdir()) == {path, *kept}


def test_an_error_about_another_file_is_not_taken_for_this_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic(tmp_path / "a"):
        Path("/elsewhere/b").read_bytes()
    assert list(tmp_path.iterdir()) == []
