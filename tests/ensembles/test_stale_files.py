"""Files of another config are refused by whatever reads them."""

import json

import numpy as np
import pytest

from pullback.ensembles.fields import Field
from pullback.ensembles.stale_files import StaleFileError, refuse_stale_files
from pullback.ensembles.store import EnsembleReader, EnsembleWriter, StoreError, index_ensemble
from pullback.study.base import canonical, job_digest

Y = Field.vector("y", ("a",), ("1",))


def shard(path, job):
    with EnsembleWriter(path, x=None, y=Y, spec=job) as writer:
        writer.append(np.zeros((3, 1)), np.arange(3))
    return path


def index_job(*jobs):
    return canonical(
        {"problem": "p", "family": "f", "split": "test", "inputs": {"shards": [job_digest(job) for job in jobs]}}
    )


def test_an_index_takes_only_what_the_study_means(tmp_path):
    old, new = canonical({"noise": 1}), canonical({"noise": 2})
    found = shard(tmp_path / "shard-000.h5", old)
    with pytest.raises(StaleFileError, match=r"shard-000\.h5: left behind by another config"):
        index_ensemble(index_job(new), [found], tmp_path / "test.h5")
    assert not (tmp_path / "test.h5").exists()
    index_ensemble(index_job(old), [found], tmp_path / "test.h5")
    with EnsembleReader(tmp_path / "test.h5") as reader:
        assert reader.n == 3
        assert reader.attributes["family"] == "f"
        assert "inputs" not in reader.attributes
        assert reader.spec["inputs"] == {"shards": [job_digest(old)]}


def test_all_of_them_are_named(tmp_path):
    old = canonical({"noise": 1})
    files = [shard(tmp_path / f"{i}.h5", old) for i in range(7)]
    job = {"inputs": {"seen": [job_digest("another")] * 6 + [job_digest(old)]}}
    with pytest.raises(StaleFileError) as caught:
        refuse_stale_files(job, seen=files)
    assert all(f"{i}.h5" in str(caught.value) for i in range(5))
    assert "and 1 more" in str(caught.value)
    assert "6.h5" not in str(caught.value)


def test_a_job_written_by_hand_refuses_nothing(tmp_path):
    refuse_stale_files(json.loads("{}"), seen=[tmp_path / "any.h5"])


def test_a_missing_or_damaged_file_is_said_to_be_that(tmp_path):
    job = {"inputs": {"seen": [job_digest("x")]}}
    with pytest.raises(StoreError, match="there is no such file"):
        refuse_stale_files(job, seen=[tmp_path / "none.h5"])
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(StoreError, match="not readable as HDF5"):
        refuse_stale_files(job, seen=[tmp_path / "text.h5"])
