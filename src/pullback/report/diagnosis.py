"""Diagnosis of poor results: one hint for each family, from numbers in the tables.

Thresholds are heuristic, not tests; each lies far outside the intervals of good results.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pullback.metrics.metric import words
from pullback.report.seeds import Measured
from pullback.report.style import Series, number
from pullback.report.tables import FAR, TIMES_AS_FAR, Family, Rows, collect, limit_of
from pullback.report.unfolding_tests import POOR_CHI2

LEAST_GROUPS = 10
"""With fewer independent groups of events nothing is said of a method's calibration, or of it beside random truths."""

UNEXPLAINED = 0.15
"""Share of the observations' norm that draws leave unexplained, the truth's own share taken off in quadrature."""

NOISY = 0.03
"""Share of the observations' norm that the truth itself leaves unexplained."""

MORE_NOISE = 1.2
"""How many times what a seen family's truth leaves: less is the noise that methods were trained with."""

NOTHING = 0.9
"""Share of the observations' norm that is left where nothing is explained: observations of zero would leave all."""

WRONG = 0.1
"""Relative L2 error of an estimate that fits its observations."""

NARROW, WIDE = 0.85, 0.95
"""Coverage of 90 % intervals."""

FAILED = 0.01

MISCOUNTED = 0.05
"""Relative error of a number of truths that is told."""

FEW_TRUTHS = 0.01
"""Effective share of weighted truths that is called small."""

AMPLITUDE = "first compare amplitude, sign and units of the observations with those in training"


