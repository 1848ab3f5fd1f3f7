"""Tables with bytes flipped or cut: an answer or one line."""

import os

import numpy as np
import pytest

pytest.importorskip("uproot", reason="pip install 'pullback[hep]'")
pytest.importorskip("pyarrow", reason="pip install 'pullback[hep]'")
from tablefiles import events, write

from pullback.readers.base import ReadError

N = 300 if os.environ.get("SLOW") else 12
SIMULATOR = {"x": {"a": {}}, "y": {"b": {}, "c": {}}}
READ = {"x": {"a": "a"}, "y": {"b": "b", "c": "sum(c)"}, "weight": "w", "pass_x": "flag"}


@pytest.mark.parametrize("form", ["TTree", "RNTuple", "parquet"])
def test_damaged_tables(tmp_path, form):
    import awkward as ak

    rng = np.random.default_rng(5)
    columns = {name: rng.normal(5, 1, 200) for name in ("a", "b", "w")}
    counts = rng.integers(0, 4, 200)
    columns |= {"c": ak.unflatten(rng.normal(size=int(counts.sum())), counts), "flag": rng.random(200) < 0.9}
    source = write(tmp_path, columns, form)
    whole = events(tmp_path, READ, source, simulator=SIMULATOR)
    assert len(whole["y"]) == 200
    content, read = source.read_bytes(), 0
    for number in range(N):
        damaged = bytearray(content)
        for place in rng.integers(0, len(damaged), 1 + number % 8):
            damaged[place] = rng.integers(256)
        if number % 4 == 3:
            damaged = damaged[: rng.integers(1, len(damaged))]
        source.write_bytes(damaged)
        said = ""
        try:
            events(tmp_path, {**READ, "invalid": "drop", "invalid_fraction": 1.0}, source, simulator=SIMULATOR)
        except ReadError as error:
            said = str(error)
        read += not said
        assert "\n" not in said
        assert not said or str(source) in said
        assert not (tmp_path / "read.h5").exists()
    print(f"{form}: {read} of {N} read")
