"""Results of an older config are never taken for results of this one, also where Snakemake has lost its records."""

import os
import re
import shutil

import pytest
from dag import STUDIES, snakemake

pytestmark = pytest.mark.xdist_group("run")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leftovers")
    shutil.copy(STUDIES / "tiny.yaml", folder)
    ran = snakemake("--configfile", "tiny.yaml", folder=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@pytest.mark.parametrize(
    "edit",
    [
        ("{gamma: 0.5}", "{gamma: 0.4}"),
        pytest.param(
            ("kind: random-truth", "kind: random-truth, infer: {default: {draws: 3}}"),
            marks=pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as an edit of the data"),
        ),
    ],
)
def test_a_copied_folder_with_another_config_is_refused(edit, done, tmp_path):
    """Files are there and newer than what they were made from, and nobody knows how: only what they carry tells."""
    shutil.copytree(done / "results", tmp_path / "results")
    text = (done / "tiny.yaml").read_text()
    assert edit[0] in text
    (tmp_path / "tiny.yaml").write_text(text.replace(*edit))
    ran = snakemake("--configfile", "tiny.yaml", folder=tmp_path)
    assert ran.returncode != 0
    assert re.search(r"pullback: results/tiny/\S+\.h5.*: left behind by another config of this study", ran.stderr)
    ran = snakemake("--configfile", "tiny.yaml", "--forceall", folder=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: as a copied folder")
def test_a_stale_shard_is_refused_where_the_rest_is_made_anew(done, tmp_path):
    """As after a main process that was killed while its jobs went on: a shard without a record, then an edit."""
    kept = "results/tiny/ensembles/line/plus/train/shard-001.h5"
    (tmp_path / kept).parent.mkdir(parents=True)
    for name in ("results/tiny/ensembles/line/preflight.json", kept):
        shutil.copy2(done / name, tmp_path / name)
    (tmp_path / "tiny.yaml").write_text((done / "tiny.yaml").read_text().replace("{gamma: 0.5}", "{gamma: 0.4}"))
    ran = snakemake("--configfile", "tiny.yaml", folder=tmp_path)
    assert ran.returncode != 0
    assert f"{kept}: left behind by another config of this study" in ran.stderr
    (tmp_path / kept).unlink()
    ran = snakemake("--configfile", "tiny.yaml", folder=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_copied_folder_with_the_same_config_is_taken_as_it_is(done, tmp_path):
    shutil.copytree(done / "results", tmp_path / "results")
    shutil.copy(done / "tiny.yaml", tmp_path)
    ran = snakemake("--configfile", "tiny.yaml", folder=tmp_path)
    assert ran.returncode == 0
    assert "Nothing to be done" in ran.stdout + ran.stderr
