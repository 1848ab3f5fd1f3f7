"""Velocity models in files: the same section from every format, and one clear line for what is none."""

import h5py
import numpy as np
import pytest
import xarray as xr

from pullback.readers.velocity import VelocityFileError, read_section
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
@pytest.mark.parametrize("units", ["m/s", "KM / S"])
@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_section(tmp_path, ending, units, transposed):
    values = PLANE / np.float32(1000 if units == "KM / S" else 1)
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


def test_raw_numbers_in_the_other_byte_order_are_read(tmp_path):
    for values, more in ((PLANE, {}), (PLANE / 1000, {"units": "km/s"})):
        values.astype(">f4").tofile(tmp_path / "model.bin")
        section = read_section(options(tmp_path / "model.bin", shape=PLANE.shape, **more))
        np.testing.assert_allclose(section.velocity, PLANE, rtol=1e-6)
        assert "taken as big-endian: the other way these are no velocities" in section.taken


def test_event_and_channel_of_one_model_may_stay(tmp_path):
    np.save(tmp_path / "model.npy", PLANE[None, None])
    np.testing.assert_array_equal(read_section(options(tmp_path / "model.npy")).velocity, PLANE)


def test_nodes_are_sorted_by_their_coordinates(tmp_path):
    rng = np.random.default_rng(0)
    mixed = dataset(PLANE).isel(z=rng.permutation(41), x=rng.permutation(61))
    mixed["vp"] = (mixed.vp / 1000).assign_attrs(Unit="km/s")
    mixed.to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
    section = read_section(Tiles(file=str(tmp_path / "model.nc")))
    np.testing.assert_allclose(section.velocity, PLANE, rtol=1e-6)
    assert section.taken == ("converted from km/s", "sorted by depth")


def test_another_quantity_is_known_by_its_name(tmp_path):
    np.save(tmp_path / "MODEL_DENSITY.npy", PLANE)
    with pytest.raises(VelocityFileError, match=r"by its name no velocity .*\(density\) .*say tiles\.units: m/s"):
        read_section(options(tmp_path / "MODEL_DENSITY.npy"))
    read_section(options(tmp_path / "MODEL_DENSITY.npy", units="m/s"))
    np.save(tmp_path / "vp_and_density.npy", PLANE)
    read_section(options(tmp_path / "vp_and_density.npy"))
    named = dataset(PLANE)
    named.vp.attrs["long_name"] = "bulk density"
    named.rename(vp="a").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(VelocityFileError, match="'a' is no velocity by its name and has no units"):
        read_section(Tiles(file=str(tmp_path / "a.nc")))


def test_one_of_several_variables(tmp_path):
    path = tmp_path / "model.nc"
    both = dataset(PLANE).assign(rho=(("z", "x"), np.full(PLANE.shape, 2200.0)), source=("x", OFFSET))
    both.to_netcdf(path, engine="h5netcdf")
    np.testing.assert_array_equal(read_section(Tiles(file=str(path), variable="vp")).velocity, PLANE)
    with pytest.raises(
        VelocityFileError, match=r"not one section alone; sections are rho, vp: name one in tiles\.variable"
    ):
        read_section(Tiles(file=str(path)))
    with pytest.raises(VelocityFileError, match=r"there is no variable 'vs'; sections are rho, vp"):
        read_section(Tiles(file=str(path), variable="vs"))


def broken(**where) -> np.ndarray:
    values = PLANE.copy()
    values[3, 4:6] = np.nan
    return values


@pytest.mark.parametrize(
    ("ending", "values", "more", "said"),
    [
        ("npy", None, {}, r"no such file; give the path of a velocity model in tiles\.file"),
        ("txt", b"2000 2000", {}, r"ending '\.txt' is not known: give \.npy, .*, \.segy, \.sgy or \.su"),
        ("npy", np.stack([PLANE, PLANE]), {}, r"3 dimensions \(2, 41, 61\), wanted one section \(depth, offset\)"),
        ("npy", PLANE[:1], {}, "1 x 61 nodes, wanted at least 2 each way"),
        ("npy", PLANE, {"spacing": None}, r"nothing in the file says how far apart .* give tiles\.spacing in m"),
        ("npy", PLANE.astype("U8"), {}, "values of type <U8, wanted numbers"),
        ("npy", b"\x93NUMPY\x01\x00", {}, "cannot be read as .npy, .*; fetch it again"),
        ("npy", b"", {}, "cannot be read as .npy, .*; fetch it again"),
        ("npy", b"PK\x05\x06" + bytes(18), {}, "there is not one section alone; sections are nothing"),
        ("nc", b"CDF\x01 and so on", {}, "cannot be read as .* Unexpected header"),
        ("h5", PLANE, {"spacing": None}, "nothing in the file says how far apart"),
        ("bin", PLANE, {}, r"a raw file says nothing about its size: give tiles\.shape, slowest axis first"),
        ("bin", PLANE, {"shape": (41, 60)}, r"10004 bytes, wanted 9840 for 41 x 60 float32; correct tiles\.shape"),
        (
            "bin",
            PLANE.astype("f8").tobytes(),
            {"shape": (41, 61)},
            "wanted 10004 .*, save float32 if",
        ),
        ("npy", broken(), {}, "2 velocities are not finite: repair it"),
        (
            "npy",
            PLANE / 1000,
            {},
            "from 2 to 3.1 m/s, wanted 100 to 12000: they look like km/s: say tiles.units: km/s; if they are a density",
        ),
        ("npy", PLANE, {"units": "km/s"}, "from 2e.06 to 3.1e.06 m/s, wanted 100 to 12000: .* say tiles.units: m/s"),
        ("npy", PLANE / 3100, {}, "from 0.6.* to 1 m/s, wanted 100 to 12000: they look normalised: undo it, low"),
        ("npy", 1 / PLANE, {}, "they look like a slowness in s/m"),
        ("npy", np.where(PLANE < 2300, 0, PLANE), {}, "% are 0, which stands for no rock: fill them"),
        ("npy", (PLANE - 2550) / 550, {}, "from -1 to 1 m/s, .* they look normalised"),
        ("npy", 1.3 * PLANE / 0.3048, {}, "say tiles.units: ft/s"),
        ("npy", PLANE, {"units": "furlong"}, r"'furlong' is no .* as m/s: correct tiles\.units"),
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
