"""What a file says of its axes, coordinates and units is used; what contradicts it is refused; rough rows are told."""

import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pullback.readers.velocity import VelocityFileError, read_section
from pullback.simulators.wave_settings import Tiles

# 24 x 40 nodes: 287.5 m deep, 487.5 m wide, faster downwards and along.
DEPTH, OFFSET = np.arange(24) * 12.5, np.arange(40) * 12.5
ROCK = (1500 + 4 * DEPTH[:, None] + 1.6 * OFFSET).astype("f4")
M, FT = {"units": "m"}, {"units": "ft"}


def dataset(values=ROCK, depth=DEPTH, offset=OFFSET, units="m/s", **said) -> xr.Dataset:
    """A section whose coordinates are called z and x; ``said`` are attributes of z and x."""
    coordinates = {
        "z": ("z", depth, said.get("z", {})),
        "x": ("x", offset, said.get("x", {})),
    }
    return xr.Dataset({"vp": (("z", "x"), values, {"units": units} if units else {})}, coordinates)


def read(folder, data: xr.Dataset, *, engine="h5netcdf", **more):
    more_of_it = {"format": "NETCDF3_CLASSIC"} if engine == "scipy" else {}
    data.to_netcdf(folder / "rock.nc", engine=engine, **more_of_it)
    return read_section(Tiles(file=str(folder / "rock.nc"), **more))


