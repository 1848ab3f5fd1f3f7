"""SEG-Y: what is written stands where the standard says, and what is read is what the bytes say."""

import logging
import struct

import numpy as np
import pytest
import segyfiles

from pullback.problems.fwi import Fwi
from pullback.readers.section import Section
from pullback.readers.segy import read_gathers, read_model
from pullback.readers.segy_layout import SegyError
from pullback.readers.velocity import VelocityFileError, read_section
from pullback.report.segy import write_gathers, write_model
from pullback.simulators.wave_settings import FwiSimulator, Tiles

SETTINGS = {
    "sources": [40.0, 310.0],
    "receivers": [0.0, 100.0, 620.0],
    "source_depth": 20.0,
    "receiver_depth": 30.0,
    "record_length": 0.16,
}


def acquisition(**settings):
    return Fwi(FwiSimulator(**{**SETTINGS, **settings})).acquisition


def gathers(a, seed=0):
    return np.random.default_rng(seed).normal(size=a.data_shape).astype(np.float32)


def raw(a, y, **columns):
    """A file's traces and columns for `segyfiles.write`: gathers of an acquisition, metres with scalar 1."""
    n, m = len(a.sources), len(a.receivers)
    return {
        "traces": y.transpose(0, 2, 1).reshape(n * m, -1),
        "interval": round(1e6 * a.output_interval),
        "delay": round(1e3 * a.output_interval),
        "source": np.repeat([x for _, x in a.sources], m),
        "group": np.tile([x for _, x in a.receivers], n),
        **columns,
    }


def test_gathers_stand_where_the_standard_says(tmp_path):
    a = acquisition()
    y = gathers(a)
    write_gathers(tmp_path / "a.segy", y, a, "field line 7")
    text, binary, fields, values = segyfiles.read(tmp_path / "a.segy")
    assert text.startswith("C 1 WRITTEN BY PULLBACK")
    assert "FIELD LINE 7" in text.upper()
    assert binary == {"interval": 16_000, "samples": 10, "code": 5, "system": 1, "revision": 1}
    assert fields["source"].tolist() == [40_000] * 3 + [310_000] * 3
    assert fields["group"].tolist() == [0, 100_000, 620_000] * 2
    assert set(fields["scalar"]) == set(fields["elevation_scalar"]) == {-1000}
    assert set(fields["source_depth"]) == {20_000}
    assert set(fields["elevation"]) == {-30_000}
    assert set(fields["delay"]) == {16}
    assert set(fields["count"]) == {10}
    np.testing.assert_array_equal(values[4], y[1, :, 1])
    np.testing.assert_array_equal(read_gathers(tmp_path / "a.segy", a), y)


def test_gathers_between_nodes_come_back(tmp_path):
    """Positions that are no whole millimetres, an interval that is no whole microsecond, places in any order."""
    a = acquisition(
        sources=[310.00049, 40.12345], receivers=[620.0, 0.0, 77.7777], output_interval=1 / 128, record_length=0.125
    )
    y = gathers(a)
    write_gathers(tmp_path / "a.segy", y, a)
    assert segyfiles.read(tmp_path / "a.segy")[1]["interval"] == 7812
    np.testing.assert_array_equal(read_gathers(tmp_path / "a.segy", a), y)


@pytest.mark.parametrize(("scalar", "unit"), [(0, 1), (1, 1), (-100, 0.01), (10, 10), (-1, 1)])
def test_traces_in_any_order_with_any_scalar(tmp_path, scalar, unit):
    a = acquisition(spacing=100.0, sources=[400.0, 3100.0], receivers=[0.0, 1000.0, 3100.0], source_depth=100.0)
    y = gathers(a)
    file = raw(a, y, scalar=scalar)
    order = np.random.default_rng(3).permutation(6)
    file["traces"] = file["traces"][order]
    for name in ("source", "group"):
        file[name] = np.rint(file[name][order] / unit)
    segyfiles.write(tmp_path / "a.segy", **file)
    np.testing.assert_array_equal(read_gathers(tmp_path / "a.segy", a), y)


def test_depths_are_compared_where_they_are(tmp_path):
    a = acquisition()
    file = raw(a, gathers(a), elevation_scalar=-10, source_depth=200, elevation=-300)
    read_gathers(segyfiles.write(tmp_path / "a.segy", **file), a)
    with pytest.raises(SegyError, match="receiver depths from 31 to 31 m, wanted 30 to 30 m"):
        read_gathers(segyfiles.write(tmp_path / "b.segy", **{**file, "elevation": -310}), a)


