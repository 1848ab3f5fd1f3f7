"""SEG-Y and Seismic Unix as they are met: what headers say is used, what contradicts itself is refused."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import segyfiles

from pullback.ensembles.store import EnsembleReader
from pullback.problems.fwi import Fwi
from pullback.problems.read import read
from pullback.readers.segy import SegyFiles, describe, read_gathers
from pullback.readers.segy_layout import SegyError
from pullback.readers.velocity import read_section
from pullback.simulators.wave_settings import FwiSimulator, Tiles

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases" / "fwi"
A = Fwi(FwiSimulator(sources=[100.0, 500.0], receivers=8)).acquisition
Y = (np.random.default_rng(5).normal(size=A.data_shape) * np.exp(-A.times[:, None])).astype(np.float32)
TRACES = Y.transpose(0, 2, 1).reshape(16, 64)
SOURCE = np.repeat([x for _, x in A.sources], 8)
GROUP = np.tile([x for _, x in A.receivers], 2)
FILE = {"traces": TRACES, "interval": 16_000, "delay": 16, "source": SOURCE, "group": GROUP}
ASCII = b"((SEG: Layout v1.0))".ljust(3200) + b"((SEG: EndText))".ljust(3200)
EBCDIC = "((SEG: EndText))".ljust(3200).encode("cp500")
# Weighting factors as of floating-point field systems: integers of many bits, each trace with its own power of 2.
WEIGHT = np.arange(16)
INTEGERS = [np.rint(t * 2.0**n * 2**8).astype(">i4").tobytes() for t, n in zip(TRACES, WEIGHT, strict=True)]
EXTENSION = b"SEG00001".rjust(240, b"\1")


def with_extension(traces):
    return [EXTENSION + np.asarray(trace, ">f4").tobytes() for trace in traces]


BEGIN = np.arange(16) % 3  # samples before the acquisition's first: each trace begins at a time of its own
READ = {
    "little-endian": {"order": "<"},
    "little-endian, revision swapped": {"order": "<", "revision": b"\0\1"},
    "Seismic Unix": {"suffix": ".su"},
    "Seismic Unix, little-endian": {"suffix": ".su", "order": "<"},
    "IBM": {"code": 1, "samples": 64, "traces": [segyfiles.ibm(t) for t in TRACES]},
    "IBM, little-endian": {"code": 1, "samples": 64, "order": "<", "traces": [segyfiles.ibm(t, "<") for t in TRACES]},
    "doubles": {"code": 6, "samples": 64, "traces": [t.astype(">f8").tobytes() for t in TRACES]},
    "weights": {"code": 2, "samples": 64, "traces": INTEGERS, "weight": WEIGHT},
    "weights of floats": {"weight": 3},
    "samples of rev 2": {"revision": b"\2\0", "samples": 0, "binary": [(3269, "i", 64)]},
    "rev 2 in rev 1": {"revision": b"\1\0", "binary": [(3269, "i", 63), (3273, "d", 4000.0), (3507, "i", 9)]},
    "rev 2 in rev 0": {"binary": [(3521, "Q", 4000), (3513, "Q", 2)], "extended": 77, "text": b""},
    "samples of the traces": {"samples": 0, "count": 64},
    "interval of rev 2": {"revision": b"\2\1", "interval": 0, "binary": [(3273, "d", 16_000.0)]},
    "interval of the traces": {"interval": 0, "own_interval": 16_000},
    "no stanza": {"revision": b"\1\0", "extended": -1},
    "to the end stanza": {"revision": b"\1\0", "extended": -1, "text": ASCII},
    "to the end stanza in EBCDIC": {"revision": b"\1\0", "extended": -1, "text": EBCDIC},
    "more headers of a trace": {
        "revision": b"\2\0",
        "samples": 64,
        "traces": with_extension(TRACES),
        "binary": [(3507, "i", 1)],
    },
    "trailers": {"revision": b"\2\0", "binary": [(3529, "i", 2)], "tail": ASCII},
    "any number of trailers": {"revision": b"\2\0", "binary": [(3513, "Q", 16), (3529, "i", -1)], "tail": ASCII},
    "the first trace elsewhere": {"revision": b"\2\0", "binary": [(3521, "Q", 6800)], "text": b"\1" * 3200},
    "padding": {"tail": bytes(512)},
    "padding shorter than a trace": {"tail": bytes(100)},
    "padding of one trace": {"tail": bytes(496)},
    "feet": {"system": 2, "scalar": -100, "source": np.rint(SOURCE / 0.003048), "group": np.rint(GROUP / 0.003048)},
    "a line across the map": {
        "scalar": -100,
        "source": np.rint(60 * SOURCE),
        "source_y": np.rint(80 * SOURCE),
        "group": np.rint(60 * GROUP),
        "group_y": np.rint(80 * GROUP),
    },
    "a line to the north": {"source": 5000, "source_y": SOURCE, "group": 5000, "group_y": GROUP},
    "a line from 0 to the north": {"source": 0, "source_y": SOURCE, "group": 0, "group_y": GROUP},
    "a line at another Y": {"source_y": 4000, "group_y": 4000},
    "delays that differ": {
        "traces": [np.r_[np.full(n, 9.0), t, np.full(2 - n, 9.0)] for n, t in zip(BEGIN, TRACES, strict=True)],
        "delay": 16 - 16 * BEGIN,
    },
    "sweeps and time breaks": {
        "traces": np.concatenate([TRACES[:3], np.full((2, 64), 9.0), TRACES[3:]]),
        "identification": [1, 1, 1, 6, 4, *[1] * 13],
        "source": [*SOURCE[:3], 0, 0, *SOURCE[3:]],
        "group": [*GROUP[:3], 0, 0, *GROUP[3:]],
        "own_interval": [16_000] * 3 + [500, 500] + [16_000] * 13,
    },
}


def written(folder, suffix=".segy", **changes):
    return segyfiles.write(folder / f"a{suffix}", **{**FILE, **changes})


@pytest.mark.parametrize("case", READ)
def test_gathers_are_read_as_their_headers_say(tmp_path, case):
    found = read_gathers(written(tmp_path, **READ[case]), A)
    wanted = Y * 2**8 if case == "weights" else Y
    exact = not case.startswith(("IBM", "weights"))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if exact else 1 if case == "weights" else 1e-6)


def test_samples_that_are_as_many_both_ways(tmp_path):
    """257 samples are 0x0101."""
    a = Fwi(FwiSimulator(sources=[100.0, 500.0], receivers=8, record_length=257 * 0.016)).acquisition
    y = np.random.default_rng(0).normal(size=a.data_shape).astype(np.float32)
    for order in "<>":
        file = {**FILE, "traces": y.transpose(0, 2, 1).reshape(16, -1), "order": order}
        np.testing.assert_array_equal(read_gathers(segyfiles.write(tmp_path / "a.su", **file), a), y)


def test_dead_traces_and_dummies_are_zero_and_counted(tmp_path, caplog):
    noise = TRACES.copy()
    noise[[2, 5, 9]] = [[1e6], [np.nan], [-1e6]]
    identification = np.ones(16)
    identification[[2, 5, 9]] = [2, 3, 2]
    with caplog.at_level(logging.WARNING, "pullback"):
        found = read_gathers(written(tmp_path, traces=noise, identification=identification), A)
    wanted = TRACES.copy()
    wanted[[2, 5, 9]] = 0
    np.testing.assert_array_equal(found.transpose(0, 2, 1).reshape(16, 64), wanted)
    assert "3 of 16 traces are dead or dummies" in caplog.text


@pytest.mark.parametrize("north", [0, 5_000_000])
def test_dummies_without_places_lie_where_traces_are_missing(tmp_path, north):
    """And more of them than are missing, as where each shot is filled up to one number of traces."""
    number = np.r_[np.arange(16), 3, 3]
    dead = np.isin(np.arange(18), [2, 5, 16, 17])
    places = {"source": SOURCE, "group": GROUP, "source_y": np.full(16, north), "group_y": np.full(16, north)}
    headers = {name: np.where(dead, 0, values[number]) for name, values in places.items()}
    depths = {"source_depth": np.where(dead, 0, 20), "elevation": np.where(dead, 0, -20), "elevation_scalar": 1}
    path = written(tmp_path, traces=TRACES[number], identification=np.where(dead, 3, 1), **headers, **depths)
    wanted = TRACES.copy()
    wanted[[2, 5]] = 0
    np.testing.assert_array_equal(read_gathers(path, A).transpose(0, 2, 1).reshape(16, 64), wanted)
    few = written(tmp_path, traces=TRACES[2:], identification=[3, *[1] * 13], source=SOURCE[2:], group=GROUP[2:])
    with pytest.raises(SegyError, match="has 6 traces, wanted 8: repair the file"):
        read_gathers(few, A)


def swapped(values):
    return [np.asarray(t, "<f4").tobytes() for t in values]


CROSSED = {"source_y": 300}
CROOKED = {"group_y": np.rint(GROUP**2 / 620)}
OTHER = "in bytes 3225-3226 is {}, and its samples look like {}: write the right code there"
REFUSED = {
    "IEEE said to be IBM": ({"code": 1}, OTHER.format(r"1 \(IBM float\)", r"IEEE float \(5\)")),
    "IBM said to be IEEE": (
        {"samples": 64, "traces": [segyfiles.ibm(t) for t in TRACES]},
        OTHER.format(r"5 \(IEEE float\)", r"IBM float \(1\)"),
    ),
    "IBM in Seismic Unix": (
        {"suffix": ".su", "samples": 64, "traces": [segyfiles.ibm(t) for t in TRACES]},
        r"Seismic Unix holds IEEE float, and its samples look like IBM float \(1\): convert",
    ),
    "IEEE said to be int32": ({"code": 2}, OTHER.format(r"2 \(int32\)", r"IEEE float \(5\)")),
    "int32 said to be IEEE": (
        {"samples": 64, "traces": [np.rint(1000 * t).astype(">i4").tobytes() for t in TRACES]},
        OTHER.format(r"5 \(IEEE float\)", r"int32 \(2\)"),
    ),
    "samples in the other order": (
        {"samples": 64, "traces": swapped(TRACES)},
        r"samples look like floats in little-endian order, unlike the headers",
    ),
    "two intervals": (
        {"own_interval": 4000},
        r"interval is 16000 by the binary header \(bytes 3217-3218\) and 4000 by trace 0 \(bytes 117-118\): correct",
    ),
    "two intervals in Seismic Unix": (
        {"suffix": ".su", "own_interval": [16_000] * 15 + [8000]},
        r"is 16000 by the first trace \(bytes 117-118\) and 8000 by trace 15",
    ),
    "milliseconds": ({"interval": 16}, "a sample every 16 microseconds, wanted 16000: these look like milliseconds"),
    "late traces": ({"delay": 16 + 16 * BEGIN}, r"samples begin at 0\.016 to 0\.048 s \(DelayRecordingTime"),
    "all late": ({"delay": 100}, r"samples begin at 0\.1 s \(DelayRecordingTime"),
    "only sweeps": ({"identification": 6}, r"no trace is a record of a receiver \(4 to 10 in bytes 29-30"),
    "only dead traces": ({"identification": 2}, r"no trace is live \(2 and 3 in bytes 29-30"),
    "receivers beside": (CROSSED, r"sources at Y from 300 to 300 m and receivers at Y from 0 to 0 m .*project: x"),
    "receivers on a curve": (CROOKED, r"receivers at Y from 0 to 620 m .* lie up to \d.* m beside .*project: line"),
    "a weight of no integer": (
        {"code": 2, "samples": 64, "traces": INTEGERS, "weight": 1000},
        r"trace 0 has a weighting factor of 2\^-1000 \(bytes 169-170\), wanted",
    ),
    "more text than there is": ({"revision": b"\1\0", "extended": -2}, r"-2 more textual headers \(3505-3506\)"),
    "the first trace beyond the end": ({"revision": b"\2\0", "binary": [(3521, "Q", 2**63)]}, "0 whole traces"),
    "more traces than there are": ({"revision": b"\2\0", "binary": [(3513, "Q", 17)]}, "17 of them by bytes 3513-3520"),
    "large headers": ({"revision": b"\2\0", "binary": [(3507, "i", 2**30)]}, "0 whole traces"),
    "something at the end": ({"tail": bytes(99) + b"x"}, "16 whole traces and 100 bytes more"),
    "an empty Seismic Unix": ({"suffix": ".su", "count": 0}, r"first trace has 0 or 0 samples \(bytes 115-116"),
    "a cut Seismic Unix": ({"suffix": ".su", "tail": b"xy"}, r"64 or 16384 samples .* do not fill it: truncated"),
    "said to be in feet": ({"system": 2}, r"lengths are in feet \(bytes 3255-3256 hold 2\), wanted 1 \(metres\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused_in_one_line(tmp_path, case):
    changes, words = REFUSED[case]
    path = written(tmp_path, **changes)
    with pytest.raises(SegyError, match=words) as caught:
        read_gathers(path, A)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_seismic_unix_by_another_name(tmp_path):
    path = written(tmp_path, suffix=".su").rename(tmp_path / "a.segy")
    with pytest.raises(SegyError, match=r"format code .* or name it \.su: its length is that of Seismic Unix"):
        read_gathers(path, A)
    with pytest.raises(SegyError, match=r"or it is SEG-Y and its name ends in \.segy"):
        read_gathers(written(tmp_path).rename(tmp_path / "b.su"), A)


@pytest.mark.parametrize(("line", "beside"), [(CROSSED, "300"), (CROOKED, "620")])
def test_positions_beside_a_line_are_projected_where_the_study_says_so(tmp_path, caplog, line, beside):
    with caplog.at_level(logging.WARNING, "pullback"):
        np.testing.assert_array_equal(read_gathers(written(tmp_path, **line), A, project="x"), Y)
    assert f"sources and receivers up to {beside} m beside the line are projected onto it" in caplog.text


def test_the_closest_line(tmp_path):
    """Offsets along a line to the north-east, of receivers that stand 2 m to its sides in turn."""
    aside = 2.0 * (-1) ** np.arange(16)
    xy = {
        "source": 60 * SOURCE,
        "source_y": 80 * SOURCE,
        "group": np.rint(60 * GROUP - 80 * aside),
        "group_y": np.rint(80 * GROUP + 60 * aside),
    }
    path = written(tmp_path, scalar=-100, **xy)
    with pytest.raises(SegyError, match=r"m beside a straight line"):
        read_gathers(path, A)
    np.testing.assert_array_equal(read_gathers(path, A, project="line"), Y)
    with pytest.raises(SegyError, match=r"source offsets from 60 to 300 m, wanted 100 to 500 m"):
        read_gathers(path, A, project="x")


def test_a_study_reads_them(tmp_path):
    """Two events: Seismic Unix with a dead trace, and SEG-Y of receivers beside the line of shots."""
    files = [
        written(tmp_path, suffix=".su", order="<", identification=[2, *[1] * 15]),
        written(tmp_path, **CROSSED),
    ]
    simulator = {"sources": [100.0, 500.0], "receivers": 8}
    names = {"problem": "waves", "kind": "fwi", "family": "line", "split": "test", "simulator": simulator}
    job = {**names, "read": {"kind": "segy", "project": "x"}, "first_file": 0, "truth": False}
    read(json.dumps(job), files, [], tmp_path / "a.h5")
    with EnsembleReader(tmp_path / "a.h5") as reader:
        y = reader.read("y")
    np.testing.assert_array_equal(y[1], Y)
    assert (y[0, 0, :, 0] == 0).all()
    np.testing.assert_array_equal(y[0, 1], Y[1])


def test_shots_in_files_of_their_own_are_one_event(tmp_path):
    shots = []
    for shot, order in enumerate("<>"):
        rows = slice(8 * shot, 8 * shot + 8)
        one = {"traces": TRACES[rows], "source": SOURCE[rows], "group": GROUP[rows], "order": order}
        shots.append(written(tmp_path, **one).rename(tmp_path / f"shot{shot}.segy"))
    np.testing.assert_array_equal(read_gathers(shots, A), Y)
    whole = written(tmp_path)
    study = {"kind": "segy", "files": {"test": [list(map(str, shots[::-1])), str(whole)]}}
    job = {
        **{"problem": "waves", "kind": "fwi", "family": "line", "split": "test", "first_file": 3, "truth": False},
        "simulator": {"sources": [100.0, 500.0], "receivers": 8},
        "read": {"kind": "segy"},
        "files": SegyFiles(**study).files["test"],
    }
    read(json.dumps(job), [*shots[::-1], whole], [], tmp_path / "a.h5")
    with EnsembleReader(tmp_path / "a.h5") as reader:
        np.testing.assert_array_equal(reader.read("y"), [Y, Y])
        assert reader.read("event_id").tolist() == [3 << 32, 4 << 32]
        assert json.loads(reader.attributes["source_files"]) == ["shot1.segy, shot0.segy", "a.segy"]
    with pytest.raises(SegyError, match=r"shot1\.segy and 1 more: the shot at 500 m has 16 traces, wanted 8|1 shots"):
        read_gathers([shots[1], shots[1]], A)
    with pytest.raises(
        SegyError, match=r"a\.su: the format: found Seismic Unix, in .*shot0\.segy of the same event SEG-Y"
    ):
        read_gathers([shots[0], written(tmp_path, suffix=".su")], A)
    with pytest.raises(ValueError, match=r"shot0\.segy is twice in test"):
        SegyFiles(kind="segy", files={"test": [[str(shots[0]), str(shots[0])]]})


# What a file holds


def test_what_a_file_holds(tmp_path):
    ricker = np.sin(2 * np.pi * 7.8125 * A.times) * np.hanning(64)
    gathers = {"traces": np.tile(ricker, (16, 1)), "identification": [2, *[1] * 15], "source_y": 300, "scalar": -1}
    found = describe(written(tmp_path, **gathers))
    wanted = {
        "format": "SEG-Y",
        "byte order": "big-endian",
        "revision": "0.0",
        "sample format": "IEEE float (5)",
        "traces": 16,
        "dead traces": 1,
        "shots": 2,
        "receivers per shot": "8",
        "samples": 64,
        "sample interval": "16000 (us of a record, mm of a section in depth)",
        "first sample": "16 (ms of a record, m of a section in depth)",
        "coordinate scalar": "-1",
        "source X (m)": "100 to 500",
        "source Y (m)": "300",
        "receiver X (m)": "0 to 620",
        "receiver Y (m)": "0",
        "peak of the spectrum (Hz, of a record)": 7.812,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert list(wanted) == [name for name in found if name in wanted]
    assert found["amplitude"] == f"{np.float32(ricker.min()):.9g} to {np.float32(ricker.max()):.9g}"
    unix = describe(written(tmp_path, suffix=".su", order="<"))
    assert (unix["format"], unix["byte order"], unix["traces"]) == ("Seismic Unix", "little-endian", 16)


def test_the_block_that_reads_a_file(tmp_path):
    path = written(tmp_path, **CROOKED)
    found = SegyFiles.inspect(path)
    assert found.read == {"kind": "segy", "files": {"test": [str(path)]}, "project": "x"}
    assert ("receiver Y (m)", "0 to 620") in found.lines
    assert [plot.shape for plot in found.plots.values()] == [(64, 8), (64, 8)]
    assert "project" not in SegyFiles.inspect(written(tmp_path)).read
    refused = SegyFiles.inspect(written(tmp_path, code=1))
    assert refused.read is None
    assert "look like IEEE float (5)" in refused.hint
    section = SegyFiles.inspect(written(tmp_path, traces=2000 + np.abs(TRACES), source=0, cdp=25 * np.arange(16)))
    assert section.read is None
    assert "name it under `models` of a family" in section.hint


def test_what_a_file_holds_that_is_refused(tmp_path):
    found = describe(written(tmp_path, code=1, own_interval=4000))
    assert found["sample format"] == "IBM float (1); the samples look like IEEE float (5)"
    assert found["sample interval of traces"] == "4000"
    nan = TRACES.copy()
    nan[3, 4] = np.nan
    assert describe(written(tmp_path, traces=nan))["samples that are not finite"] == 1
    short = tmp_path / "short.segy"
    short.write_bytes(bytes(200))
    with pytest.raises(SegyError, match="shorter than the 3600"):
        describe(short)


# The files of ../shared/cases


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_the_cases():
    truth = np.load(CASES / "truth.npz")["y"][0]
    full = Fwi(FwiSimulator()).acquisition
    for name in ("gathers.segy", "little_endian.segy", "gathers.su"):
        np.testing.assert_array_equal(read_gathers(CASES / name, full), truth)
    dead = (read_gathers(CASES / "dead_traces_flagged.segy", full) == 0).all(axis=1)
    assert dead.sum() - (truth == 0).all(axis=1).sum() == 5
    few = Fwi(FwiSimulator(sources=2, receivers=8)).acquisition
    valid = read_gathers(CASES / "gathers" / "valid.segy", few)
    for name in ("rev2s", "ext-1", "padded"):
        np.testing.assert_array_equal(read_gathers(CASES / "gathers" / f"{name}.segy", few), valid)
    weighted = read_gathers(CASES / "gathers" / "weight.segy", few)
    np.testing.assert_allclose(weighted, 1e6 * valid, atol=1e-3 * np.abs(weighted).max())
    for name, a in {"ieee_said_ibm": full, "interval_differs": full, "gathers/ibm_said_ieee": few}.items():
        with pytest.raises(SegyError):
            read_gathers(CASES / f"{name}.segy", a)
    for name in ("crossline", "crooked"):
        path = CASES / "gathers" / f"{name}.segy"
        with pytest.raises(SegyError, match=r"read\.project"):
            read_gathers(path, few)
        np.testing.assert_array_equal(read_gathers(path, few, project="x"), valid)
    rock = read_section(Tiles(file=str(CASES / "sections" / "sec.segy"))).velocity
    unsorted = Tiles(file=str(CASES / "sections" / "sec_unsorted.segy"), spacing=12.5)
    np.testing.assert_array_equal(read_section(unsorted).velocity, rock)
    with pytest.raises(SegyError, match="a cube of 5 inlines"):
        read_section(Tiles(file=str(CASES / "sections" / "cube.segy"), spacing=12.5))