NAMED = dataset().rename(z="depth", x="offset")
FILES = {
    "as it is": (dataset(), {}),
    "other order": (dataset().transpose("x", "z"), {}),
    "the key agrees": (dataset().transpose("x", "z"), {"first_axis": "offset", "spacing": 12.5, "units": "M/s"}),
    "netCDF-3": (dataset().transpose("x", "z"), {"engine": "scipy"}),
    "depth and offset": (NAMED.transpose("offset", "depth"), {}),
    "distance, Depth_m": (dataset().rename(z="Depth_m", x="Lateral distance").transpose("Lateral distance", ...), {}),
    "y beside z": (dataset().rename(x="y").transpose("y", "z"), {}),
    "by attributes": (dataset(z={"positive": "down"}, x={"axis": "X"}).rename(z="a", x="b").transpose("b", "a"), {}),
    "long names": (dataset(z={"long_name": "Depth below surface"}).rename(z="a", x="b").transpose("b", "a"), {}),
    "names that say nothing": (dataset().rename(z="a", x="b").transpose("b", "a"), {"first_axis": "offset"}),
    "descending": (dataset().isel(z=slice(None, None, -1)), {}),
    "offset descending": (dataset().isel(x=slice(None, None, -1)), {}),
    "elevation": (dataset(ROCK[::-1], DEPTH - 287.5).rename(z="elevation"), {}),
    "positive up": (dataset(ROCK, 500 - DEPTH, z={"positive": "up"}), {}),
    "negative z": (dataset(depth=-DEPTH).transpose("x", "z"), {}),
    "km and ft": (dataset(depth=DEPTH / 1000, offset=OFFSET / 0.3048, z={"units": "Km"}, x=FT), {}),
    "km in the name": (dataset(depth=DEPTH / 1000).rename(z="depth_km"), {}),
    "km without unit": (dataset(depth=DEPTH / 1000, offset=OFFSET / 1000), {"spacing": 12.5}),
    "numbers of nodes": (dataset(depth=np.arange(24), offset=np.arange(1, 41)), {"spacing": 12.5}),
    "no coordinates": (dataset().drop_vars(["z", "x"]), {"spacing": 12.5}),
    "variables along dimensions": (
        dataset().rename_dims(z="nz", x="n2").reset_index(["z", "x"]).reset_coords().transpose("n2", "nz"),
        {"variable": "vp"},
    ),
    "single precision, far east": (dataset(offset=(OFFSET + 5e5).astype("f4")), {}),
    "an axis of one node": (dataset().expand_dims("line"), {}),
    "ft/s": (dataset(ROCK / 0.3048, units="ft/s"), {}),
    "km s-1": (dataset(ROCK / 1000, units=" km s-1"), {}),
    "KM/S": (dataset(ROCK / 1000, units="KM/S"), {"units": "km/s"}),
    "by the key": (dataset(ROCK / 1000, units=""), {"units": "km s^-1"}),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_says_what_it_is_gives_the_section(tmp_path, case):
    data, more = FILES[case]
    section = read(tmp_path, data, **more)
    np.testing.assert_allclose(section.velocity, ROCK, rtol=1e-6)
    np.testing.assert_allclose(section.spacing, 12.5, rtol=1e-3)
    assert section.velocity.flags.c_contiguous
    assert section.warnings == ()


def test_what_was_done_is_told(tmp_path):
    data = dataset(ROCK / 0.3048, units="ft/s").isel(z=slice(None, None, -1))
    assert read(tmp_path, data).taken == ("converted from ft/s", "turned, as it begins at the bottom")


def test_arrays_of_plain_hdf5_are_named_by_their_lengths(tmp_path):
    """Nothing but three arrays: vp, x and z."""
    with h5py.File(tmp_path / "rock.h5", "w") as file:
        file["vp"], file["x"], file["z"] = ROCK.T, OFFSET, DEPTH
    section = read_section(Tiles(file=str(tmp_path / "rock.h5")))
    np.testing.assert_array_equal(section.velocity, ROCK)
    assert section.spacing == (12.5, 12.5)


X_FIRST = dataset().transpose("x", "z")
REFUSED = {
    "the key contradicts names": (X_FIRST, {"first_axis": "depth"}, r"\(x, z\), the first is offset, .* leave it out"),
    "names say nothing": (dataset().rename(z="a", x="b"), {}, r"\(a, b\), and which is depth is not said: give tiles"),
    "y is none": (dataset().rename(z="y"), {}, r"\(y, x\), and which is depth is not said: give tiles\.first_axis"),
    "twice depth": (dataset().rename(x="depth"), {}, "wanted depth and offset: name another variable"),
    "time": (dataset().rename(z="twt"), {}, "a section in time, wanted one in depth: convert it"),
    "ms": (dataset(z={"units": "ms"}), {}, "coordinate 'z': 'ms' is no unit .* as m; correct its units"),
    "the key contradicts coordinates": (dataset(z=M), {"spacing": 10}, "'z' nodes are 12.5 m .* tiles.spacing says 10"),
    "no unit explains the key": (dataset(), {"spacing": 25}, "'z' nodes are 12.5 m apart, and tiles.spacing says 25"),
    "uneven": (dataset(offset=OFFSET + 3 * (np.arange(40) % 2)), {"spacing": 12.5}, "'x' are from 9.5 to 15.5 m"),
    "numbers of nodes": (dataset(depth=np.arange(24.0)), {}, "nothing in the file says how far .* give tiles.spacing"),
    "one place": (dataset(depth=np.zeros(24)), {}, "nothing in the file says how far .* give tiles.spacing"),
    "texts": (dataset(depth=np.array(list("abcdefghijklmnopqrstuvwx"))), {}, "'z' is not a number at every node"),
    "density": (dataset(units="kg/m3"), {}, "'kg/m3' is no unit of the same quantity as m/s: name a variable"),
    "density by name": (dataset(units="").rename(vp="rho"), {}, "'rho' is no velocity by its name and has no units"),
    "units contradict": (dataset(), {"units": "km/s"}, "velocities are in m/s, and tiles.units says km/s: leave it"),
    "values contradict": (dataset(units="km/s"), {}, "they look like m/s: correct the attribute units, km/s"),
    "no unit at all": (dataset(units="bananas"), {}, "'bananas' is no known unit, wanted m/s: name a variable"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_contradicts_itself_or_the_study_is_refused(tmp_path, case):
    data, more, said = REFUSED[case]
    with pytest.raises(VelocityFileError, match=said) as error:
        read(tmp_path, data, **more)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lies", "more", "said"),
    [
        (ROCK, {"shape": (24, 40)}, None),
        (ROCK.T, {"shape": (40, 24), "first_axis": "offset"}, None),
        (ROCK, {"shape": (40, 24)}, r"tiles\.shape \[40, 24\], smooth with \[24, 40\]: give that"),
        (ROCK.T, {"shape": (24, 40)}, r"tiles\.shape \[24, 40\], smooth with \[40, 24\]: give that"),
        (ROCK, {"shape": (32, 30)}, r"tiles\.shape \[32, 30\], smooth with \[24, 40\]: give that"),
        (ROCK.T, {"shape": (40, 24)}, r"along than downwards .* depth and offset exchanged\? Give tiles\.first_axis"),
    ],
)
def test_raw_numbers_in_a_wrong_order_are_rough(tmp_path, lies, more, said):
    lies.astype("<f4").tofile(tmp_path / "rock.bin")
    section = read_section(Tiles(file=str(tmp_path / "rock.bin"), spacing=12.5, **more))
    if said is None:
        np.testing.assert_array_equal(section.velocity, ROCK)
        assert section.warnings == ()
    else:
        (warning,) = section.warnings
        assert re.search(said, warning)


def test_exchanged_axes_of_arrays_without_names_are_told(tmp_path):
    """Without a key depth is the first axis; with it, more must speak against it."""
    np.save(tmp_path / "rock.npy", ROCK.T)
    wrong, stated = (
        read_section(Tiles(file=str(tmp_path / "rock.npy"), spacing=12.5, **more)).warnings
        for more in ({}, {"first_axis": "depth"})
    )
    assert "exchanged" in wrong[0]
    assert stated == ()
    np.save(tmp_path / "rock.npy", ROCK[:, :10].T)
    assert (
        "exchanged" in read_section(Tiles(file=str(tmp_path / "rock.npy"), spacing=1, first_axis="depth")).warnings[0]
    )


DATA = Path(os.environ.get("PULLBACK_DATA") or Path(__file__).parents[2] / "../shared/data")
CASES = DATA.parent / "cases/fwi/sections"


@pytest.mark.skipif(not CASES.exists(), reason="../shared/cases is not there")
def test_the_small_inputs():
    right = read_section(Tiles(file=str(CASES / "t_right.nc")))
    for name in ("t_xz", "t_desc", "t_fts"):
        section = read_section(Tiles(file=str(CASES / f"{name}.nc")))
        np.testing.assert_allclose(section.velocity, right.velocity, rtol=1e-6)
        assert section.spacing == (12.5, 12.5)
    with pytest.raises(VelocityFileError, match="'kg/m3' is no unit of the same quantity as m/s"):
        read_section(Tiles(file=str(CASES / "t_rho.nc")))
