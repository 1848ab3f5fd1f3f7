"""Errors beside the maps, and the gathers that answers would have been observed as."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest

from pullback import registry
from pullback.report.examples import Axis, Example
from pullback.report.gathers import MOST_SAMPLES, data_fit
from pullback.report.maps import panels
from pullback.report.style import make_series

X_AXES = (Axis("depth", "m", 0, 100), Axis("offset", "m", 0, 80))
Y_AXES = (Axis("source", "m", 0, 3), Axis("time", "s", 0, 1), Axis("receiver", "m", 0, 80))
TRUTH = np.linspace(1500, 4500, 80).reshape(1, 10, 8)


def example(method, error=50.0, again=None, **more):
    rng = np.random.default_rng(1)
    y = rng.standard_normal((1, 3, 20, 8)).astype(np.float32)
    return Example(
        "waves", method, method, "approximate", "default", "0", "salt", "salt", "unseen", "none",
        truth=TRUTH, mean=TRUTH + error * np.sign(np.arange(8) - 3.5), std=np.full(TRUTH.shape, 30.0),
        draws=np.repeat(TRUTH[:, None], 2, axis=1), y=y, again=None if again is None else again(y),
        x_axes=X_AXES, y_axes=Y_AXES, x_unit="m/s", y_unit="1", **more,
    )  # fmt: skip


def case(*examples):
    series = make_series(
        [(e.method, e.infer, e.method_kind, e.returns) for e in examples],
        {"random-truth": registry.load("methods", "random-truth")},
    )
    return [((next(s for s in series if s.method == e.method), e), 0) for e in examples]


def images(drawing):
    """Pixels of the images of a drawing, in order."""
    found = re.findall(r'href="data:image/png;base64,([^"]+)"', drawing.svg.replace("\n", ""))
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(one))) for one in found]


def test_errors_are_drawn_red_where_the_mean_is_too_high():
    drawing = panels("k", case(example("cfm")))
    assert ">mean − truth</text>" in drawing.svg
    (error,) = [i for i in images(drawing) if i.shape[:2] == (10, 8) and i[0, 0, 2] > i[0, 0, 0] + 0.2 and is_split(i)]
    assert (error[:, 4:, 0] > error[:, 4:, 2]).all()


def is_split(image):
    """One colour on the left, one on the right."""
    return all(np.ptp(half, axis=(0, 1)).max() == 0 for half in (image[:, :4], image[:, 4:]))


def test_without_a_truth_there_is_no_error():
    blind = example("cfm")
    object.__setattr__(blind, "truth", None)
    drawing = panels("k", case(blind))
    assert "mean − truth" not in drawing.svg
    assert "mean − truth" not in drawing.caption


def test_random_truths_do_not_set_the_scale_of_errors():
    """Beside an error of 2000 one of 50 would be white; the limits are those of methods that look."""
    both = panels("k", case(example("cfm"), example("random-truth", error=2000.0)))
    alone = panels("k", case(example("cfm")))
    # The last bar is that of errors: its ticks run from minus to plus 50.
    bars = [re.findall(r">(−?\d+)</text>", d.svg)[-5:] for d in (both, alone)]
    assert bars[0] == bars[1] == ["−50", "−25", "0", "25", "50"]


def test_a_method_that_diverged_leaves_the_others_their_colours():
    """Means of 1e14 took the whole scale: truth and all other maps were of one colour."""
    wild = example("dps", error=1e14)
    both, alone = (panels("k", case(*examples)) for examples in ((example("cfm"), wild), (example("cfm"),)))
    assert all(any(np.array_equal(image, other) for other in images(both)) for image in images(alone)[:2])
    assert "Values of dps are far beyond the colour scales" in both.caption
    assert "far beyond" not in alone.caption
    only = panels("k", case(wild))
    assert "far beyond" not in only.caption


def test_gathers_stand_beside_the_observed_one_with_what_is_left():
    """A draw that is observed as half of y: |y / 2 - y| / |y| = 0.5; one that is met leaves one grey."""
    drawing = data_fit("k", case(example("cfm", again=lambda y: 0.5 * y), example("enkg", again=lambda y: y)))
    assert ">misfit 0.5</text>" in drawing.svg
    assert ">misfit 0</text>" in drawing.svg
    assert ">observed</text>" in drawing.svg
    maps = [i for i in images(drawing) if i.shape[:2] == (20, 8)]
    assert len(maps) == 1 + 2 * 2
    observed, half, left, met, nothing = (i[..., 0] for i in maps)
    assert (met == observed).all()
    assert np.ptp(nothing) == 0
    # Half of y and minus a half: opposite greys about the middle, and both within one scale.
    assert half + left == pytest.approx(1, abs=0.02)
    assert np.ptp(half) < np.ptp(observed)
    assert "all 3 shots" in drawing.caption


def test_a_voltage_has_no_shots_and_no_arrivals():
    volts = example("cfm", again=lambda y: 0.5 * y)
    axes = (Axis("channel", "1", 0, 3), Axis("time", "s", 0, 1), Axis("trial", "1", 0, 8))
    object.__setattr__(volts, "y_axes", axes)
    for drawing in (data_fit("k", case(volts)), panels("k", case(volts))):
        assert not re.search("gather|shots|rrivals", drawing.svg + drawing.caption + drawing.alt)
        assert "3 entries along channel" in drawing.caption


def test_nothing_is_drawn_where_nothing_was_simulated():
    assert data_fit("k", case(example("cfm"))) is None
    assert data_fit("k", case(example("cfm", again=lambda y: np.full_like(y, np.nan)))) is None
    drawing = data_fit("k", case(example("cfm"), example("enkg", again=lambda y: y)))
    assert "enkg" in drawing.alt
    assert "cfm" not in drawing.alt


def test_long_records_are_thinned():
    long = example("cfm", again=lambda y: y)
    for name in ("y", "again"):
        object.__setattr__(long, name, np.random.default_rng(0).standard_normal((1, 3, 1000, 8)))
    drawing = data_fit("k", case(long))
    assert max(len(i) for i in images(drawing)) <= MOST_SAMPLES
    assert len(drawing.svg) < 100_000


def test_many_methods_fit_the_page():
    methods = [example(f"a-method-with-a-long-name-{i}", again=lambda y: y) for i in range(9)]
    drawing = data_fit("k", case(*methods))
    width = float(re.search(r"width:(\d+)px", drawing.svg)[1])
    assert width <= 11.3 * 96