def test_depths_have_a_unit_of_their_own(tmp_path):
    """Offsets in millimetres beside depths in whole metres, and the other way round."""
    a = acquisition(source_depth=12.5)
    y = gathers(a)
    fine = raw(a, y, scalar=-1000, source_depth=12, elevation=-30)
    fine |= {name: 1000 * fine[name] for name in ("source", "group")}
    np.testing.assert_array_equal(read_gathers(segyfiles.write(tmp_path / "a.segy", **fine), a), y)
    coarse = raw(a, y, elevation_scalar=-1000, source_depth=12_990, elevation=-30_000)
    with pytest.raises(SegyError, match=r"source depths from 12\.99 to 12\.99 m, wanted 12\.5"):
        read_gathers(segyfiles.write(tmp_path / "b.segy", **coarse), a)


def test_the_delay_has_a_scalar(tmp_path):
    a = acquisition()
    y = gathers(a)
    tenths = segyfiles.write(tmp_path / "a.segy", **raw(a, y, delay=160, time_scalar=-10))
    np.testing.assert_array_equal(read_gathers(tenths, a), y)
    with pytest.raises(SegyError, match=r"samples begin at 0\.16 "):
        read_gathers(segyfiles.write(tmp_path / "b.segy", **raw(a, y, delay=16, time_scalar=10)), a)


def test_a_record_that_begins_at_time_zero_loses_that_sample(tmp_path):
    a = acquisition()
    y = gathers(a)
    longer = np.concatenate([np.full((2, 1, 3), 7.0, np.float32), y], axis=1)
    np.testing.assert_array_equal(read_gathers(segyfiles.write(tmp_path / "a.segy", **raw(a, longer, delay=0)), a), y)
    np.testing.assert_array_equal(
        read_gathers(segyfiles.write(tmp_path / "b.segy", **raw(a, np.pad(y, ((0, 0), (3, 0), (0, 0))), delay=-32)), a),
        y,
    )


def test_a_record_that_does_not_say_when_it_begins_is_taken_with_a_warning(tmp_path, caplog):
    a = acquisition()
    y = gathers(a)
    with caplog.at_level(logging.WARNING, "pullback"):
        found = read_gathers(segyfiles.write(tmp_path / "a.segy", **raw(a, y, delay=0)), a)
    np.testing.assert_array_equal(found, y)
    assert "its first sample is taken as that at 0.016 s" in caplog.text


@pytest.mark.parametrize(
    ("code", "packed"),
    [
        # IBM: sign, exponent of 16 in excess of 64, fraction. -118.625 is the example of IBM's manual.
        (1, struct.pack(">10I", 0xC276A000, 0x41100000, *[0] * 8)),
        (3, struct.pack(">10h", -119, 1, *[0] * 8)),
        (2, struct.pack(">10i", -119, 1, *[0] * 8)),
    ],
)
def test_other_formats(tmp_path, code, packed):
    a = acquisition(sources=[40.0], receivers=[0.0])
    file = raw(a, gathers(a)) | {"traces": [packed], "code": code, "samples": 10}
    found = read_gathers(segyfiles.write(tmp_path / "a.segy", **file), a)[0, :, 0]
    assert found.tolist() == [-118.625 if code == 1 else -119.0, 1.0, *[0.0] * 8]


def test_a_file_with_more_textual_headers(tmp_path):
    a = acquisition()
    y = gathers(a)
    np.testing.assert_array_equal(read_gathers(segyfiles.write(tmp_path / "a.segy", **raw(a, y, extended=2)), a), y)


def without(rows, **columns):
    """Leave out traces."""

    def change(file):
        keep = [i for i in range(6) if i not in rows]
        return {**file, **{name: np.asarray(file[name])[keep] for name in ("traces", "source", "group")}, **columns}

    return change


def scaled(factor, shift=0.0):
    return lambda file: {**file, **{k: np.rint(np.asarray(file[k]) * factor + shift) for k in ("source", "group")}}


def spoilt(value):
    def change(file):
        traces = file["traces"].copy()
        traces[4, 7] = value
        return {**file, "traces": traces}

    return change


