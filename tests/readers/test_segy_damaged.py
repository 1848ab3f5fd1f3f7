"""Damaged SEG-Y and Seismic Unix files: an answer or one line, soon and within the memory that the file takes."""

import os
import struct
import time
import tracemalloc

import numpy as np
import pytest
import segyfiles

from pullback.problems.fwi import Fwi
from pullback.readers.base import ReadError
from pullback.readers.segy import SegyFiles, read_gathers, read_model
from pullback.simulators.wave_settings import FwiSimulator

SEEDS, SAMPLE = 300, 15
KINDS = ("big", "little", "ibm", "unix", "section", "unix-section")
SECONDS, MEGABYTES = 10, 40
A = Fwi(FwiSimulator(sources=[100.0, 500.0], receivers=8)).acquisition
EXTREMES = (0, 1, -1, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31), 2**63 - 1)
PLACES = (3213, 3217, 3221, 3225, 3255, 3269, 3273, 3297, 3501, 3503, 3505, 3507, 3513, 3521, 3529)


def whole(folder, kind, rng):
    """One of the files that are damaged."""
    y = rng.normal(size=A.data_shape).astype(np.float32).transpose(0, 2, 1).reshape(16, -1)
    where = {"source": np.repeat([x for _, x in A.sources], 8), "group": np.tile([x for _, x in A.receivers], 2)}
    file = {"traces": y, "interval": 16_000, "delay": 16, **where}
    rock = {"traces": 2000 + 100 * np.abs(y), "interval": 12_500, "cdp": 25 * np.arange(16)}
    changes = {
        "big": file,
        "little": {**file, "order": "<", "revision": b"\2\0", "binary": [(3269, "i", 64), (3273, "d", 16e3)]},
        "ibm": {**file, "traces": [segyfiles.ibm(t) for t in y], "code": 1, "samples": 64, "extended": 1},
        "unix": file,
        "section": rock,
        "unix-section": {**rock, "cdp": 0, "d1": 12.5, "d2": 25.0, "order": "<"},
    }
    return segyfiles.write(folder / ("a.su" if "unix" in kind else "a.segy"), **changes[kind])


def damage(content, rng, has_head):
    """A file with flipped bytes, cut, longer, or with numbers at their extremes in its headers."""
    content = bytearray(content)
    start = 3600 if has_head else 0
    way = rng.integers(5)
    if way == 0:
        for place in rng.integers(3200 if has_head else 0, len(content), rng.integers(1, 30)):
            content[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        content = content[: rng.integers(len(content))]
    elif way == 2:
        content += rng.bytes(int(rng.integers(1, 5000))) if rng.random() < 0.5 else bytes(int(rng.integers(1, 5000)))
    else:
        for _ in range(rng.integers(1, 4)):
            kind = "<>"[rng.integers(2)] + "hiq"[rng.integers(3)]
            trace = start + 496 * int(rng.integers(8)) + int(rng.integers(0, 116)) * 2
            place = int(rng.choice(PLACES)) - 1 if has_head and way == 3 else trace
            limit = 2 ** (8 * struct.calcsize(kind) - 1)
            value = int(EXTREMES[rng.integers(len(EXTREMES))])
            struct.pack_into(kind, content, place, max(-limit, min(limit - 1, value)))
    return bytes(content)


def look(read, path):
    """What comes of a file, within its time and memory."""
    tracemalloc.reset_peak()
    before = time.monotonic()
    try:
        read(path)
        said = ""
    except ReadError as error:
        said = str(error)
    assert time.monotonic() - before < SECONDS
    assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 2**20
    return said


SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: 300 damaged files")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [range(SAMPLE), pytest.param(range(SAMPLE, SEEDS), marks=SLOW)])
def test_damaged_files_are_answered_or_refused_in_one_line(tmp_path, seeds):
    tracemalloc.start()
    refused = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        path = whole(tmp_path, KINDS[seed % len(KINDS)], rng)
        path.write_bytes(damage(path.read_bytes(), rng, path.suffix == ".segy"))
        for read in (lambda path: read_gathers(path, A), read_model, SegyFiles.inspect):
            try:
                said = look(read, path)
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
            assert "\n" not in said
            assert not said or str(path) in said
            refused.append(bool(said))
    tracemalloc.stop()
    assert 0 < sum(refused) < len(refused)
