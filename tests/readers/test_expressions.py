"""Expressions over columns, against the same expressions of awkward arrays."""

import awkward as ak
import numpy as np
import pytest

from pullback.readers.column_values import ExpressionError
from pullback.readers.columns import Column
from pullback.readers.expressions import Expression

RNG = np.random.default_rng(1)
COUNTS = RNG.integers(0, 5, 40)
N = int(COUNTS.sum())
PX, PY, PT = RNG.normal(size=(3, N)) * 50
HT, RUN = RNG.exponential(100.0, 40), RNG.integers(0, 4, 40)
ID = RNG.integers(0, 8, N)


def lists(values):
    return Column(values, np.zeros(len(values), bool), COUNTS, False, np.zeros(40, bool))


COLUMNS = {
    "px": lists(PX.astype(np.float32)),
    "Jet.py": lists(PY),
    "Jet/Jet.PT": lists(PT),
    "id": lists(ID.astype(np.int32)),
    "HT": Column.of(HT),
    "run": Column.of(RUN),
    "ok": Column.of(RUN > 1),
    "w": Column.of(np.stack([HT, 2 * HT], axis=1)),
}
A = {name: ak.unflatten(c.values, c.counts) if c.counts is not None else c.values for name, c in COLUMNS.items()}
X, Y, Z = ak.values_astype(A["px"], np.float64), A["Jet.py"], A["Jet/Jet.PT"]


def value(text, columns=COLUMNS):
    return Expression(text).evaluate(columns.__getitem__)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hypot(px, Jet.py)", np.hypot(X, Y)),
        ("arctan2(Jet.py, px) % (2 * pi)", np.arctan2(Y, X) % (2 * np.pi)),
        ("arcsinh(px / HT)", np.arcsinh(X / HT)),
        ("-px ** 2 + 3 * 'Jet/Jet.PT'", -(X**2) + 3 * Z),
        ("where(px > 0, px, HT)", ak.where(X > 0, X, ak.broadcast_arrays(HT, X)[0])),
        ("minimum(px, maximum(Jet.py, 0))", np.minimum(X, np.maximum(Y, 0))),
        ("(px > 0) & ~(abs(Jet.py) >= 10)", (X > 0) & ~(abs(Y) >= 10)),
        ("id & 2", A["id"] & 2),
        ("0 < px <= 20", (X > 0) & (X <= 20)),
        ("px[px > 0]", X[X > 0]),
    ],
)
def test_lists(text, wanted):
    found = value(text)
    np.testing.assert_array_equal(found.counts, ak.num(wanted))
    np.testing.assert_allclose(found.values, ak.flatten(wanted), rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sum(px)", ak.sum(X, axis=1)),
        ("sum(px[px > 10]) / HT", ak.sum(X[X > 10], axis=1) / HT),
        ("count(px)", ak.num(X)),
        ("count(px > 10)", ak.sum(X > 10, axis=1)),
        ("max(px, default=-1)", ak.fill_none(ak.max(X, axis=1), -1)),
        ("min(px, default=0.5)", ak.fill_none(ak.min(X, axis=1), 0.5)),
        ("first(px, default=-2)", ak.fill_none(ak.firsts(X), -2)),
        ("nth(px, 2, default=0)", ak.fill_none(ak.pad_none(X, 3)[:, 2], 0)),
        ("w[1] - 2 * w[0]", np.zeros(40)),
        ("run * 10 + ok", RUN * 10 + (RUN > 1)),
        ("sqrt(HT) * log(HT) + exp(-HT) + sinh(1) * cosh(0)", np.sqrt(HT) * np.log(HT) + np.exp(-HT) + np.sinh(1)),
    ],
)
def test_numbers(text, wanted):
    found = value(text)
    assert found.counts is None
    assert not found.missing.any()
    np.testing.assert_allclose(found.values, ak.to_numpy(wanted), rtol=1e-13)


def test_what_has_no_value_is_missing():
    none = COUNTS == 0
    for text in ("max(px)", "min(px)", "first(px) + HT", "where(HT > 0, first(px), 0)"):
        np.testing.assert_array_equal(value(text).missing, none)
    assert not value("where(count(px) > 0, first(px), -1)").missing.any()
    gap = Column(
        np.zeros(3), np.array([False, True, False]), np.array([1, 2, 0]), False, np.array([False, False, True])
    )
    columns = {"a": gap, "b": Column.of(np.ones(3))}
    np.testing.assert_array_equal(value("sum(a)", columns).missing, [False, True, True])
    np.testing.assert_array_equal(value("a * b", columns).missing, [False, True, False])
    np.testing.assert_array_equal(value("sum(a * b)", columns).missing, [False, True, True])
    assert np.isnan(value("sqrt(-HT)").values).all()


def test_whole_numbers_do_not_overflow():
    big = {"i": Column.of(np.array([2**30], np.int32)), "u": Column.of(np.array([200], np.uint8))}
    assert value("i * 4 + u + u", big).values[0] == 2**32 + 400
    assert value("2 ** 3 ** 4 * i", big).values[0] == pytest.approx(2.0**81 * 2**30)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hypt(px, px)", "no function 'hypt'; did you mean 'hypot'"),
        ("hypot(px)", "hypot takes 2 values"),
        ("max(px, 0)", r"max takes 1 values and perhaps default=NUMBER; maximum\(a, b\) compares"),
        ("first(px, default=HT)", "`default` is a number"),
        ("nth(px, -1)", "whole number from 0 on"),
        ("px > 0 and HT > 0", "write & | ~ for and, or, not"),
        ("px > 0 && HT > 0", "is no expression: write & | ~"),
        ("px > 0 & HT < 3", "each comparison beside & and | in parentheses"),
        ("__import__('os').system('true')", "no function"),
        ("(lambda: 0)()", "no function"),
        ("[px for px in HT]", "cannot stand in an expression"),
        ("px if HT else 3", "cannot stand in an expression"),
        ("px.__class__.mro()", "no function 'px.__class__.mro'"),
        ("(px + 1).real", "cannot stand in an expression"),
        ("px @ px", "cannot stand in an expression"),
        ("px[0:2]", "cannot stand in an expression"),
        ("3 + True", "cannot stand in an expression"),
        ("3 + pi", "names no column"),
        ("px + ", "is no expression; a column of such a name stands in quotes"),
        ("px" + " + px" * 400, "characters, wanted at most"),
    ],
)
def test_what_is_no_expression(text, words):
    with pytest.raises(ExpressionError, match=words):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sum(HT)", "'HT' is one number, wanted a list"),
        ("HT[0]", r"'HT' holds one number per entry; leave \[0\] out"),
        ("px[3]", r"'px' has . values in entry ., wanted one of number 3.*nth\(px, 3\) may be missing"),
        ("px[HT]", "in brackets stands the number of a member of a list"),
        ("~run", "~ takes truth values: compare a number first"),
        ("ok & run", r"& and \| of a truth value and a whole number"),
        ("(HT > 1) & HT", "& | ~ take truth values or whole numbers"),
        ("px * w", "in entry . 'px' has . values and 'w' 2, wanted lists of the same length"),
        ("where(run, px, HT)", "first value of where is a comparison"),
        (f"run + {10**30}", "cannot be computed"),
    ],
)
def test_what_cannot_be_computed(text, words):
    with pytest.raises(ExpressionError, match=words):
        value(text)
