"""A metric: name, title, unit, direction, and the function that computes it.

A built-in metric is defined next to its function and listed in `pullback.registry`. An external one is an entry point
of the group ``pullback.metrics`` or ``./my.py:NAME`` beside the study, named in ``evaluation: {metrics: [...]}``:

    import numpy as np
    from pullback.metrics import Metric

    def worst_error(sample):
        return np.abs(sample.space.difference(sample.one, sample.truth)).max(axis=1)

    WORST = Metric("worst_error", "Largest error of a component", "over the components of one draw", "lower",
                   unit="m", compute=worst_error)

It then has rows in the metrics table and a table of its own in the report.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pullback import registry

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers
    from pullback.metrics.sample import Sample

Better = Literal["lower", "higher", "target", ""]

Scores = dict[str, tuple[Any, str]]
"""Row name -> (values (event,), unit)."""

OF_WHAT = {
    "_draw": "one draw",
    "_point": "point estimate",
    "_weighted": "weighted draws",
    "_unfolded": "unfolded distribution",
}
"""Endings of row names: what was compared with the truth."""


class Measured(NamedTuple):
    """One row: a number with its 95 % interval and floor; None where there is none."""

    metric: str
    value: float
    low: float | None
    high: float | None
    floor: float | None
    n: int
    unit: str


@dataclass(frozen=True)
class Metric:
    """Definition of a metric.

    Rows of one metric are called ``name``, then a number (`counts`), then one of `OF_WHAT`, then ``.part``:
    ``mse_point``, ``swd500_draw``, ``w1_draw.pt``.

    Attributes:
        name: start of the names of its rows.
        title, description: what the report prints; the description is the end of a sentence.
        better: "lower", "higher", "target" (the nearer to `target`), or "" where no direction is better.
        target: the value to reach; None of a percentage, whose target is the percentage that the row's name holds.
        unit: of what `compute` returns, where it does not say.
        least: the smallest possible value; None where there is none.
        counts: what a number in a row's name counts, "%" or a noun.
        compute: from a `pullback.metrics.Sample` either a score of each event (event,), of which the mean over events
            is printed with its bootstrap interval by group, or one number (a distance between draws and truth), whose
            interval comes from resampled groups and whose floor from independent truths of the same prior in place of
            the draws. Or a dict of row name -> (values, unit), for several rows of event scores.
        of_means: where a score has several columns (event, k): the printed number from their means (..., k).
        of_set: `compute` returns one number for a set of events.
        needs_truth: whether observed data, whose truth is unknown, have no such number.
        measure: instead of `compute`, for metrics that share work between value, interval and floor: from
            `pullback.metrics.answers.Answers` all rows; several metrics may share one. Without either the Metric gives
            words to rows that come from elsewhere, such as a method's own diagnostics.
        check: whether the number is among the report's truth-free checks of observed families.
        limit: of a check, the value that 95 % of sets of the training priors stay below: a number, or "floor" where a
            row's floor is that; NaN compares with seen families.
        leads: whether the table may stand first in the report.
        alarm: what the report says among failures where the value is above 0; ``{percent}`` is 100 times the value.
    """

    name: str
    title: str
    description: str
    better: Better = ""
    target: float | None = None
    unit: str = "1"
    least: float | None = 0.0
    counts: str = ""
    compute: "Callable[[Sample], Any] | None" = None
    of_means: Callable[[Any], Any] | None = None
    of_set: bool = False
    needs_truth: bool = True
    measure: "Callable[[Answers], Iterable[Measured]] | None" = None
    check: bool = False
    limit: float | Literal["floor"] = float("nan")
    leads: bool = True
    alarm: str = ""

    def scores(self, sample: "Sample") -> Scores:
        """Scores of each event of a sample by the name of their row."""
        assert self.compute is not None
        found = self.compute(sample)
        return found if isinstance(found, dict) else {self.name: (found, self.unit)}


def event_scores(metrics: "Iterable[Metric]", sample: "Sample") -> Scores:
    """Every score of each event by the name of its row; a function that several metrics share is called once."""
    found: Scores = {}
    for metric in {m.compute: m for m in metrics if m.compute is not None and not m.of_set}.values():
        found |= metric.scores(sample)
    return found


class Words(NamedTuple):
    """Labels of the rows of one name in the report."""

    title: str
    better: Better
    description: str
    target: float | None
    metric: Metric

    @property
    def direction(self) -> str:
        """``lower is better``; nothing where no direction is better."""
        if self.better == "target":
            return f"target {self.target:g}"
        return f"{self.better} is better" if self.better else ""


_FROM_FILES: dict[str, Metric] = {}
"""Metrics of the study's own files that this process loaded, by name."""


def load_metrics(kinds: Sequence[str], folder: Path | str = ".") -> list[Metric]:
    """The metrics that a study names: entry points, or ``./my.py:NAME`` relative to a folder; `words` knows them then.

    Raises:
        registry.KindError: one is not there, cannot be loaded, is no metric, or has the name of a built-in one.
    """
    found = []
    for kind in kinds:
        metric = registry.load("metrics", kind, folder)
        if not isinstance(metric, Metric):
            raise registry.KindError(
                "metrics", kind, f"'{kind}' is of type {type(metric).__name__}, wanted a pullback.metrics.Metric"
            )
        if metric.name in registry.BUILT_IN["metrics"] and metric not in built_in():
            raise registry.KindError(
                "metrics", kind, f"'{kind}' is called '{metric.name}' as a built-in one: rename it"
            )
        _FROM_FILES[metric.name] = metric
        found.append(metric)
    return found


@cache
def built_in() -> tuple[Metric, ...]:
    """The metrics of this package, in the order of their rows."""
    return tuple(registry.load_object(target) for target in registry.BUILT_IN["metrics"].values())


def _named(name: str) -> Metric | None:
    if name in _FROM_FILES:
        return _FROM_FILES[name]
    return registry.load("metrics", name) if name in registry.kinds("metrics") else None


def _readings(stem: str) -> Iterator[tuple[str, str, str]]:
    """Ways to read a row's name without its part: (metric, number, of what)."""
    yield stem, "", ""
    for ending, words in (("", ""), *OF_WHAT.items()):
        if stem.endswith(ending):
            rest = stem.removesuffix(ending)
            name = rest.rstrip("0123456789")
            yield rest, "", words
            yield name, rest[len(name) :], words


def words(row: str) -> Words:
    """Labels of the rows of a name in the report; for an unregistered metric, the name itself."""
    stem, _, part = row.partition(".")
    for name, number, of_what in _readings(stem):
        metric = _named(name)
        if metric is None or (number and not metric.counts):
            continue
        inside = ", ".join(each for each in (part, f"{number} {metric.counts}" if number else "") if each)
        title = f"{metric.title} ({inside})" if inside else metric.title
        target = metric.target
        if number and metric.counts == "%" and target is None:
            target = float(number) / 100
        return Words(f"{title}, {of_what}" if of_what else title, metric.better, metric.description, target, metric)
    return Words(row.replace("_", " "), "", "", None, Metric(row, row.replace("_", " "), ""))
