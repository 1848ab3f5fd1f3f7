"""Figures of particles on their way from noise to data."""

from types import SimpleNamespace

import numpy as np
from scipy.stats import norm

from pullback.report.examples import Passage
from pullback.report.passages import passages

EDGES = np.linspace(-4, 4, 41)
LEVEL = np.geomspace(80, 0.01, 30)


def answer(name, event, exact=True):
    """Particles at 0 with the noise of each level."""
    spread = np.hypot(0.3, LEVEL)[:, None] / np.hypot(1, LEVEL)[:, None]
    density = np.diff(norm.cdf(EDGES / spread), axis=1) / np.diff(EDGES)
    passage = Passage("depth", "km", event, LEVEL, EDGES, density, density if exact else None)
    return SimpleNamespace(label=name, colour="#123456", index=0), SimpleNamespace(marginals=passage)


def test_a_panel_for_each_sampler_of_one_observation():
    others = SimpleNamespace(label="ei-fm"), SimpleNamespace(marginals=None)
    drawn = passages("p0", [others, answer("dps", 3), answer("afdps", 3), answer("resumed", 9)])
    for name in ("dps", "afdps", "depth (km)", "noise level"):
        assert f">{name}<" in drawn.svg
    assert "resumed" not in drawn.svg
    assert "ei-fm" not in drawn.svg
    assert drawn.svg.count("<image") == 2
    assert drawn.caption.startswith("Observation 3:")
    assert "Red" in drawn.caption
    assert "Red" not in passages("p0", [answer("dps", 3, exact=False)]).caption


def test_nothing_to_draw():
    assert passages("p0", [(SimpleNamespace(label="ei-fm"), SimpleNamespace(marginals=None))]) is None
