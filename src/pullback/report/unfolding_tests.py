"""Tests of unfolding from the metrics table: closure, stress, linearity, bottom line, counts, fold-back.

Each is one line for each method, made from rows of all families; and one table of methods for each family.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pullback.report.seeds import Measured
from pullback.report.style import Series, interval, number, with_unit
from pullback.report.tables import Family, Rows, collect

ENDINGS = ("_unfolded", "_draw")
"""What is tested: the unfolded distribution where there is one, else one draw of each event."""

POOR_CHI2 = 2.0
"""chi^2 per degree of freedom above which a shape is called different."""

BEST_SLOPE = 0.02
"""A slope of recovered against injected means that is nearer to 1 is called 1 whatever its error."""

FAR_FOLDED = 1.5
"""Times the floor above which folded draws are called different from the observations."""

LEAST_FAMILIES = 3
"""Fewer do not make a line of recovered against injected means."""

LEVER = 5.0
"""How many times their statistical error the injected means of families must differ by, as standard deviations."""

NEGLIGIBLE = 0.01
"""Relative error of a number of truths that is none."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test of one method.

    Attributes:
        test: its name.
        series: the method.
        where: the family of the result, the worst one; or the feature.
        result, interval: what is printed.
        reading: in words.
        good: None where it is open.
    """

    test: str
    series: Series
    where: str
    result: str
    interval: str
    reading: str
    good: bool | None


@dataclass(frozen=True)
class MethodTable:
    """Methods by their numbers on one family: heads of columns, and (series, cells) rows; the floors last."""

    family: Family
    heads: list[str]
    rows: list[tuple[Series, list[str]]]
    floors: list[str]


class Results:
    """Results of one problem by row name, family and series.

    Args:
        rows: of the metrics table, by metric.
        series, families: as in the tables.
    """

    def __init__(self, rows: Rows, series: Sequence[Series], families: Sequence[Family]):
        self.series, self.families = series, families
        self._rows = rows
        self._found: dict[str, list[list[Measured | None]]] = {}

    def __contains__(self, metric: str) -> bool:
        """Whether there are rows of a name."""
        return metric in self._rows

    def of(self, metric: str, family: int, series: int) -> Measured | None:
        """One number."""
        if metric not in self._rows:
            return None
        if metric not in self._found:
            self._found[metric] = collect(self._rows[metric], self.series, self.families)
        found = self._found[metric][family][series]
        return None if found is None or found.failed else found

    def features(self, stem: str) -> list[str]:
        """Features that rows of a name have, as ``pt`` of ``chi2_draw.pt``."""
        return [name.removeprefix(f"{stem}.") for name in self._rows if name.startswith(f"{stem}.")]

    def ending(self, series: int) -> str | None:
        """What of a method is tested; None where nothing is."""
        for ending in ENDINGS:
            for feature in self.features(f"triangular{ending}"):
                name = f"triangular{ending}.{feature}"
                if any(self.of(name, place, series) for place in range(len(self.families))):
                    return ending
        return None

    def chi2(self, ending: str, family: int, series: int) -> Measured | None:
        """chi^2 of all features together, or the largest of one feature where that is not known."""
        joint = self.of(f"chi2{ending}", family, series)
        each = [self.of(f"chi2{ending}.{name}", family, series) for name in self.features(f"chi2{ending}")]
        return joint or max((m for m in each if m), key=lambda m: m.value, default=None)

    def counted(self, family: int, series: int) -> Measured | None:
        """Estimated over true number of truths."""
        unfolded = self.of("truths_ratio_unfolded", family, series)
        return unfolded or self.of("truths_ratio", family, series)


def outcomes(results: Results) -> list[Outcome]:
    """All tests of all methods, test after test."""
    endings = [results.ending(place) for place in range(len(results.series))]
    lines = [
        line
        for place, ending in enumerate(endings)
        if ending is not None
        for line in _of_method(results, place, ending)
    ]
    order = list(dict.fromkeys(line.test for line in lines))
    return sorted(lines, key=lambda line: order.index(line.test))


def _of_method(results: Results, place: int, ending: str) -> Iterator[Outcome]:
    for test, role in (("closure", "seen"), ("stress", "unseen")):
        yield from _worst_chi2(results, place, ending, test, role)
    yield from _linearity(results, place, ending)
    yield from _bottom_line(results, place, ending)
    yield from _counts(results, place)
    yield from _folded(results, place, ending)


def _over(results: Results, place: int, metric: str) -> list[tuple[Family, Measured]]:
    found = [(family, results.of(metric, i, place)) for i, family in enumerate(results.families)]
    return [(family, m) for family, m in found if m is not None]


def _line(test: str, series: Series, where: str, m: Measured, reading: str, good: bool | None) -> Outcome:
    return Outcome(test, series, where, number(m.value, m.low, m.high), interval(m.value, m.low, m.high), reading, good)


def _worst_chi2(results: Results, place: int, ending: str, test: str, role: str) -> Iterator[Outcome]:
    found = [
        (family, m)
        for i, family in enumerate(results.families)
        if family.role == role and family.shift == "none" and (m := results.chi2(ending, i, place))
    ]
    if not found:
        return
    family, worst = max(found, key=lambda each: each[1].value)
    over, count, good = sum(m.value > POOR_CHI2 for _, m in found), len(found), None
    if over:
        reading, good = f"another shape than the truth on {over} of {count} families", False
    elif worst.low > 1:
        reading = "near the truth's shape; the rest is more than statistics"
    else:
        reading, good = f"the truth's shape on {count} of {count} families", True
    yield _line(f"{test} (χ² per degree of freedom)", results.series[place], family.title, worst, reading, good)


def slope(injected: Sequence[Measured], bias: Sequence[Measured]) -> tuple[float, float] | None:
    """Slope of recovered against injected means, and its standard error.

    Least squares with the intervals' widths of the bias as errors; a scatter about the line that is larger than these
    makes the error larger. None with few families, or where their means differ by little more than by statistics.
    """
    both = [(x, y) for x, y in zip(injected, bias, strict=True) if y.high > y.low and x.high > x.low]
    if len(both) < LEAST_FAMILIES:
        return None
    x, y = (np.array([m.value for m in each]) for each in zip(*both, strict=True))
    noise, sigma = (np.array([m.high - m.low for m in each]) / 3.92 for each in zip(*both, strict=True))
    if x.std() < LEVER * np.sqrt(np.mean(noise**2)):
        return None
    weight = sigma**-2
    along = x - np.average(x, weights=weight)
    spread = float(weight @ along**2)
    rise = float(weight @ (along * y)) / spread
    left = y - np.average(y, weights=weight) - rise * along
    scatter = max(float(weight @ left**2) / (len(x) - 2), 1.0)
    return 1 + rise, math.sqrt(scatter / spread)


def _linearity(results: Results, place: int, ending: str) -> Iterator[Outcome]:
    found = []
    for feature in results.features(f"mean_bias{ending}"):
        both = [
            (injected, bias)
            for i, family in enumerate(results.families)
            if family.shift == "none"
            and (bias := results.of(f"mean_bias{ending}.{feature}", i, place))
            and (injected := results.of(f"injected_mean{ending}.{feature}", i, place))
        ]
        if line := slope([x for x, _ in both], [bias for _, bias in both]):
            found.append((feature, *line, len(both)))
    if not found:
        return
    feature, value, error, count = max(found, key=lambda each: abs(each[1] - 1) / max(each[2], BEST_SLOPE / 2))
    good = abs(value - 1) < max(1.96 * error, BEST_SLOPE)
    said = "follows what is injected" if good else ("damped" if value < 1 else "exaggerated")
    m = Measured(value, value - 1.96 * error, value + 1.96 * error)
    reading = f"the mean of {count} families: {said}"
    yield _line("linearity (slope of recovered means)", results.series[place], feature, m, reading, good)


def _bottom_line(results: Results, place: int, ending: str) -> Iterator[Outcome]:
    found = _over(results, place, f"bottom_line{ending}")
    if not found:
        return
    family, worst = max(found, key=lambda each: each[1].low)
    good = not worst.low > 1
    reading = (
        "separates families no better than the observations do"
        if good
        else "separates families better than the observations do: its covariance is too small"
    )
    yield _line(
        "bottom line (separation, after over before)", results.series[place], family.title, worst, reading, good
    )


def _counts(results: Results, place: int) -> Iterator[Outcome]:
    found = [(family, m) for i, family in enumerate(results.families) if (m := results.counted(i, place))]
    if not found:
        return
    family, worst = max(found, key=lambda each: abs(each[1].value - 1))
    # Millions of events resolve what no analysis asks for.
    good = abs(worst.value - 1) < NEGLIGIBLE or not (worst.low > 1 or worst.high < 1)
    reading = "the true number" if good else f"{'more' if worst.value > 1 else 'fewer'} truths than there are"
    yield _line("number of truths (estimated over true)", results.series[place], family.title, worst, reading, good)


def _folded(results: Results, place: int, ending: str) -> Iterator[Outcome]:
    # Of draws the row has no ending.
    name = f"fold_back_swd{ending.removesuffix('_draw')}"
    found = [(f, m) for f, m in _over(results, place, name) if math.isfinite(m.floor) and m.floor > 0]
    if not found:
        return
    family, worst = max(found, key=lambda each: each[1].value / each[1].floor)
    ratio = worst.value / worst.floor
    good = True if ratio < FAR_FOLDED or worst.low <= worst.floor else None
    reading = f"{ratio:.1f} times the sampling floor"
    yield _line("fold-back (distance from the observations)", results.series[place], family.title, worst, reading, good)


def method_tables(results: Results, units: Mapping[str, str]) -> list[MethodTable]:
    """Methods on each family: W1 of each feature in its unit, the largest discriminator, chi^2, counted truths.

    Args:
        results: of one problem.
        units: of each feature.
    """
    endings = {place: ending for place in range(len(results.series)) if (ending := results.ending(place))}
    names = [feature for feature in units if any(f"w1{ending}.{feature}" in results for ending in ENDINGS)]
    if not names:
        return []
    tables = []
    for i, family in enumerate(results.families):
        measured = {place: _cells(results, i, place, ending, names) for place, ending in endings.items()}
        cells = {place: each for place, each in measured.items() if any(each)}
        if not cells:
            continue
        columns = range(len(names) + 1)
        each = [[m.floor for row in cells.values() if (m := row[j]) and math.isfinite(m.floor)] for j in columns]
        floors = [found[0] if found else math.nan for found in each]
        heads = [f"W1 {with_unit(name, units[name])}" for name in names]
        heads += ["D, largest of a feature (10⁻³)", "χ² per degree of freedom", "truths, estimated over true"]
        lines = [(results.series[place], [_number(m) for m in each]) for place, each in cells.items()]
        tables.append(MethodTable(family, heads, lines, [*map(number, floors), "1", "1"]))
    return tables


def _cells(results: Results, family: int, place: int, ending: str, names: Sequence[str]) -> list[Measured | None]:
    each = [results.of(f"w1{ending}.{name}", family, place) for name in names]
    discriminators = [results.of(f"triangular{ending}.{name}", family, place) for name in names]
    largest = max((m for m in discriminators if m), key=lambda m: m.value, default=None)
    return [*each, largest, results.chi2(ending, family, place), results.counted(family, place)]


def _number(m: Measured | None) -> str:
    return "–" if m is None else number(m.value, m.low, m.high)
