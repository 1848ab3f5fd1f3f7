"""The page of metrics of the documentation."""

import importlib.util
import re
from pathlib import Path

import pytest

from pullback import registry

PAGE = Path(__file__).parents[2] / "docs" / "metrics.py"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("metrics_page", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", registry.BUILT_IN["metrics"].values(), ids=registry.BUILT_IN["metrics"])
def test_every_metric_says_how_it_treats_data(page, target):
    text = page.docstring(target)
    assert {"angles", "weights", "floor"} <= set(re.findall("[a-z]+", text.lower()))
    assert text.partition("\n\n")[0].endswith(".")


def test_the_four_posteriors_are_seen_for_what_they_are(page, tmp_path):
    """Rows of the tables under the figures: the faults are seen by the metrics that are for them."""
    found = {(row["infer"], row["metric"]): row for row in page.table(tmp_path)}
    value = {key: float(row["value"]) for key, row in found.items()}
    assert (
        value["narrow", "coverage90"] < 0.75 < 0.85 < value["exact", "coverage90"] < 0.95 < value["wide", "coverage90"]
    )
    assert (
        value["narrow", "spread_skill"]
        < 0.7
        < 0.9
        < value["exact", "spread_skill"]
        < 1.1
        < value["wide", "spread_skill"]
    )
    for fault in ("biased", "narrow", "wide"):
        assert value[fault, "energy_score"] > value["exact", "energy_score"]
        assert float(found[fault, "energy_score_excess"]["low"]) > 0
    assert value["biased", "sbc_ks.x1"] > 2 * float(found["exact", "sbc_ks.x1"]["floor"])
    assert value["biased", "swd_draw"] > 1.5 * value["exact", "swd_draw"]
