"""Damaged ROOT files: an answer, or one clear line; never another error, much time or memory, or a file left behind."""

import os
import resource
import signal
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
from rootfiles import collisions, read_job, write

from pullback.problems.read import read
from pullback.readers.base import ReadError
from pullback.readers.root import RootFiles

SECONDS = 10
MEMORY = 2 << 30
"""Bytes beside those that the process has."""
EXTREMES = [
    bytes(8),
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\x80" + bytes(7),
    (1 << 40).to_bytes(8),
    b"\x00" * 3 + b"\x01",
]


class OutOfTimeError(BaseException):
    """What no handler of errors takes for one."""


@contextmanager
def limits():
    """Time and memory are limited inside."""

    def stop(*_):
        raise OutOfTimeError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def damaged(content: bytes, seed: int) -> bytes:
    """A damaged copy: bits flipped, cut, numbers at extremes, or a part overwritten by another."""
    rng = np.random.default_rng(seed)
    out = bytearray(content)
    kind = seed % 5
    if kind == 0:
        for place in rng.integers(4, len(out), rng.integers(1, 30)):
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        out = out[: int(rng.integers(0, len(out)))]
        if rng.random() < 0.7 and len(out) > 300:  # a header that says that this is all
            out[12:16] = len(out).to_bytes(4)
    elif kind == 2:
        for place in rng.integers(4, 300 if rng.random() < 0.5 else len(out) - 8, rng.integers(1, 4)):
            extreme = EXTREMES[int(rng.integers(len(EXTREMES)))]
            out[place : place + len(extreme)] = extreme
    elif kind == 3:
        start, length = int(rng.integers(4, len(out))), int(rng.integers(1, 400))
        out[start : start + length] = bytes(len(out[start : start + length]))
    else:
        length = int(rng.integers(8, 400))
        to, start = (int(rng.integers(4, len(out) - length)) for _ in range(2))
        out[to : to + length] = out[start : start + length]
    return bytes(out)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return [write(folder / f"{kind}.root", collisions(12), kind).read_bytes() for kind in ("TTree", "RNTuple")]


def outcome(folder, content, seed):
    """``read`` or ``refused``; whatever else happens is an error that names the seed."""
    source, out = folder / "a.root", folder / "out" / "a.h5"
    source.write_bytes(damaged(content, seed))
    refused = None
    try:
        with limits():
            with suppress(ReadError):
                RootFiles.inspect(source)
            read(read_job(), [source], [], out)
    except ReadError as error:
        refused = str(error)
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    if refused is None:
        out.unlink()
        return "read"
    assert "\n" not in refused, f"seed {seed}: {refused}"
    assert str(source) in refused, f"seed {seed}: {refused}"
    assert not out.parent.exists() or not list(out.parent.iterdir()), f"seed {seed}"
    return "refused"


@pytest.mark.parametrize(
    "seeds",
    [
        range(8),
        pytest.param(
            range(150), marks=pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: 300 damaged ROOT files")
        ),
    ],
    ids=["some", "all"],
)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, contents, seeds, record_property):
    found = Counter(outcome(tmp_path, content, seed) for seed in seeds for content in contents)
    record_property("outcomes", dict(found))
    assert found["refused"] > len(seeds) / 2
