"""Diagnosis of poor results: one hint for each family, from numbers in the tables.

Thresholds are heuristic, not tests; each lies far outside the intervals of good results.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pullback.metrics.metric import words
from pullback.report.seeds import Measured
from pullback.report.style import Series
from pullback.report.tables import Family, Rows, collect

FAR = 1.5
"""Distance of a family's observations to the nearest training ensemble, in units of the largest of a seen family."""

UNEXPLAINED = 0.15
"""Share of the observations' norm that draws leave unexplained, the truth's own share taken off in quadrature."""

NOISY = 0.03
"""Share of the observations' norm that the truth itself leaves unexplained."""

MORE_NOISE = 1.2
"""How many times what a seen family's truth leaves: less is the noise that methods were trained with."""

WRONG = 0.1
"""Relative L2 error of an estimate that fits its observations."""

NARROW, WIDE = 0.85, 0.95
"""Coverage of 90 % intervals."""

FAILED = 0.01


@dataclass(frozen=True)
class Line:
    """A finding in one family (None: in the simulation of all), and a hint."""

    family: Family | None
    found: list[str]
    advice: list[str]


@dataclass(frozen=True)
class _Results:
    """The results on one family: ``of(metric)`` gives those of every series that has one."""

    family: Family
    headline: str | None
    advice: Mapping[str, str]
    of: Callable[[str], list[tuple[Series, Measured]]]
    nearest_seen: Callable[[Series, float], float]
    seen_floor: float
    """What the truth of a seen family leaves of its observations at most: the noise that methods were trained with."""

    @property
    def has_truth(self) -> bool:
        """Whether what the truth leaves is known."""
        return self.family.role != "observed"

    def ranked(self, metric: str) -> list[tuple[Series, Measured]]:
        """Results of methods, without baselines and bounds."""
        return [(s, m) for s, m in self.of(metric) if not s.spec.baseline and s.competes]


Finding = tuple[str, str]
"""What was found, and what to try."""


def diagnose(
    rows: Rows,
    series: Sequence[Series],
    families: Sequence[Family],
    headline: str | None,
    preflight: Mapping[str, Any],
    advice: Mapping[str, str],
) -> list[Line]:
    """Lines for the simulation's own warnings, then for every family with a finding.

    Args:
        rows: metrics of one problem.
        series, families: as in its tables.
        headline: the metric that stands first.
        preflight: numbers of the pre-flight check, with its ``warnings``.
        advice: of the problem, as in `ProblemKind.advice`.
    """
    lines = [
        Line(None, [warning], ["change the simulator's settings; every ensemble is made again"])
        for warning in preflight.get("warnings", [])
    ]
    found = {metric: collect(some, series, families) for metric, some in rows.items()}

    def nearest_seen(one: Series, n: float) -> float:
        """The largest distance of a seen family's own test events to the training ensembles, of as many events."""
        column = series.index(one)
        measured = [
            m for f, m in zip(families, (r[column] for r in found["seen_swd"]), strict=True) if f.role == "seen"
        ]
        return max((m.value for m in measured if m and m.n >= 0.9 * n), default=math.nan)

    trained = [r for f, r in zip(families, found.get("misfit", ()), strict=False) if f.role == "seen"]
    seen_floor = max((m.floor for r in trained for m in r if m and math.isfinite(m.floor)), default=0.0)

    for position, family in enumerate(families):

        def of(metric: str, position: int = position) -> list[tuple[Series, Measured]]:
            if metric not in found:
                return []
            return [(s, m) for s, m in zip(series, found[metric][position], strict=True) if m]

        results = _Results(family, headline, advice, of, nearest_seen, seen_floor)
        findings = [finding for rule in _RULES for finding in rule(results)]
        if findings:
            tried = list(dict.fromkeys(what for _, what in findings))
            lines.append(Line(family, [said for said, _ in findings], tried))
    return lines


def _of_problem(results: _Results, finding: str) -> list[str]:
    return [results.advice[finding]] if finding in results.advice else []


def _outside(results: _Results) -> Iterator[Finding]:
    measured = results.of("seen_swd")
    if results.family.role == "seen" or not measured:
        return
    series, distance = max(measured, key=lambda item: item[1].n)
    nearest = results.nearest_seen(series, distance.n)
    # Where a file is listed for training and for test there is no distance.
    ratio = distance.value / nearest if nearest > 0 else math.nan
    if ratio > FAR:
        yield (
            f"its observations lie {ratio:.1f} times as far from the training ensembles as any seen family's",
            "; ".join(["a seen family that resembles it", *_of_problem(results, "outside")]),
        )


