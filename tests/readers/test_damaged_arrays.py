"""Damaged .npy, .npz, netCDF and HDF5 files: an answer or one clear line, whatever the libraries make of them."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from pullback.readers.array_description import describe
from pullback.readers.base import ReadError

SCRIPT = Path(__file__).with_name("damaged_arrays.py")


def read_in_another_process(folder, first, last):
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, str(first), str(last)], capture_output=True, text=True, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{rows[-1:]}: {done.stderr[-1000:]}"
    found = [row for row in rows if "found" in row]
    assert len(found) == last - first
    assert [row for row in found if set(row["found"]) - {"answer", "line"} or row["seconds"] > 10] == []
    return found


def test_some_damaged_files(tmp_path):
    found = read_in_another_process(tmp_path, 0, 16)
    assert {word for row in found for word in row["found"]} == {"answer", "line"}


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: 300 damaged files")
def test_many_damaged_files(tmp_path):
    read_in_another_process(tmp_path, 100, 400)


def test_sizes_that_the_file_does_not_have(tmp_path):
    """A header may promise more than any memory holds."""
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    large = (tmp_path / "a.npy").read_bytes().replace(b"(3, 4), }         ", b"(3, 444444444444)}")
    (tmp_path / "a.npy").write_bytes(large)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("y.npy", large)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("y", shape=(10**12, 4), dtype="f4", chunks=(10**6, 4))
    for name in ("a.npy", "a.npz", "a.h5"):
        with pytest.raises(ReadError, match=f"{name}: cannot be read as"):
            describe(tmp_path / name)