FILES = "compare its files with the simulator before reading its results: `pullback check`, `pullback inspect`"


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
    own_noise: float
    """What the truth of families from the problem's own simulator leaves at most: its noise, and that of training."""

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
        preflight: numbers of the pre-flight check, with its ``warnings``; ``files`` has those of families' files.
        advice: of the problem, as in `ProblemKind.advice`.
    """
    lines = [
        Line(None, [warning], ["change the simulator's settings; every ensemble is made again"])
        for warning in preflight.get("warnings", [])
    ]
    found = {metric: collect(some, series, families) for metric, some in rows.items()}
    own_noise = _own_noise(families, found.get("misfit", []))

    for position, family in enumerate(families):

        def of(metric: str, position: int = position) -> list[tuple[Series, Measured]]:
            if metric not in found:
                return []
            return [(s, m) for s, m in zip(series, found[metric][position], strict=True) if m]

        results = _Results(family, headline, advice, of, own_noise)
        findings = [(warning, FILES) for warning in preflight.get("files", {}).get(family.name, {}).get("warnings", [])]
        findings += [finding for rule in _RULES for finding in rule(results)]
        if findings:
            tried = list(dict.fromkeys(what for _, what in findings))
            lines.append(Line(family, [said for said, _ in findings], tried))
    return lines


def _own_noise(families: Sequence[Family], misfits: Sequence[Sequence[Measured | None]]) -> float:
    """What the truth leaves of seen families' observations at most.

    Where no seen family is evaluated, as of a sweep, that of families which the same simulator made, without a shift;
    NaN where there are none either.
    """
    for trained in (True, False):
        own = [
            measured.floor
            for family, row in zip(families, misfits, strict=False)
            if (family.role == "seen" if trained else family.shift == "none" and not family.outside)
            for measured in row
            if measured and math.isfinite(measured.floor)
        ]
        if own:
            return max(own)
    return math.nan


def _of_problem(results: _Results, finding: str) -> list[str]:
    return [results.advice[finding]] if finding in results.advice else []


def _set_size(results: _Results) -> Iterator[Finding]:
    untrained = [s.label for s, m in results.ranked("set_size_outside") if m.value > 0]
    if untrained:
        yield (
            f"{', '.join(untrained)} had no sets of its size in training",
            "`set_size` in training that holds the number of its observations, or `set_size` in inference inside it",
        )


def _outside(results: _Results) -> Iterator[Finding]:
    measured = results.of("seen_swd")
    if results.family.role == "seen" or not measured:
        return
    distance = max((m for _, m in measured), key=lambda m: m.n)
    ratio = distance.value / limit_of("seen_swd", distance)
    if ratio > FAR:
        yield (
            f"its observations lie {ratio:.1f} {TIMES_AS_FAR}",
            "; ".join(["a seen family that resembles it", *_of_problem(results, "outside")]),
        )


def _noisy(results: _Results) -> Iterator[Finding]:
    floor = max((m.floor for _, m in results.of("misfit") if math.isfinite(m.floor)), default=0.0)
    # Where the simulator's own noise is not known (NaN), none is too much.
    if floor > NOISY and floor > MORE_NOISE * results.own_noise:
        yield (
            f"the truth leaves {_percent(floor)} of its observations unexplained: more noise or other settings of the "
            "simulator than in training, so no method can fit better",
            "; ".join(
                [
                    *([AMPLITUDE] if results.family.outside or floor > NOTHING else []),
                    "training on observations with such noise or model errors",
                    *_of_problem(results, "noise"),
                ]
            ),
        )


def _misfit(results: _Results) -> Iterator[Finding]:
    measured = results.ranked("misfit")
    left = {s: _unexplained(m.value, m, results) for s, m in measured}
    # Of few events the median scatters: its interval says how low it may be.
    low = {s: _unexplained(m.low, m, results) if math.isfinite(m.low) else left[s] for s, m in measured}
    poor = {s: left[s] for s, least in low.items() if least > UNEXPLAINED}
    if poor:
        # No method explains what has another amplitude or sign than in training; files may have.
        first = [AMPLITUDE] if results.family.outside and len(poor) == len(left) else []
        own = dict.fromkeys(s.spec.misfit_advice for s in poor)
        advice = "; ".join([*first, *own, *_of_problem(results, "misfit")])
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
    # The bootstrap has no spread where all truths lie inside; Wilson's interval has, and both leave groups together.
    measured = [(s, m, wilson(m.value, m.groups)) for s, m in results.ranked("coverage90") if m.groups >= LEAST_GROUPS]
    narrow = [(s, m) for s, m, (_, high) in measured if max(m.high, high) < NARROW]
    if narrow:
        said = _named({s.label: m.value for s, m in narrow})
        # The kind's own first, as nothing has to be trained again for it.
        own = dict.fromkeys(s.spec.advice for s, _ in narrow if s.spec.advice)
        trained = "more training events, or `set_size` and priors in training that come closer to this family"
        yield (
            f"over-confident: too few truths lie in 90 % intervals of {said}",
            "; ".join([*own, trained]),
        )
    wide = {s.label: m.value for s, m, (low, _) in measured if min(m.low, low) > WIDE}
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
        if m.n == base.n
        and m.groups >= LEAST_GROUPS
        and (m.high >= base.low if better == "lower" else m.low <= base.high)
    ]
    if blind:
        yield (
            f"no better than truths drawn at random: {', '.join(blind)}",
            "more training steps where the loss still falls, a larger network or other data where it is flat",
        )


def _shape(results: _Results) -> Iterator[Finding]:
    for metric, what in (("chi2_unfolded", "the unfolded spectra have"), ("chi2_draw", "draws of the pairs have")):
        off = [(s, m) for s, m in results.ranked(metric) if m.value > POOR_CHI2 and not m.low <= 1]
        if off:
            said = _listed({s.label: number(m.value) for s, m in off})
            tried = []
            if any(s.spec.samples for s, _ in off):
                tried.append(
                    "`bootstrap` in inference, as conditioning sets are finite; a seen family that resembles it, more "
                    "training steps, or `refine` in inference"
                )
            if not all(s.spec.samples for s, _ in off):
                tried.append("more iterations or less regularisation, or a simulation that comes closer to it")
            yield f"{what} another shape than the truth, by χ² per degree of freedom of {said}", "; ".join(tried)


def _counts(results: _Results) -> Iterator[Finding]:
    for metric, what, advice in (
        ("purity_ratio", "observations with a truth", "seen families whose fakes are those of this one"),
        ("truths_ratio", "truths", "seen families with fakes and misses as in this one, and more training steps"),
        ("truths_ratio_unfolded", "truths", "a simulation with efficiency and fakes as in this one"),
    ):
        off = [(s, m) for s, m in results.ranked(metric) if abs(m.value - 1) > MISCOUNTED and not m.low <= 1 <= m.high]
        if off:
            said = _listed({s.label: number(m.value) for s, m in off})
            yield f"another number of {what} than there are, estimated over true: {said}", advice


def _bottom_line(results: _Results) -> Iterator[Finding]:
    found = [*results.ranked("bottom_line_unfolded"), *results.ranked("bottom_line_draw")]
    off = {s.label: number(m.value) for s, m in found if m.low > 1}
    if off:
        yield (
            f"told apart from other families better than its observations are: {_listed(off)}; its statistical errors "
            "are too small",
            "errors of its spectra from replicas of the unfolding, or of draws from `bootstrap` in inference",
        )


def _weights(results: _Results) -> Iterator[Finding]:
    few = {s.label: m.value / m.n for s, m in results.ranked("unfolded_ess") if m.value < FEW_TRUTHS * m.n}
    if few:
        yield (
            f"few simulated truths carry the weights: effective share {_named(few)}",
            "a simulation that covers the observations, more simulated events, or fewer iterations",
        )


_RULES = (
    *(_set_size, _outside, _noisy, _misfit, _blind, _coverage, _failed),
    *(_shape, _counts, _bottom_line, _weights),
)


def wilson(share: float, n: float) -> tuple[float, float]:
    """95 % interval of a share of n independent trials (Wilson 1927): right at 0 and 1 and for few trials."""
    share, z = min(max(share, 0.0), 1.0), 1.96
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def _unexplained(value: float, misfit: Measured, results: _Results) -> float:
    """Noise and what the draws miss add in quadrature; without a truth the noise is that of training."""
    noise = misfit.floor if math.isfinite(misfit.floor) else results.own_noise
    noise = noise if math.isfinite(noise) else 0.0
    return math.sqrt(max(value**2 - noise**2, 0.0))


def _percent(share: float) -> str:
    if math.isinf(share):
        return "simulations failed"
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def _named(shares: Mapping[str, float]) -> str:
    """``cfm (31 %) and enkg (45 %)``."""
    return _listed({label: _percent(share) for label, share in shares.items()})


def _listed(values: Mapping[str, str]) -> str:
    """``cfm (3.1) and enkg (4.5)``."""
    said = [f"{label} ({value})" for label, value in values.items()]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
