"""Velocity models in files: the same section from every format, its tiles, and one clear line for what is none."""

import h5py
import numpy as np
import pytest
import xarray as xr

from pullback.readers.velocity import VelocityFileError, read_section, sample_tiles
from pullback.simulators.wave_settings import Tiles

# 41 x 61 nodes of 10 m: 400 m deep, 600 m wide, velocity a plane in depth and offset.
DEPTH, OFFSET = np.arange(41) * 10.0, np.arange(61) * 10.0
PLANE = (2000 + 2 * DEPTH[:, None] + 0.5 * OFFSET).astype("f4")


def write_npy(path, values):
    np.save(path, values)


def write_raw(path, values):
    values.astype("<f4").tofile(path)


def write_hdf5(path, values):
    with h5py.File(path, "w") as file:
        file["vp"] = values


def write_netcdf(path, values):
    dataset(values).to_netcdf(path, engine="h5netcdf")


def dataset(values, depth=DEPTH, offset=OFFSET, **attributes) -> xr.Dataset:
    coordinates = {"z": ("z", depth, {"units": "m"}), "x": ("x", offset, attributes or {"units": "m"})}
    return xr.Dataset({"vp": (("z", "x"), values)}, coordinates)


WRITERS = {"npy": write_npy, "bin": write_raw, "raw": write_raw, "h5": write_hdf5, "hdf5": write_hdf5}


def options(path, **more) -> Tiles:
    return Tiles(**{"file": str(path), "spacing": 10.0, **more})


@pytest.mark.parametrize("transposed", [False, True], ids=["depth first", "offset first"])
@pytest.mark.parametrize("units", ["m/s", "km/s"])
@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_section(tmp_path, ending, units, transposed):
    values = PLANE / np.float32(1000 if units == "km/s" else 1)
    values = np.ascontiguousarray(values.T) if transposed else values
    WRITERS[ending](tmp_path / f"model.{ending}", values)
    more = {"shape": values.shape} if WRITERS[ending] is write_raw else {}
    section = read_section(
        options(tmp_path / f"model.{ending}", units=units, first_axis="offset" if transposed else "depth", **more)
    )
    np.testing.assert_allclose(section.velocity, PLANE, rtol=1e-6)
    assert section.velocity.dtype == np.float32
    assert section.spacing == (10.0, 10.0)


def test_other_types_of_numbers_are_read(tmp_path):
    """Integers, doubles and the other byte order, which .npy files say of themselves."""
    for kind in ("<i4", "<f8", ">f4"):
        np.save(tmp_path / "model.npy", np.round(PLANE).astype(kind))
        np.testing.assert_array_equal(read_section(options(tmp_path / "model.npy")).velocity, np.round(PLANE))


def test_coordinates_say_how_far_nodes_are_apart(tmp_path):
    path = tmp_path / "model.nc"
    dataset(PLANE, offset=OFFSET / 2).to_netcdf(path, engine="h5netcdf")
    assert read_section(Tiles(file=str(path))).spacing == (10.0, 5.0)
    # The study has the last word.
    assert read_section(Tiles(file=str(path), spacing=4.0)).spacing == (4.0, 4.0)
    dataset(PLANE, offset=OFFSET / 2).transpose("x", "z").to_netcdf(path, engine="h5netcdf")
    turned = read_section(Tiles(file=str(path), first_axis="offset"))
    assert turned.spacing == (10.0, 5.0)
    np.testing.assert_array_equal(turned.velocity, PLANE)


def test_names_of_dimensions_say_which_is_depth(tmp_path):
    path = tmp_path / "model.nc"
    named = dataset(PLANE, offset=OFFSET / 2).rename(z="depth", x="offset").transpose("offset", "depth")
    named.to_netcdf(path, engine="h5netcdf")
    for first_axis in ("depth", "offset"):
        section = read_section(Tiles(file=str(path), first_axis=first_axis))
        assert section.spacing == (10.0, 5.0)
        np.testing.assert_array_equal(section.velocity, PLANE)


