"""Damaged velocity files of every format: a section or one clear line."""

import os
import time
import warnings

import numpy as np
import pytest
import xarray as xr

from pullback.readers.velocity import VelocityFileError, read_section
from pullback.simulators.wave_settings import Tiles

DEPTH, OFFSET = np.arange(24) * 12.5, np.arange(40) * 12.5
ROCK = (1500 + 4 * DEPTH[:, None] + 1.6 * OFFSET).astype("f4")
MORE = {"npy": {"spacing": 12.5}, "bin": {"spacing": 12.5, "shape": ROCK.shape}, "nc": {}, "cdf": {}}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of one section in each format, by the ending."""
    folder = tmp_path_factory.mktemp("rock")
    coordinates = {"depth": ("depth", DEPTH, {"units": "m"}), "offset": ("offset", OFFSET, {"units": "m"})}
    data = xr.Dataset({"vp": (("depth", "offset"), ROCK, {"units": "m/s"})}, coordinates)
    data.to_netcdf(folder / "rock.nc", engine="h5netcdf")
    data.to_netcdf(folder / "rock.cdf", engine="scipy", format="NETCDF3_CLASSIC")
    np.save(folder / "rock.npy", ROCK)
    ROCK.tofile(folder / "rock.bin")
    return {ending: (folder / f"rock.{ending}").read_bytes() for ending in MORE}


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes of it changed, set to an extreme, or left out."""
    data = bytearray(whole)
    # Headers are at the beginning.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
    how = rng.integers(4)
    if how == 0:
        for place in rng.integers(reach, size=rng.integers(1, 20)):
            data[place] ^= 1 << int(rng.integers(8))
    elif how == 1:
        start = int(rng.integers(reach))
        data[start : start + 8] = bytes([int(rng.choice([0, 0x7F, 0x80, 0xFF]))]) * 8
    elif how == 2:
        del data[int(rng.integers(reach)) :]
    else:
        start = int(rng.integers(reach))
        del data[start : start + int(rng.integers(1, 9))]
    return bytes(data)


@pytest.mark.parametrize(
    "seeds",
    [
        range(12),
        pytest.param(
            range(12, 312),
            marks=pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: 300 files, half a minute"),
        ),
    ],
    ids=["a few", "300"],
)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, files, seeds):
    for seed in seeds:
        rng = np.random.default_rng([18, seed])
        ending = list(MORE)[seed % len(MORE)]
        path = tmp_path / f"{seed}.{ending}"
        path.write_bytes(damaged(files[ending], rng))
        started, said = time.perf_counter(), f"{path}: "
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                velocity = read_section(Tiles(file=str(path), **MORE[ending])).velocity
            except VelocityFileError as error:
                velocity, said = ROCK, str(error)
        assert velocity.ndim == 2, seed
        assert np.isfinite(velocity).all(), seed
        assert said.startswith(f"{path}: "), seed
        assert "\n" not in said, seed
        assert time.perf_counter() - started < 10, seed
        assert [each.name for each in tmp_path.iterdir()] == [path.name], seed
        path.unlink()


def test_a_heap_that_hdf5_would_never_leave_is_refused(tmp_path, files):
    """Free space of size 0: the library goes round for ever. Found by seeds 6286 and 7202."""
    data = bytearray(files["nc"])
    place = data.index(b"GCOL") + 16
    while int.from_bytes(data[place : place + 2], "little"):
        place += 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    data[place + 8 : place + 16] = bytes(8)
    (tmp_path / "rock.nc").write_bytes(data)
    with pytest.raises(VelocityFileError, match=r"cannot be read as .* \(ValueError: a heap is damaged\)"):
        read_section(Tiles(file=str(tmp_path / "rock.nc")))