BAD = {
    "zero coordinates": (
        scaled(0),
        r"SourceX and GroupX \(bytes 73 and 81\) are zero in every trace: write the offsets",
    ),
    "feet by the header": (lambda f: f | {"system": 2}, r"lengths are in feet \(bytes 3255-3256 hold 2\), wanted"),
    "feet by their size": (
        lambda f: scaled(100 * 3.28084)(f) | {"scalar": -100},
        r"source offsets from 131\.23 to 1017\.06 m, wanted 40 to 310 m .*these look like feet: convert them to metres",
    ),
    "a forgotten scalar": (
        scaled(1000),
        r"from 40000 to 310000 m, wanted 40 to 310 m .*all are 1000 times too large: the scalar .* was forgotten",
    ),
    "another scalar": (lambda f: f | {"scalar": -10}, r"all are 0\.1 times too large: the scalar"),
    "another origin": (scaled(1, 5000), r"from 5040 to 5310 m, wanted 40 to 310 m .*all lie \+5000 m off: shift them"),
    "one receiver elsewhere": (
        lambda f: f | {"group": np.array([0, 100, 620, 0, 120, 620])},
        r"receiver offsets from 0 to 620 m, wanted 0 to 620 m \(number 1 is 120, wanted 100\); correct the headers",
    ),
    "angles": (lambda f: f | {"units": 2}, r"coordinates are angles \(bytes 89-90 hold 2\), wanted lengths"),
    "a shot is missing": (without([3, 4, 5]), r"1 shots, with sources from 40 to 40 m; wanted 2 from 40 to 310 m"),
    "a trace is missing": (without([4]), r"the shot at 310 m has 2 traces, wanted 3"),
    "a longer record": (
        lambda f: f | {"traces": np.pad(f["traces"], ((0, 0), (0, 2)))},
        r"12 samples from 0\.016 s on, wanted 10: cut it, or set record_length",
    ),
    "another interval": (
        lambda f: f | {"interval": 8000},
        r"a sample every 8000 microseconds, wanted 16000: resample it, or set output_interval",
    ),
    "no interval": (lambda f: f | {"interval": 0}, r"the sample interval \(bytes 3217-3218\) is 0"),
    "another beginning": (lambda f: f | {"delay": 100}, r"samples begin at 0\.1 .*wanted 0\.016 s or whole intervals"),
    "two beginnings": (lambda f: f | {"delay": np.array([16] * 5 + [32])}, r"at 0\.016 to 0\.032 s .*in all traces"),
    "NaN": (spoilt(np.nan), r"1 samples are not finite, the first is sample 7 of trace 4: repair"),
    "infinity": (spoilt(-np.inf), r"1 samples are not finite, the first is sample 7 of trace 4: repair"),
    "an unknown format": (lambda f: f | {"code": 4}, r"format code 4 in bytes 3225-3226, wanted 1, 2, 3, 5, 8"),
    "no samples": (lambda f: f | {"samples": 0}, r"0 samples in a trace \(bytes 3221-3222\)"),
    "other traces": (
        lambda f: f | {"samples": 11},
        r"5280 bytes, wanted 3600 \+ traces x 284 .*5 whole traces and 260 bytes",
    ),
    "a trace that disagrees": (
        lambda f: f | {"count": np.array([10, 0, 10, 9, 10, 10])},
        r"trace 3 says 9 samples \(bytes 115-116\), the file 10",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_gathers_are_refused_in_one_line(tmp_path, case):
    change, words = BAD[case]
    a = acquisition()
    path = segyfiles.write(tmp_path / "bad.segy", **change(raw(a, gathers(a))))
    with pytest.raises(SegyError, match=words) as caught:
        read_gathers(path, a)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kept", [0, 100, 3599, 3600, 3700, -1, -40, -280])
def test_truncated_files(tmp_path, kept):
    a = acquisition()
    path = segyfiles.write(tmp_path / "a.segy", **raw(a, gathers(a)))
    path.write_bytes(path.read_bytes()[:kept])
    # Without its last trace alone it is whole, and its last shot is short.
    with pytest.raises(SegyError, match="the shot at 310 m has 2 traces" if kept == -280 else "fetch it again"):
        read_gathers(path, a)


def test_what_is_no_segy_or_not_there(tmp_path):
    (tmp_path / "a.segy").write_bytes(b"PK\x03\x04" * 2000)
    with pytest.raises(SegyError, match="format code"):
        read_gathers(tmp_path / "a.segy", acquisition())
    with pytest.raises(SegyError, match=r"cannot be read \(No such file"):
        read_gathers(tmp_path / "b.segy", acquisition())


# Sections


VELOCITY = np.random.default_rng(1).uniform(1500, 4500, (7, 5)).astype(np.float32)


@pytest.mark.parametrize("spacing", [(20.0, 12.5), (690 / 31, 1 / 3)])
def test_a_section_stands_where_the_standard_says(tmp_path, spacing):
    depth, offset = spacing
    write_model(tmp_path / "a.segy", Section(VELOCITY, spacing), "the mean")
    text, binary, fields, values = segyfiles.read(tmp_path / "a.segy")
    assert "SECTION IN DEPTH" in text
    assert "THE MEAN" in text.upper()
    assert (binary["interval"], binary["samples"], binary["code"]) == (round(1000 * depth), 7, 5)
    for name in ("cdp", "source", "group"):
        assert np.abs(fields[name] / 1000 - offset * np.arange(5)).max() <= 0.0005
    assert set(fields["scalar"]) == {-1000}
    np.testing.assert_array_equal(values, VELOCITY.T)
    section = read_model(tmp_path / "a.segy")
    np.testing.assert_array_equal(section.velocity, VELOCITY)
    # Within a millimetre at the far ends.
    assert abs(section.spacing[0] - depth) * 6 < 1e-3
    assert abs(section.spacing[1] - offset) * 4 < 1.1e-3


def test_a_section_of_another_program(tmp_path):
    """Metres in GroupX alone, traces in any order, the interval in millimetres."""
    order = [3, 0, 4, 1, 2]
    segyfiles.write(tmp_path / "a.sgy", VELOCITY.T[order], interval=6250, group=np.array(order) * 25 + 1000)
    section = read_model(tmp_path / "a.sgy")
    np.testing.assert_array_equal(section.velocity, VELOCITY)
    assert section.spacing == (6.25, 25.0)


@pytest.mark.parametrize("degrees", [45, 90, 135, 0.1])
def test_a_section_across_the_map(tmp_path, degrees):
    """Distances are along the line, whatever its direction."""
    along = np.arange(5) * 25.0
    x, y = (np.rint(100 * (5e5 + along * f(np.radians(degrees)))) for f in (np.cos, np.sin))
    section = read_model(segyfiles.write(tmp_path / "a.sgy", VELOCITY.T, interval=6250, scalar=-100, cdp=x, cdp_y=y))
    assert section.spacing == pytest.approx((6.25, 25.0), abs=0.01)
    # Eastward: of a line to the north-west the last trace comes first.
    np.testing.assert_array_equal(section.velocity, VELOCITY[:, ::-1] if degrees == 135 else VELOCITY)


def test_a_crooked_section_is_refused(tmp_path):
    path = segyfiles.write(tmp_path / "a.sgy", VELOCITY.T, interval=6250, cdp=np.arange(5) * 25, cdp_y=[0, 0, 9, 0, 0])
    with pytest.raises(SegyError, match=r"traces lie up to 7\.2 m beside a straight line by CDP_X"):
        read_model(path)


def test_where_a_section_begins(tmp_path):
    path = segyfiles.write(tmp_path / "a.sgy", VELOCITY.T, interval=6250, cdp=np.arange(5) * 25 + 5000, delay=400)
    assert read_model(path).origin == (400.0, 5000.0)
    path = segyfiles.write(tmp_path / "b.sgy", VELOCITY.T, interval=6250, cdp=np.arange(5) * 25, delay=[0, 0, 4, 0, 0])
    with pytest.raises(SegyError, match=r"traces begin at 0 to 4 m .* wanted one depth"):
        read_model(path)


def test_sections_that_say_nothing_of_distances(tmp_path):
    path = segyfiles.write(tmp_path / "a.sgy", VELOCITY.T, interval=6250)
    with pytest.raises(SegyError, match=r"are 0 m in every trace: write offsets there, or give tiles\.spacing"):
        read_model(path)
    uneven = segyfiles.write(tmp_path / "b.sgy", VELOCITY.T, interval=6250, cdp=np.array([0, 10, 20, 31, 40]))
    with pytest.raises(SegyError, match="traces lie 9 to 11 m apart by CDP_X, wanted one distance"):
        read_model(uneven)
    assert read_section(Tiles(file=str(path), spacing=10.0)).spacing == (10.0, 10.0)


def test_tiles_are_cut_from_segy(tmp_path):
    write_model(tmp_path / "a.segy", Section(VELOCITY / 1000, (20.0, 12.5)))
    section = read_section(Tiles(file=str(tmp_path / "a.segy"), units="km/s"))
    np.testing.assert_allclose(section.velocity, VELOCITY, rtol=1e-6)
    assert section.spacing == (20.0, 12.5)
    with pytest.raises(VelocityFileError, match=r"say tiles\.units: km/s"):
        read_section(Tiles(file=str(tmp_path / "a.segy")))


def test_what_cannot_be_said_is_not_written(tmp_path):
    (tmp_path / "a.segy").write_bytes(b"before")
    with pytest.raises(SegyError, match=r"sample interval of 40000 does not fit .* 1 to 32767"):
        write_model(tmp_path / "a.segy", Section(VELOCITY, (40.0, 12.5)))
    a = acquisition()
    with pytest.raises(SegyError, match=r"shape \(2, 3, 10\), the acquisition records \(2, 10, 3\)"):
        write_gathers(tmp_path / "a.segy", gathers(a).transpose(0, 2, 1), a)
    assert (tmp_path / "a.segy").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.segy"]