def test_one_of_several_variables(tmp_path):
    path = tmp_path / "model.nc"
    both = dataset(PLANE).assign(rho=(("z", "x"), np.full(PLANE.shape, 2200.0)), source=("x", OFFSET))
    both.to_netcdf(path, engine="h5netcdf")
    np.testing.assert_array_equal(read_section(Tiles(file=str(path), variable="vp")).velocity, PLANE)
    with pytest.raises(
        VelocityFileError, match=r"not one section alone; sections are vp, rho: name one in tiles\.variable"
    ):
        read_section(Tiles(file=str(path)))
    with pytest.raises(VelocityFileError, match=r"there is no variable 'vs'; sections are vp, rho"):
        read_section(Tiles(file=str(path), variable="vs"))


def uneven(values=OFFSET):
    return values + 3 * (np.arange(len(values)) % 2)


@pytest.mark.parametrize(
    ("coordinates", "said"),
    [
        ({"offset": OFFSET / 1000, "units": "km"}, "steps of the coordinate 'x' are from 0.01 to 0.01 km"),
        ({"offset": uneven()}, "'x' are from 7 to 13 m"),
        ({"depth": DEPTH[::-1]}, "'z' are from -10 to -10 m; wanted one positive step in m: give tiles.spacing"),
    ],
)
def test_coordinates_that_are_no_grid_in_metres(tmp_path, coordinates, said):
    dataset(PLANE, **coordinates).to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
    with pytest.raises(VelocityFileError, match=said):
        read_section(Tiles(file=str(tmp_path / "model.nc")))
    assert read_section(options(tmp_path / "model.nc")).spacing == (10.0, 10.0)


def broken(**where) -> np.ndarray:
    values = PLANE.copy()
    values[3, 4:6] = np.nan
    return values