def _noisy(results: _Results) -> Iterator[Finding]:
    floor = max((m.floor for _, m in results.of("misfit") if math.isfinite(m.floor)), default=0.0)
    if floor > max(NOISY, MORE_NOISE * results.seen_floor):
        yield (
            f"the truth leaves {_percent(floor)} of its observations unexplained: noise, dead traces or other "
            "simulator settings than in training, so no method can fit better",
            "training on observations with such noise or model errors; check the residual gathers for a pattern",
        )


def _misfit(results: _Results) -> Iterator[Finding]:
    left = {s: _unexplained(m, results.seen_floor) for s, m in results.ranked("misfit")}
    poor = {s: share for s, share in left.items() if share > UNEXPLAINED}
    if poor:
        advice = "; ".join([*dict.fromkeys(s.spec.misfit_advice for s in poor), *_of_problem(results, "misfit")])
        said = _named({s.label: share for s, share in poor.items()})
        least = (
            "the truth does" if results.has_truth else "noise as in training would; the noise of this family is unknown"
        )
        yield f"draws of {said} leave more of the observations unexplained than {least}", advice
    errors = dict(results.ranked("relative_l2_point"))
    wrong = {s.label: errors[s].value for s, share in left.items() if s in errors and share <= UNEXPLAINED}
    wrong = {label: error for label, error in wrong.items() if error > WRONG}
    if wrong:
        advice = results.advice.get("undetermined", "observations that tell more, or a prior that knows more")
        yield (
            f"the observations are met and the truth is not, so they do not determine it: error of {_named(wrong)}",
            advice,
        )


def _coverage(results: _Results) -> Iterator[Finding]:
    measured = results.ranked("coverage90")
    narrow = [(s, m) for s, m in measured if m.high < NARROW]
    if narrow:
        said = _named({s.label: m.value for s, m in narrow})
        # The kind's own first, as nothing has to be trained again for it.
        own = dict.fromkeys(s.spec.advice for s, _ in narrow if s.spec.advice)
        trained = "more training events, or `set_size` and priors in training that come closer to this family"
        yield (
            f"over-confident: too few truths lie in 90 % intervals of {said}",
            "; ".join([*own, trained]),
        )
    wide = {s.label: m.value for s, m in measured if m.low > WIDE}
    if wide:
        yield (
            f"too wide: too many truths lie in 90 % intervals of {_named(wide)}",
            "more training steps or a larger network: the observations say more than the draws know",
        )


def _failed(results: _Results) -> Iterator[Finding]:
    failed = {s.label: m.value for s, m in results.ranked("failed_draws") if m.value > FAILED}
    if failed:
        yield (
            f"draws failed: {_named(failed)}",
            "smaller steps of the method (`guidance`, `solver` steps); the log of the inference says what failed",
        )


def _blind(results: _Results) -> Iterator[Finding]:
    if results.headline is None:
        return
    better = words(results.headline).better
    # Of the baselines the one that draws seen truths, not a trained prior's.
    found = (m for s, m in results.of(results.headline) if s.spec.baseline and s.spec.reads_seen)
    base = next(found, None)
    if base is None or better not in ("lower", "higher"):
        return
    blind = [
        s.label
        for s, m in results.ranked(results.headline)
        if m.n == base.n and (m.high >= base.low if better == "lower" else m.low <= base.high)
    ]
    if blind:
        yield (
            f"no better than truths drawn at random: {', '.join(blind)}",
            "more training steps where the loss still falls, a larger network or other data where it is flat",
        )


_RULES = (_outside, _noisy, _misfit, _blind, _coverage, _failed)


def _unexplained(misfit: Measured, seen_floor: float) -> float:
    """Noise and what the draws miss add in quadrature; without a truth the noise is that of training."""
    floor = misfit.floor if math.isfinite(misfit.floor) else seen_floor
    return math.sqrt(max(misfit.value**2 - floor**2, 0.0))


def _percent(share: float) -> str:
    if math.isinf(share):
        return "simulations failed"
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def _named(shares: Mapping[str, float]) -> str:
    """``cfm (31 %) and enkg (45 %)``."""
    said = [f"{label} ({_percent(share)})" for label, share in shares.items()]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
