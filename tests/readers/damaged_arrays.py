"""Damaged files of arrays: python damaged_arrays.py FOLDER FIRST LAST reads those of some seeds, a line for each.

A library may end the process on such a file, so they are read in one that a test starts.
"""

import json
import logging
import signal
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from pullback.problems.fwi import Fwi
from pullback.problems.read import read
from pullback.readers.array_description import describe, inspected
from pullback.readers.base import ReadError
from pullback.simulators.wave_settings import FwiSimulator

SMALL = {"depth_cells": 8, "offset_cells": 9, "sources": 2, "receivers": 4, "record_length": 0.08}
SECONDS = 10
HEAD = 3000
"""Bytes at the beginning that hold what describes the values."""


def originals(folder):
    """One sound file of each format, and how it is read."""
    rng, problem = np.random.default_rng(0), Fwi(FwiSimulator(**SMALL))
    y = rng.normal(size=(20, *problem.y.shape)).astype(np.float32)
    x = rng.uniform(1500, 4500, (20, *problem.x.shape)).astype(np.float32)
    data = xr.Dataset({"y": (("event", *problem.y.dims), y), "x": (("event", *problem.x.dims), x, {"units": "m/s"})})
    for field in (problem.x, problem.y):
        for name, coordinate in field.coordinates.items():
            data = data.assign_coords({name: (name, coordinate.values, {"units": coordinate.units})})
    np.save(folder / "a.npy", y)
    np.savez(folder / "a.npz", x=x, y=y)
    np.savez_compressed(folder / "b.npz", x=x, y=y)
    data.to_netcdf(folder / "a.nc", engine="h5netcdf")
    packed = {"zlib": True, "chunksizes": (4, *problem.y.shape)}
    data.to_netcdf(folder / "b.nc", engine="h5netcdf", encoding={"y": packed})
    data.to_netcdf(folder / "c.nc", engine="scipy")
    # As h5py writes it: in HDF5's oldest version, without checksums.
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = x
        file.create_dataset("y", data=y, chunks=(4, *problem.y.shape), compression="gzip")
        file["x"].attrs["units"] = "m/s"
        file["group/other"] = np.arange(3)
    return [folder / name for name in ("a.h5", "a.npy", "c.nc", "a.npz", "b.nc", "a.h5", "b.npz", "a.nc")]


def damaged(sound, seed):
    """The bytes of a file with some flipped, cut off, or set to the smallest and largest numbers."""
    rng = np.random.default_rng(seed)
    found = np.frombuffer(sound, np.uint8).copy()
    reach = min(HEAD, len(found)) if rng.random() < 0.7 else len(found)
    how = rng.integers(4)
    if how == 0:
        return found[: rng.integers(len(found))].tobytes()
    if how == 1:
        places = rng.integers(reach, size=rng.integers(1, 20))
        found[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
    elif how == 2:
        for start in rng.integers(reach, size=rng.integers(1, 4)):
            found[start : start + rng.choice([1, 2, 4, 8])] = rng.choice([0, 0x7F, 0x80, 0xFF])
    else:
        start = rng.integers(reach)
        found = np.delete(found, slice(start, start + rng.integers(1, 9)))
    return found.tobytes()


def outcome(path):
    """What reading a damaged file comes to: an answer, one clear line, or what should not be."""
    job = {"problem": "waves", "kind": "fwi", "simulator": SMALL, "family": "f", "split": "test", "first_file": 0}
    job |= {"read": {"kind": "numpy" if path.suffix in (".npy", ".npz") else "netcdf"}, "truth": path.suffix != ".npy"}
    found = []
    out = path.with_name("out.h5")
    for step in (describe, inspected, lambda p: read(json.dumps(job), [p], [], out)):
        signal.alarm(SECONDS)
        try:
            step(path)
            found.append("answer")
        except ReadError as error:
            found.append("line" if "\n" not in str(error) and str(path) in str(error) else f"unclear: {error}")
        except BaseException as error:
            found.append(f"{type(error).__name__}: {error}")
        signal.alarm(0)
    left = sorted(each.name for each in path.parent.iterdir() if each.name not in (path.name, "out.h5"))
    wrong = [f"left {name}" for name in left] + (["wrote"] if out.exists() and found[-1] != "answer" else [])
    out.unlink(missing_ok=True)
    return found + wrong


def main(folder, first, last):
    logging.disable()
    warnings.simplefilter("ignore")
    files = originals(folder)
    for seed in range(first, last):
        sound = files[seed % len(files)]
        here = folder / str(seed)
        here.mkdir()
        path = here / sound.name
        path.write_bytes(damaged(sound.read_bytes(), seed))
        print(json.dumps({"seed": seed, "begins": sound.name}), flush=True)
        started = time.monotonic()
        found = outcome(path)
        print(json.dumps({"seed": seed, "found": found, "seconds": time.monotonic() - started}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