@pytest.mark.parametrize(
    ("ending", "values", "more", "said"),
    [
        ("npy", None, {}, r"no such file; give the path of a velocity model in tiles\.file"),
        ("txt", b"2000 2000", {}, r"ending '\.txt' is not known: give \.npy, \.nc, \.h5, \.segy"),
        ("npy", PLANE[None, None], {}, r"4 dimensions \(1, 1, 41, 61\), wanted one section \(depth, offset\)"),
        ("npy", PLANE[:1], {}, "1 x 61 nodes, wanted at least 2 each way"),
        ("npy", PLANE, {"spacing": None}, r"nothing in the file says how far apart .* give tiles\.spacing in m"),
        ("npy", PLANE.astype("U8"), {}, "values of type <U8, wanted numbers"),
        ("npy", b"\x93NUMPY\x01\x00", {}, "not a complete array of numbers"),
        ("npy", b"", {}, "not a complete array of numbers"),
        ("npy", b"PK\x05\x06" + bytes(18), {}, "not a complete array of numbers"),
        ("nc", b"CDF\x01 and so on", {}, "no netCDF4 or HDF5 file"),
        ("h5", PLANE, {"spacing": None}, "nothing in the file says how far apart"),
        ("bin", PLANE, {}, r"a raw file says nothing about its size: give tiles\.shape, slowest axis first"),
        ("bin", PLANE, {"shape": (41, 60)}, r"10004 bytes, wanted 9840 for 41 x 60 float32; correct tiles\.shape"),
        ("bin", PLANE.astype(">f4").tobytes(), {"shape": (41, 61)}, r"big-endian numbers .*100 %\): convert it"),
        ("bin", (PLANE / 1000).astype(">f4").tobytes(), {"shape": (41, 61)}, "big-endian numbers"),
        ("npy", broken(), {}, "2 velocities are not finite: repair it"),
        ("npy", PLANE / 1000, {}, "from 2 to 3.1 m/s, wanted 100 to 12000: say units: km/s"),
        ("npy", PLANE, {"units": "km/s"}, "from 2e.06 to 3.1e.06 m/s, wanted 100 to 12000: say units: m/s"),
        ("npy", PLANE - 3000, {}, "from -1000 to 100 m/s, wanted 100 to 12000: a velocity model was wanted"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(tmp_path, ending, values, more, said):
    path = tmp_path / f"model.{ending}"
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif values is not None:
        WRITERS[ending](path, values)
    with pytest.raises(VelocityFileError, match=said) as error:
        read_section(options(path, **more))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def tiles(path, n=200, shape=(11, 16), extent=(100.0, 150.0), seed=0, **more) -> np.ndarray:
    return sample_tiles(options(path, **more), np.random.default_rng(seed), n, shape, extent)


@pytest.fixture
def plane(tmp_path):
    np.save(tmp_path / "plane.npy", PLANE)
    return tmp_path / "plane.npy"


def test_tiles_are_pieces_of_the_section(plane):
    """Of a plane every tile is a plane of the same slopes, wherever it lies; its corner says where that is."""
    cut = tiles(plane)
    assert cut.shape == (200, 11, 16)
    assert cut.dtype == np.float32
    # Nodes of the tile are 10 m apart both ways, as those of the file.
    np.testing.assert_allclose(np.diff(cut, axis=1), 20, atol=2e-3)
    np.testing.assert_allclose(np.diff(cut, axis=2), 5, atol=2e-3)
    # First nodes lie anywhere in 300 m x 450 m: velocities from 2000 to 2000 + 600 + 225 there, means in the middle.
    corner = cut[:, 0, 0]
    assert 2000 <= corner.min() < 2060
    assert 2765 < corner.max() <= 2825
    assert corner.mean() == pytest.approx(2412.5, abs=4 * np.hypot(600, 225) / np.sqrt(12 * 200))
    np.testing.assert_array_equal(cut, tiles(plane))
    assert not np.isin(cut[:, 0, 0], tiles(plane, seed=1)[:, 0, 0]).any()


def test_the_same_tiles_on_finer_nodes(plane):
    """Interpolation is linear and the places do not depend on the nodes, so that a plane is met exactly."""
    np.testing.assert_allclose(tiles(plane, shape=(21, 31))[:, ::2, ::2], tiles(plane), rtol=1e-6)


def test_depth_from_and_stretch(plane):
    deep = tiles(plane, depth_from=250.0)
    # Between 250 m and 300 m of depth, anywhere in 450 m of offset.
    assert deep[:, 0, 0].min() >= 2500
    assert deep[:, 0, 0].max() <= 2600 + 225
    stretched = tiles(plane, stretch=2.0)
    np.testing.assert_allclose(np.diff(stretched, axis=1)[:, 1:-1], 40, atol=1)
    whole = tiles(plane, n=3, shape=PLANE.shape, extent=(400.0, 600.0))
    np.testing.assert_allclose(whole, np.broadcast_to(PLANE, whole.shape), rtol=1e-6)
    # 133.3 m x 3 is 400 m, whatever comes of it in binary.
    tiles(plane, n=1, extent=(400 / 3, 200.0), stretch=3.0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stretch": 5.0}, "400 m deep and 600 m wide, too small for tiles of 500 m x 750 m below 0 m"),
        ({"depth_from": 310.0}, r"tiles of 100 m x 150 m below 310 m: lower tiles\.stretch or tiles\.depth_from"),
    ],
)
def test_a_section_that_is_too_small(plane, more, said):
    with pytest.raises(VelocityFileError, match=said):
        tiles(plane, **more)


def test_only_what_new_nodes_cannot_carry_is_smoothed(tmp_path):
    """Stripes of two nodes: as they are on nodes as near as the file's, nearly gone on nodes four times as far."""
    stripes = np.where(np.arange(401) % 4 < 2, 2000.0, 3000.0)
    np.save(tmp_path / "stripes.npy", np.tile(stripes, (81, 1)))
    # Whole steps: the section is as deep as a tile and only one node wider, so that nodes fall on nodes.
    fine = tiles(tmp_path / "stripes.npy", n=1, shape=(81, 401), extent=(800.0, 4000.0))
    np.testing.assert_allclose(fine[0, 40], stripes, rtol=1e-6)
    coarse = tiles(tmp_path / "stripes.npy", n=20, shape=(21, 81), extent=(800.0, 3200.0))
    # A sigma of half of 4 - 1 nodes leaves exp(-(2 pi 1.5 / 4)^2 / 2) = .062 of their swing of 500 sqrt(2) m/s.
    inner = coarse[:, :, 2:-2]
    assert 30 < np.abs(inner - 2500).max() < 50
